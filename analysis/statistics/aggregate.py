"""Means over seeds with their intervals, and the gap by capacity and corruption.

Runs are compared at equal fit: those that reached their train target and those that did not are never in one mean.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from analysis.errors import unknown_column
from analysis.statistics.bootstrap import bootstrap_intervals
from analysis.statistics.selection import completed_lines, sorted_by

ERRORS = ("generalization_gap", "train_error", "test_error")
Interval = Literal["t", "bootstrap"]
LEVEL = 0.95
"""Confidence of every interval, unless it says otherwise."""


class Declaring(Protocol):
    """What declares points."""

    def keys(self) -> Collection[str]:
        """The keys of the declared points."""


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
    of: Declaring | None = None,
) -> pa.Table:
    """The generalization gap by capacity and corruption: mean and 95 % interval over seeds.

    Args:
        table: records; only completed ones count.
        capacity: the column that says how large a model is. The ratio reached is the default, not the one aimed at: two
            aims may resolve to one width, which is then one point.
        by: what tells lines apart; by default ``corruption.level``, preceded by ``corruption.kind`` if kinds differ.
        values: numeric columns.
        interval: as for `over_seeds`.
        of: a spec (`study.read_spec`): only the points that it declares count, not those that were recorded before it changed.

    Returns:
        As `over_seeds`, by ``by``, ``capacity`` and ``interpolated``: seeds that fit and seeds that did not are two rows.

    Raises:
        NothingToShow: no completed record.
    """
    if of is not None:
        table = table.filter(pc.is_in(table["key"], pa.array(sorted(of.keys()), pa.string())))
    runs, lines = completed_lines(table, by)
    return over_seeds(runs, list(dict.fromkeys([*lines, capacity, "interpolated"])), values, interval=interval)


def _without_nan(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.if_else(pc.is_nan(column), None, column)
