"""How well complexity measures rank runs by their generalization gap.

A measure is good if it is larger for the run with the larger gap. Four scores say how often:

- **tau**: Kendall's tau over all pairs of runs;
- **psi**: over pairs that differ in one hyperparameter only, averaged so that each hyperparameter counts alike (Jiang et al. 2020);
- **information**: what the sign of a measure's difference tells of the sign of the gap's, at the worst choice of two known
  hyperparameters (Jiang et al. 2020);
- **sign_error**: in each environment (two settings that differ in one hyperparameter) the weighted share of pairs that it orders
  wrongly; over environments the mean, the 90th percentile and the largest (Dziugaite et al. 2020, "In search of robust measures of
  generalization").

Every score comes with an interval: the value ± z times its bootstrap standard error, cut at the score's range. The bootstrap draws
runs, so that pairs which share a run are not taken for independent. The same draws serve all measures.

Runs are compared at equal fit: only completed runs that reached their train target count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from analysis.errors import NothingToShow, unknown_column
from analysis.statistics.aggregate import completed

PREFIX = "measure."
GAP = "generalization_gap"
LEVEL = 0.95
"""Confidence of the intervals."""
RESAMPLES = 200
_MOST_PAIRS = 30_000
"""Most pairs of runs that the information is estimated from; more are thinned out at random."""

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def rank_measures(
    table: pa.Table,
    *,
    test_size: int | None = None,
    hyperparameters: Sequence[str] | None = None,
    minimum_effective_size: float = 12.0,
    seed: int = 0,
) -> pa.Table:
    """One row a measure, largest psi first, with ``oracle`` (the gap itself) as the ceiling and ``random`` (Gaussian noise) as the floor.

    Args:
        table: records with ``measure.*`` columns.
        test_size: test images that the gaps were measured on: a pair whose gaps may differ by chance weighs less in the sign error.
            By default those of the smallest data set in the records, which is loaded to count them.
        hyperparameters: columns that were varied on purpose; by default `varied` ones.
        minimum_effective_size: environments with fewer effective pairs do not count. Two settings with k seeds each have k^2 pairs
            at most: the 12 of Dziugaite et al. 2020 needs 4 seeds.
        seed: of the random measure and the bootstrap.

    Returns:
        ``measure`` (without prefix); ``points``, the runs for which it is finite; ``tau`` and ``psi`` in [-1, 1], 0 for no relation;
        ``information`` in [0, 1]; ``sign_error_mean``, ``sign_error_p90``, ``sign_error_max`` in [0, 1], 0.5 for no relation; each
        with ``.low`` and ``.high``; and ``environments``. NaN where nothing can be compared.

    Raises:
        NothingToShow: no completed run that fit, no measure, or no data set whose test images could be counted.
        AnalysisError: a column does not exist.
    """
    runs, values = _runs(table, hyperparameters, seed)
    test_size = _test_images(table) if test_size is None else test_size
    rows = [_scores(name, values[name], runs, test_size, minimum_effective_size) for name in values]
    rows.sort(key=lambda row: -np.inf if np.isnan(row["psi"]) else row["psi"], reverse=True)
    return pa.Table.from_pylist(rows)


def granulated_psi(table: pa.Table, *, hyperparameters: Sequence[str] | None = None, seed: int = 0) -> pa.Table:
    """psi of every measure along each hyperparameter: one row a measure and hyperparameter.

    psi_i is the mean, over groups of runs that agree in all hyperparameters but i, of Kendall's tau in the group, taken over pairs that
    differ in i and in their gap: no measure can order equal gaps. A measure that ties counts 0.

    Source: Jiang et al. 2020, whose Psi, the mean over hyperparameters, stands in `rank_measures`. Runs that differ in the seed alone are
    not compared.

    Returns:
        ``measure``, ``hyperparameter``, ``psi`` with ``psi.low`` and ``psi.high``, and ``groups``.
        Arguments and errors as in `rank_measures`.
    """
    runs, values = _runs(table, hyperparameters, seed)
    rows = []
    for name, value in values.items():
        pairs = runs.pairs.within(np.isfinite(value))
        found = [_psi_by_axis(pairs, value, runs, weights) for weights in _weightings(runs)]
        for axis, hyperparameter in enumerate(runs.axes):
            score = _interval("psi", [each[axis] for each in found], -1.0)
            rows.append(
                {"measure": name, "hyperparameter": hyperparameter} | score | {"groups": len(np.unique(pairs.group[pairs.axis == axis]))}
            )
    return pa.Table.from_pylist(rows)


def sign_errors(
    table: pa.Table,
    *,
    test_size: int | None = None,
    hyperparameters: Sequence[str] | None = None,
    minimum_effective_size: float = 12.0,
    seed: int = 0,
) -> pa.Table:
    """The weighted sign-error of every measure in each environment: one row each, for the distribution behind `rank_measures`.

    An environment is a pair of settings that differ in one hyperparameter. Over its pairs of runs, one of each setting (all seeds by all
    seeds), the error is sum_w (1 - sign(mu - mu') sign(g - g')) / 2 / sum_w, with the weight of `hoeffding_weight`.
    It counts if its effective size (sum w)^2 / sum w^2 is large enough.

    Returns:
        ``measure``, ``hyperparameter``, ``sign_error`` and ``effective_size``. Arguments and errors as in `rank_measures`.
    """
    runs, values = _runs(table, hyperparameters, seed)
    test_size = _test_images(table) if test_size is None else test_size
    rows = []
    for name, value in values.items():
        pairs = runs.pairs.within(np.isfinite(value))
        errors, sizes = _environment_errors(pairs, value, runs, test_size, np.ones(len(runs.gap)))
        axis_of = np.zeros(len(errors), dtype=np.int64)
        axis_of[pairs.environment] = pairs.axis
        rows += [
            {"measure": name, "hyperparameter": runs.axes[axis_of[at]], "sign_error": errors[at], "effective_size": sizes[at]}
            for at in np.flatnonzero(sizes >= minimum_effective_size)
        ]
    columns = [("measure", pa.string()), ("hyperparameter", pa.string()), ("sign_error", pa.float64()), ("effective_size", pa.float64())]
    return pa.Table.from_pylist(rows, pa.schema(columns))


def varied(table: pa.Table) -> list[str]:
    """The config columns that take several values, seeds aside; of those that vary together (an aim and what it resolved to) the first.

    >>> varied(pa.table({"model.width": [1, 2, 2], "model.depth": [1, 1, 1], "seed": [0, 0, 1], "measure.l2": [1, 2, 3]}))
    ['model.width']
    """
    found: dict[str, Integers] = {}
    for name in table.column_names:
        config = ("." in name and not name.startswith(PREFIX)) or name == "precision"
        if not config or name.endswith((".seed", ".digest")):
            continue
        codes = _codes(table[name])
        if codes.max(initial=0) > 0 and not any(_same_partition(codes, other) for other in found.values()):
            found[name] = codes
    return list(found)


def kendall_tau(measure: Floats, gap: Floats) -> float:
    """Kendall's tau-b, as SciPy has it; 0 for a measure that is the same for all runs: it orders nothing. NaN for fewer than two runs.

    >>> round(kendall_tau(np.array([1.0, 2.0, 3.0]), np.array([0.1, 0.3, 0.2])), 3)
    0.333
    """
    from scipy.stats import kendalltau

    if len(measure) < 2 or len(np.unique(gap)) < 2:
        return float("nan")
    return 0.0 if len(np.unique(measure)) < 2 else float(kendalltau(measure, gap).statistic)


def hoeffding_weight(difference: Floats, test_size: int) -> Floats:
    """Weight of a pair of runs by the difference d of their gaps: max(0, p - 1/2) with p = max(0, 1 - 2 exp(-2 n (d/2)^2))^2.

    By Hoeffding's inequality on n test images, both gaps lie within d/2 of their means with probability p at least, and the order
    of the gaps is then no chance of the test set. Source: Dziugaite et al. 2020 and their code.

    >>> hoeffding_weight(np.array([0.0, 0.02, 0.1]), 10_000).round(3).tolist()
    [0.0, 0.032, 0.5]
    """
    sure = np.maximum(0, 1 - 2 * np.exp(-2 * test_size * (difference / 2) ** 2)) ** 2
    return np.maximum(0, sure - 0.5)


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Unordered pairs of runs that differ in exactly one hyperparameter, an entry a pair.

    `group` numbers the sets of runs that agree in all hyperparameters but `axis`; `environment` the pairs of settings.
    """

    first: Integers
    second: Integers
    axis: Integers
    group: Integers
    environment: Integers

    def within(self, usable: NDArray[np.bool_]) -> _Pairs:
        """The pairs of usable runs. Numbers of groups and environments stay."""
        kept = usable[self.first] & usable[self.second]
        return _Pairs(*(part[kept] for part in (self.first, self.second, self.axis, self.group, self.environment)))


