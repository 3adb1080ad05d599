"""A process that compacts a study, and is killed on the way."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

from study.records import compaction

STEPS = count()


def stepped(function: Callable[..., Any], last: int) -> Callable[..., Any]:
    def step(*arguments: Any) -> Any:
        if next(STEPS) == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments)

    return step


def compact_until(root: str, last: int) -> None:
    """Compact a study, and be killed before a step."""
    Path.replace = stepped(Path.replace, last)  # type: ignore[method-assign]
    compaction._settle = stepped(compaction._settle, last)
    compaction._remove_one = stepped(compaction._remove_one, last)
    compaction.compact(root)
