"""Scaling laws that are known, recovered and forecast; and refusals where there is none."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from scipy.optimize import minimize

import analysis
from analysis.scaling.cells import cells_of
from analysis.scaling.choice import choose_law
from analysis.scaling.forms import FORMS, Scale, bounds_of, evaluate, fit, minimise
from analysis.scaling.laws import compute_optimal, fit_law, optimal_exponent

SIZES = np.geomspace(1e2, 1e5, 13)
LAWS = {
    "constant": lambda x: 0.3 + 0 * x,
    "power": lambda x: 3 * x**-0.4,
    "decreasing": lambda x: 0.05 + 3 * x**-0.4,
    "saturating": lambda x: 0.9 - 2 * x**-0.3,
    "rising": lambda x: 0.1 + 0.01 * x**0.3,
    "peaked": lambda x: 0.1 + 0.3 * np.exp(-(np.log(x / 3000) ** 2) / 2 / 0.8**2),
}


def chinchilla(rng, noise, points=245):
    sizes = np.exp(np.stack([rng.uniform(*np.log((5e7, 1.6e10)), points), rng.uniform(*np.log((1e9, 3e11)), points)]))
    losses = 1.69 + 406.4 / sizes[0] ** 0.34 + 410.7 / sizes[1] ** 0.28
    return sizes, losses * np.exp(noise * rng.standard_normal(points))


def seeds_of(law, rng, noise, seeds, *, multiplied=False):
    sizes = np.repeat(SIZES, seeds)
    drawn = noise * rng.standard_normal(len(sizes))
    return sizes, law(sizes) * np.exp(drawn) if multiplied else law(sizes) + drawn


def four_errors(share, repeats):
    return 4 * math.sqrt(share * (1 - share) / repeats)


@pytest.mark.parametrize("log", [True, False])
@pytest.mark.parametrize("name", LAWS)
def test_every_form_is_recovered_without_noise(name, log):
    z = np.log(SIZES)[None] - np.log(SIZES).mean()
    theta, _ = fit(FORMS[name], z, LAWS[name](SIZES), Scale(log, np.full(13, 0.01)), (0, 1))
    np.testing.assert_allclose(evaluate(FORMS[name], theta[None], z)[0], LAWS[name](SIZES), rtol=1e-6)


def test_chinchillas_coefficients_are_recovered():
    law = fit_law("decreasing", *chinchilla(np.random.default_rng(0), 0.0), within=(0, math.inf), resamples=20)
    found = [law.parameters[name].value for name in ("E", "A", "alpha", "B", "beta")]
    assert found == pytest.approx([1.69, 406.4, 0.34, 410.7, 0.28], rel=1e-5)
    assert optimal_exponent(law).value == pytest.approx(0.28 / 0.62, abs=1e-6)
    first, second = compute_optimal(law, 5.76e23)
    assert first * second * 6 == pytest.approx(5.76e23)
    aside = [1.69 + 406.4 / (first * factor) ** 0.34 + 410.7 / (second / factor) ** 0.28 for factor in (0.97, 1, 1.03)]
    assert aside[1] < min(aside[0], aside[2])


def test_two_sizes_with_intervals_take_seconds_and_cover():
    rng, repeats, covered = np.random.default_rng(1), 25, []
    started = time.process_time()
    for _ in range(repeats):
        law = fit_law("decreasing", *chinchilla(rng, 0.005), within=(0, math.inf), resamples=200)
        true = {"E": 1.69, "A": 406.4, "alpha": 0.34, "B": 410.7, "beta": 0.28}
        covered.append([*(value in law.parameters[name] for name, value in true.items()), 0.28 / 0.62 in optimal_exponent(law)])
    assert (time.process_time() - started) / repeats < 3
    assert (np.mean(covered, axis=0) > 0.95 - 0.02 - four_errors(0.95, repeats)).all()


def test_the_minimum_is_scipys():
    rng = np.random.default_rng(2)
    y = LAWS["decreasing"](SIZES) * np.exp(0.05 * rng.standard_normal(13))
    z, scale, form = np.log(SIZES)[None] - np.log(SIZES).mean(), Scale(True, np.ones(13)), FORMS["decreasing"]
    theta, width = fit(form, z, y, scale, (0, 1))

    def loss(constants):
        size = np.abs(np.log(constants[0] + np.exp(constants[1] - constants[2] * z[0])) - np.log(y))
        return np.where(size <= width, size**2 / 2, width * (size - width / 2)).sum()

    reference = min(
        (minimize(loss, [0.03, start, 0.3], bounds=[(1e-6, 1), (-9, 2), (1e-3, 5)], method="L-BFGS-B") for start in (-3, -2)),
        key=lambda one: one.fun,
    )
    assert loss(theta) <= reference.fun * (1 + 1e-6)
    again, _ = minimise(form, z, y[None], scale, np.array([[0.0, -1.0, 1.0]]), width, bounds_of(form, z, y, (0, 1)))
    assert loss(again[0]) == pytest.approx(loss(theta), rel=1e-4)


def test_an_outlier_hardly_moves_the_exponent():
    rng = np.random.default_rng(3)
    sizes, values = seeds_of(LAWS["decreasing"], rng, 0.005, 1, multiplied=True)
    wild = values.copy()
    wild[4] *= 2
    exact, robust = (fit_law("decreasing", sizes, one, resamples=2).parameters["alpha"].value for one in (values, wild))
    assert abs(robust - exact) < 0.05


def test_zeros_and_negative_values_count_so_that_the_offset_is_right():
    """The offset was 0.0108 for a true 0.005, and covered in one study of ten, when values up to 0 were dropped seed by seed."""
    rng, repeats = np.random.default_rng(4), 60
    offsets, covered, clipped = [], 0, []
    for _ in range(repeats):
        sizes, values = seeds_of(lambda x: 0.005 + 3 * x**-0.7, rng, 0.01, 5)
        assert (values <= 0).any()
        law = fit_law("decreasing", sizes, values, within=(-1, 1), resamples=200)
        offsets.append(law.parameters["E"].value)
        covered += 0.005 in law.parameters["E"]
        kept = values > 0
        clipped.append(fit_law("decreasing", sizes[kept], values[kept], within=(-1, 1), resamples=2).parameters["E"].value)
    assert np.mean(offsets) == pytest.approx(0.005, abs=4 * np.std(offsets) / math.sqrt(repeats) + 2e-4)
    assert covered / repeats > 0.95 - 0.02 - four_errors(0.95, repeats)
    assert np.mean(clipped) > 0.005 + 4 * np.std(clipped) / math.sqrt(repeats), "dropping values is what was wrong"


@pytest.mark.parametrize(("seeds", "noise"), [(1, 0.03), (5, 0.05)])
def test_the_forecast_at_ten_times_the_size_covers(seeds, noise):
    rng, repeats, covered = np.random.default_rng(seeds), 30, []
    for _ in range(repeats):
        found = choose_law(*seeds_of(LAWS["decreasing"], rng, noise, seeds, multiplied=True), resamples=150)
        if found.law is not None:
            new = (LAWS["decreasing"](1e6) * np.exp(noise * rng.standard_normal(seeds))).mean()
            covered.append(new in found.predict(1e6, runs=seeds))
    assert len(covered) > 0.9 * repeats
    assert np.mean(covered) > 0.95 - 0.03 - four_errors(0.95, repeats)


@pytest.mark.parametrize("name", ["constant", "decreasing", "saturating", "power"])
def test_the_form_is_found_by_the_largest_decade(name):
    rng = np.random.default_rng(6)
    chosen = [choose_law(*seeds_of(LAWS[name], rng, 0.003, 5), resamples=40).law for _ in range(6)]
    truth = LAWS[name](1e6)
    assert sum(law is not None and abs(law.predict(1e6) - truth) < 0.05 for law in chosen) >= 5
    assert sum(law is not None and law.form.name == name for law in chosen) >= 4


def test_random_labels_get_no_asymptote_below_chance():
    rng = np.random.default_rng(7)
    for _ in range(6):
        found = choose_law(*seeds_of(lambda x: 0.9 + 0 * x, rng, 0.01, 3), possible=(0.88, 1.0), resamples=60)
        if found.law is not None and found.law.form.name != "constant":
            assert found.law.parameters["E"].value >= 0.88
        if found.law is not None:
            interval = found.predict(1e6)
            assert interval.low > 0.7


def test_what_is_no_law_is_said_to_be_none():
    rng = np.random.default_rng(8)
    jump = choose_law(*seeds_of(lambda x: np.where(x > 2e4, 0.8, 0.3 + 0.2 * (np.log(x) % 1)), rng, 0.002, 5), resamples=60)
    assert jump.law is None
    assert "times what the seeds vary by" in jump.reason
    assert jump.sentence().startswith("no law: none of the forms holds")
    with pytest.raises(analysis.AnalysisError, match="there is no law to predict by"):
        jump.predict(1e6)


def test_a_parameter_at_its_bound_is_named():
    falls_at_once = fit_law("power", SIZES, np.where(SIZES < 150, 0.9, 0.9 * (SIZES / 100.0) ** -8 + 1e-30), resamples=5)
    assert "exponent is at its bound" in falls_at_once.bound
    no_offset = fit_law("decreasing", SIZES, LAWS["power"](SIZES), resamples=5)
    assert "offset is at its bound of" in no_offset.bound
    found = choose_law(SIZES, LAWS["power"](SIZES), resamples=20)
    assert found.law is not None
    assert found.law.form.name == "power"


def test_a_law_that_leaves_what_is_possible_is_not_used_there():
    found = choose_law(SIZES, LAWS["rising"](SIZES), forms=["rising"], resamples=20)
    assert found.predict(1e6).value == pytest.approx(LAWS["rising"](1e6), rel=1e-3)
    with pytest.raises(analysis.AnalysisError, match="nothing beyond 0 to 1 is possible"):
        found.predict(1e9)


def test_nothing_is_dropped_and_few_sizes_are_refused():
    with pytest.raises(analysis.AnalysisError, match="1 of 13 values are missing"):
        cells_of(SIZES, np.where(SIZES > 9e4, np.nan, 0.1))
    with pytest.raises(analysis.AnalysisError, match="positive"):
        cells_of([0, 1], [0.1, 0.2])
    with pytest.raises(analysis.AnalysisError, match="4 different sizes must lie below it"):
        choose_law(SIZES[-6:], SIZES[-6:] ** -0.3)
    with pytest.raises(analysis.AnalysisError, match="needs 4 settings"):
        fit_law("decreasing", [1, 10, 100], [0.5, 0.4, 0.3])


@pytest.mark.parametrize("shared", [0.0, 0.7])
def test_what_runs_of_one_seed_share_widens_the_interval(shared):
    """Settings with the same seeds err together, so that more settings do not say more of their common mean."""
    rng, repeats, settings, seeds, covered, found = np.random.default_rng(11), 200, 13, 5, 0, []
    for _ in range(repeats):
        own, common = rng.standard_normal((settings, seeds)), rng.standard_normal(seeds)
        values = 0.5 + 0.02 * ((1 - shared) ** 0.5 * own + shared**0.5 * common)
        cells = cells_of(np.repeat(SIZES, seeds), values.ravel(), np.tile(np.arange(seeds), settings))
        law = fit_law("constant", np.repeat(SIZES, seeds), values.ravel(), seeds=np.tile(np.arange(seeds), settings), resamples=200)
        covered += 0.5 in law.parameters["E"]
        found.append(cells.shared * (cells.deviations**2).mean() / 0.02**2)
    assert np.mean(found) == pytest.approx(shared, abs=4 * shared * math.sqrt(2 / (seeds - 1) / repeats) + 0.02)
    assert covered / repeats > 0.95 - 0.025 - four_errors(0.95, repeats)


def test_a_point_that_stands_twice_is_no_second_seed() -> None:
    sizes, seeds = np.tile([10.0, 100.0, 1000.0], 3), np.repeat([4, 5, 6], 3)
    values = np.random.default_rng(12).uniform(0.1, 0.9, 9)
    once, twice = cells_of(sizes, values, seeds), cells_of(np.tile(sizes, 2), np.tile(values, 2), np.tile(seeds, 2))
    assert twice.counts.tolist() == once.counts.tolist() == [3, 3, 3]
    np.testing.assert_allclose(twice.errors, once.errors)
    assert twice.shared == pytest.approx(once.shared)
