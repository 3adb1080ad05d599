"""What a run reports while it goes, and how a notebook shows it; the terminal has its own (`study.cli.terminal.progress`)."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from study.launch.node_checks import Check

_SECONDS = 0.5
"""Between two changes of what is shown."""


@dataclass(frozen=True)
class Progress:
    """What `run` calls while it goes; the command line draws it.

    Attributes:
        planned: with the number of points that are resolved.
        started: with the number of points to train, and the seconds that they are expected to take on one worker.
        advanced: with how many points ended in which status, and the expected seconds that are newly done.
        trained: once training has ended, before results are shown.
        mirrored: with how many records are copied to MLflow, and of how many.
        noted: with a sentence about what is going to be done.
        checked: with what was found of a cluster's nodes, before the first point.
    """

    planned: Callable[[int], None] = lambda done: None
    started: Callable[[int, float], None] = lambda points, seconds: None
    advanced: Callable[[Counter[str], float], None] = lambda statuses, seconds: None
    trained: Callable[[], None] = lambda: None
    mirrored: Callable[[int, int], None] = lambda done, total: None
    noted: Callable[[str], None] = lambda sentence: None
    checked: Callable[[Sequence[Check]], None] = lambda checks: None


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook; IPython is not imported for it."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return type(shell).__name__ == "ZMQInteractiveShell"


class _Bar:
    """HTML's own progress element, shown once and changed in place."""

    def __init__(self) -> None:
        self._shown: Any = None
        self._last = 0.0
        self.what, self.done, self.total = "planning", 0, 0
        self.counts: Counter[str] = Counter()

    def to(self, what: str, done: int, total: int) -> None:
        """Show a state; states that follow one another too fast are left out, but not the last of a stage."""
        changed = what != self.what
        self.what, self.done, self.total = what, done, total
        if changed or done == total or time.monotonic() - self._last > _SECONDS:
            self._last = time.monotonic()
            self._show()

    def _repr_html_(self) -> str:
        share = f' max="{self.total}" value="{self.done}"' if self.total else ""
        of = f"{self.done:,} of {self.total:,}" if self.total else f"{self.done:,}"
        others = "".join(f", {count:,} {name}" for name, count in sorted(self.counts.items()) if name != "completed")
        return f"<div>{escape(self.what)} <progress{share}></progress> {of}{escape(others)}</div>"

    def __repr__(self) -> str:
        return f"{self.what}: {self.done:,} of {self.total:,}"

    def _show(self) -> None:
        from IPython.display import display

        if self._shown is None:
            self._shown = display(self, display_id=True)
        else:
            self._shown.update(self)


def notebook_progress() -> Progress:
    """Progress that draws itself under the cell of a notebook."""
    bar = _Bar()

    def advanced(statuses: Counter[str], seconds: float) -> None:
        bar.counts.update(statuses)
        bar.to("training", bar.counts.total(), bar.total)

    return Progress(
        planned=lambda done: bar.to("planning", done, 0),
        started=lambda points, seconds: bar.to("training", bar.counts.total(), bar.counts.total() + points),
        advanced=advanced,
        mirrored=lambda done, total: bar.to("copying to MLflow", done, total),
        noted=print,
        checked=lambda checks: print("\n".join(f"{check.name}: {check.found}" for check in checks)),
    )
