"""The four scores of a complexity measure, each with its bootstrap interval: see `analysis.statistics.questions.ranking`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from analysis.statistics.intervals import LEVEL

RESAMPLES = 200
"""Draws of the bootstrap."""

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Pairs:
    """Unordered pairs of runs that differ in exactly one hyperparameter, an entry a pair.

    `group` numbers the sets of runs that agree in all hyperparameters but `axis`; `environment` the pairs of settings.
    """

    first: Integers
    second: Integers
    axis: Integers
    group: Integers
    environment: Integers

    def within(self, usable: NDArray[np.bool_]) -> Pairs:
        """The pairs of usable runs; the numbers of groups and environments stay as they are."""
        kept = usable[self.first] & usable[self.second]
        return Pairs(*(part[kept] for part in (self.first, self.second, self.axis, self.group, self.environment)))


@dataclass(frozen=True, eq=False)
class RankedRuns:
    """The n runs that are ranked.

    Attributes:
        gap: shape (n,).
        axes: the hyperparameters.
        settings: the value of each of them as a code, shape (n, axes).
        pairs: those that differ in one hyperparameter.
        any_pairs: shape (2, m), unordered pairs of runs whose gaps differ, whatever else does.
        weights: how often each draw of the bootstrap took each run, shape (RESAMPLES, n).
        test_size: test images that the gaps were measured on.
        minimum_effective_size: of the pairs of an environment that counts.
    """

    gap: Floats
    axes: list[str]
    settings: Integers
    pairs: Pairs
    any_pairs: Integers
    weights: Floats
    test_size: int
    minimum_effective_size: float


def scores(name: str, value: Floats, runs: RankedRuns) -> dict[str, str | float | int]:
    """A row of `analysis.statistics.questions.ranking.rank_measures`."""
    usable = np.isfinite(value)
    pairs = runs.pairs.within(usable)
    psi = [_mean(_psi_by_axis(pairs, value, runs, weights)) for weights in _weightings(runs)]
    _, sizes = environment_errors(pairs, value, runs, np.ones(len(runs.gap)))
    counted = sizes >= runs.minimum_effective_size
    errors = [environment_errors(pairs, value, runs, weights)[0][counted] for weights in _weightings(runs)]
    errors = [each[np.isfinite(each)] for each in errors]
    return {
        "measure": name,
        "points": int(usable.sum()),
        **_interval(
            "tau",
            [kendall_tau(value[usable], runs.gap[usable]), *drawn_taus(value[usable], runs.gap[usable], runs.weights[:, usable])],
            -1.0,
        ),
        **_interval("psi", psi, -1.0),
        **_interval("information", _information(value, runs, usable), 0.0),
        **_interval("sign_error_mean", [_mean(each) for each in errors], 0.0),
        **_interval("sign_error_p90", [np.percentile(each, 90) if len(each) else np.nan for each in errors], 0.0),
        **_interval("sign_error_max", [each.max() if len(each) else np.nan for each in errors], 0.0),
        "environments": int(counted.sum()),
    }


def axis_scores(name: str, value: Floats, runs: RankedRuns) -> list[dict[str, str | float | int]]:
    """What `scores` averages, each hyperparameter by itself: psi, and the sign errors of its environments, with their intervals."""
    pairs = runs.pairs.within(np.isfinite(value))
    psi = np.array([_psi_by_axis(pairs, value, runs, weights) for weights in _weightings(runs)])
    _, sizes = environment_errors(pairs, value, runs, np.ones(len(runs.gap)))
    errors = np.array([environment_errors(pairs, value, runs, weights)[0] for weights in _weightings(runs)])
    axis_of = np.full(len(sizes), -1, dtype=np.int64)
    axis_of[pairs.environment] = pairs.axis
    rows: list[dict[str, str | float | int]] = []
    for axis, hyperparameter in enumerate(runs.axes):
        counted = (axis_of == axis) & (sizes >= runs.minimum_effective_size)
        found = [each[np.isfinite(each)] for each in errors[:, counted]]
        rows.append(
            {
                "measure": name,
                "hyperparameter": hyperparameter,
                **_interval("psi", psi[:, axis].tolist(), -1.0),
                "setting_pairs": int(np.count_nonzero(axis_of == axis)),
                **_interval("sign_error_mean", [_mean(each) for each in found], 0.0),
                **_interval("sign_error_max", [each.max() if len(each) else np.nan for each in found], 0.0),
                "environments": int(counted.sum()),
            }
        )
    return rows


def psis(values: Floats, runs: RankedRuns) -> list[dict[str, float]]:
    """The psi of `scores` alone, of many measures at once: thousands of runs take a second, where single scores take minutes.

    Args:
        values: of each measure on each run, shape (measures, n), finite where a pair has the run.
    """
    pairs, axes = runs.pairs, len(runs.axes)
    gap_signs = np.sign(runs.gap[pairs.first] - runs.gap[pairs.second])
    agree = np.sign(values[:, pairs.first] - values[:, pairs.second]) * gap_signs
    groups = int(pairs.group.max(initial=-1)) + 1
    axis_of = np.zeros(groups, dtype=np.int64)
    axis_of[pairs.group] = pairs.axis
    found = []
    for weights in _weightings(runs):
        weight = weights[pairs.first] * weights[pairs.second]
        total = np.bincount(pairs.group, weight * np.abs(gap_signs), groups)
        drawn = total > 0
        count = np.bincount(axis_of[drawn], minlength=axes)
        share = np.zeros(groups)
        share[drawn] = 1 / (total[drawn] * count[axis_of[drawn]] * np.count_nonzero(count))
        found.append(agree @ (weight * share[pairs.group]) if drawn.any() else np.full(len(values), np.nan))
    return [_interval("psi", one.tolist(), -1.0) for one in np.stack(found, axis=1)]


def kendall_tau(measure: Floats, gap: Floats) -> float:
    """Kendall's tau-b, as SciPy has it. A measure that is the same for all runs orders nothing and has 0; fewer than two runs have NaN.

    >>> round(kendall_tau(np.array([1.0, 2.0, 3.0]), np.array([0.1, 0.3, 0.2])), 3)
    0.333
    """
    from scipy.stats import kendalltau

    if len(measure) < 2 or len(np.unique(gap)) < 2:
        return float("nan")
    return 0.0 if len(np.unique(measure)) < 2 else float(kendalltau(measure, gap).statistic)


def drawn_taus(value: Floats, gap: Floats, weights: Floats) -> Floats:
    """Kendall's tau-b of each draw, for many draws as matrix products; a run that was drawn twice ties with itself and drops out."""
    agree, differ, gaps = np.zeros((3, len(weights)))
    for rows in np.array_split(np.arange(len(gap)), max(1, len(gap) // 500)):
        signs = np.sign(value[rows, None] - value)
        gap_signs = np.sign(gap[rows, None] - gap)
        for total, matrix in ((agree, signs * gap_signs), (differ, np.abs(signs)), (gaps, np.abs(gap_signs))):
            total += ((weights[:, rows] @ matrix) * weights).sum(axis=1)
    with np.errstate(invalid="ignore"):
        return np.where(differ > 0, agree / np.sqrt(np.where(differ > 0, differ, 1) * gaps), 0.0)


def _psi_by_axis(pairs: Pairs, value: Floats, runs: RankedRuns, weights: Floats) -> Floats:
    """The psi of each hyperparameter, NaN where none of its pairs was drawn.

    It is the mean, over groups of runs that agree in all hyperparameters but this one, of Kendall's tau in the group, taken over pairs
    that differ in it and in their gap: no measure can order equal gaps. A measure that ties counts 0. Source: Jiang et al. 2020.
    """
    weight = weights[pairs.first] * weights[pairs.second]
    gap_signs = np.sign(runs.gap[pairs.first] - runs.gap[pairs.second])
    agree = np.sign(value[pairs.first] - value[pairs.second]) * gap_signs
    groups = int(pairs.group.max(initial=-1)) + 1
    total = np.bincount(pairs.group, weight * np.abs(gap_signs), groups)
    axis_of = np.zeros(groups, dtype=np.int64)
    axis_of[pairs.group] = pairs.axis
    with np.errstate(invalid="ignore", divide="ignore"):
        taus = np.bincount(pairs.group, weight * agree, groups) / total
        drawn = total > 0
        count = np.bincount(axis_of[drawn], minlength=len(runs.axes))
        return np.bincount(axis_of[drawn], taus[drawn], len(runs.axes)) / count


def environment_errors(pairs: Pairs, value: Floats, runs: RankedRuns, weights: Floats) -> tuple[Floats, Floats]:
    """Sign-error and effective size of each environment; an error is NaN where no weight was drawn."""
    difference = runs.gap[pairs.first] - runs.gap[pairs.second]
    weight = hoeffding_weight(difference, runs.test_size) * weights[pairs.first] * weights[pairs.second]
    wrong = (1 - np.sign(value[pairs.first] - value[pairs.second]) * np.sign(difference)) / 2
    count = int(runs.pairs.environment.max(initial=-1)) + 1
    total, squares = (np.bincount(pairs.environment, each, count) for each in (weight, weight**2))
    with np.errstate(invalid="ignore", divide="ignore"):
        errors = np.bincount(pairs.environment, weight * wrong, count) / total
        return errors, np.where(squares > 0, total**2 / squares, 0.0)


def hoeffding_weight(difference: Floats, test_size: int) -> Floats:
    """Weight of a pair of runs by the difference d of their gaps: max(0, p - 1/2) with p = max(0, 1 - 2 exp(-2 n (d/2)^2))^2.

    By Hoeffding's inequality on n test images, both gaps lie within d/2 of their means with probability p at least, and the order
    of the gaps is then no chance of the test set. Source: Dziugaite et al. 2020 and their code.

    >>> hoeffding_weight(np.array([0.0, 0.02, 0.1]), 10_000).round(3).tolist()
    [0.0, 0.032, 0.5]
    """
    sure = np.maximum(0, 1 - 2 * np.exp(-2 * test_size * (difference / 2) ** 2)) ** 2
    weights: Floats = np.maximum(0, sure - 0.5)
    return weights


def _information(value: Floats, runs: RankedRuns, usable: NDArray[np.bool_]) -> list[float]:
    """The smallest I(V_mu, V_g | U) / H(V_g | U) over sets U of at most two hyperparameters, then that of each draw at the same set.

    V are the signs of the differences over ordered pairs of runs, U the values that both runs of a pair have. Source: Jiang et al. 2020.
    The plug-in estimate is biased upwards where cells hold few pairs: compare with the random measure. Equal gaps are left out,
    and so are sets that have more cells than there are pairs.
    """
    first, second = (index[usable[runs.any_pairs[0]] & usable[runs.any_pairs[1]]] for index in runs.any_pairs)
    outcome = 3 * (runs.gap[first] > runs.gap[second]) + np.sign(value[first] - value[second]).astype(np.int64) + 1
    best, best_cells, best_count = float("nan"), np.zeros(len(first), dtype=np.int64), 1
    for known in (list(axes) for size in range(3) for axes in combinations(range(len(runs.axes)), size)):
        seen, code = np.unique(runs.settings[:, known], axis=0, return_inverse=True)
        if known and len(seen) ** 2 > len(first):
            continue
        cells = code.reshape(-1)[first] * len(seen) + code.reshape(-1)[second]
        found = _normalised_information(cells, len(seen), outcome, np.ones(len(first)))
        if np.isnan(best) or found < best:
            best, best_cells, best_count = found, cells, len(seen)
    drawn = (weights[first] * weights[second] for weights in runs.weights)
    return [best, *(_normalised_information(best_cells, best_count, outcome, weight) for weight in drawn)]


def _normalised_information(cells: Integers, settings: int, outcome: Integers, weight: Floats) -> float:
    """The ratio I(V_mu, V_g | cell) / H(V_g | cell) over the given pairs and their reverses; NaN where the cell alone determines V_g.

    A cell is (setting of the first run) * settings + (setting of the second).
    """
    counts = np.bincount(6 * cells + outcome, weight, 6 * settings**2).reshape(settings, settings, 2, 3)
    counts = counts + counts.transpose(1, 0, 2, 3)[:, :, ::-1, ::-1]
    gap, measure, cell = counts.sum(axis=3, keepdims=True), counts.sum(axis=2, keepdims=True), counts.sum(axis=(2, 3), keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        information = np.nansum(counts * np.log(counts * cell / (gap * measure)))
        entropy = -np.nansum(gap * np.log(gap / cell))
        return float(information / entropy) if entropy > 1e-9 * cell.sum() else float("nan")


def _weightings(runs: RankedRuns) -> list[Floats]:
    """The weights of all runs once, then those of each draw of the bootstrap."""
    return [np.ones(len(runs.gap)), *runs.weights]


def _interval(name: str, found: Sequence[float], lowest: float) -> dict[str, float]:
    """The first value with its interval, from the spread of the others; cut to [lowest, 1]."""
    from scipy.special import ndtri

    drawn = np.asarray(found[1:])
    drawn = drawn[np.isfinite(drawn)]
    half = ndtri((1 + LEVEL) / 2) * drawn.std(ddof=1) if len(drawn) > 1 else float("nan")
    ends = np.clip([found[0] - half, found[0] + half], lowest, 1.0)
    return {name: float(found[0]), f"{name}.low": float(ends[0]), f"{name}.high": float(ends[1])}


def _mean(values: Floats) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else float("nan")