@dataclass(frozen=True, eq=False)
class _Runs:
    """gap (n,); settings (n, axes) as codes; weights (RESAMPLES, n): how often the bootstrap drew each run.

    `any_pairs` (2, m): unordered pairs of runs whose gaps differ, whatever else does.
    """

    gap: Floats
    axes: list[str]
    settings: Integers
    pairs: _Pairs
    any_pairs: Integers
    weights: Floats


def _runs(table: pa.Table, hyperparameters: Sequence[str] | None, seed: int) -> tuple[_Runs, dict[str, Floats]]:
    """The runs that count, and the values of every measure on them, random and oracle included."""
    names = [name for name in table.column_names if name.startswith(PREFIX)]
    if not names:
        raise NothingToShow("these records hold no measure: a study computes those that its spec names under `measures`")
    table = completed(table)
    table = table.filter(pc.and_(table["interpolated"], pc.is_finite(table[GAP])))
    if not table.num_rows:
        raise NothingToShow("no completed run reached its train target: gaps are compared at equal fit only")
    axes = varied(table) if hyperparameters is None else list(hyperparameters)
    for name in axes:
        if name not in table.column_names:
            raise unknown_column(name, table.column_names)
    gap = table[GAP].to_numpy()
    settings = np.stack([_codes(table[name]) for name in axes], axis=1) if axes else np.zeros((len(gap), 0), dtype=np.int64)
    random = np.random.default_rng(seed)
    values = {name.removeprefix(PREFIX): pc.cast(table[name], pa.float64()).to_numpy() for name in names}
    values |= {"oracle": gap, "random": random.normal(size=len(gap))}
    weights = random.multinomial(len(gap), np.full(len(gap), 1 / len(gap)), size=RESAMPLES).astype(np.float64)
    any_pairs = np.stack(np.triu_indices(len(gap), 1))
    any_pairs = any_pairs[:, gap[any_pairs[0]] != gap[any_pairs[1]]]
    if any_pairs.shape[1] > _MOST_PAIRS:
        any_pairs = any_pairs[:, random.choice(any_pairs.shape[1], _MOST_PAIRS, replace=False)]
    return _Runs(gap, axes, settings, _single_differences(settings), any_pairs, weights), values


