"""Curvature at the end of training, against dense matrices; learning coefficients, against closed forms and quadrature."""

from __future__ import annotations

from collections.abc import Callable
from math import log

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy, mse_loss

from tests.trainables.made_up_subject import dense, trained
from trainables.measures import Subject, measure_all
from trainables.measures.bundled.hessian import STARTS, VECTORS, hessian_product
from trainables.measures.curvature import lanczos, learning_coefficient, signs


@pytest.fixture(scope="module")
def subject() -> Subject:
    return trained(dense(), (3, 2, 2), samples=300, steps=100)  # more than a backward batch holds


@pytest.fixture(scope="module")
def exact(subject: Subject) -> Tensor:
    """The Hessian of the mean cross-entropy, dense."""
    names = list(dict(subject.module.named_parameters()))
    shapes = [parameter.shape for parameter in subject.module.parameters()]
    flat = torch.cat([parameter.detach().reshape(-1) for parameter in subject.module.parameters()])

    def loss(point: Tensor) -> Tensor:
        pieces = point.split([shape.numel() for shape in shapes])
        values = {name: piece.view(shape) for name, piece, shape in zip(names, pieces, shapes, strict=True)}
        return cross_entropy(functional_call(subject.module, values, (subject.inputs,)), subject.labels)

    found: Tensor = torch.autograd.functional.hessian(loss, flat)
    return found.double()


def test_lanczos_ends_at_the_eigenvalues() -> None:
    draw = torch.Generator().manual_seed(0)
    matrix = torch.randn(12, 12, generator=draw, dtype=torch.float64)
    matrix = matrix + matrix.T
    found = lanczos(lambda vector: matrix @ vector, signs(12, draw).double(), 40)
    torch.testing.assert_close(found.values, torch.linalg.eigvalsh(matrix))
    assert found.shares.sum().item() == pytest.approx(1)
    low_rank = torch.diag(torch.tensor([3.0, 3.0, 0.0, 0.0]))
    torch.testing.assert_close(lanczos(lambda vector: low_rank @ vector, torch.ones(4), 4).values, torch.tensor([0.0, 3.0]).double())


def test_products_top_trace_and_effective_dimension_are_those_of_the_dense_hessian(subject: Subject, exact: Tensor) -> None:
    vector = torch.linspace(-1, 1, len(exact))
    torch.testing.assert_close(hessian_product(subject, vector), (exact @ vector.double()).float(), rtol=1e-3, atol=1e-5)
    found = measure_all(["hessian_top", "hessian_trace", "effective_dimension"], subject)
    values, vectors = torch.linalg.eigh(exact)
    assert found["hessian_top"] == pytest.approx(values[-1].item(), rel=0.01)

    def by_signs(matrix: Tensor, draws: int) -> tuple[float, float]:
        """The trace, and four standard errors of its estimate from vectors of signs."""
        off = matrix - torch.diag(matrix.diagonal())
        return matrix.trace().item(), 4 * (2 * off.square().sum().item() / draws) ** 0.5

    trace, within = by_signs(exact, VECTORS)
    assert found["hessian_trace"] == pytest.approx(trace, abs=within)
    determined = (len(subject.labels) * values).clamp(min=0)
    dimension, within = by_signs(vectors @ torch.diag(determined / (determined + 1)) @ vectors.T, STARTS)
    assert found["effective_dimension"] == pytest.approx(dimension, abs=within + 0.02 * dimension)


def test_full_batch_gradient_descent_ends_at_the_edge_of_stability() -> None:
    """Cohen et al. 2021, figure 1: with squared loss the largest eigenvalue rises to 2/eta and stays there."""
    torch.manual_seed(0)
    inputs, targets = torch.randn(50, 10), torch.randn(50, 3)
    network = nn.Sequential(nn.Linear(10, 40), nn.Tanh(), nn.Linear(40, 3))
    weights = list(network.parameters())
    rate = 0.5

    def top() -> float:
        def product(vector: Tensor) -> Tensor:
            gradients = torch.autograd.grad(mse_loss(network(inputs), targets), weights, create_graph=True)
            flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
            return torch.cat([second.reshape(-1) for second in torch.autograd.grad(flat @ vector, weights)])

        return lanczos(product, torch.ones(sum(weight.numel() for weight in weights)), 30).values[-1].item()

    before = top()
    for _ in range(2000):
        gradients = torch.autograd.grad(mse_loss(network(inputs), targets), weights)
        with torch.no_grad():
            for weight, gradient in zip(weights, gradients, strict=True):
                weight -= rate * gradient
    assert before < 0.5 * 2 / rate
    assert 0.9 < top() / (2 / rate) < 1.2


def coefficient(loss: Callable[[Tensor], Tensor], start: Tensor, samples: int, localization: float, draws: int = 6000) -> float:
    def both(point: Tensor) -> tuple[float, Tensor]:
        leaf = point.clone().requires_grad_()
        value = loss(leaf)
        return value.item(), torch.autograd.grad(value, leaf)[0]

    generator = torch.Generator().manual_seed(0)
    return learning_coefficient(both, start, samples, generator, localization=localization, warm_up=500, draws=draws)


def test_the_coefficient_of_a_regular_model_is_half_its_dimension() -> None:
    scales = torch.tensor([1.0, 2.0, 0.5, 3.0, 1.0, 1.0], dtype=torch.float64)
    found = coefficient(lambda point: (scales * point.square()).sum() / 2, torch.zeros(6, dtype=torch.float64), 10**6, 1.0)
    assert found == pytest.approx(3, rel=0.1)


def test_the_coefficient_of_a_singular_model_is_that_of_its_density() -> None:
    """K = w1^2 w2^2, whose coefficient is 1/2 with multiplicity 2: n beta E[K] comes to 1/2 by -1/log(n beta) as n grows."""
    samples, localization = 10**6, 1.0
    weight = samples / log(samples)
    line = np.sinh(np.linspace(-9, 9, 4001)) / np.sinh(9) * 6  # dense where the ridge is thin
    step = np.gradient(line)
    first, second = np.meshgrid(line, line)
    value = (first * second) ** 2
    density = np.exp(-weight * value - localization / 2 * (first**2 + second**2)) * np.outer(step, step)
    expected = weight * float((density * value).sum() / density.sum())
    assert expected == pytest.approx(0.5, abs=2 / log(weight))
    start = torch.zeros(2, dtype=torch.float64)
    found = coefficient(lambda point: (point[0] * point[1]).square(), start, samples, localization, draws=8000)
    assert found == pytest.approx(expected, rel=0.2)


def test_networks_have_fewer_directions_than_parameters(subject: Subject) -> None:
    found = measure_all(["learning_coefficient"], subject)["learning_coefficient"]
    assert 0 < found < sum(parameter.numel() for parameter in subject.module.parameters()) / 2
