"""The interpolation threshold: the smallest capacity at which runs reach their train target, one definition with its interval.

Every seed has a threshold of its own, which a grid of capacities shows only between two of its points: above the largest capacity that
did not fit, at most the smallest that did. **The interpolation threshold of a line is the geometric mean of its seeds' thresholds**
(equally, where their logarithms are symmetric, the capacity at which half of the runs fit). It is estimated by the likelihood of a normal
distribution of log thresholds, seen through the grid, with the deviation profiled out; its interval has both errors, that of few seeds
and that of the grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, inf, isfinite, log, nan
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from analysis.errors import AnalysisError, unknown_column
from analysis.statistics.intervals import LEVEL
from analysis.statistics.selection import completed_lines, groups, sorted_by

Floats = NDArray[np.float64]

_SEEDS = ("seed", "data.seed", "corruption.seed")
_WIDEST = log(10.0)
"""Largest deviation of log thresholds between seeds that is thought of: one decade. It bounds intervals that the grid leaves open."""
_PLACES, _DEVIATIONS = 401, 48


@dataclass(frozen=True)
class Threshold:
    """An interpolation threshold.

    Attributes:
        value: the estimate, in units of capacity; 0 where every seed fit at every capacity, infinite where none did, NaN without a seed.
        low: lower end of its interval; 0 where the grid leaves it open; NaN for one seed.
        high: upper end; infinite where the grid leaves it open; NaN for one seed.
        seeds: distinct seeds.
        always: of these, seeds that fit at the smallest capacity and everywhere: their threshold lies below the grid.
        never: seeds that fit nowhere: their threshold lies above the grid.
        mixed: seeds with a capacity that fit below one that did not: their threshold is somewhere between the two.
    """

    value: float
    low: float
    high: float
    seeds: int
    always: int
    never: int
    mixed: int


def seed_threshold(capacities: ArrayLike, fitted: ArrayLike) -> tuple[float, float]:
    """Between which two capacities the threshold of one seed lies.

    Args:
        capacities: distinct positive numbers in any order, shape (runs,).
        fitted: whether the run of that capacity fit, shape (runs,).

    Returns:
        The lower end (excluded; 0 where the smallest fits) and the upper end (included; infinite where the largest does not). Where
        outcomes are not monotone, the whole zone: from the last capacity below the smallest that fit to the first above the largest that
        did not.

    >>> seed_threshold([1, 2, 4, 8], [False, False, True, True])
    (2.0, 4.0)
    >>> seed_threshold([1, 2, 4, 8], [False, True, False, True])
    (1.0, 8.0)
    """
    sizes, fitted = np.asarray(capacities, np.float64), np.asarray(fitted, bool)
    smallest = sizes[fitted].min(initial=inf)
    largest = sizes[~fitted].max(initial=0.0)
    return float(sizes[sizes < smallest].max(initial=0.0)), float(sizes[sizes > largest].min(initial=inf))


def threshold_of(ends: Sequence[tuple[float, float]], *, mixed: int = 0, level: float = LEVEL) -> Threshold:
    """The threshold of several seeds from where each of theirs lies.

    With L the log-likelihood of the mean m of log thresholds, at the deviation that serves it best, the interval holds each m with
    2·(max L - L(m)) ≤ k·log(1 + t²/(k - 1)), t being Student's quantile at k - 1 degrees of freedom: on a grid without gaps that is
    Student's interval exactly, and on a coarse one it has the grid's error in it. The deviation is at most a decade.

    Args:
        ends: of each seed, as from `seed_threshold`.
        mixed: seeds whose outcomes were not monotone, to be counted.
        level: confidence, in (0, 1).

    >>> found = threshold_of([(2, 4)] * 5)
    >>> round(found.value, 2), found.low < 2.01, found.high > 3.99
    (2.83, True, True)
    """
    from scipy.special import stdtrit

    seeds = len(ends)
    lower, upper = np.array(ends, np.float64).reshape(seeds, 2).T
    always, never = int((lower == 0).sum()), int(np.isinf(upper).sum())
    counts = {"seeds": seeds, "always": always, "never": never, "mixed": mixed}
    known = np.concatenate([lower[lower > 0], upper[np.isfinite(upper)]])
    if not len(known):
        return Threshold(nan, nan, nan, **counts)
    with np.errstate(divide="ignore"):
        cells, weights = np.unique(np.stack([np.log(lower), np.log(upper)]), axis=1, return_counts=True)
    if seeds < 2:
        return Threshold(_middle(cells), nan, nan, **counts)
    span = log(known.max() / known.min())
    reach = 5 * _WIDEST + span
    places = np.linspace(log(known.min()) - reach, log(known.max()) + reach, _PLACES)
    near = np.linspace(-1, 1, 81) * min(_narrowest(cells), _WIDEST)
    places = np.unique(np.concatenate([places, *(edge + near for edge in np.unique(np.log(known)))]))
    profile = _profile(places, cells, weights)
    most = profile.max()
    allowed = seeds * log(1 + float(stdtrit(seeds - 1, (1 + level) / 2)) ** 2 / (seeds - 1)) / 2
    inside = np.flatnonzero(profile >= most - allowed)
    held = places[[max(inside[0] - 1, 0), min(inside[-1] + 1, len(places) - 1)]]  # rounded outwards
    best = places[profile >= most - 1e-6]
    value = exp((best[0] + best[-1]) / 2)
    low = 0.0 if held[0] == places[0] or always == seeds else exp(held[0])
    high = inf if held[-1] == places[-1] or never == seeds else exp(held[-1])
    return Threshold(0.0 if always == seeds else inf if never == seeds else value, low, high, **counts)


def threshold(capacities: ArrayLike, seeds: ArrayLike, fitted: ArrayLike, *, level: float = LEVEL) -> Threshold:
    """The interpolation threshold of runs over a grid of capacities and several seeds.

    Args:
        capacities: of each run, positive, shape (runs,).
        seeds: of each run: which of them belong together, shape (runs,).
        fitted: whether the run reached its train target, shape (runs,).
        level: confidence, in (0, 1).

    Raises:
        AnalysisError: two runs have the same capacity and seed, or a capacity is not positive.
    """
    sizes, fitted = np.asarray(capacities, np.float64), np.asarray(fitted, bool)
    names, seed = np.unique(np.asarray(seeds), return_inverse=True)
    if not (sizes > 0).all():
        raise AnalysisError("a capacity is a positive number")
    if len(np.unique(np.stack([sizes, seed.astype(np.float64)]), axis=1).T) < len(sizes):
        raise AnalysisError("two runs have the same capacity and seed: tell lines apart by what else varies")
    mine = [(sizes[seed == one], fitted[seed == one]) for one in range(len(names))]
    mixed = sum(bool(some.any() and not some.all() and size[some].min() < size[~some].max()) for size, some in mine)
    return threshold_of([seed_threshold(*one) for one in mine], mixed=mixed, level=level)


def threshold_table(
    table: pa.Table, *, capacity: str = "parameters_per_sample", by: Sequence[str] | None = None, level: float = LEVEL
) -> pa.Table:
    """The interpolation threshold of each line of a study.

    Args:
        table: records; only completed ones count, and a run fits that is ``interpolated``.
        capacity: the column that says how large a model is.
        by: what tells lines apart; corruption by default. It must tell apart everything that varies but seeds and capacity.
        level: confidence, in (0, 1).

    Returns:
        The columns ``by``; ``threshold`` with ``.low`` and ``.high`` (null for one seed; 0 and infinite ends are null as well, and
        ``always`` and ``never`` say why); ``seeds``, ``always``, ``never`` and ``mixed`` as in `Threshold`. Sorted by ``by``.

    Raises:
        NothingToShow: no completed record.
        AnalysisError: a column does not exist, or a line has two runs of one capacity and seed.
    """
    runs, lines = completed_lines(table, by)
    for name in (capacity, *lines):
        if name not in runs.column_names:
            raise unknown_column(name, runs.column_names)
    rows = []
    for row, some in groups(runs, lines):
        identity = [name for name in _SEEDS if name in some.column_names and name not in lines]
        seeds = np.array(
            ["/".join(map(str, one)) for one in zip(*(some[name].to_pylist() for name in identity), strict=True)] or [""] * len(some)
        )
        fitted = some["interpolated"].fill_null(False).to_numpy()
        rows.append(row | _row(threshold(some[capacity].cast(pa.float64()).to_numpy(), seeds, fitted, level=level)))
    numbers = [pa.field(name, pa.float64()) for name in ("threshold", "threshold.low", "threshold.high")]
    counts = [pa.field(name, pa.int64()) for name in ("seeds", "always", "never", "mixed")]
    return sorted_by(pa.Table.from_pylist(rows, pa.schema([*(runs.schema.field(name) for name in lines), *numbers, *counts])), lines)


def _row(found: Threshold) -> dict[str, Any]:
    ends = {"threshold": found.value, "threshold.low": found.low, "threshold.high": found.high}
    counts = {name: getattr(found, name) for name in ("seeds", "always", "never", "mixed")}
    return {name: number if isfinite(number) and number > 0 else None for name, number in ends.items()} | counts


def _middle(cells: Floats) -> float:
    """The geometric middle of one cell; its open end where it has one."""
    (low,), (high,) = cells
    return exp((low + high) / 2)


def _narrowest(cells: Floats) -> float:
    """The width of the narrowest cell, in logarithms; a tenth where all are open."""
    finite = cells[:, np.isfinite(cells).all(axis=0)]
    return float((finite[1] - finite[0]).min()) if finite.shape[1] else 0.1


def _profile(places: Floats, cells: Floats, weights: NDArray[np.int64]) -> Floats:
    """The log-likelihood of each mean at its best deviation, shape (places,)."""
    from scipy.special import log_ndtr, ndtr

    deviations = np.geomspace(min(_narrowest(cells), _WIDEST) / 400, _WIDEST, _DEVIATIONS)
    best = np.full(len(places), -inf)
    for deviation in deviations:
        low, high = ((edge - places[:, None]) / deviation for edge in cells)
        # the tail away from 0, where differences of small probabilities keep their digits
        low, high = np.where(low > 0, -high, low), np.where(low > 0, -low, high)
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.where(high < -20, log_ndtr(high), np.log(np.maximum(ndtr(high) - ndtr(low), 1e-320)))
        best = np.maximum(best, logs @ weights)
    return best