def _test_images(table: pa.Table) -> int:
    from trainables.data.sources import load
    from trainables.point.config import ConfigError, Data

    sets = {(row["data.name"], row["data.digest"]) for row in table.select(["data.name", "data.digest"]).to_pylist()}
    try:
        return min(len(load(Data(name=name, digest=digest)).test_labels) for name, digest in sets)
    except ConfigError as error:
        raise NothingToShow(f"the test images cannot be counted ({error}): say how many there are, as test_size") from None


def _codes(column: pa.ChunkedArray) -> Integers:
    """Values as numbers from 0; null is a value."""
    codes = column.combine_chunks().dictionary_encode(null_encoding="encode").indices
    return codes.to_numpy(zero_copy_only=False).astype(np.int64)


def _same_partition(left: Integers, right: Integers) -> bool:
    both = len(np.unique(np.stack([left, right]), axis=1).T)
    return both == len(np.unique(left)) == len(np.unique(right))


def _single_differences(settings: Integers) -> _Pairs:
    parts: list[Integers] = []
    groups = 0
    for axis in range(settings.shape[1]):
        _, members = np.unique(np.delete(settings, axis, axis=1), axis=0, return_inverse=True)
        order = np.argsort(members, kind="stable")
        for rows in np.split(order, np.flatnonzero(np.diff(members[order])) + 1):
            first, second = (rows[index] for index in np.triu_indices(len(rows), 1))
            low, high = np.sort([settings[first, axis], settings[second, axis]], axis=0)
            part = np.stack([first, second, np.full_like(first, axis), np.full_like(first, groups), low, high])
            parts.append(part[:, low < high])
            groups += 1
    first, second, axis_of, group, low, high = np.concatenate(parts, axis=1) if parts else np.zeros((6, 0), dtype=np.int64)
    _, environment = np.unique(np.stack([group, low, high]), axis=1, return_inverse=True)
    return _Pairs(first, second, axis_of, group, environment.reshape(-1))


def _weightings(runs: _Runs) -> list[Floats]:
    """All runs once, then the draws of the bootstrap."""
    return [np.ones(len(runs.gap)), *runs.weights]


def _interval(name: str, found: Sequence[float], lowest: float) -> dict[str, float]:
    """The first value with its interval, from the spread of the others; cut to [lowest, 1]."""
    from scipy.special import ndtri

    drawn = np.asarray(found[1:])
    drawn = drawn[np.isfinite(drawn)]
    half = ndtri((1 + LEVEL) / 2) * drawn.std(ddof=1) if len(drawn) > 1 else float("nan")
    ends = np.clip([found[0] - half, found[0] + half], lowest, 1.0)
    return {name: float(found[0]), f"{name}.low": float(ends[0]), f"{name}.high": float(ends[1])}


