"""Closed-form least squares against NumPy, scikit-learn, gradient descent and exact risk formulas."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
import torch
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge
from torch import Tensor
from torch.nn.functional import one_hot

from trainables.least_squares import closed_form
from trainables.least_squares.closed_form import (
    Solution,
    kernel_regression,
    linear_regression,
    ridgeless_risk,
    ridgeless_trial,
)
from trainables.least_squares.kernel_systems import GaussianKernel, LinearKernel
from trainables.models.fourier import FourierFeatures


def sample(n: int, d: int, outputs: int = 2, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator, dtype=torch.float64), torch.randn(n, outputs, generator=generator, dtype=torch.float64)


def blobs(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Three overlapping Gaussian classes in the plane."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (n,), generator=generator)
    centres = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]])
    return centres[labels] + torch.randn(n, 2, generator=generator), labels


@pytest.mark.parametrize(("n", "d"), [(60, 25), (25, 60), (40, 40)])
def test_minimum_norm_is_the_pseudoinverse(n: int, d: int) -> None:
    features, targets = sample(n, d)
    solution = linear_regression(features, targets)
    expected = np.linalg.pinv(features.numpy()) @ targets.numpy()
    np.testing.assert_allclose(solution.coefficients.numpy(), expected, rtol=0, atol=1e-12 * np.linalg.cond(features.numpy()))
    assert solution.norm == pytest.approx(np.linalg.norm(expected), rel=1e-10)
    assert (solution.residual < 1e-10) == (n <= d)


def test_minimum_norm_of_dependent_features() -> None:
    """Rank 10 of 40 columns and 30 rows: neither X^T X nor X X^T can be inverted."""
    features = sample(30, 10)[0] @ sample(10, 40, seed=1)[0]
    targets = sample(30, 1, seed=2)[1]
    expected = np.linalg.pinv(features.numpy()) @ targets.numpy()
    np.testing.assert_allclose(linear_regression(features, targets).coefficients.numpy(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("ridge", [0.0, 2.5])
@pytest.mark.parametrize(("n", "d"), [(90, 40), (40, 90)])
def test_the_large_route_equals_the_small_one(n: int, d: int, ridge: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Primal and dual Gram matrices in place of singular values, float32 features included."""
    features, targets = sample(n, d)
    features = features.float()
    small = linear_regression(features, targets, ridge=ridge)
    monkeypatch.setattr(closed_form, "_SVD_LIMIT", 0)
    monkeypatch.setattr(closed_form, "_ROWS", 16)
    large = linear_regression(features, targets, ridge=ridge)
    assert (small.method, large.method) == ("svd", "float64")
    torch.testing.assert_close(large.coefficients, small.coefficients, rtol=0, atol=1e-11)
    torch.testing.assert_close(large.fitted, small.fitted, rtol=0, atol=1e-11)
    torch.testing.assert_close(large.predict(features), large.fitted, rtol=0, atol=1e-13)


def test_ridge_agrees_with_scikit_learn() -> None:
    features, targets = sample(50, 20)
    expected = Ridge(alpha=0.7, fit_intercept=False).fit(features.numpy(), targets.numpy())
    np.testing.assert_allclose(linear_regression(features, targets, ridge=0.7).coefficients.numpy(), expected.coef_.T, rtol=0, atol=1e-12)


@pytest.mark.parametrize("factor", ["float64", "float32", "low_rank"])
def test_kernel_ridge_agrees_with_scikit_learn(factor: str) -> None:
    inputs, targets = sample(200, 4)
    fresh = sample(1500, 4, seed=1)[0]
    model = KernelRidge(alpha=0.5, kernel="rbf", gamma=0.3).fit(inputs.numpy(), targets.numpy())
    solution = kernel_regression(inputs, targets, GaussianKernel(0.3), ridge=0.5, factor=factor, rank=50, tolerance=1e-12)
    np.testing.assert_allclose(solution.coefficients.numpy(), model.dual_coef_, rtol=0, atol=1e-10)
    np.testing.assert_allclose(solution.predict(fresh).numpy(), model.predict(fresh.numpy()), rtol=0, atol=1e-10)
    np.testing.assert_allclose(solution.fitted.numpy(), model.predict(inputs.numpy()), rtol=0, atol=1e-10)
    gram = np.exp(-0.3 * ((inputs.numpy()[:, None] - inputs.numpy()) ** 2).sum(-1))
    assert solution.norm == pytest.approx(sqrt(np.trace(model.dual_coef_.T @ gram @ model.dual_coef_)), rel=1e-10)
    assert solution.residual == pytest.approx(0.5 * np.linalg.norm(model.dual_coef_) / np.linalg.norm(targets.numpy()), rel=1e-9)


