"""What families have in common that are solved, not trained: how a solution becomes a point's outcome, and what it costs.

``optimizer: {name: closed_form}`` solves min |f(X) - Y|^2 + ridge |f|^2 for one-hot targets Y, or the numbers of regression, with
ridge = n * weight_decay, by the functions of `trainables.least_squares.closed_form`; a model is then a set of fixed features or a kernel,
a `Design`. A family says how it is solved by the `Solver` that it registers with (see `trainables.models.registry`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod

import torch
from torch import Tensor, nn

from trainables.data.inputs import point_data
from trainables.data.misclassified import misclassified
from trainables.data.protocol import PointData, Samples
from trainables.least_squares.closed_form import Solution, kernel_regression, linear_regression
from trainables.least_squares.features import extract
from trainables.least_squares.kernel_systems import GaussianKernel, Kernel, LinearKernel
from trainables.point.config import ImageShape, TrialConfig
from trainables.point.errors import ConfigError
from trainables.point.fit import error_at_fit

Columns = dict[str, object]
"""Columns of a record or a curve by name."""


@dataclass(frozen=True)
class Solved:
    """Outputs (samples, classes) on the training and the test samples, the parameters solved for, and measures of the solution."""

    train: Tensor
    test: Tensor
    parameters: int
    measures: dict[str, float]


Method = Callable[[TrialConfig, PointData], Solved]


@dataclass(frozen=True)
class Design:
    """What a family regresses, and on what: all that its solution and theories about it need.

    Attributes:
        train, test: features, or the points that a kernel compares, (samples, columns).
        targets: of the training samples, (n, classes), float64.
        kernel: of the points; by default the features themselves are weighed.
    """

    train: Tensor
    test: Tensor
    targets: Tensor
    kernel: Kernel = field(default_factory=LinearKernel)

    def solution(self, ridge: float) -> Solution:
        """The least-squares solution with that ridge."""
        if isinstance(self.kernel, LinearKernel):
            return linear_regression(self.train, self.targets, ridge=ridge)
        return kernel_regression(self.train, self.targets, self.kernel, ridge=ridge)

    def products(self) -> tuple[Tensor, Tensor, Tensor]:
        """k of the training samples (n, n), of these and the test samples (n, m), and of each test sample with itself (m,); float64."""
        train, test = self.train.double(), self.test.double()
        return self.kernel(train, train.clone()), self.kernel(train, test), self.kernel.diagonal(test)


Designer = Callable[[TrialConfig, PointData], Design]


def _nothing_else(point: TrialConfig) -> None:
    """A family that takes whatever the others take."""


@dataclass(frozen=True)
class Solver:
    """How a family is solved, and what that takes.

    Attributes:
        solve: the outcome columns and the single curve row of a resolved point; raises ValueError where the system cannot be solved as
            it is (equal inputs, a singular matrix).
        parameters: coefficients that a point solves for, its capacity, from its image shape and number of classes.
        multiply_adds: the order of its cost.
        has_width: whether the width says how many coefficients there are, so that p/n can be aimed at.
        check: raises ConfigError for a point that the family does not take.
        design: what it regresses, of a resolved point with its data; None where it does something else.
        of_numbers: whether it takes the targets of regression.
    """

    solve: Callable[[TrialConfig, torch.device], tuple[Columns, Columns]]
    parameters: Callable[[TrialConfig, ImageShape, int], int]
    multiply_adds: Callable[[TrialConfig, ImageShape], float]
    has_width: bool = False
    check: Callable[[TrialConfig], None] = _nothing_else
    design: Designer | None = None
    of_numbers: bool = True


def least_squares(design: Designer, columns: Callable[[TrialConfig, ImageShape], int], *, has_width: bool = False) -> Solver:
    """The solver of a family that weighs so many features of an image, or so many training samples, for each class."""
    return Solver(
        scored(solved_by(design)),
        parameters=lambda point, image_shape, classes: columns(point, image_shape) * classes,
        multiply_adds=lambda point, image_shape: factorization(point, image_shape, columns(point, image_shape)),
        has_width=has_width,
        design=design,
    )


def solved_by(design: Designer) -> Method:
    """The regression of what a family designs."""

    def method(point: TrialConfig, data: PointData) -> Solved:
        made = design(point, data)
        solution = made.solution(ridge_of(point))
        columns = len(made.train) if solution.kernel is not None else made.train.shape[1]
        measures = {"solution_norm": solution.norm, "residual": solution.residual}
        return Solved(solution.fitted, solution.predict(made.test), columns * data.classes, measures)

    return method


def factorization(point: TrialConfig, image_shape: ImageShape, columns: int) -> float:
    """Multiply-adds, in order: a factorization of the smaller side's Gram matrix."""
    samples, inputs = point.data.train_size or 1, prod(image_shape)
    side = min(samples, columns)
    return side**3 / 3 + samples * side * min(inputs, side)


