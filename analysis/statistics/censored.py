"""Times that may not have ended: the epoch at which a run fits, where some runs had not by their last epoch.

A mean over the runs that fit is biased to the fast ones, and a mean with the last epoch put in for the others depends on the budget.
Kaplan and Meier's curve (1958) uses both kinds as they are; the restricted mean is its area up to a stated horizon. Runs are few, so
intervals are those for small samples: the beta product of Fay, Brittain and Proschan (2013), which is Clopper and Pearson's interval
where all runs have one budget.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite, nan

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike, NDArray

from analysis.errors import NothingToShow
from analysis.statistics.intervals import LEVEL, Estimate, intervals_of, reach_of, share_estimate
from analysis.statistics.selection import checked, codes, once_each, refuse_pooled, sorted_by

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class SurvivalCurve:
    """The share of runs that have not fit yet, a step function of time.

    Attributes:
        times: where it steps down, ascending, beginning with 0; shape (steps,).
        not_fit: the share from each time until before the next.
        low: pointwise lower ends of its interval; 0 where nobody is watched any longer.
        high: pointwise upper ends.
        runs: how many it is of.
        horizon: the longest time that a run was watched.
    """

    times: Floats
    not_fit: Floats
    low: Floats
    high: Floats
    runs: int
    horizon: float


def survival_curve(times: ArrayLike, fitted: ArrayLike, *, level: float = LEVEL) -> SurvivalCurve:
    """Kaplan and Meier's curve with the beta product interval by the method of moments.

    Args:
        times: of fitting, or until which a run was watched without fitting; positive, shape (runs,).
        fitted: whether the run fit, shape (runs,).
        level: pointwise confidence, in (0, 1).

    Raises:
        ValueError: no run, or a time that is not positive and finite.
    """
    times, fitted = _checked(times, fitted)
    steps, fits, at_risk = _steps(times, fitted)
    not_fit = np.concatenate([[1.0], np.cumprod(1 - fits / at_risk)])
    left = np.array([len(times), *((times > step).sum() for step in steps)], np.float64)
    low, high = _beta_product(fits, at_risk, left, level)
    return SurvivalCurve(np.concatenate([[0.0], steps]), not_fit, low, high, len(times), float(times.max()))


def median_time(times: ArrayLike, fitted: ArrayLike, *, level: float = LEVEL) -> Estimate:
    """The time by which half of the runs fit; infinite where fewer than half did while they were watched.

    Its interval holds the times at which the curve's own interval contains one half (Brookmeyer and Crowley 1982).

    >>> median_time([3, 4, 5, 6, 7, 8, 9], [True] * 7).value
    6.0
    """
    curve = survival_curve(times, fitted, level=level)

    def first(share: Floats, closed: bool) -> float:
        reached = np.flatnonzero(share <= 0.5 + 1e-12 if closed else share < 0.5 - 1e-12)
        return float(curve.times[reached[0]]) if len(reached) else inf

    # between two steps the lower end already counts that the next run may be about to fit
    return Estimate(first(curve.not_fit, True), first(curve.low, True), first(curve.high, False))


def restricted_mean(
    times: ArrayLike, fitted: ArrayLike, *, horizon: float | None = None, level: float = LEVEL, resolution: float = 0.0
) -> Estimate:
    """The mean of min(time, horizon): the area under the curve up to the horizon.

    The interval is Student's on the logit scale of [0, horizon], with Greenwood's standard error times √(k/(k-1)) and k - 1 degrees
    of freedom; without censoring before the horizon that is the interval of an ordinary mean of k times. Where no run fit it
    is what a share of 0 in k leaves open.

    Args:
        times: as for `survival_curve`; so is ``fitted``.
        fitted: whether the run fit.
        horizon: at most the longest time watched, which is the default.
        level: confidence, in (0, 1).
        resolution: step between possible times, such as the epochs between two evaluations: how far the interval reaches at least is
            as for `intervals.mean_intervals`, so that times which all agree are not taken for a certainty.

    Raises:
        ValueError: the horizon lies beyond the longest time watched of a run that did not fit.
    """
    times, fitted = _checked(times, fitted)
    horizon = float(times.max()) if horizon is None else float(horizon)
    if horizon > times.max() and not fitted[times == times.max()].all():
        raise ValueError(f"nobody was watched up to {horizon:g}: the horizon can be {times.max():g} at most")
    mean, variance = _area(times, fitted, horizon)
    runs = len(times)
    if runs < 2:
        return Estimate(mean, nan, nan)
    if not (fitted & (times <= horizon)).any():
        return Estimate(mean, horizon * (1 - share_estimate(0, runs, level=level).high), horizon)
    error = np.sqrt(variance * runs / (runs - 1))
    low, high = intervals_of(mean, error, runs - 1, level=level, within=(0.0, horizon))
    reach = reach_of(resolution, runs, level)
    return Estimate(mean, max(min(float(low), mean - reach), 0.0), min(max(float(high), mean + reach), horizon))


def fit_share(times: ArrayLike, fitted: ArrayLike, *, level: float = LEVEL) -> Estimate:
    """The share of runs that fit within their budgets, with Clopper and Pearson's interval."""
    _, fitted = _checked(times, fitted)
    return share_estimate(int(fitted.sum()), len(fitted), level=level)


