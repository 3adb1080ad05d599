"""What tests of faults share: an act in the middle of a study, and the rows that must be those of an undisturbed one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import analysis
from study.launch.progress import Progress

OWN_RUN = ["seconds", "finished", "host", "git_commit"]
"""Columns that tell of the run, not of the point."""


def rows(source: str, **options: Any) -> list[dict[str, Any]]:
    """The table of a study, each key once, without what is a run's own."""
    table = analysis.load(source, **options)
    keys = table["key"].to_pylist()
    assert len(set(keys)) == len(keys)
    return table.drop_columns(OWN_RUN).sort_by("key").to_pylist()


def after_first_report(act: Callable[[], None]) -> Progress:
    """Progress that acts once, when the first points are recorded."""
    done: list[bool] = []

    def advanced(statuses: Any, seconds: float) -> None:
        if statuses and not done:
            done.append(True)
            act()

    return Progress(advanced=advanced)
