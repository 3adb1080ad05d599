"""Intervals for means over few seeds of quantities that are bounded, and for shares of runs.

An error lies in [0, 1] and a gap in [-1, 1]; so do their intervals. Which method holds its level is simulated by
``python -m tests.benchmarks coverage``. Two limits are no method's fault: k runs without a failure are compatible with a failure rate of
1 - 0.05^(1/k) (63 % at k = 3, 26 % at k = 10), so an interval either is that wide ("betting") or assumes that rare far-away outcomes
do not occur ("student", "logit").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Method = Literal["student", "logit", "betting"]

LEVEL = 0.95
"""Confidence of every interval, unless it says otherwise."""
DEFAULT: Method = "logit"
ERRORS = (0.0, 1.0)
"""Where an error can be."""
GAPS = (-1.0, 1.0)
"""Where a generalization gap can be."""
_NOT_NEGATIVE = ("fit_epoch", "epochs", "seconds", "parameters", "parameters_per_sample")
_STAKES = (np.arange(24) + 0.5) / 24
"""Shares of the capital that are staked at once, each by an equal part of it."""
_HALVINGS = 40


def range_of(column: str, values: Floats | None = None) -> tuple[float, float]:
    """Where the quantity of a column can be: errors in [0, 1], the gap in [-1, 1], losses, squared errors, counts and times not below 0.

    Args:
        column: its name.
        values: if some of them lie outside, the column has another meaning or unit here, and no bounds.

    >>> range_of("test_error"), range_of("generalization_gap"), range_of("train_loss"), range_of("measure.margin")
    ((0.0, 1.0), (-1.0, 1.0), (0.0, inf), (-inf, inf))
    """
    low, high = -np.inf, np.inf
    if column == "generalization_gap":
        low, high = GAPS
    elif column.endswith("_error") or column == "wrong_label_rate":
        low, high = ERRORS
    elif column.endswith(("_loss", "_nmse")) or column in _NOT_NEGATIVE:
        low = 0.0
    if values is not None and not ((values >= low - 1e-12) & (values <= high + 1e-12)).all():
        return -np.inf, np.inf
    return low, high


@dataclass(frozen=True)
class Estimate:
    """A number with its interval; the ends are NaN where the data leave them open, and may be infinite.

    >>> str(Estimate(0.1, 0.05, 0.2))
    '0.1 (0.05 to 0.2)'
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3g} ({self.low:.3g} to {self.high:.3g})"

    def __contains__(self, number: float) -> bool:
        return self.low <= number <= self.high


def mean_estimate(
    values: ArrayLike, *, level: float = LEVEL, within: tuple[float, float] = ERRORS, method: Method = DEFAULT, resolution: float = 0.0
) -> Estimate:
    """The mean of one sample with its interval; arguments as for `mean_intervals`.

    >>> mean_estimate([0.02, 0.03, 0.04]).high < 0.08
    True
    """
    sample = np.asarray(values, np.float64)
    low, high = mean_intervals(sample[None], level=level, within=within, method=method, resolution=resolution)
    return Estimate(float(sample.mean()), float(low[0]), float(high[0]))


def mean_intervals(
    samples: ArrayLike, *, level: float = LEVEL, within: tuple[float, float] = ERRORS, method: Method = DEFAULT, resolution: float = 0.0
) -> tuple[Floats, Floats]:
    """Intervals for the expectation of each row, from k independent values.

    Args:
        samples: finite values inside ``within``, shape (groups, k).
        level: confidence, in (0, 1).
        within: where the quantity can be. The ends may be infinite for ``"student"``.
        method: ``"student"``: mean ± t·s/√k with k - 1 degrees of freedom, cut to ``within`` (which costs no coverage).
            ``"logit"``: the same on the scale of log(x - low) - log(high - x), by the delta method: asymmetric near a bound, where
            outcomes are skewed away from it; Student's in the middle, or where an end is infinite.
            ``"betting"``: holds its level for every distribution inside ``within``, however skewed (Waudby-Smith and
            Ramdas 2023, with fixed stakes), and is wide.
        resolution: step between possible values, such as 1/m for an error on m samples; 0 for none. Values that all agree then
            stand for a distribution over neighbouring steps, of which k draws saw one: the interval reaches at least
            resolution·(1 - ((1 - level)/2)^(1/k)) to both sides.

    Returns:
        The lower and the upper ends, each of shape (groups,); NaN where k < 2, but for "betting", which takes one value.

    Raises:
        ValueError: a value lies outside ``within``, or ``"betting"`` was asked for an infinite range.
    """
    x = np.asarray(samples, np.float64)
    count = x.shape[1]
    if count and not ((x >= within[0] - 1e-12) & (x <= within[1] + 1e-12)).all():
        raise ValueError(f"a value lies outside of {within[0]:g} to {within[1]:g}")
    mean = x.mean(axis=1) if count else np.full(len(x), np.nan)
    if method == "betting":
        if not np.isfinite(within).all():
            raise ValueError("betting needs a quantity with two finite bounds")
        low, high = _betting(x, level, within)
    elif count < 2:
        return np.full(len(x), np.nan), np.full(len(x), np.nan)
    else:
        error = x.std(axis=1, ddof=1) / np.sqrt(count)
        low, high = intervals_of(mean, error, count - 1, level=level, within=within if method == "logit" else None)
    reach = reach_of(resolution, count, level)
    return np.maximum(np.minimum(low, mean - reach), within[0]), np.minimum(np.maximum(high, mean + reach), within[1])


