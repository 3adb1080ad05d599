"""Run as a script: compacts the study at ``sys.argv[1]`` and is killed before step ``sys.argv[2]``."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

from study.records import compaction

STEPS = count()


def stepped(function: Callable[..., Any]) -> Callable[..., Any]:
    def step(*arguments: Any) -> Any:
        if next(STEPS) == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments)

    return step


if __name__ == "__main__":
    Path.replace = stepped(Path.replace)  # type: ignore[method-assign]
    compaction._settle = stepped(compaction._settle)
    compaction._remove_one = stepped(compaction._remove_one)
    compaction.compact(sys.argv[1])
