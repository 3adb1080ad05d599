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
import pyarrow.compute as pc
from numpy.typing import ArrayLike, NDArray

from analysis.errors import AnalysisError
from analysis.statistics.intervals import LEVEL
from analysis.statistics.selection import codes, lines_over, numeric, seed_codes, sorted_by

Floats = NDArray[np.float64]

_WIDEST = log(10.0)
"""Largest deviation of log thresholds between seeds that is thought of: one decade. It bounds intervals that the grid leaves open."""
_PLACES, _DEVIATIONS = 161, 32
"""Means and deviations that are looked at first; `_REFINED` and `_SECTIONS` bring both to five digits and more."""
_REFINED, _BETWEEN, _SECTIONS = 3, 31, 20
_GOLDEN = (5**0.5 - 1) / 2
_ALIKE = 1e-6
"""Log-likelihoods that differ by less are one: a grid may leave a whole range of means equally likely, of which the middle is said."""


@dataclass(frozen=True)
class Threshold:
    """An interpolation threshold.

    Attributes:
        value: the estimate, in units of capacity; 0 where every seed fit at every capacity, infinite where none did, NaN without a seed.
        low: lower end of its interval; 0 where the grid leaves it open; NaN for one seed.
        high: upper end; infinite where the grid leaves it open; NaN for one seed.
        seeds: distinct seeds.
        always: of these, seeds that fit at the smallest capacity, and everywhere unless mixed: the grid has no lower end for them.
        never: seeds that do not fit at the largest, and nowhere unless mixed: the grid has no upper end for them.
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
    near = np.linspace(-1, 1, 21) * min(_narrowest(cells), _WIDEST)
    places = np.unique(np.concatenate([places, *(edge + near for edge in np.unique(np.log(known)))]))
    allowed = seeds * log(1 + float(stdtrit(seeds - 1, (1 + level) / 2)) ** 2 / (seeds - 1)) / 2
    places, profile = _refined(places, cells, weights, (_ALIKE, allowed))
    inside = np.flatnonzero(profile >= profile.max() - allowed)
    held = places[[max(inside[0] - 1, 0), min(inside[-1] + 1, len(places) - 1)]]  # rounded outwards
    best = places[profile >= profile.max() - _ALIKE]
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
        by: what tells lines apart, as for `analysis.gap_table`.
        level: confidence, in (0, 1).

    Returns:
        The columns ``by``; ``threshold`` with ``.low`` and ``.high`` (null for one seed; 0 and infinite ends are null as well, and
        ``always`` and ``never`` say why); ``seeds``, ``always``, ``never`` and ``mixed`` as in `Threshold`. Sorted by ``by``.

    Raises:
        NothingToShow: no completed record.
        AnalysisError: a column does not exist, or ``by`` leaves something that varies besides seeds and capacity.
    """
    runs, lines = lines_over(numeric(table, [capacity]), capacity, by)
    return line_thresholds(runs, lines, capacity, level=level)


def line_thresholds(runs: pa.Table, lines: Sequence[str], capacity: str, *, level: float = LEVEL) -> pa.Table:
    """`threshold_table` of completed records that differ, within their lines, in seeds and capacity alone."""
    runs = runs.filter(pc.fill_null(pc.greater(runs[capacity].cast(pa.float64()), 0), False))
    seed, fitted = seed_codes(runs), runs["interpolated"].fill_null(False).to_numpy()
    sizes, line = runs[capacity].cast(pa.float64()).to_numpy(), codes(runs, lines)
    rows = []
    for members in np.split(np.argsort(line, kind="stable"), np.flatnonzero(np.diff(np.sort(line))) + 1) if len(line) else []:
        row = {name: runs[name][int(members[0])].as_py() for name in lines}
        rows.append(row | _row(threshold(*_once(sizes[members], seed[members], fitted[members]), level=level)))
    numbers = [pa.field(name, pa.float64()) for name in ("threshold", "threshold.low", "threshold.high")]
    counts = [pa.field(name, pa.int64()) for name in ("seeds", "always", "never", "mixed")]
    return sorted_by(pa.Table.from_pylist(rows, pa.schema([*(runs.schema.field(name) for name in lines), *numbers, *counts])), lines)