def reach_of(resolution: float, count: int, level: float = LEVEL) -> float:
    """How far from the mean of ``count`` values that are known to steps of ``resolution`` an interval reaches at least."""
    return resolution * (1 - ((1 - level) / 2) ** (1 / count)) if count else 0.0


def grouped_intervals(
    values: Floats,
    sizes: NDArray[np.int64],
    *,
    level: float = LEVEL,
    within: tuple[float, float] = ERRORS,
    method: Method = DEFAULT,
    resolution: float = 0.0,
) -> tuple[Floats, Floats]:
    """`mean_intervals` for groups of different sizes.

    Args:
        values: of all groups, one after the other, finite.
        sizes: how many values each group has, shape (groups,).
        level: as for `mean_intervals`; so are ``within``, ``method`` and ``resolution``.
        within: where the quantity can be.
        method: of the interval.
        resolution: step between possible values.

    Returns:
        Lower and upper ends, NaN where a group has fewer than two values.
    """
    starts = np.cumsum(sizes) - sizes
    low, high = np.full(len(sizes), np.nan), np.full(len(sizes), np.nan)
    for size in np.unique(sizes[sizes > 1]):
        members = np.flatnonzero(sizes == size)
        samples = values[starts[members][:, None] + np.arange(size)]
        low[members], high[members] = mean_intervals(samples, level=level, within=within, method=method, resolution=resolution)
    return low, high


def intervals_of(
    mean: ArrayLike,
    standard_error: ArrayLike,
    freedom: float,
    *,
    level: float = LEVEL,
    within: tuple[float, float] | None = None,
) -> tuple[Floats, Floats]:
    """Student's intervals from means and their standard errors; on the logit scale of ``within``, if it is given and finite."""
    from scipy.special import stdtrit

    mean, half = np.asarray(mean, np.float64), np.asarray(standard_error, np.float64) * stdtrit(freedom, (1 + level) / 2)
    if within is None or not np.isfinite(within).all():
        return mean - half, mean + half
    below, above = mean - within[0], within[1] - mean
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        factor = np.where(half > 0, np.exp(half * (below + above) / (below * above)), 1.0)
        # with r = below/above, x = low + width·(r·f)/(1 + r·f); written so that neither factor 0 nor infinity gives NaN
        low = np.where(half > 0, within[0] + (below + above) * below / (below + above * factor), mean)
        high = np.where(half > 0, within[1] - (below + above) * above / (above + below * factor), mean)
    return low, high


def share_estimate(successes: int, runs: int, *, level: float = LEVEL) -> Estimate:
    """The share of runs with some outcome, with Clopper and Pearson's interval (1934), which covers at least at its level.

    Args:
        successes: runs with the outcome, 0 to ``runs``.
        runs: independent runs, at least one.
        level: confidence, in (0, 1).

    >>> str(share_estimate(3, 3))
    '1 (0.292 to 1)'
    """
    from scipy.special import betaincinv

    tail = (1 - level) / 2
    low = float(betaincinv(successes, runs - successes + 1, tail)) if successes else 0.0
    high = float(betaincinv(successes + 1, runs - successes, 1 - tail)) if successes < runs else 1.0
    return Estimate(successes / runs, low, high)


def _betting(samples: Floats, level: float, within: tuple[float, float]) -> tuple[Floats, Floats]:
    """Bounds at which bets against the mean would have multiplied their stake by 2/(1 - level).

    A gambler who holds the mean to be m stakes a share c of the capital on every value: ∏(1 - c + c·x/m) has expectation 1 if it is, for
    x ≥ 0, and so has its average over stakes; by Markov's inequality it rarely is large. It falls in m, so bisection finds the end.
    """
    unit = (samples - within[0]) / (within[1] - within[0])
    low, high = _lower_bound(unit, level), 1 - _lower_bound(1 - unit, level)
    return within[0] + low * (within[1] - within[0]), within[0] + high * (within[1] - within[0])


def _lower_bound(unit: Floats, level: float) -> Floats:
    most = np.log(2 / (1 - level))
    low, high = np.zeros(len(unit)), unit.mean(axis=1)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        odds = unit / np.maximum(middle, 1e-300)[:, None]
        logs = np.log1p(_STAKES[:, None] * (odds[:, None, :] - 1)).sum(axis=2)
        capital = np.logaddexp.reduce(logs, axis=1) - np.log(len(_STAKES))
        rejected = capital >= most
        low, high = np.where(rejected, middle, low), np.where(rejected, high, middle)
    return low
