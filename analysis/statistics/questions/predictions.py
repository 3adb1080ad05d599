"""Theory beside measurement: what a theory predicts for the points of a study, computed for their own data, beside what was measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from analysis.errors import AnalysisError, NothingToShow
from analysis.statistics.aggregate import seed_means
from analysis.statistics.selection import completed, lines_over, sorted_by
from analysis.statistics.tasks import refuse_regression

if TYPE_CHECKING:
    from trainables.point.config import TrialConfig
    from trainables.predictions import Theory

PREDICTED = "predicted."
"""The prefix of the columns of what a theory predicts."""
_BETWEEN = 4
"""Steps of a line between two measured points, where a theory is cheap between them."""


@dataclass(frozen=True)
class Beside:
    """A theory beside measurement.

    Attributes:
        theory: the theory.
        over: the column of the horizontal axis.
        by: the columns that tell lines apart.
        values: what is predicted: ``test_loss``, and of some theories ``test_error``.
        cells: means over seeds as of `analysis.over_seeds`, measured (``test_loss``) and predicted (``predicted.test_loss``), by ``by``,
            ``over`` and ``interpolated``.
        line: predicted means by ``by`` and ``over``, at the measured points and, where the theory is cheap there, between them.
    """

    theory: Theory
    over: str
    by: list[str]
    values: tuple[str, ...]
    cells: pa.Table
    line: pa.Table


def theory_table(table: pa.Table, theory: str, *, over: str | None = None, by: Sequence[str] | None = None) -> pa.Table:
    """What was measured and what a theory predicts, means over seeds.

    Args:
        table: records.
        theory: ``eigen``, ``gcv``, ``rf`` or ``ntk`` (see `trainables.predictions`).
        over: the column that rises along a line; by default the first that varies of those that the theory is about.
        by: what tells lines apart; by default whatever else varies, seeds apart.

    Returns:
        The columns ``by``, ``over``, ``interpolated``, then measured values (``test_loss``) and predicted ones (``predicted.test_loss``),
        each with interval and seeds as of `analysis.over_seeds`.

    Raises:
        NothingToShow: no completed record has a test loss.
        AnalysisError: the theory does not hold for some of the points: the message says why.
        ConfigError: there is no such theory, or a point's data cannot be had.
    """
    return beside_theory(table, theory, over, by).cells


def beside_theory(table: pa.Table, theory: str, over: str | None = None, by: Sequence[str] | None = None) -> Beside:
    """The same with what a figure needs (see `theory_table`)."""
    from trainables.predictions import find_theory

    found = find_theory(theory)
    runs = completed(table)
    refuse_regression(runs, "theories are drawn beside the losses of")
    runs = runs.filter(pc.is_valid(runs["test_loss"]))
    if not runs.num_rows:
        raise NothingToShow("no completed record has a test loss, which theories predict")
    over = over or next((name for name in found.axes if pc.count_distinct(runs[name]).as_py() > 1), found.axes[0])
    recorded = {row["key"]: row for row in runs.to_pylist()}
    runs, by = lines_over(runs, over, by)  # which takes the kind of a corruption of level 0 away, where kinds differ
    rows = runs.to_pylist()
    answers = _asked(found, [recorded[row["key"]] for row in rows])
    values = tuple(name for name in answers[0] if runs[name].null_count < runs.num_rows)
    for name in values:
        runs = runs.append_column(PREDICTED + name, pa.array([answer[name] for answer in answers], pa.float64()))
    cells = seed_means(runs, [*by, over, "interpolated"], [*values, *(PREDICTED + name for name in values)])
    line = [{name: row[name] for name in (*by, over, *(PREDICTED + one for one in values))} for row in runs.to_pylist()]
    for group in _lines(rows, by) if over in found.between else ():
        between = _between(found, [recorded[row["key"]] for row in group], over)
        line += [
            {name: group[0][name] for name in by} | {over: place} | {PREDICTED + name: answer[name] for name in values}
            for place, answer in between
        ]
    return Beside(found, over, by, values, cells, _means(line, [*by, over], [PREDICTED + name for name in values], runs.schema))


def point_of(row: Mapping[str, Any]) -> TrialConfig:
    """The resolved point of a record; fields that it does not have keep their defaults."""
    from trainables.point.config import TrialConfig, field_types, with_fields

    fields = ((name, kind) for name, kind in field_types().items() if name in row)
    return with_fields(TrialConfig(), {name: row[name] for name, kind in fields if row[name] is not None or type(None) in get_args(kind)})


def _asked(theory: Theory, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, float]]:
    """What the theory says of each record."""
    from trainables.predictions import OutOfRegime

    answers, refusals = [], []
    for row in rows:
        point = point_of(row)
        if not _made(point, row["key"]):
            raise AnalysisError(f"theories are computed for the data of points that gaplab trained, and {row['key']} is of other origin")
        try:
            answers.append(theory.predict(point, row))
        except OutOfRegime as refusal:
            refusals.append(str(refusal))
    if refusals:
        some = f"that is so for {len(refusals):,} of {len(rows):,} points, and --where leaves them out"
        raise AnalysisError(f"{refusals[0]}{f' ({some})' if len(refusals) < len(rows) else ''}")
    return answers


def _made(point: TrialConfig, key: str) -> bool:
    """Whether a record of that key is of this point: runs of other origin do not say all that makes one."""
    from trainables.point.errors import ConfigError

    try:
        return point.key() == key
    except ConfigError:
        return False


def _lines(rows: Iterable[dict[str, Any]], by: Sequence[str]) -> Iterable[list[dict[str, Any]]]:
    """The records of each line."""
    lines: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        lines.setdefault(tuple(row[name] for name in by), []).append(row)
    return lines.values()


def _between(theory: Theory, rows: Sequence[Mapping[str, Any]], over: str) -> Iterable[tuple[float, dict[str, float]]]:
    """What the theory says between the points of one line, evenly on a logarithmic axis, for the seeds of the point below."""
    from trainables.point.config import with_fields
    from trainables.predictions import OutOfRegime

    places = sorted({row[over] for row in rows})
    for low, high in pairwise(places):
        for place in sorted({round(value) for value in np.geomspace(low, high, _BETWEEN + 1)[1:-1]} - {low, high}):
            for row in (row for row in rows if row[over] == low):
                try:
                    yield place, theory.predict(with_fields(point_of(row), {over: place, "model.parameters_per_sample": None}), row)
                except OutOfRegime:
                    continue


def _means(rows: Sequence[dict[str, Any]], keys: Sequence[str], values: Sequence[str], schema: pa.Schema) -> pa.Table:
    """The means of the values of rows that agree in the keys; one of them may be infinite."""
    table = pa.Table.from_pylist(
        list(rows), pa.schema([*(schema.field(name) for name in keys), *(pa.field(name, pa.float64()) for name in values)])
    )
    means = table.group_by(list(keys)).aggregate([(name, "mean") for name in values])
    return sorted_by(
        means.rename_columns([name.removesuffix("_mean") if name.startswith(PREDICTED) else name for name in means.column_names]), keys
    )
