"""Means over seeds with their intervals, and the gap by capacity and corruption.

Runs are compared at equal fit: those that reached their train target and those that did not are never in one mean.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from analysis.records.schema import MEASURE
from analysis.statistics.intervals import DEFAULT, LEVEL, Method, grouped_intervals, range_of
from analysis.statistics.selection import checked, codes, lines_over, numeric, refuse_pooled, seed_codes, sorted_by, varying_fields
from analysis.statistics.tasks import all_own

ERRORS = ("generalization_gap", "train_error", "test_error")

Floats = NDArray[np.float64]


class Declaring(Protocol):
    """What declares points."""

    def keys(self) -> Collection[str]:
        """The keys of the declared points."""


def over_seeds(table: pa.Table, by: Sequence[str], values: Sequence[str], *, interval: Method = DEFAULT, level: float = LEVEL) -> pa.Table:
    """The mean of each value over seeds, with an interval for its expectation.

    Args:
        table: records, or rows of which ``by`` tells apart all that varies but seeds.
        by: columns; a null groups with nulls.
        values: numeric columns; null and NaN are left out. Rows of one seed (in ``seed``, ``data.seed`` and ``corruption.seed``, as far as
            there are these columns) count once, with their mean; rows without a seed count one by one.
        interval: as for `analysis.statistics.intervals.mean_intervals`: ``"logit"``, ``"student"`` or ``"betting"``. It stays where the
            quantity can be: in [0, 1] for errors and rates, in [-1, 1] for the gap, not below 0 for losses and times.
        level: confidence, in (0, 1).

    Returns:
        The columns ``by``, then per value ``VALUE`` (the mean), ``VALUE.low`` and ``VALUE.high`` (null for one seed) and
        ``VALUE.seeds``, the distinct seeds that have it; ``seeds`` is the smallest of these. Sorted by ``by``.

    Raises:
        AnalysisError: a column does not exist, or rows that agree in ``by`` differ in a config field that is no seed.

    >>> runs = pa.table({"width": [1, 1, 2], "test_error": [0.1, 0.3, 0.5]})
    >>> over_seeds(runs, ["width"], ["test_error"])["test_error"].to_pylist()
    [0.2, 0.5]
    """
    refuse_pooled(checked(table, [*by, *values]), by)
    return seed_means(table, by, values, interval=interval, level=level)


def seed_means(table: pa.Table, by: Sequence[str], values: Sequence[str], *, interval: Method = DEFAULT, level: float = LEVEL) -> pa.Table:
    """`over_seeds` of rows that are known to differ in seeds alone."""
    _, first, cell = np.unique(codes(table, by), return_index=True, return_inverse=True)
    seed = seed_codes(table)
    columns = {name: table[name].take(pa.array(first)) for name in by}
    counts = []
    for name in values:
        mean, low, high, count = _of_cells(table[name].cast(pa.float64()).to_numpy(), cell, seed, len(first), name, interval, level)
        ends = {name: mean, f"{name}.low": low, f"{name}.high": high}
        columns |= {column: pa.array(numbers, from_pandas=True) for column, numbers in ends.items()} | {f"{name}.seeds": pa.array(count)}
        counts.append(count)
    fewest = np.min(counts, axis=0) if counts else np.bincount(cell, minlength=len(first))
    return sorted_by(pa.table(columns | {"seeds": pa.array(fewest)}), by)


def _of_cells(
    values: Floats, cell: NDArray[np.int64], seed: NDArray[np.int64], cells: int, name: str, interval: Method, level: float
) -> tuple[Floats, Floats, Floats, NDArray[np.int64]]:
    """The mean, both ends and the seeds of each cell; NaN where there is none."""
    known = np.flatnonzero(~np.isnan(values))
    order = known[np.lexsort((values[known], seed[known], cell[known]))]  # by value last: equal tables give equal sums
    values, cell, seed = values[order], cell[order], seed[order]
    starts = np.flatnonzero(np.diff(cell, prepend=-1) | np.diff(seed, prepend=-1))
    values = np.add.reduceat(values, starts) / np.diff(starts, append=len(values)) if len(starts) < len(values) else values
    cell = cell[starts]
    count = np.bincount(cell, minlength=cells)
    with np.errstate(invalid="ignore"):
        mean = np.bincount(cell, values, cells) / count
    infinite = np.zeros(cells, bool)
    infinite[cell[np.isinf(values)]] = True
    some = ~infinite[cell]
    low, high = grouped_intervals(
        values[some], np.bincount(cell[some], minlength=cells), level=level, within=range_of(name, values[some]), method=interval
    )
    return mean, low, high, count


def gap_table(
    table: pa.Table,
    *,
    capacity: str = "parameters_per_sample",
    by: Sequence[str] | None = None,
    values: Sequence[str] = ERRORS,
    interval: Method = DEFAULT,
    of: Declaring | None = None,
) -> pa.Table:
    """The generalization gap by capacity, corruption and whatever else varies: mean and 95 % interval over seeds.

    Args:
        table: records; only completed ones count.
        capacity: the column that says how large a model is. The ratio reached is the default, not the one aimed at: two
            aims may resolve to one width, which is then one point.
        by: what tells lines apart; by default ``corruption.level``, preceded by ``corruption.kind`` if kinds differ, and every other
            field that varies but seeds and what is swept along with capacity.
        values: numeric columns; of regression the errors and the gap are those of its own columns (`analysis.statistics.tasks.own`).
        interval: as for `over_seeds`.
        of: what declares points, such as the plan of a run (``summary.plan``) or a spec (`study.read_spec`) that leaves nothing open:
            only its points count, not those that were recorded before it changed.

    Returns:
        As `over_seeds`, by ``by``, ``capacity`` and ``interpolated``: seeds that fit and seeds that did not are two rows.

    Raises:
        NothingToShow: no completed record.
        AnalysisError: a column does not exist, or ``by`` leaves something that varies besides seeds.
    """
    if of is not None:
        table = table.filter(pc.is_in(checked(table, ["key"])["key"], pa.array(sorted(of.keys()), pa.string())))
    runs, lines = lines_over(numeric(table, [capacity]), capacity, by)
    settings = varying_fields(runs) if capacity.startswith(MEASURE) else []  # networks of one norm may differ in all else
    cells = list(dict.fromkeys([*lines, *settings, capacity, "interpolated"]))
    values = all_own(runs, values)
    return seed_means(checked(runs, values), cells, values, interval=interval)
