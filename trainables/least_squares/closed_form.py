"""Least squares in closed form: the minimum-norm solution of linear, kernel and random-feature models (Zhang et al. 2017, Section 5).

Of all w that minimise |X w - y|^2 the one of least norm is w = X^T a with X X^T a = y (Eq. 3), which gradient descent from zero
reaches too: its steps are combinations of rows of X. With a kernel, K a = y. With a ridge, |X w - y|^2 + ridge |w|^2.
No model here has an intercept: centre features and targets where that matters.

Beside them, what theory says of such solutions: the risk of ridgeless regression (Hastie et al. 2019) and the
double descent of random features (Belkin et al. 2019), each as a function that returns rows of numbers.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trainables.least_squares.fourier import FourierFeatures
from trainables.least_squares.kernel_systems import GaussianKernel, Kernel, LinearKernel, solve

_SVD_LIMIT = 2048
"""Largest smaller side of a feature matrix whose singular values are computed; beyond it, its Gram matrix is factored."""
_ROWS = 1024
"""Samples predicted at a time."""


@dataclass(frozen=True)
class Solution:
    """A fitted model.

    Attributes:
        coefficients: w, (features, outputs), or a of a kernel model, (n, outputs); float64.
        fitted: outputs on the training inputs, (n, outputs).
        norm: |w|, Frobenius; for a kernel its RKHS norm, sqrt(tr a^T K a).
        residual: |fitted - targets| / |targets|, Frobenius: 0 when it interpolates.
        method: how it was computed: "svd", or the factor named in `trainables.least_squares.kernel_systems`.
        iterations: conjugate gradient steps beyond that factor.
        seconds: time taken.
        kernel, inputs: of a kernel model: k and the training inputs.
    """

    coefficients: Tensor
    fitted: Tensor
    norm: float
    residual: float
    method: str
    iterations: int
    seconds: float
    kernel: Kernel | None = None
    inputs: Tensor | None = None

    def predict(self, inputs: Tensor) -> Tensor:
        """(samples, d) -> (samples, outputs), float64, a block of samples at a time."""
        return torch.cat([self._outputs(block.to(self.coefficients)) for block in inputs.split(_ROWS)])

    def _outputs(self, inputs: Tensor) -> Tensor:
        if self.kernel is None or self.inputs is None:
            return inputs @ self.coefficients
        return self.kernel(inputs, self.inputs.to(inputs)) @ self.coefficients


def linear_regression(features: Tensor, targets: Tensor, *, ridge: float = 0.0, memory: float = 8e9) -> Solution:
    """The minimum-norm least-squares solution, w = X^+ y, or the ridge solution.

    Up to 2,048 features or samples by singular values in float64: singular values below eps * max(n, features) of the largest count
    as zero, as in `numpy.linalg.pinv`. Beyond that by a Cholesky factor of the smaller of X^T X and X X^T, whose condition number is the
    square of X's: it must have full rank then, or a ridge.

    Args:
        features: X, (n, features), float32 or float64.
        targets: y, (n, outputs).
        ridge: at least 0.
        memory: largest factor that may be held, in bytes (see `trainables.least_squares.kernel_systems.solve`).

    Raises:
        ValueError: shapes do not fit, a number is not finite, or a large Gram matrix is singular.

    >>> linear_regression(torch.tensor([[3.0, 4.0]]), torch.tensor([[50.0]])).coefficients.flatten().round(decimals=9).tolist()
    [6.0, 8.0]
    """
    started = time.perf_counter()
    targets = targets.to(features.device, torch.float64)
    n, width = features.shape
    if min(n, width) <= _SVD_LIMIT:
        weights, method, iterations = _by_singular_values(features.double(), targets, ridge), "svd", 0
    elif n <= width:
        dual = solve(LinearKernel(), features, targets, ridge=ridge, memory=memory)
        weights, method, iterations = _correlation(features, dual.coefficients), dual.factor, dual.iterations
    else:
        primal = solve(LinearKernel(), features.T, _correlation(features, targets), ridge=ridge, memory=memory)
        weights, method, iterations = primal.coefficients, primal.factor, primal.iterations
    fitted = torch.cat([block.double() @ weights for block in features.split(_ROWS)])
    residual = _relative(fitted - targets, targets)
    return Solution(weights, fitted, float(weights.norm()), residual, method, iterations, time.perf_counter() - started)


def kernel_regression(inputs: Tensor, targets: Tensor, kernel: Kernel, *, ridge: float = 0.0, **options: Any) -> Solution:
    """f(x) = sum_i a_i k(x, x_i) with (K + ridge I) a = y: without a ridge the interpolant of least RKHS norm.

    Args:
        inputs: (n, d), float32 or float64; where they lie, there it is computed.
        targets: (n, outputs).
        kernel: `GaussianKernel(gamma)`, `LinearKernel()` or any callable with a `diagonal`.
        ridge: at least 0.
        options: of `trainables.least_squares.kernel_systems.solve`: memory, factor, rank, tolerance, max_iterations, seed.

    Raises:
        ValueError: as `trainables.least_squares.kernel_systems.solve`.
    """
    started = time.perf_counter()
    targets = targets.to(inputs.device, torch.float64)
    solved = solve(kernel, inputs, targets, ridge=ridge, **options)
    norm = float((solved.coefficients * solved.products).sum().clamp(min=0).sqrt())
    residual = _relative(solved.products - targets, targets)
    seconds = time.perf_counter() - started
    return Solution(
        solved.coefficients, solved.products, norm, residual, solved.factor, solved.iterations, seconds, kernel=kernel, inputs=inputs
    )


def classification(solution: Solution, labels: Tensor, test_inputs: Tensor, test_labels: Tensor) -> dict[str, Any]:
    """Errors of the largest output as the predicted class, beside norm, residual, method, iterations and seconds."""
    return {
        "n": len(labels),
        "train_error": _error(solution.fitted, labels),
        "test_error": _error(solution.predict(test_inputs), test_labels),
        "norm": solution.norm,
        "residual": solution.residual,
        "method": solution.method,
        "iterations": solution.iterations,
        "seconds": solution.seconds,
    }


def validated_gamma(
    inputs: Tensor, labels: Tensor, gammas: Sequence[float], *, train_size: int, validation_size: int, ridge: float = 0.0, seed: int = 0
) -> tuple[float, dict[float, float]]:
    """The Gaussian kernel's gamma of least validation error, and the error of each.

    Both parts, disjoint and random, are of the training set that is passed: the test set plays no part.

    Raises:
        ValueError: the two parts have more samples than there are.
    """
    if train_size + validation_size > len(inputs):
        raise ValueError(f"train_size + validation_size is {train_size + validation_size}: there are {len(inputs)} training samples")
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(seed)).to(inputs.device)
    train, held_out = order[:train_size], order[train_size : train_size + validation_size]
    targets = torch.nn.functional.one_hot(labels)
    errors = {}
    for gamma in gammas:
        solution = kernel_regression(inputs[train], targets[train], GaussianKernel(gamma), ridge=ridge)
        errors[gamma] = _error(solution.predict(inputs[held_out]), labels[held_out])
    return min(errors, key=errors.__getitem__), errors


def gradient_descent(
    features: Tensor,
    targets: Tensor,
    *,
    epochs: int,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    seed: int = 0,
) -> Tensor:
    """w after `epochs` of gradient descent from zero on |X w - y|^2 / 2, the sum over a batch's samples.

    Args:
        features: X, (n, features); computed in float64.
        targets: y, (n, outputs).
        batch_size: samples a step, drawn without replacement in each epoch; all of them (no randomness) by default.
        learning_rate: 1/|X|^2, the inverse of the largest eigenvalue of X^T X, by default.
        seed: of the order of samples.
    """
    features, targets = features.double(), targets.to(features.device, torch.float64)
    rate = learning_rate or float(torch.linalg.matrix_norm(features, 2)) ** -2
    generator = torch.Generator().manual_seed(seed)
    weights = features.new_zeros(features.shape[1], targets.shape[1])
    n = len(features)
    for _ in range(epochs):
        order = torch.randperm(n, generator=generator) if batch_size else torch.arange(n)
        for batch in order.to(features.device).split(batch_size or n):
            rows = features[batch]
            weights -= rate * rows.T @ (rows @ weights - targets[batch])
    return weights


def ridgeless_risk(aspect: float, *, signal: float = 1.0, noise: float = 1.0) -> float:
    """Excess risk of minimum-norm least squares on isotropic features, d/n = aspect as both grow (Hastie et al. 2019, Theorems 1 and 3).

    Args:
        aspect: d/n, greater than 0; infinite risk at 1.
        signal: |true weights|.
        noise: standard deviation of the targets' noise.

    Returns:
        E |w - true weights|^2: noise^2 aspect/(1 - aspect) below 1, signal^2 (1 - 1/aspect) + noise^2/(aspect - 1) above.

    >>> ridgeless_risk(0.5), ridgeless_risk(2.0)
    (1.0, 1.5)
    """
    if not aspect > 0:
        raise ValueError(f"aspect is {aspect}: d/n is greater than 0")
    if aspect == 1:
        return float("inf")
    if aspect < 1:
        return noise**2 * aspect / (1 - aspect)
    return signal**2 * (1 - 1 / aspect) + noise**2 / (aspect - 1)


def ridgeless_trial(n: int, d: int, *, signal: float = 1.0, noise: float = 1.0, seed: int = 0) -> tuple[float, float]:
    """The same risk measured: minimum-norm least squares on n fresh Gaussian samples.

    Returns:
        |w - true weights|^2, and the mean squared residual on the sample.
    """
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(n, d, generator=generator, dtype=torch.float64)
    direction = torch.randn(d, 1, generator=generator, dtype=torch.float64)
    true = signal * direction / direction.norm()
    targets = features @ true + noise * torch.randn(n, 1, generator=generator, dtype=torch.float64)
    solution = linear_regression(features, targets)
    return float((solution.coefficients - true).square().sum()), float((solution.fitted - targets).square().mean())


def random_feature_errors(
    inputs: Tensor,
    targets: Tensor,
    test_inputs: Tensor,
    test_targets: Tensor,
    widths: Sequence[int],
    *,
    kernel_scale: float = 5.0,
    ridge: float = 0.0,
    seed: int = 0,
) -> list[dict[str, float]]:
    """Minimum-norm regression on N random Fourier features, for each N: the error peaks at N = n (Belkin et al. 2019).

    Args:
        inputs, test_inputs: (n, d).
        targets, test_targets: (n, outputs): one column of values whose sign is the class, or a column a class.
        widths: numbers of features N.
        kernel_scale: width s of the Gaussian kernel exp(-|x - x'|^2/(2 s^2)) that the features approximate.
        seed: of the features, anew for each width.

    Returns:
        for each width: features, train_error, test_error, train_squared_error, test_squared_error (means over samples and outputs), norm.
    """
    rows = []
    for width in widths:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            features = FourierFeatures(inputs.shape[1], width, kernel_scale).to(inputs.device, torch.float64)
        solution = linear_regression(features(inputs.double()), targets, ridge=ridge)
        outputs = solution.predict(features(test_inputs.double()))
        rows.append(
            {
                "features": width,
                "train_error": _error(solution.fitted, _classes(targets)),
                "test_error": _error(outputs, _classes(test_targets)),
                "train_squared_error": float((solution.fitted - targets).square().mean()),
                "test_squared_error": float((outputs - test_targets).square().mean()),
                "norm": solution.norm,
            }
        )
    return rows


def _by_singular_values(features: Tensor, targets: Tensor, ridge: float) -> Tensor:
    left, values, right = torch.linalg.svd(features, full_matrices=False)
    kept = values > torch.finfo(values.dtype).eps * max(features.shape) * values.max()
    shrunk = torch.where(kept, values / (values.square() + ridge), 0.0)
    return right.T @ (shrunk[:, None] * (left.T @ targets))


def _correlation(features: Tensor, vectors: Tensor) -> Tensor:
    """X^T vectors in float64, a block of samples at a time."""
    product = vectors.new_zeros(features.shape[1], vectors.shape[1])
    for rows, part in zip(features.split(_ROWS), vectors.split(_ROWS), strict=True):
        product += rows.double().T @ part
    return product


def _relative(difference: Tensor, targets: Tensor) -> float:
    size = float(targets.norm())
    return float(difference.norm()) / size if size else float(difference.norm())


def _classes(outputs: Tensor) -> Tensor:
    return outputs.argmax(1) if outputs.shape[1] > 1 else (outputs[:, 0] > 0).long()


def _error(outputs: Tensor, labels: Tensor) -> float:
    return float((_classes(outputs) != labels.to(outputs.device)).double().mean())