def scored(method: Method) -> Callable[[TrialConfig, torch.device], tuple[Columns, Columns]]:
    """The outcome columns and the curve row of what a method solves."""

    def solve(point: TrialConfig, device: torch.device) -> tuple[Columns, Columns]:
        started = time.perf_counter()
        data = point_data(point, device)
        solved = method(point, data)
        train_error, train_loss = _score(solved.train, data.train, data.classes)
        test_error, test_loss = _score(solved.test, data.test, data.classes)
        fitted = train_error <= error_at_fit(point)
        error, gap = ("nmse", "nmse_gap") if data.is_regression else ("error", "generalization_gap")
        columns: Columns = {
            f"train_{error}": train_error,
            "train_loss": train_loss,
            f"test_{error}": test_error,
            "test_loss": test_loss,
        }
        outcome = columns | {
            "parameters": solved.parameters,
            "parameters_per_sample": solved.parameters / len(data.train.index),
            "wrong_label_rate": data.train.wrong.double().mean().item(),
            gap: test_error - train_error,
            "epochs": 0,
            "fit_epoch": 0 if fitted else None,
            "interpolated": fitted,
            "seconds": time.perf_counter() - started,
        }
        outcome |= {f"measure.{name}": value for name, value in solved.measures.items()}
        return outcome, {"epoch": 0} | columns

    return solve


def check(point: TrialConfig, solver: Solver) -> None:
    """Raise ConfigError for a point with fields that its solver does not have."""
    solver.check(point)
    if point.model.parameters_per_sample is not None and not solver.has_width:
        raise ConfigError(f"model.parameters_per_sample is solved for a width, but what closed_form solves for {point.model.name} has none")
    others = ("dropout", "crop", "flip", "label_smoothing", "mixup", "gradient_clip", "early_stopping")
    if used := [name for name in others if getattr(point.regularizers, name)]:
        raise ConfigError(f"regularizers.{used[0]} belongs to training; closed_form takes weight_decay, its ridge, alone")


def regressed(point: TrialConfig, data: PointData, train: Tensor, test: Tensor, targets: Tensor | None = None) -> Design:
    """Linear regression on features (samples, columns), by default of the one-hot labels."""
    return Design(train, test, targets_of(data) if targets is None else targets)


def centred(point: TrialConfig, data: PointData, features: nn.Module) -> Design:
    """Regression on standardized features of the images, which a linear model without an intercept needs."""
    found, others = (extract(features, some) for some in images(data))
    deviation, mean = torch.std_mean(found, dim=0)
    deviation = deviation.clamp_min(1e-6)
    targets = targets_of(data) - (0 if data.is_regression else 1 / data.classes)
    return regressed(point, data, (found - mean) / deviation, (others - mean) / deviation, targets=targets)


def kernel_regressed(point: TrialConfig, data: PointData, train: Tensor, test: Tensor) -> Design:
    """Regression with a Gaussian kernel on features (samples, columns)."""
    return Design(train, test, targets_of(data), GaussianKernel(1 / (2 * point.model.kernel_scale**2)))


def pixels(data: PointData) -> tuple[Tensor, Tensor]:
    """The training and the test samples, (samples, inputs)."""
    return data.train.inputs.gather(data.train.index), data.test.inputs.gather(data.test.index)


def images(data: PointData) -> tuple[Tensor, Tensor]:
    """The same as (samples, channels, height, width)."""
    train, test = (some.reshape(-1, *data.image_shape) for some in pixels(data))
    return train, test


def ridge_of(point: TrialConfig) -> float:
    """What is added to the Gram matrix of a resolved point: n * weight_decay."""
    return (point.data.train_size or 1) * point.regularizers.weight_decay


def targets_of(data: PointData) -> Tensor:
    """The training labels one-hot, (n, classes), or the targets of regression, (n, T); float64."""
    if data.is_regression:
        return data.train.labels.double()
    return nn.functional.one_hot(data.train.labels, data.classes).double()


def _score(outputs: Tensor, samples: Samples, classes: int) -> tuple[float, float]:
    """Error of the largest output, and half the mean squared distance to the one-hot labels; of regression by the distance both."""
    if samples.labels.is_floating_point():
        mean = float((outputs - samples.labels).square().mean())
        return mean, mean * classes / 2
    loss = (outputs - nn.functional.one_hot(samples.labels, classes)).square().sum(1).mean() / 2
    return float(misclassified(outputs.clone(), samples.labels).double().mean()), float(loss)
