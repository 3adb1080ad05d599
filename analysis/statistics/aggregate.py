"""Means over seeds with their intervals, and the gap by capacity and corruption.

Runs are compared at equal fit: those that reached their train target and those that did not are never in one mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from analysis.errors import NothingToShow, unknown_column
from analysis.records.schema import RECORDS
from analysis.statistics.bootstrap import bootstrap_intervals

ERRORS = ("generalization_gap", "train_error", "test_error")
Interval = Literal["t", "bootstrap"]
LEVEL = 0.95
"""Confidence of every interval, unless it says otherwise."""
_AIMS = ("seed", "data.seed", "corruption.seed", "model.parameters_per_sample", "model.hold")
SETTINGS = tuple(name for name in RECORDS.names[RECORDS.names.index("data.name") : RECORDS.names.index("seed")] if name not in _AIMS)
"""The config fields, without the seeds and the ratio aimed at."""


def over_seeds(table: pa.Table, by: Sequence[str], values: Sequence[str], *, interval: Interval = "t", level: float = LEVEL) -> pa.Table:
    """The mean of each value over the rows that agree in ``by``, with an interval for that mean.

    Args:
        table: records.
        by: columns; a null groups with nulls.
        values: numeric columns; null and NaN are left out.
        interval: ``"t"``: mean ± t·s/√k (Student), with s the standard deviation of the k rows that have the value and k - 1
            degrees of freedom; it assumes that seeds are independent and near normal, and may reach beyond [0, 1].
            ``"bootstrap"``: `analysis.statistics.bootstrap.bootstrap_intervals` over seeds; it needs more than a few of them.
        level: confidence, in (0, 1).

    Returns:
        The columns ``by``, then per value ``VALUE`` (the mean), ``VALUE.low`` and ``VALUE.high`` (null where k < 2), and
        ``seeds``: the rows of the group. Sorted by ``by``.

    >>> runs = pa.table({"width": [1, 1, 2], "test_error": [0.1, 0.3, 0.5]})
    >>> over_seeds(runs, ["width"], ["test_error"])["test_error"].to_pylist()
    [0.2, 0.5]
    """
    for name in (*by, *values):
        if name not in table.column_names:
            raise unknown_column(name, table.column_names)
    finite = {f"of.{name}": _without_nan(table[name].cast(pa.float64())) for name in values}
    keyed = pa.table({f"by.{name}": table[name] for name in by} | finite)
    sample, kinds = pc.VarianceOptions(ddof=1), ("mean", "count", "stddev" if interval == "t" else "list")
    sums = [(column, kind, sample if kind == "stddev" else None) for column in finite for kind in kinds]
    groups = keyed.group_by([f"by.{name}" for name in by]).aggregate([*sums, ([], "count_all")])
    groups = sorted_by(groups, [f"by.{name}" for name in by])
    columns = {name: groups[f"by.{name}"] for name in by}
    for name in values:
        low, high = (_student if interval == "t" else _bootstrap)(groups, f"of.{name}", level)
        columns |= {name: groups[f"of.{name}_mean"], f"{name}.low": low, f"{name}.high": high}
    return pa.table(columns | {"seeds": groups["count_all"]})


def sorted_by(table: pa.Table, names: Sequence[str]) -> pa.Table:
    """The rows in ascending order of these columns, nulls last; as they are for none."""
    return table.sort_by([(name, "ascending") for name in names]) if names else table


def _student(groups: pa.Table, column: str, level: float) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    from scipy.special import stdtrit

    count = groups[f"{column}_count"].to_numpy()
    quantile = stdtrit(np.maximum(count - 1, 1), (1 + level) / 2) / np.sqrt(np.maximum(count, 1))
    half = pc.multiply(groups[f"{column}_stddev"], pa.array(quantile, mask=count < 2))
    return pc.subtract(groups[f"{column}_mean"], half), pc.add(groups[f"{column}_mean"], half)


def _bootstrap(groups: pa.Table, column: str, level: float) -> tuple[pa.Array, pa.Array]:
    listed = pc.list_flatten(groups[f"{column}_list"]).drop_null().to_numpy()
    low, high = bootstrap_intervals(listed, groups[f"{column}_count"].to_numpy(), level)
    return pa.array(low, from_pandas=True), pa.array(high, from_pandas=True)


def gap_table(
    table: pa.Table,
    *,
    capacity: str = "parameters_per_sample",
    by: Sequence[str] | None = None,
    values: Sequence[str] = ERRORS,
    interval: Interval = "t",
) -> pa.Table:
    """The generalization gap by capacity and corruption: mean and 95 % interval over seeds.

    Args:
        table: records; only completed ones count.
        capacity: the column that says how large a model is. The ratio reached is the default, not the one aimed at: two
            aims may resolve to one width, which is then one point.
        by: what tells lines apart; by default ``corruption.level``, preceded by ``corruption.kind`` if kinds differ.
        values: numeric columns.
        interval: as for `over_seeds`.

    Returns:
        As `over_seeds`, by ``by``, ``capacity`` and ``interpolated``: seeds that fit and seeds that did not are two rows.

    Raises:
        NothingToShow: no completed record.
    """
    runs, lines = completed_lines(table, by)
    return over_seeds(runs, list(dict.fromkeys([*lines, capacity, "interpolated"])), values, interval=interval)


def completed_lines(table: pa.Table, by: Sequence[str] | None) -> tuple[pa.Table, list[str]]:
    """The completed records, and the columns that tell lines apart: ``by``, or else the corruption.

    That is ``corruption.level``, preceded by ``corruption.kind`` if corrupted records are of several kinds; then level 0
    is of no kind (null).

    Raises:
        NothingToShow: no completed record.
    """
    runs = completed(table)
    if by is not None:
        return runs, list(by)
    corrupted = pc.fill_null(pc.greater(runs["corruption.level"], 0), True)
    kinds = pc.if_else(corrupted, runs["corruption.kind"], None)
    if pc.count_distinct(kinds).as_py() < 2:
        return runs, ["corruption.level"]
    return runs.set_column(runs.column_names.index("corruption.kind"), "corruption.kind", kinds), ["corruption.kind", "corruption.level"]


def completed(table: pa.Table) -> pa.Table:
    """The completed records.

    Raises:
        NothingToShow: there are none; the message says what became of the others.
    """
    done = table.filter(pc.equal(table["status"], "completed"))
    if done.num_rows:
        return done
    if not table.num_rows:
        raise NothingToShow("there are no records yet: nothing can be shown")
    raise NothingToShow(f"no record is completed ({outcomes(table)}): nothing can be shown")


def outcomes(table: pa.Table) -> str:
    """How many records have which status, in words.

    >>> outcomes(pa.table({"status": ["diverged", "completed", "diverged"]}))
    '2 diverged, 1 completed'
    """
    counts = table["status"].value_counts().to_pylist()
    return ", ".join(f"{one['counts']:,} {one['values']}" for one in sorted(counts, key=lambda one: -one["counts"]))


def _without_nan(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.if_else(pc.is_nan(column), None, column)


def averaged_over(runs: pa.Table, told_apart: Sequence[str]) -> list[str]:
    """The config fields that differ between runs which agree in ``told_apart``: what a mean over such runs averages over.

    Seeds are not counted, nor the ratio aimed at.
    """
    apart = [name for name in dict.fromkeys(told_apart) if name in runs.column_names]
    cells = runs.group_by(apart).aggregate([]).num_rows
    return [name for name in varying_fields(runs) if name not in apart and runs.group_by([*apart, name]).aggregate([]).num_rows > cells]


def varying_fields(runs: pa.Table) -> list[str]:
    """The config fields, seeds and the ratio aimed at apart, that have more than one value."""
    return [name for name in runs.column_names if name in SETTINGS and _varies(runs[name])]


def _varies(column: pa.ChunkedArray) -> bool:
    ends = pc.min_max(column).as_py()
    return ends["min"] != ends["max"] or 0 < column.null_count < len(column)
