"""What the user is told when a point, or a file of their own, cannot be run."""

from __future__ import annotations

import signal
from traceback import walk_tb

from trainables.redaction import redacted

_LONGEST_SENTENCE = 1500


class ConfigError(ValueError):
    """A point that cannot be run, said in one sentence for the user: which field, what is wrong, what would be right.

    A sentence that quotes something long is cut in its middle; secrets of URIs are not quoted.
    """

    def __init__(self, sentence: str) -> None:
        if len(sentence) > _LONGEST_SENTENCE:
            sentence = f"{sentence[: _LONGEST_SENTENCE // 2]} ... {sentence[-_LONGEST_SENTENCE // 2 :]}"
        super().__init__(redacted(sentence))


def message_of(error: BaseException) -> str:
    """What an error says; nothing if that raises in turn, as a `__str__` of the user's own may."""
    try:
        return str(error)
    except Exception:
        return ""


def leave_if_stopped(error: BaseException) -> None:
    """Raise the error again if somebody ends this process by it: Ctrl-C, or a signal whose handler raises, as that of Ray's workers does.

    Whoever takes all else for the failure of a user's code, `sys.exit()` and whatever is no `Exception` included, asks this first: a signal
    may strike in the middle of that code.

    >>> leave_if_stopped(SystemExit(3))
    >>> try:
    ...     leave_if_stopped(KeyboardInterrupt())
    ... except KeyboardInterrupt:
    ...     print("raised again")
    raised again
    """
    if isinstance(error, KeyboardInterrupt):
        raise error
    if not isinstance(error, Exception):
        handlers = {getattr(signal.getsignal(number), "__code__", None) for number in signal.valid_signals()}
        if any(frame.f_code in handlers for frame, _ in walk_tb(error.__traceback__)):
            raise error


def named(error: BaseException) -> str:
    """An error's type, and what it says.

    >>> named(ValueError("no luck"))
    'ValueError: no luck'
    """
    return f"{type(error).__name__}: {message_of(error)}"
