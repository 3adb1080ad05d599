"""Censored times against SciPy, closed forms, brute force and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analysis.statistics.censored import (
    fit_share,
    fit_times,
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


def test_times_are_checked():
    with pytest.raises(ValueError, match="positive and finite"):
        survival_curve([0, 3], [True, True])
    with pytest.raises(ValueError, match="one run at least"):
        survival_curve([], [])


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


def test_a_point_that_stands_twice_is_one_run():
    rows = [record(seed=seed, epochs=20, fit_epoch=epoch) for seed, epoch in enumerate([5, 9, None])]
    once, twice = (fit_times(records(some), ["model.width"]).to_pylist() for some in (rows, rows + [row | {"study": "b"} for row in rows]))
    assert once == twice


def test_a_run_that_diverged_in_its_first_epoch_never_fits():
    rows = [record(seed=0, epochs=20, fit_epoch=8), record(seed=1, epochs=20, fit_epoch=None)]
    rows.append(record(seed=2, epochs=0, fit_epoch=None, status="diverged"))
    (found,) = fit_times(records(rows), ["model.width"]).to_pylist()
    assert (found["runs"], found["fit"], found["restricted_mean"]) == (3, 1, pytest.approx((8 + 20 + 20) / 3))


@pytest.mark.parametrize("later", [0.1, 0.2])
def test_times_that_all_agree_are_no_certainty(later):
    """Most runs fit at the fourth evaluation, some at the fifth: three that agree saw one of the two."""
    rng = np.random.default_rng(11)
    covered = 0
    for _ in range(REPEATS // 4):
        times = 4.0 + (rng.random(3) < later)
        covered += 4 + later in restricted_mean(times, np.ones(3, bool), horizon=20, resolution=1.0)
    assert covered / (REPEATS // 4) > 0.95 - 2 * SAMPLING
    rows = [record(**{"budget.evaluate_every": 2}, seed=seed, epochs=20, fit_epoch=8) for seed in range(3)]
    (found,) = fit_times(records(rows), ["model.width"]).to_pylist()
    assert (found["restricted_mean.low"], found["restricted_mean.high"]) == pytest.approx((8 - 1.4152, 8 + 1.4152), abs=1e-3)
