"""The progress of a run, drawn: points done, their statuses, an ETA from the expected cost of what is left."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich import progress as rich_progress
from rich.console import Console

from study.cli.terminal.printing import checks_table
from study.launch.progress import Progress

if TYPE_CHECKING:
    from study.launch.node_checks import Check
    from study.launch.summary import Summary
    from study.spec.reading import Spec

_LINE_SECONDS = 15.0
"""Between two lines when the output is not a terminal."""


class _Eta:
    """Time left, from the share of the expected cost that was done since the first report: workers take seconds to start."""

    def __init__(self, total: float = 0.0) -> None:
        self._total, self._done = total, 0.0
        self._first: tuple[float, float] | None = None

    def advance(self, seconds: float) -> None:
        self._done += seconds
        self._first = self._first or (time.monotonic(), self._done)

    def __str__(self) -> str:
        if self._first is None or self._done <= self._first[1]:
            return "ETA unknown"
        since, done = self._first
        left = (time.monotonic() - since) * max(0.0, self._total - self._done) / (self._done - done)
        return f"ETA {int(left // 60)}:{int(left % 60):02d}"


@contextmanager
def drawn() -> Iterator[Progress]:
    """A `Progress` that draws itself on the terminal, or prints a line now and then into a log."""
    console = Console(
        stderr=True, highlight=False, markup=False, soft_wrap=True
    )  # words in brackets are no colours, a sentence is one line
    columns = (
        rich_progress.TextColumn("{task.description}"),
        rich_progress.BarColumn(),
        rich_progress.MofNCompleteColumn(),
        rich_progress.TimeElapsedColumn(),
        rich_progress.TextColumn("{task.fields[note]}"),
    )
    with rich_progress.Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bars:
        eta, counts = _Eta(), Counter[str]()
        bar = bars.add_task("planning", total=None, note="")
        last_line = time.monotonic()

        def planned(done: int) -> None:
            bars.update(bar, completed=done)

        def started(points: int, seconds: float) -> None:
            nonlocal eta
            eta = _Eta(seconds)
            bars.update(bar, description="training", completed=0, total=points, note=str(eta))
            if not console.is_terminal:
                console.print(f"training {points:,} point{'' if points == 1 else 's'}")

        def advanced(statuses: Counter[str], seconds: float) -> None:
            nonlocal last_line
            eta.advance(seconds)
            counts.update(statuses)
            others = ", ".join(f"{count} {name}" for name, count in counts.items() if name != "completed")
            bars.update(bar, advance=statuses.total(), note=f"{eta}  {others}")
            if not console.is_terminal and time.monotonic() - last_line > _LINE_SECONDS:
                last_line = time.monotonic()
                done = counts.total()
                console.print(f"{done:,} point{'' if done == 1 else 's'} done, {eta} {others}".rstrip())

        def trained() -> None:
            bars.stop()  # what is printed now would be drawn over

        def mirrored(done: int, total: int) -> None:
            nonlocal last_line
            bars.update(bar, description="copying to MLflow", completed=done, total=total, note="Ctrl-C leaves the rest to gaplab sync")
            bars.start()
            if not console.is_terminal and time.monotonic() - last_line > _LINE_SECONDS:
                last_line = time.monotonic()
                console.print(f"copied {done:,} of {total:,} records to MLflow")

        def checked(checks: Sequence[Check]) -> None:
            console.print(checks_table(checks))

        yield Progress(planned, started, advanced, trained, mirrored, console.print, checked)


def run_drawn(
    spec: Spec,
    concluded: Callable[[Summary], Sequence[Path]],
    *,
    storage: str,
    tracking_uri: str | None,
    address: str | None,
    allow_mixed: bool,
) -> Summary:
    """Run what is missing of a study while its progress is drawn: what `run`, `scale` and `reproduce` have in common."""
    from study.launch.run import run

    with drawn() as progress:
        return run(
            spec,
            storage=storage,
            tracking_uri=tracking_uri,
            address=address,
            progress=progress,
            allow_mixed=allow_mixed,
            concluded=concluded,
        )
