"""Censored times against SciPy, closed forms, brute force and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analysis.statistics.censored import (
    compare_groups,
    compare_pairs,
    fit_share,
    fit_times,
    log_rank_scores,
    median_time,
    restricted_mean,
    survival_curve,
)
from analysis.statistics.intervals import mean_estimate
from tests.analysis.made_up_study import record, records

runs = st.lists(st.tuples(st.integers(1, 12), st.booleans()), min_size=2, max_size=15)
REPEATS = 2000
SAMPLING = 4 * math.sqrt(0.95 * 0.05 / REPEATS)


@given(runs)
def test_the_curve_is_scipys(watched):
    times, fitted = (np.array(column) for column in zip(*watched, strict=True))
    curve = survival_curve(times, fitted)
    reference = stats.ecdf(stats.CensoredData.right_censored(times, ~fitted)).sf
    np.testing.assert_allclose(curve.not_fit, reference.evaluate(curve.times), atol=1e-12)
    assert (curve.low <= curve.not_fit + 1e-9).all()
    assert (curve.not_fit <= curve.high + 1e-9).all()
    assert (np.diff(curve.not_fit) < 0).all()


def test_without_censoring_the_interval_is_clopper_and_pearsons():
    curve = survival_curve(np.arange(1, 9), np.ones(8, bool))
    for left, low, high in zip(range(8, -1, -1), curve.low, curve.high, strict=True):
        expected = stats.binomtest(left, 8).proportion_ci(0.95, method="exact")
        assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-9)


@pytest.mark.parametrize("k", [3, 5, 10])
def test_curve_and_median_cover_under_random_censoring(k):
    rng = np.random.default_rng(k)
    covered, median = 0, 0
    for _ in range(REPEATS):
        times, budgets = rng.exponential(10, k), rng.uniform(5, 40, k)
        watched, fitted = np.minimum(times, budgets), times <= budgets
        curve = survival_curve(watched, fitted)
        place = np.searchsorted(curve.times, 6.0, side="right") - 1
        covered += curve.low[place] <= math.exp(-0.6) <= curve.high[place]
        median += 10 * math.log(2) in median_time(watched, fitted)
    assert covered / REPEATS > 0.95 - SAMPLING
    assert median / REPEATS > 0.95 - SAMPLING


def test_the_median_is_open_where_fewer_than_half_fit():
    found = median_time([5, 9, 9, 9, 9], [True, False, False, False, False])
    assert found.value == math.inf
    assert found.high == math.inf
    assert math.isfinite(found.low)
    assert median_time(np.arange(1, 11), np.ones(10, bool)).value == 5


def test_the_restricted_mean_without_censoring_is_the_mean():
    times = np.array([3.0, 5, 6, 11])
    found, expected = restricted_mean(times, np.ones(4, bool), horizon=20), mean_estimate(times, within=(0, 20))
    assert (found.value, found.low, found.high) == pytest.approx((expected.value, expected.low, expected.high))
    budget = restricted_mean([3, 5, 8, 8], [True, True, False, False], horizon=8)
    expected = mean_estimate([3, 5, 8, 8], within=(0, 8))
    assert (budget.value, budget.low, budget.high) == pytest.approx((expected.value, expected.low, expected.high))


@given(runs)
def test_the_restricted_mean_is_the_area_under_scipys_curve(watched):
    times, fitted = (np.array(column) for column in zip(*watched, strict=True))
    reference = stats.ecdf(stats.CensoredData.right_censored(times, ~fitted)).sf
    middles = np.arange(times.max()) + 0.5
    assert restricted_mean(times, fitted).value == pytest.approx(reference.evaluate(middles).sum())


@pytest.mark.parametrize("k", [3, 5, 10])
def test_the_restricted_mean_covers(k):
    rng = np.random.default_rng(k)
    truth = 10 * (1 - math.exp(-1.5))
    covered = 0
    for _ in range(REPEATS):
        times = rng.exponential(10, k)
        covered += truth in restricted_mean(np.minimum(times, 15), times <= 15, horizon=15)
    assert covered / REPEATS > 0.95 - 0.015 - SAMPLING


def test_nobody_fit_leaves_open_what_a_share_of_none_does():
    found = restricted_mean([8, 8, 8], [False] * 3)
    assert (found.value, found.high) == (8, 8)
    assert found.low == pytest.approx(8 * 0.025 ** (1 / 3))
    assert str(fit_share([8, 8, 8], [False] * 3)) == "0 (0 to 0.708)"
    with pytest.raises(ValueError, match="the horizon can be 8 at most"):
        restricted_mean([8, 8], [True, False], horizon=9)


def test_the_log_rank_statistic_is_scipys():
    rng = np.random.default_rng(0)
    first, second = rng.exponential(10, 40), rng.exponential(22, 40)
    watched, fitted = (np.minimum(first, 20), np.minimum(second, 20)), (first <= 20, second <= 20)
    reference = stats.logrank(*(stats.CensoredData.right_censored(time, ~ended) for time, ended in zip(watched, fitted, strict=True)))
    assert log_rank_scores(np.concatenate(watched), np.concatenate(fitted)).sum() == pytest.approx(0, abs=1e-9)
    found = compare_groups(watched, fitted)
    assert found.p == pytest.approx(reference.pvalue, rel=0.5)  # 10,000 permutations against the limit for many runs
    assert found.p < 0.05
    assert found.difference.low > 0


def test_three_against_three_cannot_show_five_percent_and_the_test_holds_its_level():
    found = compare_groups(([1, 2, 3], [7, 8, 9]), ([True] * 3, [True] * 3))
    assert (found.p, found.smallest_p) == (0.1, 0.1)
    rng = np.random.default_rng(1)
    rejected = 0
    for _ in range(500):
        times = rng.exponential(10, (2, 5))
        rejected += compare_groups(tuple(np.minimum(times, 15)), tuple(times <= 15)).p <= 0.05
    assert rejected / 500 < 0.05 + 4 * math.sqrt(0.05 * 0.95 / 500)


def test_welchs_interval_is_scipys_where_all_fit():
    rng = np.random.default_rng(2)
    first, second = rng.normal(20, 2, 8), rng.normal(25, 4, 5)
    found = compare_groups((first, second), (np.ones(8, bool), np.ones(5, bool)), horizon=100)
    expected = stats.ttest_ind(second, first, equal_var=False).confidence_interval()
    assert (found.difference.low, found.difference.high) == pytest.approx((expected.low, expected.high))


def test_pairs_use_the_seeds_that_they_share():
    rng = np.random.default_rng(3)
    base = rng.exponential(30, 10) + 5
    first, second = base, base + rng.uniform(1, 2, 10)
    paired = compare_pairs((first, second), (np.ones(10, bool), np.ones(10, bool)))
    assert paired.p == pytest.approx(2 * 0.5**10)
    expected = stats.ttest_rel(second, first).confidence_interval()
    assert (paired.difference.low, paired.difference.high) == pytest.approx((expected.low, expected.high))
    assert compare_groups((first, second), (np.ones(10, bool), np.ones(10, bool))).p > 0.5


def test_a_pair_that_nobody_saw_the_end_of_has_no_first():
    found = compare_pairs(([5, 9, 9, 4], [7, 9, 6, 9]), ([True, False, False, True], [True, False, True, False]))
    assert found.horizon == 9
    assert found.difference.value == pytest.approx((2 + 0 - 3 + 5) / 4)
    assert found.p == 1.0  # two to one
    watched_longer = compare_pairs(([4], [9]), ([False], [True]))
    assert (watched_longer.horizon, watched_longer.difference.value, watched_longer.p) == (4, 0, 1)


def test_times_are_checked():
    with pytest.raises(ValueError, match="positive and finite"):
        survival_curve([0, 3], [True, True])
    with pytest.raises(ValueError, match="one run at least"):
        survival_curve([], [])
    with pytest.raises(ValueError, match="not 2 and 1"):
        compare_pairs(([1, 2], [1]), ([True, True], [True]))


def test_the_table_counts_who_did_not_fit_and_who_diverged():
    rows = [record(**{"model.width": 4}, seed=seed, epochs=20, fit_epoch=epoch) for seed, epoch in enumerate([5, 9, None])]
    rows += [record(**{"model.width": 9}, seed=seed, epochs=epoch, fit_epoch=epoch) for seed, epoch in enumerate([3, 4])]
    rows.append(record(**{"model.width": 9}, seed=2, epochs=2, fit_epoch=None, status="diverged"))
    rows.append(record(**{"model.width": 9}, seed=3, epochs=None, fit_epoch=None, status="failed"))
    narrow, wide = fit_times(records(rows), ["model.width"]).to_pylist()
    assert (narrow["runs"], narrow["fit"], narrow["fit_share"], narrow["median"]) == (3, 2, pytest.approx(2 / 3), 9)
    assert narrow["restricted_mean"] == pytest.approx((5 + 9 + 20) / 3)
    assert (wide["runs"], wide["fit"], wide["horizon"]) == (3, 2, 20)
    assert wide["restricted_mean"] == pytest.approx((3 + 4 + 20) / 3), "a run that diverged never fits"