def _once(sizes: Floats, seed: NDArray[np.int64], fitted: NDArray[np.bool_]) -> tuple[Floats, NDArray[np.int64], NDArray[np.bool_]]:
    """Each capacity and seed once: a point that was recorded again fit if it always did."""
    different, index = np.unique(np.stack([sizes, seed.astype(np.float64)]), axis=1, return_inverse=True)
    always = np.ones(different.shape[1], bool)
    always[index.ravel()[~fitted]] = False
    return different[0], different[1].astype(np.int64), always


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


def _refined(places: Floats, cells: Floats, weights: NDArray[np.int64], below: tuple[float, float]) -> tuple[Floats, Floats]:
    """Means and their profile likelihoods, close together where the profile leaves its maximum by one of the given amounts.

    The likelihood is concave in (mean / deviation, 1 / deviation): the means whose profile reaches some height are an interval, and its
    ends lie beside the outermost places that were found to reach it.
    """
    profile = _profile(places, cells, weights)
    for _ in range(_REFINED):
        ends = set()
        for amount in below:
            inside = np.flatnonzero(profile >= profile.max() - amount)
            ends |= {inside[0] - 1, inside[0], inside[-1] - 1, inside[-1]} & set(range(len(places) - 1))
        steps = np.linspace(0, 1, _BETWEEN + 2)[1:-1]
        added = np.concatenate([places[end] + steps * (places[end + 1] - places[end]) for end in sorted(ends)])
        order = np.argsort(together := np.concatenate([places, added]))
        places, profile = together[order], np.concatenate([profile, _profile(added, cells, weights)])[order]
    return places, profile


def _profile(places: Floats, cells: Floats, weights: NDArray[np.int64]) -> Floats:
    """The log-likelihood of each mean at its best deviation, shape (places,): by a grid of deviations, then golden sections."""
    grid = np.linspace(log(min(_narrowest(cells), _WIDEST) / 1e6), log(_WIDEST), _DEVIATIONS)
    found = _likelihoods(np.tile(places, len(grid)), np.repeat(grid, len(places)), cells, weights).reshape(len(grid), -1)
    best = found.argmax(axis=0)
    low, high = grid[np.maximum(best - 1, 0)], grid[np.minimum(best + 1, len(grid) - 1)]
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    of_left, of_right = (_likelihoods(places, side, cells, weights) for side in (left, right))
    for _ in range(_SECTIONS):
        falls = of_left > of_right
        low, high = np.where(falls, low, left), np.where(falls, right, high)
        new = np.where(falls, high - _GOLDEN * (high - low), low + _GOLDEN * (high - low))
        of_new = _likelihoods(places, new, cells, weights)
        left, right = np.where(falls, new, right), np.where(falls, left, new)
        of_left, of_right = np.where(falls, of_new, of_right), np.where(falls, of_left, of_new)
    return np.asarray(np.maximum.reduce([found.max(axis=0), of_left, of_right]))


def _likelihoods(places: Floats, deviations: Floats, cells: Floats, weights: NDArray[np.int64]) -> Floats:
    """The log-likelihood of each mean with its log deviation, shape (places,) each."""
    from scipy.special import log_ndtr, ndtr

    low, high = ((edge - places[:, None]) / np.exp(deviations)[:, None] for edge in cells)
    # the tail away from 0, where differences of small probabilities keep their digits
    low, high = np.where(low > 0, -high, low), np.where(low > 0, -low, high)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.where(high < -20, log_ndtr(high), np.log(np.maximum(ndtr(high) - ndtr(low), 1e-320)))
    return np.asarray(logs @ weights)
