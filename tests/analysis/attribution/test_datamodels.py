"""Datamodels against scikit-learn's ridge, a linear truth, and SciPy's rank correlation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.linear_model import Ridge

from analysis.attribution.datamodels import PENALTIES, fit_datamodels
from analysis.errors import NothingToShow


def made(networks: int, samples: int, noise: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Subsets, outputs that are linear in them but for noise, and the weights."""
    dice = np.random.default_rng(1)
    trained = dice.random((networks, samples)) < 0.5
    weights = dice.normal(size=(samples, 4))
    return trained, trained @ weights + noise * dice.normal(size=(networks, 4)), weights


@pytest.mark.parametrize(("networks", "samples"), [(200, 30), (60, 90)])
def test_weights_are_those_of_ridge_regression_whichever_side_is_longer(networks: int, samples: int) -> None:
    trained, outputs, _ = made(networks, samples, 0.5)
    found = fit_datamodels(trained, outputs)
    masks, values = trained[: found.fitted].astype(float), outputs[: found.fitted]
    centred = masks - masks.mean(0)
    eigenvalues = np.linalg.eigvalsh(centred @ centred.T if networks <= samples else centred.T @ centred)
    alpha = found.penalty * eigenvalues.mean()
    reference = Ridge(alpha=alpha).fit(masks, values)
    assert found.weights == pytest.approx(reference.coef_.T, abs=1e-6)
    assert found.predict(trained[-3:]) == pytest.approx(reference.predict(trained[-3:].astype(float)), abs=1e-6)


def test_the_penalty_has_the_smallest_generalized_cross_validation_error() -> None:
    trained, outputs, _ = made(150, 40, 3.0)
    found = fit_datamodels(trained, outputs)
    values = outputs[: found.fitted] - outputs[: found.fitted].mean(0)
    values /= values.std(0)
    masks = trained[: found.fitted] - trained[: found.fitted].mean(0)
    scale = np.linalg.eigvalsh(masks.T @ masks).mean()

    def error(penalty: float) -> float:
        hat = masks @ np.linalg.solve(masks.T @ masks + penalty * scale * np.eye(40), masks.T)
        return float(((values - hat @ values) ** 2).sum() / (1 - (np.trace(hat) + 1) / len(values)) ** 2)

    assert found.penalty == min(PENALTIES, key=error)
    assert PENALTIES[0] < found.penalty < PENALTIES[-1]


def test_a_linear_truth_is_found_and_scores_1() -> None:
    trained, outputs, weights = made(400, 50, 0.0)
    found = fit_datamodels(trained, outputs)
    assert found.weights == pytest.approx(weights, abs=0.02)
    assert found.score.value > 0.999


def test_the_score_is_the_mean_rank_correlation_on_networks_that_were_held_out() -> None:
    trained, outputs, _ = made(300, 30, 4.0)
    found = fit_datamodels(trained, outputs)
    assert found.fitted == 270
    predicted = found.predict(trained[270:])
    each = [spearmanr(predicted[:, place], outputs[270:, place]).statistic for place in range(4)]
    assert found.score.value == pytest.approx(np.mean(each))
    assert found.score.low < found.score.value < found.score.high


def test_outputs_that_ignore_the_subset_score_0_within_the_interval() -> None:
    covered = 0
    for seed in range(40):
        dice = np.random.default_rng(seed)
        trained = dice.random((200, 20)) < 0.5
        covered += 0 in fit_datamodels(trained, dice.normal(size=(200, 3))).score
    assert covered >= 32, "at least 80 % of 40 intervals of 95 %: fewer have a chance below 1e-3"


def test_too_few_networks_and_constant_outputs_are_sentences() -> None:
    trained = np.random.default_rng(0).random((39, 5)) < 0.5
    with pytest.raises(NothingToShow, match="40 networks or more"):
        fit_datamodels(trained, np.zeros((39, 1)))
    with pytest.raises(NothingToShow, match="no output differs"):
        fit_datamodels(np.tile(trained, (2, 1)), np.zeros((78, 1)))
