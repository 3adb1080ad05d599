"""Runs of any origin: what they were given and what was measured, a column a name."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.errors import AnalysisError
from analysis.records.foreign.casting import number

KINDS = ("metrics", "params", "tags")
"""Where a plain name is looked for, in this order; ``params.NAME`` says it outright."""
UNFINISHED = "unfinished"
History = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]
"""All that was logged of a metric: the index of its run, the step and the value; of a step the latest last."""


@dataclass
class ForeignRuns:
    """Runs, the oldest first; each list has an entry a run, None for what the run lacks.

    Attributes:
        source: where they are from, as it may be shown.
        study: the name that their records have.
        ids: a name of each run's own.
        status: ``completed``, ``failed``, ``pruned`` or ``unfinished``.
        ended: milliseconds since 1970.
        parents: the id of the run that a run is nested in.
        columns: by kind and name, such as ``metrics.val_acc``, what each run has, a metric's latest value; params may be texts.
        history: what was logged of a metric, by its name, in the runs of these ids.
        quick: whether histories are at hand; else each run is asked for its own.
    """

    source: str
    study: str
    ids: list[str] = field(default_factory=list)
    status: list[str] = field(default_factory=list)
    ended: list[int | None] = field(default_factory=list)
    parents: list[str | None] = field(default_factory=list)
    columns: dict[str, list[Any]] = field(default_factory=dict)
    history: Callable[[str, Sequence[str]], History] | None = None
    quick: bool = False

    def add(self, kind: str, rows: Sequence[dict[str, Any]]) -> None:
        """Columns of a kind from what each run has of it."""
        for name in dict.fromkeys(name for row in rows for name in row):
            self.columns[f"{kind}.{name}"] = [row.get(name) for row in rows]

    def names(self, *kinds: str) -> list[str]:
        """The names of these kinds, all but tags by default, each as `column` finds it."""
        return [self.short(full) for full in self.columns if full.partition(".")[0] in (kinds or ("metrics", "params"))]

    def known(self) -> set[str]:
        """Every name that `column` finds."""
        return {*self.columns, *(full.partition(".")[2] for full in self.columns)}

    def short(self, full: str) -> str:
        """The plain name of a column, if that is found first."""
        name = full.partition(".")[2]
        return name if self.full(name) == full else full

    def full(self, name: str) -> str | None:
        """The column that a name means, None if there is none."""
        return next((found for found in (*(f"{kind}.{name}" for kind in KINDS), name) if found in self.columns), None)

    def column(self, name: str) -> list[Any]:
        """What each run has of a name.

        Raises:
            AnalysisError: no run has it.
        """
        full = self.full(name)
        if full is None:
            raise unknown_name(name, self.names(), self.source)
        return self.columns[full]

    def numbers(self, name: str) -> NDArray[np.float64]:
        """A column as numbers; a run that lacks it has NaN.

        Raises:
            AnalysisError: no run has the column, or one has a text there.
        """
        values = []
        for index, value in enumerate(self.column(name)):
            try:
                values.append(np.nan if (read := number(value)) is None else read)
            except ValueError:
                raise AnalysisError(
                    f"run {self.ids[index]} has {value!r} as {name!r}, which is no number: nothing can be computed"
                ) from None
        return np.array(values, float)

    def among(self, indices: Sequence[int]) -> ForeignRuns:
        """Some of the runs."""

        def part(column: list[Any]) -> list[Any]:
            return [column[index] for index in indices]

        columns = {name: part(column) for name, column in self.columns.items()}
        lists = (part(self.ids), part(self.status), part(self.ended), part(self.parents))
        return ForeignRuns(self.source, self.study, *lists, columns, self.history, self.quick)


def unknown_name(name: str, known: Iterable[str], source: str) -> AnalysisError:
    """The error for a name that no run has, with the nearest that is there."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    advice = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names)}"
    return AnalysisError(f"no run of {source} has {name!r}: {advice}")