def fit_times(table: pa.Table, by: Sequence[str], *, level: float = LEVEL) -> pa.Table:
    """Epochs to fit of each group of records: how many fit, the median and the restricted mean, with their intervals.

    All means are restricted to one horizon, so that they can be compared: the longest time up to which every group was watched.

    Args:
        table: records. A completed run without ``fit_epoch`` was watched for its ``epochs``; one that diverged never fits and counts up
            to the longest budget of the table. Others are left out. A point that was recorded again counts once, and fit if it always did.
        by: columns that tell apart everything that varies but seeds.
        level: confidence, in (0, 1).

    Returns:
        The columns ``by``, ``runs``, ``fit``, ``fit_share``, ``median`` and ``restricted_mean`` (each with ``.low`` and ``.high``; null
        where the data leave it open), and ``horizon`` of the means, in epochs. Sorted by ``by``.

    Raises:
        NothingToShow: no run has epochs.
        AnalysisError: a column does not exist, or runs that agree in ``by`` differ in a config field that is no seed.
    """
    trained = (pc.field("status") == "completed") & (pc.field("epochs") > 0)
    watched = checked(table, by).filter(trained | (pc.field("status") == "diverged"))
    budget = float(pc.max(watched["epochs"]).as_py() or 0)
    if not budget:
        raise NothingToShow("no completed run was trained in epochs: there is no time to fit")
    refuse_pooled(watched, by)
    watched = watched.take(pc.sort_indices(watched["fit_epoch"].is_valid().cast(pa.int8())))  # that did not fit first
    watched = watched.take(pa.array(once_each(watched)[0]))
    fitted = watched["fit_epoch"].is_valid().to_numpy()
    ended = pc.if_else(pc.equal(watched["status"], "diverged"), budget, watched["epochs"].cast(pa.float64()))
    times = pc.coalesce(watched["fit_epoch"].cast(pa.float64()), ended).to_numpy()
    known = "budget.evaluate_every" in watched.column_names
    step = watched["budget.evaluate_every"].fill_null(1).to_numpy() if known else np.ones(len(times))
    group = codes(watched, by)
    parts = np.split(np.argsort(group, kind="stable"), np.flatnonzero(np.diff(np.sort(group))) + 1)
    horizon = min(_watched_for(times[one], fitted[one], budget) for one in parts)
    rows = []
    for one in parts:
        row = {name: watched[name][int(one[0])].as_py() for name in by}
        rows.append(row | _times_row(times[one], fitted[one], horizon, level, float(step[one].max())))
    names = ("fit_share", "median", "restricted_mean")
    numbers = [pa.field(f"{name}{end}", pa.float64()) for name in names for end in ("", ".low", ".high")]
    counts = [pa.field("runs", pa.int64()), pa.field("fit", pa.int64())]
    schema = pa.schema([*(table.schema.field(name) for name in by), *counts, *numbers, ("horizon", pa.float64())])
    return sorted_by(pa.Table.from_pylist(rows, schema), by)


