"""Intervals of bounded means and shares, against SciPy, closed forms and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analysis.statistics.intervals import GAPS, Estimate, grouped_intervals, intervals_of, mean_estimate, mean_intervals, share_estimate

REPEATS = 4000
SAMPLING = 4 * math.sqrt(0.95 * 0.05 / REPEATS)
"""Four standard errors of a simulated coverage of 0.95."""

samples = st.lists(st.floats(0, 1), min_size=2, max_size=12)


def coverage(draw, mean, k, **options):
    low, high = mean_intervals(draw(np.random.default_rng(k), (REPEATS, k)), **options)
    return ((low <= mean) & (mean <= high)).mean()


def test_student_is_scipys_inside_the_range():
    values = [0.31, 0.28, 0.35, 0.30]
    expected = stats.t.interval(0.9, 3, np.mean(values), stats.sem(values))
    found = mean_estimate(values, level=0.9, method="student")
    assert (found.low, found.high) == pytest.approx(expected)
    assert mean_estimate([0.0, 0.01, 0.02], method="student").low == 0


def test_logit_is_students_on_that_scale():
    values = np.array([0.02, 0.05, 0.03])
    mean, half = values.mean(), stats.t.ppf(0.975, 2) * stats.sem(values)
    away = half / (mean * (1 - mean))
    expected = [1 / (1 + math.exp(-(math.log(mean / (1 - mean)) + sign * away))) for sign in (-1, 1)]
    found = mean_estimate(values)
    assert [found.low, found.high] == pytest.approx(expected)
    assert found.high - found.value > found.value - found.low


@given(samples, st.sampled_from(["student", "logit", "betting"]), st.sampled_from([0.0, 0.01]))
def test_an_interval_stays_in_the_range_around_the_mean_and_mirrors(values, method, resolution):
    found = mean_estimate(values, method=method, resolution=resolution)
    assert 0 <= found.low <= found.value + 1e-12
    assert found.value - 1e-12 <= found.high <= 1
    mirrored = mean_estimate(1 - np.array(values), method=method, resolution=resolution)
    assert (1 - mirrored.high, 1 - mirrored.low) == pytest.approx((found.low, found.high), abs=1e-6)


@pytest.mark.parametrize("k", [3, 5, 10])
def test_normal_outcomes_are_covered_at_the_level(k):
    for within, mean, deviation in (((0, 1), 0.1, 0.01), (GAPS, -0.2, 0.05)):

        def draw(rng, shape, mean=mean, deviation=deviation):
            return mean + deviation * rng.standard_normal(shape)

        assert abs(coverage(draw, mean, k, within=within) - 0.95) < SAMPLING + 0.003


@pytest.mark.parametrize("k", [3, 5, 10])
def test_skewed_outcomes_are_covered_better_than_by_students_interval(k):
    def draw(rng, shape):
        return rng.beta(1, 19, shape)

    logit, student = (coverage(draw, 0.05, k, method=method) for method in ("logit", "student"))
    assert logit > 0.95 - 0.02 - SAMPLING
    assert logit > student + 0.02


@pytest.mark.parametrize("k", [1, 3, 10])
def test_bets_cover_rare_failures_and_no_interval_can_be_narrow_and_do_so(k):
    def draw(rng, shape):
        return np.where(rng.random(shape) < 0.1, 0.5, 0.02)

    assert coverage(draw, 0.068, k, method="betting") >= 0.95 - SAMPLING
    if k > 1:
        assert coverage(draw, 0.068, k) <= 1 - 0.9**k + 4 * math.sqrt(0.25 / REPEATS)
    unlucky = mean_estimate(np.zeros(k), method="betting")
    assert unlucky.high >= 1 - 0.025 ** (1 / k) - 1e-6, "any narrower interval fails for failures as rare as these"


def test_bets_are_those_of_brute_force():
    values = np.array([0.1, 0.4, 0.2, 0.9])
    means = np.linspace(1e-4, 1 - 1e-4, 20_001)
    stakes = (np.arange(24) + 0.5) / 24
    capital = np.prod(1 - stakes[:, None, None] + stakes[:, None, None] * values[:, None] / means, axis=1).mean(axis=0)
    assert mean_estimate(values, method="betting").low == pytest.approx(means[capital >= 40].max(), abs=1e-4)


def test_equal_values_of_counted_samples_leave_a_step():
    found = mean_estimate([0.02, 0.02, 0.02], resolution=0.01)
    assert (found.low, found.high) == pytest.approx((0.02 - 0.00708, 0.02 + 0.00708), abs=1e-5)
    assert mean_estimate([0.02, 0.02, 0.02]).high == 0.02
    rates = np.linspace(0, 1, 21)[1:-1]
    for k in (3, 5):
        missed = [
            coverage(lambda rng, shape, p=p: 0.02 + 0.01 * (rng.random(shape) < p), 0.02 + 0.01 * p, k, resolution=0.01) for p in rates
        ]
        assert min(missed) > 0.95 - SAMPLING


def test_one_value_has_no_interval_and_outside_values_are_refused():
    low, high = mean_intervals(np.array([[0.2], [0.4]]))
    assert np.isnan(low).all()
    assert np.isnan(high).all()
    with pytest.raises(ValueError, match="outside of 0 to 1"):
        mean_estimate([0.2, 1.2])
    with pytest.raises(ValueError, match="two finite bounds"):
        mean_estimate([0.2], within=(0, math.inf), method="betting")


def test_groups_are_their_samples():
    sizes = np.array([3, 1, 4, 3, 0])
    values = np.random.default_rng(0).random(11)
    low, high = grouped_intervals(values, sizes)
    for place, (start, size) in enumerate(zip(np.cumsum(sizes) - sizes, sizes, strict=True)):
        if size > 1:
            alone = mean_estimate(values[start : start + size])
            assert (low[place], high[place]) == pytest.approx((alone.low, alone.high))
        else:
            assert math.isnan(low[place])


def test_unbounded_quantities_get_students_interval():
    low, high = intervals_of(2.0, 0.1, 4, within=(0, math.inf))
    assert (float(low), float(high)) == pytest.approx(stats.t.interval(0.95, 4, 2.0, 0.1))


@pytest.mark.parametrize(("successes", "runs"), [(0, 3), (3, 3), (2, 10), (19, 20)])
def test_shares_are_scipys(successes, runs):
    expected = stats.binomtest(successes, runs).proportion_ci(0.95, method="exact")
    found = share_estimate(successes, runs)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_an_estimate_reads_as_text_and_holds_numbers():
    assert str(Estimate(0.1, 0.05, 0.2)) == "0.1 (0.05 to 0.2)"
    assert 0.15 in Estimate(0.1, 0.05, 0.2)
    assert 0.3 not in Estimate(0.1, 0.05, 0.2)
