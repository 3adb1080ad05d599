"""Points that are solved, not trained: minimum-norm least squares (Zhang et al. 2017, section 5) and the network of Theorem 1.

``optimizer: {name: closed_form}`` solves min |f(X) - Y|^2 + ridge |f|^2 for one-hot targets Y, with ridge = n * weight_decay, by the
functions of `trainables.least_squares.closed_form`; a model is then a set of fixed features or a kernel. `theorem1` is built to interpolate
the labels as numbers, and read off by rounding (`trainables.least_squares.expressivity`). `ridgeless` is one Monte Carlo trial of
ridgeless regression beside its asymptotic risk (Hastie et al. 2019), on Gaussian samples and targets of its own: it takes n and d
from the synthetic set.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

from trainables.data.inputs import PointData, Samples, point_data
from trainables.least_squares.closed_form import Solution, kernel_regression, linear_regression, ridgeless_risk, ridgeless_trial
from trainables.least_squares.expressivity import interpolant, weight_count
from trainables.least_squares.features import GaborFeatures, extract, patch_features
from trainables.least_squares.kernel_systems import GaussianKernel
from trainables.models import build
from trainables.point.config import ConfigError, ImageShape, TrialConfig
from trainables.point.streams import derive

SIGNAL, NOISE = 5**0.5, 1.0
"""Of `ridgeless`: |true weights| and the deviation of the noise. At this ratio the risk above d = n has a minimum of its own."""


@dataclass(frozen=True)
class Solved:
    """Outputs (samples, classes) on the training and the test samples, the parameters solved for, and measures of the solution."""

    train: Tensor
    test: Tensor
    parameters: int
    measures: dict[str, float]


def solve_point(point: TrialConfig, device: torch.device) -> tuple[dict[str, object], dict[str, object]]:
    """The outcome columns and the single curve row of a resolved point whose optimizer is `closed_form`.

    Raises:
        ValueError: the system cannot be solved as it is (equal inputs, a singular matrix); the message says why.
    """
    if point.model.name == "ridgeless":
        return _ridgeless(point)
    started = time.perf_counter()
    data = point_data(point, device)
    solved = _METHODS[point.model.name](point, data)
    train_error, train_loss = _score(solved.train, data.train, data.classes)
    test_error, test_loss = _score(solved.test, data.test, data.classes)
    fitted = train_error <= (point.budget.stop_at_train_error or 0.0)
    columns: dict[str, object] = {
        "train_error": train_error,
        "train_loss": train_loss,
        "test_error": test_error,
        "test_loss": test_loss,
    }
    outcome = columns | {
        "parameters": solved.parameters,
        "parameters_per_sample": solved.parameters / len(data.train.index),
        "wrong_label_rate": data.train.wrong.double().mean().item(),
        "generalization_gap": test_error - train_error,
        "epochs": 0,
        "fit_epoch": 0 if fitted else None,
        "interpolated": fitted,
        "seconds": time.perf_counter() - started,
    }
    outcome |= {f"measure.{name}": value for name, value in solved.measures.items()}
    return outcome, {"epoch": 0} | columns


def solvable() -> tuple[str, ...]:
    """Models that `closed_form` solves."""
    return (*_METHODS, "ridgeless")


def check(point: TrialConfig) -> None:
    """Raise ConfigError for a closed-form point with a model or regularizer that it does not have."""
    regularizers = point.regularizers
    if point.model.name not in solvable():
        raise ConfigError(
            f"optimizer.name is closed_form, which does not solve model {point.model.name}: it solves {', '.join(solvable())}"
        )
    if point.model.name == "ridgeless" and (point.data.name != "synthetic" or point.corruption.level or regularizers.weight_decay):
        raise ConfigError("model.name is ridgeless, which takes data.name synthetic, corruption.level 0 and no weight decay")
    if point.model.parameters_per_sample is not None and point.model.name != "random_features":
        raise ConfigError(f"model.parameters_per_sample is solved for a width, but what closed_form solves for {point.model.name} has none")
    others = ("dropout", "crop", "flip", "label_smoothing", "mixup", "gradient_clip", "early_stopping")
    if used := [name for name in others if getattr(regularizers, name)]:
        raise ConfigError(f"regularizers.{used[0]} belongs to training; closed_form takes weight_decay, its ridge, alone")


def expected_multiply_adds(point: TrialConfig, image_shape: ImageShape) -> float:
    """The cost of a solution, in order: a factorization of the smaller side's Gram matrix."""
    samples, inputs = point.data.train_size or 1, prod(image_shape)
    columns = {"linear": inputs, "random_features": point.model.width or 1, "random_patches": 8 * (point.model.width or 1)}
    columns["ridgeless"] = inputs
    side = min(samples, columns.get(point.model.name, samples))
    return 0.0 if point.model.name == "theorem1" else side**3 / 3 + samples * side * min(inputs, side)


def expected_parameters(point: TrialConfig, image_shape: ImageShape, classes: int) -> int:
    """Coefficients that a resolved closed-form point solves for: its capacity."""
    samples, inputs, width = point.data.train_size or 1, prod(image_shape), point.model.width or 1
    if point.model.name == "ridgeless":
        return inputs
    if point.model.name == "theorem1":
        return weight_count(samples, inputs, max(2, point.model.depth or 2))
    if point.model.name == "gabor":
        return len(extract(GaborFeatures(), torch.zeros(1, *image_shape))[0]) * classes
    columns = {"linear": inputs, "random_features": width, "random_patches": 8 * width}
    return columns.get(point.model.name, samples) * classes


def _linear(point: TrialConfig, data: PointData) -> Solved:
    return _regressed(point, data, *_pixels(data))