def _watched_for(times: Floats, fitted: NDArray[np.bool_], budget: float) -> float:
    """How long a group was watched: runs that stopped when they fit need no watching, for nothing happens to them any more."""
    return budget if fitted[times == times.max()].all() else float(times.max())


def _times_row(times: Floats, fitted: NDArray[np.bool_], horizon: float, level: float, step: float) -> dict[str, float | int | None]:
    """The counts and estimates of one group."""
    named = {"fit_share": fit_share(times, fitted, level=level), "median": median_time(times, fitted, level=level)}
    named["restricted_mean"] = restricted_mean(times, fitted, horizon=horizon, level=level, resolution=step)
    row: dict[str, float | int | None] = {"runs": len(times), "fit": int(fitted.sum()), "horizon": horizon}
    for name, one in named.items():
        ends = {name: one.value, f"{name}.low": one.low, f"{name}.high": one.high}
        row |= {column: number if isfinite(number) else None for column, number in ends.items()}
    return row


def _checked(times: ArrayLike, fitted: ArrayLike) -> tuple[Floats, NDArray[np.bool_]]:
    times, fitted = np.asarray(times, np.float64), np.asarray(fitted, bool)
    if not len(times) or times.shape != fitted.shape:
        raise ValueError("each run needs a time and whether it fit, and there must be one run at least")
    if not (np.isfinite(times) & (times > 0)).all():
        raise ValueError("times are positive and finite: a run that did not fit has the time until which it was watched")
    return times, fitted


def _steps(times: Floats, fitted: NDArray[np.bool_]) -> tuple[Floats, Floats, Floats]:
    """The times of fits, how many fit at each, and how many had neither fit nor been left before it."""
    steps, fits = np.unique(times[fitted], return_counts=True)
    return steps, fits.astype(np.float64), (times[:, None] >= steps).sum(axis=0).astype(np.float64)


def _area(times: Floats, fitted: NDArray[np.bool_], horizon: float) -> tuple[float, float]:
    """The area under the curve up to the horizon, and Greenwood's variance of it."""
    steps, fits, at_risk = _steps(times, fitted)
    inside = steps <= horizon
    steps, fits, at_risk = steps[inside], fits[inside], at_risk[inside]
    shares = np.concatenate([[1.0], np.cumprod(1 - fits / at_risk)])
    pieces = shares * np.diff(np.concatenate([[0.0], steps, [horizon]]))
    after = np.cumsum(pieces[::-1])[::-1][1:]
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(at_risk > fits, after**2 * fits / (at_risk * (at_risk - fits)), 0.0)
    return float(pieces.sum()), float(terms.sum())


def _beta_product(fits: Floats, at_risk: Floats, left: Floats, level: float) -> tuple[Floats, Floats]:
    """Pointwise ends from time 0 on: products of beta variables, one a step, replaced by the beta with their two moments."""
    from scipy.special import betaincinv

    a, total = at_risk - fits + 1, at_risk + 1  # Beta(at_risk - fits + 1, fits) a step
    first = np.concatenate([[1.0], np.cumprod(a / total)])
    second = np.concatenate([[1.0], np.cumprod(a * (a + 1) / (total * (total + 1)))])
    tail = (1 - level) / 2

    def end(first: Floats, second: Floats, share: float) -> Floats:
        variance = second - first**2
        with np.errstate(divide="ignore", invalid="ignore"):
            size = first * (1 - first) / variance - 1
            return np.asarray(np.where(variance > 1e-15, betaincinv(first * size, (1 - first) * size, share), first))

    upper = end(first, second, 1 - tail)
    # the next of those left may fit at any moment: one more factor, Beta(left, 1)
    lower = end(first * left / (left + 1), second * left / (left + 2), tail)
    return np.where(left > 0, lower, 0.0), upper
