"""The interpolation threshold: known ones recovered, and covered whatever lies between the points of the grid."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import analysis
from analysis.statistics.interpolation import seed_threshold, threshold, threshold_of, threshold_table
from tests.analysis.made_up_study import record, records

GRID = np.geomspace(0.1, 100, 13)
SPACING = math.log(GRID[1] / GRID[0])


def outcomes(rng, centre, deviation, seeds, monotone):
    """Whether each seed fits at each capacity; every run has its own threshold where outcomes need not be monotone."""
    shape = (seeds, 1) if monotone else (seeds, len(GRID))
    return np.log(GRID) >= centre + deviation * rng.standard_normal(shape)


def located(fitted):
    seeds, points = fitted.shape
    return threshold(np.tile(GRID, seeds), np.repeat(np.arange(seeds), points), fitted.ravel())


@pytest.mark.parametrize("monotone", [True, False])
@pytest.mark.parametrize("seeds", [3, 5, 20])
def test_it_covers_at_the_presets_spacing(seeds, monotone):
    rng, repeats = np.random.default_rng(seeds), 40
    for deviation in (0.05, 0.5, 1.0):
        covered = 0
        for _ in range(repeats):
            centre = rng.uniform(math.log(0.5), math.log(20))  # anywhere between two capacities of the grid
            found = located(outcomes(rng, centre, deviation * SPACING, seeds, monotone))
            covered += found.low <= math.exp(centre) <= found.high
        assert covered / repeats > 0.95 - 4 * math.sqrt(0.95 * 0.05 / repeats)


def test_on_a_fine_grid_it_is_students_interval():
    thresholds = np.array([1.0, 1.3, 0.8, 1.7])
    ends = [(one * (1 - 1e-6), one * (1 + 1e-6)) for one in np.exp(thresholds)]
    found = threshold_of(ends)
    low, high = stats.t.interval(0.95, 3, thresholds.mean(), stats.sem(thresholds))
    assert math.log(found.value) == pytest.approx(thresholds.mean(), abs=1e-4)
    assert (math.log(found.low), math.log(found.high)) == pytest.approx((low, high), abs=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_on_a_coarse_grid_it_is_the_mean_of_a_censored_normal_fit_by_scipy(seed):
    drawn = np.searchsorted(np.log(GRID), np.random.default_rng(seed).normal(math.log(3), 0.7, 12))
    ends = np.stack([GRID[drawn - 1], GRID[drawn]], axis=1)
    found = threshold_of([(low, high) for low, high in ends])
    mean = stats.norm.fit(stats.CensoredData(interval=np.log(ends)))[0]
    assert math.log(found.value) == pytest.approx(mean, abs=2e-4)

    def left(place):
        """The likelihood at a mean, below its maximum, by SciPy's distributions and a plain search over deviations."""
        deviations = np.geomspace(0.2, 5, 4000)[:, None]
        z = (np.log(ends[:, :, None, None]) - place) / deviations
        with np.errstate(divide="ignore"):
            return np.log(stats.norm.cdf(z[:, 1]) - stats.norm.cdf(z[:, 0])).sum(axis=0).max()

    allowed = 6 * math.log(1 + stats.t.ppf(0.975, 11) ** 2 / 11)
    for end in (found.low, found.high):
        assert left(mean) - left(math.log(end)) == pytest.approx(allowed, abs=1e-3)


def test_the_grid_itself_is_an_error():
    for seeds in (3, 5, 20):
        found = threshold_of([(2.0, 4.0)] * seeds)
        assert found.low <= 2.0001
        assert found.high >= 3.9999
        assert found.value == pytest.approx(math.sqrt(8))
    assert threshold_of([(2.0, 4.0)] * 3).high > threshold_of([(2.0, 4.0)] * 5).high > 3.9999


@given(st.lists(st.booleans(), min_size=1, max_size=10))
def test_a_seeds_threshold_by_brute_force(fitted):
    sizes = 2.0 ** np.arange(len(fitted))
    low, high = seed_threshold(sizes[::-1], fitted[::-1])
    below = [size for size, fit in zip(sizes, fitted, strict=True) if not fit]
    for size, fit in zip(sizes, fitted, strict=True):
        if size <= low:
            assert not fit
        if size >= high:
            assert fit
    assert low < high
    if fitted == sorted(fitted):
        assert low == max(below, default=0.0)


def test_all_fit_none_fit_and_both():
    always = located(np.ones((5, len(GRID)), bool))
    assert (always.value, always.low, always.always, always.never) == (0, 0, 5, 0)
    assert 0.1 <= always.high < 0.5
    never = located(np.zeros((5, len(GRID)), bool))
    assert (never.value, never.high, never.never) == (math.inf, math.inf, 5)
    assert 20 < never.low < 100.01
    most = np.arange(len(GRID)) >= np.array([0, 0, 0, 1, 2])[:, None]
    found = located(most)
    assert found.always == 3
    assert found.low < 0.1 < found.high < 1


def test_one_seed_has_no_interval_and_a_mixed_one_a_zone():
    one = located(np.arange(len(GRID))[None] >= 4)
    assert one.value == pytest.approx(math.sqrt(GRID[3] * GRID[4]))
    assert math.isnan(one.low)
    assert math.isnan(one.high)
    fitted = np.arange(len(GRID)) >= np.full((5, 1), 4)
    sure = located(fitted)
    fitted[0, 3:6] = [True, False, False]
    mixed = located(fitted)
    assert (sure.mixed, mixed.mixed) == (0, 1)
    assert mixed.high >= sure.high * 0.95


def test_the_table_has_a_row_a_line_and_refuses_less():
    rows = []
    for level, first in ((0.0, 3), (1.0, 6)):
        for seed in range(5):
            for index, size in enumerate(GRID):
                fit = index >= first + (seed == 0)
                rows.append(
                    record(
                        **{"corruption.level": level},
                        seed=seed,
                        parameters_per_sample=size,
                        parameters=round(1000 * size),
                        interpolated=fit,
                    )
                )
    table = records(rows)
    clean, random = threshold_table(table).to_pylist()
    assert GRID[2] < clean["threshold"] < GRID[3] < random["threshold"] < GRID[6]
    assert clean["threshold.low"] < clean["threshold"] < clean["threshold.high"] < random["threshold.low"]
    assert (clean["seeds"], clean["always"], clean["never"], clean["mixed"]) == (5, 0, 0, 0)
    with pytest.raises(analysis.AnalysisError, match=r"corruption\.level varies as well"):
        threshold_table(table, by=[])
    with pytest.raises(analysis.AnalysisError, match="did you mean"):
        threshold_table(table, capacity="parameter")
    unfit = table.set_column(table.column_names.index("interpolated"), "interpolated", [[False] * len(table)])
    assert threshold_table(unfit).to_pylist()[0]["threshold.high"] is None
