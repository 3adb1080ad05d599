"""Means over seeds with their intervals, and the gap by capacity and corruption.

Runs are compared at equal fit: those that reached their train target and those that did not are never in one mean.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from analysis.errors import NothingToShow, unknown_column

ERRORS = ("generalization_gap", "train_error", "test_error")
LEVEL = 0.95
"""Confidence of every interval, unless it says otherwise."""


def over_seeds(table: pa.Table, by: Sequence[str], values: Sequence[str], *, level: float = LEVEL) -> pa.Table:
    """The mean of each value over the rows that agree in ``by``, with Student's t interval for that mean.

    The interval is mean ± t·s/√k, with s the standard deviation (k - 1 degrees of freedom) of the k rows that have the value.
    It assumes that seeds are independent and their values near normal, and may reach beyond [0, 1].

    Args:
        table: records.
        by: columns; a null groups with nulls.
        values: numeric columns; null and NaN are left out.
        level: confidence, in (0, 1).

    Returns:
        The columns ``by``, then per value ``VALUE`` (the mean), ``VALUE.low`` and ``VALUE.high`` (null where k < 2), and
        ``seeds``: the rows of the group. Sorted by ``by``.

    >>> runs = pa.table({"width": [1, 1, 2], "test_error": [0.1, 0.3, 0.5]})
    >>> over_seeds(runs, ["width"], ["test_error"])["test_error"].to_pylist()
    [0.2, 0.5]
    """
    from scipy.special import stdtrit

    for name in (*by, *values):
        if name not in table.column_names:
            raise unknown_column(name, table.column_names)
    finite = {name: _without_nan(table[name].cast(pa.float64())) for name in values}
    keyed = pa.table({f"by.{name}": table[name] for name in by} | {f"of.{name}": column for name, column in finite.items()})
    sample = pc.VarianceOptions(ddof=1)
    sums = [(f"of.{name}", kind, options) for name in values for kind, options in (("mean", None), ("stddev", sample), ("count", None))]
    groups = keyed.group_by([f"by.{name}" for name in by]).aggregate([*sums, ([], "count_all")])
    groups = groups.sort_by([(f"by.{name}", "ascending") for name in by])
    columns = {name: groups[f"by.{name}"] for name in by}
    for name in values:
        mean, count = groups[f"of.{name}_mean"], groups[f"of.{name}_count"].to_numpy()
        with np.errstate(divide="ignore", invalid="ignore"):
            quantile = np.where(count > 1, stdtrit(np.maximum(count - 1, 1), (1 + level) / 2), np.nan)
            half = pa.array(quantile / np.sqrt(count), from_pandas=True)
        half = pc.multiply(groups[f"of.{name}_stddev"], half)
        columns |= {name: mean, f"{name}.low": pc.subtract(mean, half), f"{name}.high": pc.add(mean, half)}
    return pa.table(columns | {"seeds": groups["count_all"]})


def gap_table(
    table: pa.Table, *, capacity: str = "parameters_per_sample", by: Sequence[str] | None = None, values: Sequence[str] = ERRORS
) -> pa.Table:
    """The generalization gap by capacity and corruption: mean and 95 % interval (Student's t) over seeds.

    Args:
        table: records; only completed ones count.
        capacity: the column that says how large a model is. The ratio reached is the default, not the one aimed at: two
            aims may resolve to one width, which is then one point.
        by: what tells lines apart; by default ``corruption.level``, preceded by ``corruption.kind`` if kinds differ.
        values: numeric columns.

    Returns:
        As `over_seeds`, by ``by``, ``capacity`` and ``interpolated``: seeds that fit and seeds that did not are two rows.

    Raises:
        NothingToShow: no completed record.
    """
    runs, lines = completed_lines(table, by)
    return over_seeds(runs, [*lines, capacity, "interpolated"], values)


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
