"""The attack against scikit-learn's ROC curve, the area that Gaussians have, and outputs that say nothing."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score, roc_curve

from analysis.attribution.membership import membership_attack


def masks(seed: int, networks: int = 200, samples: int = 60) -> tuple[np.random.Generator, np.ndarray]:
    dice = np.random.default_rng(seed)
    return dice, dice.random((networks, samples)) < 0.5


def test_a_predictor_that_ignores_its_samples_gives_an_area_of_one_half() -> None:
    areas, covered = [], 0
    for seed in range(60):
        dice, trained = masks(seed)
        found = membership_attack(trained, dice.normal(size=trained.shape).astype(np.float32)).area
        areas.append(found.value)
        covered += 0.5 in found
    assert abs(np.mean(areas) - 0.5) < 4 * np.std(areas) / np.sqrt(60)
    assert covered >= 51, "60 intervals of 95 %: fewer than 51 have a chance below 1e-3"


@pytest.mark.parametrize("networks", [100, 600])  # variances pooled over samples, and of each sample
def test_gaussian_outputs_a_distance_apart_give_the_area_of_gaussians(networks: int) -> None:
    dice, trained = masks(0, networks, 120)
    outputs = dice.normal(size=trained.shape) + 1.5 * trained + dice.normal(0, 3, 120)
    found = membership_attack(trained, outputs.astype(np.float32))
    assert found.area.value == pytest.approx(norm.cdf(1.5 / np.sqrt(2)), abs=0.015), "less what 50 networks leave unknown of the means"
    caught, each = norm.sf(norm.isf(0.01) - 1.5), networks / 2 * 120 / 2  # pairs of each kind
    slope = norm.pdf(norm.isf(0.01) - 1.5) / norm.pdf(norm.isf(0.01))
    error = np.sqrt((slope**2 * 0.01 * 0.99 + caught * (1 - caught)) / each)
    assert found.caught_at(0.01) == pytest.approx(caught, abs=3 * error + 0.01)


def test_areas_and_curve_are_those_of_the_statistics() -> None:
    dice, trained = masks(3, 40, 30)
    outputs = (dice.normal(size=trained.shape) + trained).astype(np.float32)
    found = membership_attack(trained, outputs)
    assert found.statistics.shape == (20, 30)
    expected = [roc_auc_score(one, guess) for one, guess in zip(trained[20:], found.statistics, strict=True)]
    assert found.areas == pytest.approx(expected)
    false, true, _ = roc_curve(trained[20:].ravel(), found.statistics.ravel(), drop_intermediate=False)
    rates = np.concatenate([false, dice.random(50), [0.0, 1.0]])
    assert found.caught_at(rates).tolist() == pytest.approx([true[false <= rate][-1] for rate in rates])
    tied = membership_attack(trained, np.round(outputs).astype(np.float32))
    false, true, _ = roc_curve(trained[20:].ravel(), tied.statistics.ravel(), drop_intermediate=False)
    assert tied.caught_at(rates).tolist() == pytest.approx([true[false <= rate][-1] for rate in rates])


def test_a_sample_that_all_or_none_were_trained_on_tells_nothing_and_breaks_nothing() -> None:
    dice, trained = masks(4, 40, 30)
    trained[:, 0], trained[:, 1] = True, False
    found = membership_attack(trained, dice.normal(size=trained.shape).astype(np.float32))
    assert np.isfinite(found.statistics).all()
