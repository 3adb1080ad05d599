"""Bootstrap intervals against SciPy's bootstrap, their nominal coverage and the bound that few seeds set."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

import analysis
from analysis.statistics.bootstrap import RESAMPLES, bootstrap_intervals


def coverage(draw, mean, size, studies=2000, level=0.95):
    values = draw(np.random.default_rng(3), (studies, size))
    low, high = bootstrap_intervals(values.ravel(), np.full(studies, size), level)
    return np.mean((low <= mean) & (mean <= high))


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_coverage_is_nominal_with_enough_seeds(level):
    covered = coverage(lambda rng, shape: rng.normal(0.3, 0.1, shape), 0.3, 10, level=level)
    assert abs(covered - level) < 4 * math.sqrt(level * (1 - level) / 2000) + 0.01  # and the rounding of 5,000 resamples' far tails


def test_coverage_of_skewed_errors_beats_the_plain_percentile_interval():
    def skewed(rng, shape):
        return rng.beta(1, 9, shape)

    plain = stats.bootstrap(
        (skewed(np.random.default_rng(3), (300, 8)),), np.mean, axis=1, n_resamples=2000, method="percentile", rng=np.random.default_rng(0)
    )
    low, high = plain.confidence_interval
    assert coverage(skewed, 0.1, 8) > np.mean((low <= 0.1) & (high >= 0.1)) + 0.02


@pytest.mark.parametrize("seeds", [3, 5])
def test_few_seeds_cover_at_most_what_their_range_does(seeds):
    bound = 1 - 2.0 ** (1 - seeds)
    covered = coverage(lambda rng, shape: rng.normal(0, 1, shape), 0, seeds)
    assert abs(covered - bound) < 4 * math.sqrt(bound * (1 - bound) / 2000)


def test_the_quantiles_are_scipys():
    values = np.random.default_rng(4).normal(size=30)
    tail = stats.norm.cdf(-math.sqrt(30 / 29) * stats.t.ppf(0.975, 29))
    reference = stats.bootstrap(
        (values,), np.mean, confidence_level=1 - 2 * tail, n_resamples=200_000, method="percentile", rng=np.random.default_rng(0)
    )
    low, high = bootstrap_intervals(values, np.array([30]), 0.95)
    deviation = values.std() / math.sqrt(30)
    density = stats.norm.pdf(stats.norm.ppf(tail)) / deviation
    error = math.sqrt(tail * (1 - tail) / RESAMPLES) / density  # standard error of a sample quantile
    assert abs(low[0] - reference.confidence_interval.low) < 4 * error
    assert abs(high[0] - reference.confidence_interval.high) < 4 * error


def test_large_groups_get_the_limit():
    values = np.random.default_rng(5).beta(2, 5, size=5000)
    low, high = bootstrap_intervals(values, np.array([5000]), 0.95)
    expected = stats.norm.interval(0.95, values.mean(), stats.sem(values))
    assert (low[0], high[0]) == pytest.approx(expected, rel=1e-12)


def test_groups_of_several_sizes_in_any_order_give_the_same_intervals():
    rng = np.random.default_rng(6)
    cells = np.repeat(["a", "b", "c", "d"], [1, 5, 5, 9])
    values = rng.normal(size=20)
    table = pa.table({"cell": cells, "x": values})
    result = analysis.over_seeds(table, ["cell"], ["x"], interval="bootstrap")
    shuffled = analysis.over_seeds(table.take(rng.permutation(20)), ["cell"], ["x"], interval="bootstrap")
    assert result["x.low"].equals(shuffled["x.low"])
    assert result["x.low"][0].as_py() is None
    alone = bootstrap_intervals(values[cells == "c"], np.array([5]), 0.95)
    assert (result["x.low"][2].as_py(), result["x.high"][2].as_py()) == (alone[0][0], alone[1][0])
