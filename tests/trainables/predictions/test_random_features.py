"""The deterministic equivalent of random features: its peak, its limit, and regression on drawn features."""

from __future__ import annotations

from math import inf

import pytest
import torch
from torch import Tensor, nn

from trainables.point.config import TrialConfig, with_fields
from trainables.predictions import OutOfRegime
from trainables.predictions.random_features import Averaged, predict
from trainables.resolution import resolve

SAMPLES = 120


def made_up(draw: torch.Generator) -> tuple[Tensor, Averaged, Tensor]:
    """A covariance over training and test samples, what the theory makes of it, and the targets of both."""
    inputs = torch.randn(SAMPLES + 200, 150, generator=draw, dtype=torch.float64) * torch.arange(1, 151) ** -0.4
    covariance = inputs @ inputs.T / 10
    labels = nn.functional.one_hot((inputs @ torch.randn(150, 3, generator=draw, dtype=torch.float64)).argmax(1), 3).double()
    parts = covariance[:SAMPLES, :SAMPLES], covariance[:SAMPLES, SAMPLES:], covariance.diagonal()[SAMPLES:]
    return inputs / 10**0.5, Averaged.of(parts, labels[:SAMPLES], labels[SAMPLES:]), labels


@pytest.mark.parametrize(("features", "ridge"), [(60, 0.0), (180, 0.0), (400, 0.0), (60, 2.0), (120, 2.0)])
def test_it_is_the_mean_of_regression_over_draws_of_the_features(features: int, ridge: float) -> None:
    draw = torch.Generator().manual_seed(0)
    root, theory, labels = made_up(draw)
    losses = []
    for _ in range(60):
        drawn = root @ torch.randn(150, features, generator=draw, dtype=torch.float64) / features**0.5
        train, test = drawn[:SAMPLES], drawn[SAMPLES:]
        if ridge:
            weights = torch.linalg.solve(train.T @ train + ridge * torch.eye(features, dtype=torch.float64), train.T @ labels[:SAMPLES])
        else:
            weights = torch.linalg.pinv(train) @ labels[:SAMPLES]
        losses.append((test @ weights - labels[SAMPLES:]).square().sum(1).mean() / 2)
    measured = torch.stack(losses)
    assert abs(theory.loss(features, ridge) - measured.mean()) <= 5 * measured.std() / 60**0.5 + 0.01 * measured.mean()


def test_the_peak_is_at_as_many_features_as_samples_and_a_ridge_takes_it_away() -> None:
    _, theory, _ = made_up(torch.Generator().manual_seed(0))
    widths = [60, 100, 119, 121, 150, 300]
    losses = [theory.loss(width) for width in widths]
    assert theory.loss(SAMPLES) == inf
    assert losses[0] < losses[1] < losses[2]
    assert losses[3] > losses[4] > losses[5]
    assert theory.loss(SAMPLES, 5.0) < losses[1]


def test_features_without_end_are_the_kernel() -> None:
    _, theory, _ = made_up(torch.Generator().manual_seed(0))
    outputs = theory.crossed.T @ (theory.labels / (theory.eigenvalues + 1.0)[:, None])
    assert theory.loss(10**9, 1.0) == pytest.approx(float((outputs - theory.tested).square().sum(1).mean() / 2), rel=1e-6)
    assert theory.larger_ridge(10**9, 1.0) == pytest.approx(1.0, rel=1e-6)


def test_it_refuses_other_models_and_few_features() -> None:
    same = {"data.name": "synthetic", "data.train_size": 100, "optimizer.name": "closed_form"}
    for fields, sentence in (
        ({"model.name": "linear"}, "model.name is linear"),
        ({"model.name": "random_features", "model.width": 5}, "N = 5 and"),
    ):
        with pytest.raises(OutOfRegime, match=sentence):
            predict(resolve(with_fields(TrialConfig(), same | fields)), {})
