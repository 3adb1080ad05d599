"""Ctrl-C on the command line: none is lost, none shows a traceback, and one at the very end ends the process at once.

Python raises KeyboardInterrupt wherever the main thread is. Where that is a destructor or a callback of C code, nobody can catch it:
Python tells of it by `sys.unraisablehook`, and drops it. The hook here asks for it once more, a moment later, when that code has been
left. What it must not do is interrupt right away: the hook itself is such code, and the interrupt would be dropped with a traceback.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

CODE = 130
"""The exit code of a command that Ctrl-C has ended, as shells have it."""
TOLD = "\nInterrupted: what is recorded stays, and the same command goes on from there."
"""What is said of a Ctrl-C that no command has answered."""
_MOMENT = 0.02
"""Seconds after which a dropped interrupt is raised again: destructors and callbacks are shorter, or it is dropped and raised again."""


@contextmanager
def delivered() -> Iterator[None]:
    """What runs within is interrupted by every Ctrl-C, also by one that came inside a destructor or a callback.

    Once it is left, the process is about to end, with nothing more to lose: then Ctrl-C ends it without another word. Where signals are not
    Python's own to handle (outside the main thread, in a program with handlers of its own, on Windows) all stays as it was.
    """
    if not _ours_to_handle():
        yield
        return
    sys.unraisablehook = _raise_again
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGALRM, _interrupt)  # how `_raise_again` asks
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGALRM, signal.SIGTERM):
            if signal.getsignal(number) is _interrupt:
                signal.signal(number, _end)


def _ours_to_handle() -> bool:
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        return False
    return signal.getsignal(signal.SIGINT) is signal.default_int_handler and signal.getsignal(signal.SIGALRM) is signal.SIG_DFL


def _raise_again(dropped: sys.UnraisableHookArgs) -> None:
    """Have a KeyboardInterrupt that Python drops raised once more; tell of other errors as usual."""
    if dropped.exc_type is KeyboardInterrupt:
        signal.setitimer(signal.ITIMER_REAL, _MOMENT)
    else:
        sys.__unraisablehook__(dropped)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt, or a moment later if `_raise_again` is at work."""
    while frame is not None:
        if frame.f_code is _raise_again.__code__:
            signal.setitimer(signal.ITIMER_REAL, _MOMENT)
            return
        frame = frame.f_back
    raise KeyboardInterrupt


def _end(number: int, frame: FrameType | None) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # closed, or in the middle of another write
            stream.flush()
    os._exit(CODE)