def _random_features(point: TrialConfig, data: PointData) -> Solved:
    module = build(point.model, 0.0, data.image_shape, data.classes, seed=derive(point.seed, "initialization"))
    features = module[:-1].to(data.train.index.device, torch.float64)  # type: ignore[index]
    return _regressed(point, data, *(extract(features, pixels.double(), batch=1024) for pixels in _pixels(data)))


def _random_patches(point: TrialConfig, data: PointData) -> Solved:
    train, test = _images(data)
    return _centred(point, data, patch_features(train, point.model.width or 1, seed=derive(point.seed, "initialization")), train, test)


def _gabor(point: TrialConfig, data: PointData) -> Solved:
    return _centred(point, data, GaborFeatures().to(data.train.index.device), *_images(data))


def _gaussian_kernel(point: TrialConfig, data: PointData) -> Solved:
    train, test = _pixels(data)
    return _kernel(point, data, train, test)


def _gabor_kernel(point: TrialConfig, data: PointData) -> Solved:
    features = GaborFeatures().to(data.train.index.device)
    return _kernel(point, data, *(extract(features, images) for images in _images(data)))


def _kernel(point: TrialConfig, data: PointData, train: Tensor, test: Tensor) -> Solved:
    kernel = GaussianKernel(1 / (2 * point.model.kernel_scale**2))
    solution = kernel_regression(train, _targets(data), kernel, ridge=_ridge(point))
    return _solved(solution, test, len(train) * data.classes)


def _theorem1(point: TrialConfig, data: PointData) -> Solved:
    """Depth 2 is Theorem 1, more its corollary; the label is a number, and the nearest whole one is the predicted class."""
    train, test = _pixels(data)
    depth = max(2, point.model.depth or 2)
    network = interpolant(train, data.train.labels, depth=depth, seed=derive(point.seed, "initialization"))
    with torch.no_grad():
        numbers, others = network(train), network(test)
    error = float((numbers - data.train.labels).abs().max())
    classes = [values.round().clamp(0, data.classes - 1).long() for values in (numbers, others)]
    outputs = [nn.functional.one_hot(labels, data.classes).double() for labels in classes]
    return Solved(outputs[0], outputs[1], weight_count(len(train), train.shape[1], depth), {"largest_residual": error})


def _ridgeless(point: TrialConfig) -> tuple[dict[str, object], dict[str, object]]:
    """Outcome and curve row of one trial: losses are half the mean squared residual, on the sample and expected on a new one."""
    started = time.perf_counter()
    n, d = point.data.train_size or 1, point.data.dimension
    risk, residual = ridgeless_trial(n, d, signal=SIGNAL, noise=NOISE, seed=derive(point.seed, "ridgeless"))
    losses: dict[str, object] = {"train_error": None, "train_loss": residual / 2, "test_error": None, "test_loss": (risk + NOISE**2) / 2}
    outcome: dict[str, object] = losses | {
        "parameters": d,
        "parameters_per_sample": d / n,
        "epochs": 0,
        "fit_epoch": 0 if d >= n else None,
        "interpolated": d >= n,
        "seconds": time.perf_counter() - started,
        "measure.excess_risk": risk,
        "measure.asymptotic_risk": ridgeless_risk(d / n, signal=SIGNAL, noise=NOISE),
    }
    return outcome, losses | {"epoch": 0}


_METHODS: dict[str, Callable[[TrialConfig, PointData], Solved]] = {
    "linear": _linear,
    "random_features": _random_features,
    "random_patches": _random_patches,
    "gabor": _gabor,
    "gaussian_kernel": _gaussian_kernel,
    "gabor_kernel": _gabor_kernel,
    "theorem1": _theorem1,
}


def _centred(point: TrialConfig, data: PointData, features: nn.Module, train: Tensor, test: Tensor) -> Solved:
    """Regression on standardized features, which a linear model without an intercept needs."""
    found, others = extract(features, train), extract(features, test)
    deviation, mean = torch.std_mean(found, dim=0)
    deviation = deviation.clamp_min(1e-6)
    return _regressed(point, data, (found - mean) / deviation, (others - mean) / deviation, targets=_targets(data) - 1 / data.classes)


def _regressed(point: TrialConfig, data: PointData, train: Tensor, test: Tensor, targets: Tensor | None = None) -> Solved:
    solution = linear_regression(train, _targets(data) if targets is None else targets, ridge=_ridge(point))
    return _solved(solution, test, train.shape[1] * data.classes)


def _solved(solution: Solution, test: Tensor, parameters: int) -> Solved:
    measures = {"solution_norm": solution.norm, "residual": solution.residual}
    return Solved(solution.fitted, solution.predict(test), parameters, measures)


def _ridge(point: TrialConfig) -> float:
    return (point.data.train_size or 1) * point.regularizers.weight_decay


def _targets(data: PointData) -> Tensor:
    return nn.functional.one_hot(data.train.labels, data.classes).double()


def _pixels(data: PointData) -> tuple[Tensor, Tensor]:
    return data.train.inputs.gather(data.train.index), data.test.inputs.gather(data.test.index)


def _images(data: PointData) -> tuple[Tensor, Tensor]:
    train, test = (pixels.reshape(-1, *data.image_shape) for pixels in _pixels(data))
    return train, test


def _score(outputs: Tensor, samples: Samples, classes: int) -> tuple[float, float]:
    """Error of the largest output (a tie is a mistake), and half the mean squared distance to the one-hot labels."""
    label = samples.labels[:, None]
    own = outputs.gather(1, label)
    loss = (outputs - nn.functional.one_hot(samples.labels, classes)).square().sum(1).mean() / 2
    others = outputs.scatter(1, label, float("-inf")).amax(1, keepdim=True)
    return float((own <= others).double().mean()), float(loss)