def _scores(name: str, value: Floats, runs: _Runs, test_size: int, minimum_effective_size: float) -> dict[str, str | float | int]:
    usable = np.isfinite(value)
    pairs = runs.pairs.within(usable)
    psi = [_mean(_psi_by_axis(pairs, value, runs, weights)) for weights in _weightings(runs)]
    _, sizes = _environment_errors(pairs, value, runs, test_size, np.ones(len(runs.gap)))
    counted = sizes >= minimum_effective_size
    errors = [_environment_errors(pairs, value, runs, test_size, weights)[0][counted] for weights in _weightings(runs)]
    errors = [each[np.isfinite(each)] for each in errors]
    return {
        "measure": name,
        "points": int(usable.sum()),
        **_interval(
            "tau",
            [kendall_tau(value[usable], runs.gap[usable]), *_drawn_taus(value[usable], runs.gap[usable], runs.weights[:, usable])],
            -1.0,
        ),
        **_interval("psi", psi, -1.0),
        **_interval("information", _information(value, runs, usable), 0.0),
        **_interval("sign_error_mean", [_mean(each) for each in errors], 0.0),
        **_interval("sign_error_p90", [np.percentile(each, 90) if len(each) else np.nan for each in errors], 0.0),
        **_interval("sign_error_max", [each.max() if len(each) else np.nan for each in errors], 0.0),
        "environments": int(counted.sum()),
    }


def _mean(values: Floats) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else float("nan")


def _drawn_taus(value: Floats, gap: Floats, weights: Floats) -> Floats:
    """tau-b of each draw, for many draws as matrix products; a run that was drawn twice ties with itself and drops out."""
    agree, differ, gaps = np.zeros((3, len(weights)))
    for rows in np.array_split(np.arange(len(gap)), max(1, len(gap) // 500)):
        signs = np.sign(value[rows, None] - value)
        gap_signs = np.sign(gap[rows, None] - gap)
        for total, matrix in ((agree, signs * gap_signs), (differ, np.abs(signs)), (gaps, np.abs(gap_signs))):
            total += ((weights[:, rows] @ matrix) * weights).sum(axis=1)
    with np.errstate(invalid="ignore"):
        return np.where(differ > 0, agree / np.sqrt(np.where(differ > 0, differ, 1) * gaps), 0.0)


def _psi_by_axis(pairs: _Pairs, value: Floats, runs: _Runs, weights: Floats) -> Floats:
    """psi of each hyperparameter, NaN where none of its pairs was drawn."""
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


def _environment_errors(pairs: _Pairs, value: Floats, runs: _Runs, test_size: int, weights: Floats) -> tuple[Floats, Floats]:
    """Sign-error and effective size of each environment; an error is NaN where no weight was drawn."""
    difference = runs.gap[pairs.first] - runs.gap[pairs.second]
    weight = hoeffding_weight(difference, test_size) * weights[pairs.first] * weights[pairs.second]
    wrong = (1 - np.sign(value[pairs.first] - value[pairs.second]) * np.sign(difference)) / 2
    count = int(runs.pairs.environment.max(initial=-1)) + 1
    total, squares = (np.bincount(pairs.environment, each, count) for each in (weight, weight**2))
    with np.errstate(invalid="ignore", divide="ignore"):
        errors = np.bincount(pairs.environment, weight * wrong, count) / total
        return errors, np.where(squares > 0, total**2 / squares, 0.0)


def _information(value: Floats, runs: _Runs, usable: NDArray[np.bool_]) -> list[float]:
    """min over sets U of at most two hyperparameters of I(V_mu, V_g | U) / H(V_g | U), then that of each draw at the same set.

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
    """I(V_mu, V_g | cell) / H(V_g | cell) over the given pairs and their reverses; NaN where the cell alone tells V_g.

    A cell is (setting of the first run) * settings + (setting of the second).
    """
    counts = np.bincount(6 * cells + outcome, weight, 6 * settings**2).reshape(settings, settings, 2, 3)
    counts = counts + counts.transpose(1, 0, 2, 3)[:, :, ::-1, ::-1]
    gap, measure, cell = counts.sum(axis=3, keepdims=True), counts.sum(axis=2, keepdims=True), counts.sum(axis=(2, 3), keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        information = np.nansum(counts * np.log(counts * cell / (gap * measure)))
        entropy = -np.nansum(gap * np.log(gap / cell))
        return float(information / entropy) if entropy > 1e-9 * cell.sum() else float("nan")
