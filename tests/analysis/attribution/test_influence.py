"""Influences against their definition, sample by sample."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.attribution.influence import influences


def test_they_are_differences_of_means_with_the_errors_of_two_samples() -> None:
    dice = np.random.default_rng(0)
    trained = dice.random((30, 7)) < 0.4
    outputs = dice.normal(100, 1, (30, 3))
    found = influences(trained, outputs)
    for sample in range(7):
        inside, outside = outputs[trained[:, sample]], outputs[~trained[:, sample]]
        assert found.values[sample] == pytest.approx(inside.mean(0) - outside.mean(0))
        variance = inside.var(0, ddof=1) / len(inside) + outside.var(0, ddof=1) / len(outside)
        assert found.standard_errors[sample] == pytest.approx(np.sqrt(variance))


def test_what_all_or_all_but_one_were_trained_on_has_none() -> None:
    trained = np.array([[1, 1, 0], [1, 1, 1], [1, 0, 1], [1, 1, 0]], dtype=bool)
    found = influences(trained, np.arange(4.0)[:, None])
    assert np.isnan(found.values[:, 0]).tolist() == [True, True, False]
    assert np.isnan(found.standard_errors[:, 0]).tolist() == [True, True, False]
