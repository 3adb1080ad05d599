"""Cross-validation in closed form: the test loss of a linear fit, estimated from its own training set.

With outputs H y on the training samples, leaving out sample i leaves the residual (y - H y)_i / (1 - H_ii) (`loo`). Generalized
cross-validation (`gcv`; Golub, Heath and Wahba 1979) has the mean of 1 - H_ii in the place of each. A fit that interpolates has 0/0
there, and the limit of small ridges is (K^-1 y)_i over (K^-1)_ii, or its mean (Hastie et al. 2022, "Surprises in high-dimensional
ridgeless least squares interpolation", who show both to be consistent where samples and features grow together).

Labels are corrupted in training and true in the test set. The output that leaves a sample out does not depend on that sample's noise, so
that its distance to the true label estimates what is recorded; with true labels throughout this is the published estimate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trainables.least_squares.solving import ridge_of
from trainables.point.config import TrialConfig
from trainables.predictions.regime import OutOfRegime, designed, true_targets

FEWEST = 50
"""Training samples of which a mean tells something."""
LEAST_FREEDOM = 20
"""Degrees of freedom likewise."""
TOLERANCE = 0.1
"""How far generalized cross-validation may be from leaving out single samples, relatively."""


@dataclass(frozen=True)
class LeftOut:
    """A linear fit as leaving out samples sees it, with A = 1 - H up to a factor; K^-1 where it interpolates.

    Attributes:
        residuals: A y, (n, outputs).
        diagonal: of A, (n,).
        freedom: in how many directions they lie, tr(A)^2 / tr(A^2): n - N of a fit by N features without a ridge, and few where N is
            near n.
    """

    residuals: Tensor
    diagonal: Tensor
    freedom: float

    @property
    def one(self) -> Tensor:
        """y_i less the output at i of the fit without sample i, (n, outputs)."""
        return self.residuals / self.diagonal[:, None]

    @property
    def generalized(self) -> Tensor:
        """The same by the mean of the diagonal, (n, outputs)."""
        return self.residuals / self.diagonal.mean()


def left_out(matrix: Tensor, targets: Tensor, ridge: float = 0.0) -> LeftOut:
    """Leave out samples of a linear fit.

    Args:
        matrix: K, inner products of the training samples, (n, n) float64.
        targets: y, (n, outputs) float64.
        ridge: at least 0: H = K (K + ridge I)^-1, or its limit.
    """
    factor, failed = torch.linalg.cholesky_ex(matrix + ridge * torch.eye(len(matrix), dtype=matrix.dtype))
    eps = torch.finfo(matrix.dtype).eps * len(matrix)
    if not failed and float(factor.diagonal().min()) ** 2 > eps * float(matrix.diagonal().max()):
        inverse = torch.cholesky_inverse(factor)
        return LeftOut(inverse @ targets, inverse.diagonal(), float(inverse.diagonal().sum() ** 2 / inverse.square().sum()))
    values, vectors = torch.linalg.eigh(matrix)
    beyond = vectors[:, values <= eps * values[-1]]  # where the features do not reach
    return LeftOut(beyond @ (beyond.T @ targets), beyond.square().sum(1), float(beyond.shape[1]))


def predict_generalized(point: TrialConfig, outcome: Mapping[str, Any]) -> dict[str, float]:
    """The test loss that a resolved point's training set tells, by generalized cross-validation.

    Raises:
        OutOfRegime: the point is no linear fit, leaves too few degrees of freedom to tell anything, or its samples weigh so differently
            that leaving out each for itself says something else.
    """
    estimated, exact = _losses(point, "gcv")
    if abs(estimated / exact - 1) > TOLERANCE:
        raise OutOfRegime(
            f"gcv takes all samples to weigh alike, and at n = {point.data.train_size:,} they do not: it says {estimated:.3g} and leaving "
            f"out each for itself {exact:.3g}, which --theory loo draws"
        )
    return {"test_loss": estimated}


def predict_left_out(point: TrialConfig, outcome: Mapping[str, Any]) -> dict[str, float]:
    """The test loss that a resolved point's training set tells, by leaving out one sample at a time.

    Raises:
        OutOfRegime: the point is no linear fit, or leaves too few degrees of freedom to tell anything.
    """
    return {"test_loss": _losses(point, "loo")[1]}


def _losses(point: TrialConfig, theory: str) -> tuple[float, float]:
    """Half the mean squared distance to the true labels, by the mean of the weights and by each."""
    data, design = designed(point, theory)
    samples, ridge = len(design.targets), ridge_of(point)
    if samples < FEWEST:
        raise OutOfRegime(f"{theory} is a mean over the training samples, and {samples} are too few: {FEWEST} or more tell something")
    found = left_out(design.kernel(design.train.double(), design.train.double()), design.targets, ridge)
    if found.freedom < LEAST_FREEDOM:
        raise OutOfRegime(
            f"{theory} divides by what a fit leaves of the labels, and of n = {samples:,} samples this one leaves {found.freedom:,.0f} "
            f"directions: {LEAST_FREEDOM} or more tell something, as further from the interpolation threshold or with more weight decay"
        )
    true = true_targets(point, data)
    generalized, one = (float((true - design.targets + left).square().sum(1).mean()) / 2 for left in (found.generalized, found.one))
    return generalized, one