def test_the_linear_kernel_is_linear_regression() -> None:
    """Equation 3: w = X^T a with X X^T a = y; equal outputs and norm."""
    features, targets = sample(30, 70)
    dual, primal = kernel_regression(features, targets, LinearKernel()), linear_regression(features, targets)
    torch.testing.assert_close(features.T @ dual.coefficients, primal.coefficients, rtol=0, atol=1e-12)
    assert dual.norm == pytest.approx(primal.norm, rel=1e-10)
    fresh = sample(10, 70, seed=1)[0]
    torch.testing.assert_close(dual.predict(fresh), primal.predict(fresh), rtol=0, atol=1e-11)


def gradient_descent(features: Tensor, targets: Tensor, *, epochs: int, batch_size: int | None = None) -> Tensor:
    """w after gradient descent from zero on |X w - y|^2 / 2, at the rate 1/|X|^2; full batches where no size is given."""
    rate = float(torch.linalg.matrix_norm(features, 2)) ** -2
    generator = torch.Generator().manual_seed(0)
    weights = features.new_zeros(features.shape[1], targets.shape[1])
    for _ in range(epochs):
        order = torch.randperm(len(features), generator=generator) if batch_size else torch.arange(len(features))
        for batch in order.split(batch_size or len(features)):
            rows = features[batch]
            weights -= rate * rows.T @ (rows @ weights - targets[batch])
    return weights


@pytest.mark.parametrize("batch_size", [None, 1, 7])
def test_gradient_descent_from_zero_reaches_the_minimum_norm_solution(batch_size: int | None) -> None:
    """Well conditioned (20 samples, 200 features: condition number 2): full batches, single samples and uneven batches.

    A step of 1/|X|^2 shrinks the error by 1 - 1/condition^2 at least, so 300 epochs leave less than 1e-20 of it.
    """
    features, targets = sample(20, 200)
    expected = torch.from_numpy(np.linalg.pinv(features.numpy())) @ targets
    reached = gradient_descent(features, targets, epochs=300, batch_size=batch_size)
    torch.testing.assert_close(reached, expected, rtol=0, atol=1e-10)


def test_gradient_descent_from_elsewhere_would_not() -> None:
    """What the start adds outside the rows' span stays: the claim is about starting from zero."""
    features, targets = sample(20, 200)
    wanted = linear_regression(features, targets).coefficients
    start = sample(200, 1, outputs=2, seed=3)[1]
    reached = start + gradient_descent(features, targets - features @ start, epochs=300)
    assert float((features @ reached - targets).norm()) < 1e-10
    assert float((reached - wanted).norm()) > 1


def test_a_gaussian_kernel_interpolates_random_labels() -> None:
    inputs = blobs(200, 0)[0].double()
    labels = torch.randint(0, 3, (200,), generator=torch.Generator().manual_seed(2))
    fresh, truth = blobs(3000, 1)
    solution = kernel_regression(inputs, one_hot(labels), GaussianKernel(200.0))
    assert torch.equal(solution.fitted.argmax(1), labels)
    assert solution.residual < 1e-6
    assert float((solution.predict(fresh).argmax(1) != truth).double().mean()) == pytest.approx(2 / 3, abs=0.1)


@pytest.mark.parametrize(("n", "d"), [(100, 40), (60, 150)])
def test_ridgeless_trials_have_the_exact_finite_risk(n: int, d: int) -> None:
    """Inverse Wishart moments: noise^2 d/(n-d-1) for d < n - 1; signal^2 (1 - n/d) + noise^2 n/(d-n-1) for d > n + 1."""
    signal, noise = 2.0, 0.5
    risks = torch.tensor([ridgeless_trial(n, d, signal=signal, noise=noise, seed=seed)[0] for seed in range(300)])
    exact = noise**2 * d / (n - d - 1) if d < n else signal**2 * (1 - n / d) + noise**2 * n / (d - n - 1)
    assert abs(float(risks.mean()) - exact) < 4 * float(risks.std()) / sqrt(len(risks))


