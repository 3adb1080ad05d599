"""Power laws and thresholds that are known, recovered."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from scipy.optimize import least_squares

import analysis
from tests.analysis.made_up_study import record, records

SIZES = tuple(np.geomspace(1e2, 1e6, 10))


def law_study(offset=0.05, scale=3.0, exponent=0.4, *, sizes=SIZES, noise=0.0, seeds=1, rng=None):
    rng = rng or np.random.default_rng(0)
    rows = []
    for size in sizes:
        for seed in range(seeds):
            error = (offset + scale * size**-exponent) * np.exp(noise * rng.normal())
            rows.append(record(**{"model.width": round(size)}, parameters=round(size), seed=seed, test_error=error))
    return records(rows)


@pytest.mark.parametrize(("offset", "exponent"), [(0.05, 0.4), (0.01, 1.0), (0.3, 0.7)])
def test_constants_without_noise_are_recovered(offset, exponent):
    law = analysis.fit_power_law(law_study(offset, 3.0, exponent), resamples=2)
    assert law.offset.value == pytest.approx(offset, rel=0.01)
    assert law.scales[0].value == pytest.approx(3.0, rel=0.05)
    assert law.exponents[0].value == pytest.approx(exponent, rel=0.01)
    assert law.extrapolation_error < 0.005
    assert law.predict(1e7) == pytest.approx(offset + 3.0 * 1e7**-exponent, rel=0.01)


def test_a_law_of_capacity_and_samples():
    rng = np.random.default_rng(1)
    rows = []
    for size in np.geomspace(1e3, 1e6, 6):
        for samples in (500, 2000, 8000, 32000):
            error = (0.02 + 4.0 * size**-0.5 + 6.0 * samples**-0.6) * np.exp(0.002 * rng.normal())
            rows.append(record(**{"model.width": round(size), "data.train_size": samples}, parameters=round(size), test_error=error))
    law = analysis.fit_power_law(records(rows), sizes=("parameters", "data.train_size"), resamples=40)
    assert [one.value for one in law.exponents] == pytest.approx([0.5, 0.6], abs=0.03)
    assert all(one.low <= true <= one.high for one, true in zip((law.offset, *law.exponents), (0.02, 0.5, 0.6), strict=True))
    assert law.resampled == "cells"
    assert law.predict([1e4, 1e5], [1000, 1000]).shape == (2,)


def test_an_outlier_hardly_moves_the_exponent():
    table = law_study(noise=0.005, seeds=1)
    wild = table["test_error"].to_numpy().copy()
    wild[4] *= 2
    wild = table.set_column(table.column_names.index("test_error"), "test_error", pa.array(wild))
    exact, robust = (analysis.fit_power_law(one, resamples=2).exponents[0].value for one in (table, wild))
    assert abs(robust - exact) < 0.05


def test_the_bootstrap_interval_covers_the_exponent():
    studies, covered = 100, 0
    for study in range(studies):
        table = law_study(noise=0.03, seeds=5, sizes=SIZES[::2], rng=np.random.default_rng(study))
        exponent = analysis.fit_power_law(table, resamples=200).exponents[0]
        covered += exponent.low <= 0.4 <= exponent.high
    assert abs(covered / studies - 0.95) < 4 * math.sqrt(0.95 * 0.05 / studies)


def test_the_fit_is_scipys():
    table = law_study(noise=0.05, seeds=1)
    sizes, errors = (np.log(table[name].to_numpy()) for name in ("parameters", "test_error"))
    law = analysis.fit_power_law(table, resamples=2)
    found = np.array([math.log(law.offset.value), math.log(law.scales[0].value), law.exponents[0].value])

    def residuals(constants):
        return np.logaddexp(constants[0], constants[1] - constants[2] * sizes) - errors

    first = least_squares(residuals, found, loss="huber", f_scale=1e-3, xtol=1e-15, ftol=1e-15).x
    width = 1.345 * 1.4826 * np.median(np.abs(residuals(first)))
    reference = least_squares(residuals, first, loss="huber", f_scale=width, xtol=1e-15, ftol=1e-15)
    np.testing.assert_allclose(found, reference.x, rtol=2e-3)


def test_too_few_sizes_is_a_sentence_and_a_row_of_the_table():
    with pytest.raises(analysis.AnalysisError, match="at least 4 different values of parameters"):
        analysis.fit_power_law(law_study(sizes=(10, 100, 1000)))
    rows = analysis.power_law_table(law_study(), resamples=2).to_pylist()
    assert rows[0]["exponent.parameters"] == pytest.approx(0.4, rel=0.01)
    assert rows[0]["note"] is None
    assert "at least 4" in analysis.power_law_table(law_study(sizes=(10, 100, 1000))).to_pylist()[0]["note"]


def test_the_sentence_says_what_was_fitted():
    sentence = analysis.fit_power_law(law_study(), resamples=2).sentence()
    assert sentence.startswith("test error = 0.05 (95 % interval")
    assert "10 settings, bootstrap over cells" in sentence
