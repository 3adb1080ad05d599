"""Least squares in closed form: the minimum-norm solution of linear, kernel and random-feature models (Zhang et al. 2017, Section 5).

Of all w that minimise |X w - y|^2 the one of least norm is w = X^T a with X X^T a = y (Eq. 3), which gradient descent from zero
reaches too: its steps are combinations of rows of X. With a kernel, K a = y. With a ridge, |X w - y|^2 + ridge |w|^2.
No model here has an intercept: centre features and targets where that matters. Beside them stands what theory says of such a
solution, the risk of ridgeless regression (Hastie et al. 2019), and a trial that measures it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trainables.least_squares.kernel_systems import Kernel, LinearKernel, solve

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
        kernel, inputs: k and the training inputs of a kernel model, None for other models.
    """

    coefficients: Tensor
    fitted: Tensor
    norm: float
    residual: float
    method: str
    kernel: Kernel | None = None
    inputs: Tensor | None = None

    def predict(self, inputs: Tensor) -> Tensor:
        """Compute the outputs for new inputs, (samples, d) -> (samples, outputs), in float64 and a block of samples at a time."""
        return torch.cat([self._outputs(block.to(self.coefficients)) for block in torch.split(inputs, _ROWS)])

    def _outputs(self, inputs: Tensor) -> Tensor:
        if self.kernel is None or self.inputs is None:
            return inputs @ self.coefficients
        return self.kernel(inputs, self.inputs.to(inputs)) @ self.coefficients


def linear_regression(features: Tensor, targets: Tensor, *, ridge: float = 0.0, memory: float = 8e9) -> Solution:
    """Solve for the minimum-norm least-squares solution, w = X^+ y, or the ridge solution.

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
    targets = targets.to(features.device, torch.float64)
    n, width = features.shape
    if min(n, width) <= _SVD_LIMIT:
        weights, method = _by_singular_values(features.double(), targets, ridge), "svd"
    elif n <= width:
        dual = solve(LinearKernel(), features, targets, ridge=ridge, memory=memory)
        weights, method = _correlation(features, dual.coefficients), dual.factor
    else:
        primal = solve(LinearKernel(), features.T, _correlation(features, targets), ridge=ridge, memory=memory)
        weights, method = primal.coefficients, primal.factor
    fitted = torch.cat([block.double() @ weights for block in torch.split(features, _ROWS)])
    residual = _relative(fitted - targets, targets)
    return Solution(weights, fitted, float(weights.norm()), residual, method)


def kernel_regression(inputs: Tensor, targets: Tensor, kernel: Kernel, *, ridge: float = 0.0, **options: Any) -> Solution:
    """Fit f(x) = sum_i a_i k(x, x_i) with (K + ridge I) a = y: without a ridge the interpolant of least RKHS norm.

    Args:
        inputs: (n, d), float32 or float64; everything is computed on their device.
        targets: (n, outputs).
        kernel: `GaussianKernel(gamma)`, `LinearKernel()` or any callable with a `diagonal`.
        ridge: at least 0.
        options: passed to `trainables.least_squares.kernel_systems.solve`: memory, factor, rank, tolerance, max_iterations, seed.

    Raises:
        ValueError: as `trainables.least_squares.kernel_systems.solve`.
    """
    targets = targets.to(inputs.device, torch.float64)
    solved = solve(kernel, inputs, targets, ridge=ridge, **options)
    norm = float((solved.coefficients * solved.products).sum().clamp(min=0).sqrt())
    residual = _relative(solved.products - targets, targets)
    return Solution(solved.coefficients, solved.products, norm, residual, solved.factor, kernel, inputs)


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
    """Measure the same risk: minimum-norm least squares on n fresh Gaussian samples.

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


def _by_singular_values(features: Tensor, targets: Tensor, ridge: float) -> Tensor:
    left, values, right = torch.linalg.svd(features, full_matrices=False)
    kept = values > torch.finfo(values.dtype).eps * max(features.shape) * values.max()
    shrunk = torch.where(kept, values / (values.square() + ridge), 0.0)
    weights: Tensor = right.T @ (shrunk[:, None] * (left.T @ targets))
    return weights


def _correlation(features: Tensor, vectors: Tensor) -> Tensor:
    """Multiply X^T by vectors in float64, a block of samples at a time."""
    product = vectors.new_zeros(features.shape[1], vectors.shape[1])
    for rows, part in zip(torch.split(features, _ROWS), torch.split(vectors, _ROWS), strict=True):
        product += rows.double().T @ part
    return product


def _relative(difference: Tensor, targets: Tensor) -> float:
    size = float(targets.norm())
    return float(difference.norm()) / size if size else float(difference.norm())