def test_ridgeless_formula_is_the_limit_of_the_exact_risk() -> None:
    n = 10**7
    for d in (n // 5, n // 2, 2 * n, 5 * n):
        exact = 0.25 * d / (n - d - 1) if d < n else 4 * (1 - n / d) + 0.25 * n / (d - n - 1)
        assert ridgeless_risk(d / n, signal=2.0, noise=0.5) == pytest.approx(exact, rel=1e-5)
    assert ridgeless_risk(1.0) == float("inf")
    with pytest.raises(ValueError, match="aspect is 0"):
        ridgeless_risk(0)


def on_random_features(
    inputs: Tensor, targets: Tensor, fresh: Tensor, width: int, *, scale: float, ridge: float = 0.0, seed: int = 0
) -> tuple[Solution, Tensor]:
    """Minimum-norm regression on that many random Fourier features, and its outputs at fresh inputs."""
    torch.manual_seed(seed)
    features = FourierFeatures(inputs.shape[1], width, scale).double()
    solution = linear_regression(features(inputs), targets, ridge=ridge)
    return solution, solution.predict(features(fresh))


def test_random_features_peak_where_they_equal_the_samples() -> None:
    """n = 100 samples in R^10, 10% of the signs flipped: error and norm are largest at N = n, train error is 0 from there on.

    The double descent of Belkin et al. 2019.
    """
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(2100, 10, generator=generator, dtype=torch.float64)
    clean = torch.sign(inputs[:, :1])
    flipped = torch.rand(100, 1, generator=generator) < 0.1
    targets = torch.where(flipped, -clean[:100], clean[:100])
    widths = [25, 50, 100, 200, 400, 3000]
    errors, squares, norms, train_errors, train_squares = np.zeros((5, 5, len(widths)))
    for seed in range(5):
        for column, width in enumerate(widths):
            solution, outputs = on_random_features(inputs[:100], targets, inputs[100:], width, scale=5.0, seed=seed)
            errors[seed, column] = (outputs.sign() != clean[100:]).double().mean()
            squares[seed, column] = (outputs - clean[100:]).square().mean()
            norms[seed, column] = solution.norm
            train_errors[seed, column] = (solution.fitted.sign() != targets).double().mean()
            train_squares[seed, column] = (solution.fitted - targets).square().mean()
    for found in (errors, squares, norms):
        means = found.mean(0)
        assert means.argmax() == widths.index(100)
        assert means[-1] < means[widths.index(200)]
    assert (train_errors.mean(0)[:2] > 0).all()
    assert (train_errors[:, 2:] == 0).all()
    assert train_squares.mean(0)[2:].max() < 1e-9


def test_wide_random_features_are_the_gaussian_kernel() -> None:
    """20,000 features: outputs differ from the kernel interpolant's by Monte-Carlo error, an order 1/sqrt(N)."""
    inputs, targets = sample(40, 5, outputs=1)
    fresh, truth = sample(200, 5, outputs=1, seed=1)
    kernel = kernel_regression(inputs, targets, GaussianKernel(1 / (2 * 1.5**2)), ridge=0.1)
    wide, outputs = on_random_features(inputs, targets, fresh, 20_000, scale=1.5, ridge=0.1)
    expected = float((kernel.predict(fresh) - truth).square().mean())
    assert float((outputs - truth).square().mean()) == pytest.approx(expected, rel=0.05)
    assert wide.norm == pytest.approx(kernel.norm, rel=0.05)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same_solutions() -> None:
    inputs, targets = sample(300, 6)
    for factor in ("float64", "float32", "low_rank"):
        here, there = (
            kernel_regression(inputs.to(device), targets, GaussianKernel(0.4), ridge=0.01, factor=factor, tolerance=1e-12)
            for device in ("cpu", "cuda")
        )
        torch.testing.assert_close(there.coefficients.cpu(), here.coefficients, rtol=0, atol=1e-8)
    torch.testing.assert_close(
        linear_regression(inputs.cuda(), targets).coefficients.cpu(), linear_regression(inputs, targets).coefficients, rtol=0, atol=1e-12
    )
