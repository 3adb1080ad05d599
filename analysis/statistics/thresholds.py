"""The interpolation threshold: the smallest capacity at which runs reach their train target."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, inf, log, sqrt
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from analysis.statistics.aggregate import LEVEL, over_seeds
from analysis.statistics.selection import SEEDS, completed_lines, sorted_by


def interpolation_thresholds(
    table: pa.Table, *, capacity: str = "parameters_per_sample", by: Sequence[str] | None = None, share: float = 1.0
) -> pa.Table:
    """The smallest capacity, of those that were run, at which at least a share of the seeds interpolated.

    Args:
        table: records; only completed ones count.
        capacity: the column that says how large a model is.
        by: what tells lines apart; corruption by default, as in `gap_table`.
        share: 1 asks that all seeds fit, 0.5 that half of them do.

    Returns:
        The columns ``by`` and ``threshold`` (null where no capacity reaches the share), sorted by ``by``.
    """
    runs, lines = completed_lines(table, by)
    runs = runs.select(list(dict.fromkeys([*lines, capacity, "interpolated"])))
    runs = runs.append_column("fit", runs["interpolated"].cast(pa.float64()))
    cells = runs.group_by([*lines, capacity]).aggregate([("fit", "mean")])
    reached = pc.if_else(pc.greater_equal(cells["fit_mean"], share), cells[capacity], None)
    found = cells.append_column("reached", reached).group_by(lines).aggregate([("reached", "min")])
    return sorted_by(found.rename_columns([*lines, "threshold"]), lines)


def threshold_location(
    table: pa.Table,
    *,
    capacity: str = "parameters_per_sample",
    by: Sequence[str] | None = None,
    train_error: float = 0.01,
    level: float = LEVEL,
) -> pa.Table:
    """Where the train error falls to a level, by interpolation between the capacities that were run.

    For each seed: between its smallest capacity at or below the level and the next smaller one, the logarithm of capacity is
    interpolated linearly in the train error. The threshold is the geometric mean over seeds, with Student's t interval of
    that mean in logarithms.

    Args:
        table: records; only completed ones count.
        capacity: the column that says how large a model is; positive.
        by: what tells lines apart; corruption by default.
        train_error: the level, in [0, 1]. At 0 the interpolation ends on the first capacity that fits, for the train error is flat
            beyond it.
        level: confidence, in (0, 1).

    Returns:
        The columns ``by``, ``threshold`` with ``.low`` and ``.high`` (null for fewer than two seeds), ``seeds`` that it was
        located for, ``above`` (seeds that no capacity brought down to the level) and ``below`` (seeds whose smallest capacity
        already was). Sorted by ``by``.
    """
    runs, lines = completed_lines(table, by)
    seeds = [name for name in SEEDS if name in runs.column_names and name not in lines]
    cells = over_seeds(runs, list(dict.fromkeys([*lines, *seeds, capacity])), ["train_error"])
    found: dict[tuple[Any, ...], list[float]] = {}
    for line, curve in _curves(cells, lines, seeds, capacity).items():
        found.setdefault(line[: len(lines)], []).append(_crossing(curve, train_error))
    rows = [dict(zip(lines, line, strict=True)) | _located(np.array(crossings), level) for line, crossings in found.items()]
    numbers = [pa.field(name, pa.float64()) for name in ("threshold", "threshold.low", "threshold.high")]
    counts = [pa.field(name, pa.int64()) for name in ("seeds", "above", "below")]
    return sorted_by(pa.Table.from_pylist(rows, pa.schema([*(runs.schema.field(name) for name in lines), *numbers, *counts])), lines)


def _curves(cells: pa.Table, lines: Sequence[str], seeds: Sequence[str], capacity: str) -> dict[tuple[Any, ...], list[tuple[float, float]]]:
    """(log capacity, train error), ascending, of each line and seed."""
    names = [*lines, *seeds, capacity, "train_error"]
    curves: dict[tuple[Any, ...], list[tuple[float, float]]] = {}
    for row in zip(*(cells.sort_by(capacity)[name].to_pylist() for name in names), strict=True):
        *line, size, error = row
        if size and error is not None:
            curves.setdefault(tuple(line), []).append((log(size), error))
    return curves


def _crossing(curve: Sequence[tuple[float, float]], target: float) -> float:
    """The log capacity at which the train error falls to the target; infinite if it never does, or did before."""
    first = next((index for index, (_, error) in enumerate(curve) if error <= target), None)
    if first is None:
        return inf
    if first == 0:
        return -inf
    (small, above), (large, below) = curve[first - 1], curve[first]
    return small + (large - small) * (above - target) / (above - below)


def _located(crossings: NDArray[np.float64], level: float) -> dict[str, float | int | None]:
    from scipy.special import stdtrit

    finite = crossings[np.isfinite(crossings)]
    above, below = int((crossings == inf).sum()), int((crossings == -inf).sum())
    row: dict[str, float | int | None] = {"seeds": len(finite), "above": above, "below": below}
    if len(finite):
        row["threshold"] = exp(finite.mean())
    if len(finite) > 1:
        half = stdtrit(len(finite) - 1, (1 + level) / 2) * finite.std(ddof=1) / sqrt(len(finite))
        row |= {"threshold.low": exp(finite.mean() - half), "threshold.high": exp(finite.mean() + half)}
    return row
