"""Eigenlearning on a finite pool: against the published formulas in their limit, and against kernel regression itself."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from trainables.point.config import TrialConfig, with_fields
from trainables.predictions import OutOfRegime
from trainables.predictions.eigenlearning import Pool, learning, predict
from trainables.resolution import resolve

SPECTRUM = torch.arange(1, 121, dtype=torch.float64) ** -1.5


def gaussian(samples: int, draw: torch.Generator) -> Tensor:
    """Samples (n, 120) whose coordinates are independent, with the variances of the spectrum: the ansatz of the theory."""
    return torch.randn(samples, 120, generator=draw, dtype=torch.float64) * SPECTRUM.sqrt()


@pytest.mark.parametrize("ridge", [0.0, 3.0])
def test_learnabilities_sum_to_n_without_a_ridge_and_to_less_with_one(ridge: float) -> None:
    eigenvalues = 1000 * SPECTRUM
    for samples in (1, 30, 119):
        found = learning(eigenvalues, samples, ridge)
        rest = ridge * float((1 / (eigenvalues + found.constant)).sum())
        assert float(found.learnability.sum()) + rest == pytest.approx(samples, rel=1e-9)
    assert learning(eigenvalues, 120, ridge).constant == pytest.approx(ridge, abs=1e-9)


def published(samples: int, ridge: float, squares: Tensor, noise: float) -> float:
    """Simon et al. 2023, equations 3 to 5, for eigenvalues SPECTRUM of a distribution; the test labels without noise."""
    low, high = 0.0, 1e6
    for _ in range(300):
        middle = (low + high) / 2
        taught = float((SPECTRUM / (SPECTRUM + middle)).sum()) + ridge / middle
        low, high = (middle, high) if taught > samples else (low, middle)
    learnt = SPECTRUM / (SPECTRUM + high)
    overfitting = samples / (samples - float(learnt.square().sum()))
    return overfitting * (float(((1 - learnt).square() * squares).sum()) + noise) - noise


@pytest.mark.parametrize("ridge", [0.0, 0.5])
def test_the_limit_of_a_large_pool_is_the_published_formula(ridge: float) -> None:
    draw = torch.Generator().manual_seed(0)
    pool_inputs, tested = gaussian(1000, draw), gaussian(500, draw)
    weights = torch.randn(120, 1, generator=draw, dtype=torch.float64)
    jitter = 1e-7 * torch.eye(1000, dtype=torch.float64)
    pool = Pool.of(pool_inputs @ pool_inputs.T + jitter, pool_inputs @ tested.T, pool_inputs @ weights, tested @ weights)
    squares = SPECTRUM * weights.square().flatten()
    assert 2 * pool.loss(40, ridge) == pytest.approx(published(40, ridge, squares, 0.0), rel=0.1)
    known = learning(pool.eigenvalues, 40, ridge)
    assert pool.noise(known) == pytest.approx(published(40, ridge, 0 * squares, 1.0), rel=0.1)


@pytest.mark.parametrize(
    ("samples", "ridge", "wrong"), [(25, 0.0, 0.0), (100, 0.0, 0.0), (100, 1.0, 0.3), (150, 0.0, 0.3), (200, 1.0, 0.3)]
)
def test_it_is_the_mean_of_kernel_regression_over_subsets_of_the_pool(samples: int, ridge: float, wrong: float) -> None:
    """Within five standard errors of 60 subsets, and 3 %: of n from an eighth of the pool to all of it."""
    draw = torch.Generator().manual_seed(1)
    inputs, tested = gaussian(200, draw), gaussian(300, draw)
    weights = torch.randn(120, 3, generator=draw, dtype=torch.float64)
    noise = 0.05 * torch.randn(200, 200, generator=draw, dtype=torch.float64)
    matrix = inputs @ inputs.T + noise @ noise.T / 200
    labels, truth = ((some @ weights).argmax(1) for some in (inputs, tested))
    targets = nn.functional.one_hot(truth, 3).double()
    pool = Pool.of(matrix, inputs @ tested.T, nn.functional.one_hot(labels, 3).double(), targets)
    losses = []
    for _ in range(60):
        chosen = torch.randperm(200, generator=draw)[:samples]
        moved = (torch.rand(samples, generator=draw) < wrong) * torch.randint(1, 3, (samples,), generator=draw)
        trained = nn.functional.one_hot((labels[chosen] + moved) % 3, 3).double()
        regular = matrix[chosen][:, chosen] + ridge * torch.eye(samples, dtype=torch.float64)
        outputs = (inputs[chosen] @ tested.T).T @ torch.linalg.solve(regular, trained)
        losses.append((outputs - targets).square().sum(1).mean() / 2)
    measured = torch.stack(losses)
    assert abs(pool.loss(samples, ridge, wrong) - measured.mean()) <= 5 * measured.std() / 60**0.5 + 0.03 * measured.mean()


def kernel_point(**fields: object) -> TrialConfig:
    same = {"data.name": "digits", "data.train_size": 400, "model.name": "gaussian_kernel", "optimizer.name": "closed_form"}
    return resolve(with_fields(TrialConfig(), same | {name.replace("__", "."): value for name, value in fields.items()}))


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"data__train_size": 10}, "balanced ones of 10 samples are better: from 50 on"),
        ({"corruption__kind": "random_pixels", "corruption__level": 0.5}, "corruption.kind is random_pixels"),
        ({"model__name": "random_features", "model__width": 30}, "eigen is about kernels, and model random_features is none"),
        ({"corruption__level": 0.3, "model__kernel_scale": 20.0}, "eigenvectors to be in general position, and at n = 400 they are not"),
    ],
)
def test_it_refuses_outside_its_regime(fields: dict[str, object], sentence: str) -> None:
    with pytest.raises(OutOfRegime, match=sentence):
        predict(kernel_point(**fields), {})


def test_it_refuses_a_singular_kernel() -> None:
    ones = torch.ones(5, 5, dtype=torch.float64)
    with pytest.raises(OutOfRegime, match="singular to working precision: a smaller"):
        Pool.of(ones, ones, ones, ones)
