"""Ridge regression on N random features: its test loss on average over the features, for the training set as it is.

Features phi(x) whose inner products have the mean k(x, x') act, as N and n grow, like Gaussian ones of that covariance, and regression on
them with a ridge d like regression with the kernel and a larger ridge r (Jacot et al. 2020, "Implicit regularization of random feature
models"; the equivalents of Mei and Montanari 2022 and Hastie et al. 2022 are their averages over Gaussian samples):

    d = r (1 - f_1 / N),        f_j = tr (K (K + r)^-1)^j        (f_j the degrees of freedom of K, the kernel matrix).

Without a ridge r is 0 from N = n on, and below it solves f_1 = N. Over draws of the features a test sample's output has the mean of kernel
regression with the ridge r, and the variance

    y^T R K R y / (N - f_2) * (k_tt - 2 k_t^T R k_t + k_t^T R K R k_t),        R = (K + r)^-1,

whose second factor is what the training samples do not say of its features, and whose first diverges at N = n without a ridge: the
peak of double descent. Both follow by derivatives of these equivalents, as in `trainables.predictions.eigenlearning`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from trainables.least_squares.kernel_systems import GaussianKernel
from trainables.least_squares.solving import ridge_of
from trainables.point.config import TrialConfig, with_fields
from trainables.predictions.regime import OutOfRegime, designed, spread_evenly, test_targets

FEWEST = 20
"""Samples, and features, below which a single draw differs too much from the mean."""


@dataclass(frozen=True, eq=False)
class Averaged:
    """A training set and test samples as the kernel sees them which the features have on average.

    Attributes:
        eigenvalues: of the kernel matrix K, (n,).
        labels: targets in its eigenvectors, (n, C).
        crossed: k of training and test samples, likewise, (n, m).
        diagonal: k of each test sample with itself, (m,).
        tested: one-hot labels of the test samples, (m, C).
    """

    eigenvalues: Tensor
    labels: Tensor
    crossed: Tensor
    diagonal: Tensor
    tested: Tensor

    @classmethod
    def of(cls, products: tuple[Tensor, Tensor, Tensor], targets: Tensor, tested: Tensor) -> Averaged:
        """Take the kernel matrix apart; ``products`` are those of `Design.products`, ``targets`` (n, C) are trained on. All float64."""
        matrix, crossed, diagonal = products
        values, vectors = torch.linalg.eigh(matrix)
        least = torch.finfo(values.dtype).eps * float(values[-1])
        return cls(values.clamp_min(least), vectors.T @ targets, vectors.T @ crossed, diagonal, tested)

    def larger_ridge(self, features: int, ridge: float = 0.0) -> float:
        """r, at which the kernel itself does what so many features do with the ridge d; 0 for N >= n without a ridge."""
        if ridge <= 0 and features >= len(self.eigenvalues):
            return 0.0
        low, high = 0.0, ridge + 2 * float(self.eigenvalues.sum()) / features
        for _ in range(200):
            middle = (low + high) / 2
            freedom = float((self.eigenvalues / (self.eigenvalues + middle)).sum())
            low, high = (middle, high) if middle * (1 - freedom / features) < ridge else (low, middle)
        return high

    def loss(self, features: int, ridge: float = 0.0) -> float:
        """Half the expected squared distance to the one-hot labels of the test samples; infinite at N = n without a ridge."""
        larger = self.larger_ridge(features, ridge)
        inverse = 1 / (self.eigenvalues + larger)
        kept = self.eigenvalues * inverse
        left = features - float(kept.square().sum())
        outputs = self.crossed.T @ (inverse[:, None] * self.labels)
        bias = float((self.tested - outputs).square().sum(1).mean())
        if left <= 1e-9 * features:
            return float("inf")
        energy = float(((kept * inverse)[:, None] * self.labels.square()).sum())
        unknown = self.diagonal - ((2 * inverse - kept * inverse)[:, None] * self.crossed.square()).sum(0)
        return (bias + energy / left * float(unknown.mean())) / 2


def predict(point: TrialConfig, outcome: Mapping[str, Any]) -> dict[str, float]:
    """The test loss of a resolved point with random Fourier features, expected over draws of these.

    Raises:
        OutOfRegime: the model is another one, or has too few features or samples.
    """
    if point.model.name != "random_features":
        raise OutOfRegime(
            f"rf needs the kernel that the features have on average, known for random_features alone, and model.name is {point.model.name}"
        )
    features, samples = point.model.width or 0, point.data.train_size or 0
    if min(features, samples) < FEWEST:
        raise OutOfRegime(f"rf is about many features and samples: N = {features:,} and n = {samples:,} must both be {FEWEST} or more")
    alike = {"model.name": "gaussian_kernel", "model.width": 1, "model.parameters_per_sample": None, "seed": 0}
    loss = _averaged(with_fields(point, alike | {"regularizers.weight_decay": 0.0})).loss(features, ridge_of(point))
    return {"test_loss": loss}


@lru_cache(maxsize=8)
def _averaged(point: TrialConfig) -> Averaged:
    data, design = designed(point, "rf")
    assert isinstance(design.kernel, GaussianKernel)
    chosen = spread_evenly(len(design.test))
    return Averaged.of(replace(design, test=design.test[chosen]).products(), design.targets, test_targets(data)[chosen])
