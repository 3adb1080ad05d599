"""What a command prints, whoever prints it: without secrets."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any, TextIO, cast

from trainables.redaction import redacted


class _Redacting:
    """A stream that redacts every text which is written to it, and is otherwise the one that it stands before."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(redacted(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def redacting() -> Iterator[None]:
    """Whatever is written to standard output and standard error meanwhile is redacted."""
    with redirect_stdout(cast(TextIO, _Redacting(sys.stdout))), redirect_stderr(cast(TextIO, _Redacting(sys.stderr))):
        yield
