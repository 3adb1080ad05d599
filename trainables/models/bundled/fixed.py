"""Families that are solved and not trained: kernels, fixed features, Theorem 1, ridgeless regression.

`theorem1` is built to interpolate the labels as numbers, and read off by rounding (`trainables.least_squares.expressivity`). `ridgeless`
is one Monte Carlo trial of ridgeless regression beside its asymptotic risk (Hastie et al. 2019), on Gaussian samples and targets of
its own: it takes n and d from the synthetic set.
"""

from __future__ import annotations

import time
from math import prod

import torch
from torch import nn

from trainables.data.protocol import PointData
from trainables.least_squares.closed_form import ridgeless_risk, ridgeless_trial
from trainables.least_squares.expressivity import interpolant, weight_count
from trainables.least_squares.features import GaborFeatures, extract, patch_features
from trainables.least_squares.solving import (
    Columns,
    Design,
    Solved,
    Solver,
    centred,
    factorization,
    images,
    kernel_regressed,
    least_squares,
    pixels,
    scored,
    solved_by,
)
from trainables.models.registry import solved_family
from trainables.point.config import ImageShape, TrialConfig
from trainables.point.errors import ConfigError
from trainables.point.streams import derive

SIGNAL, NOISE = 5**0.5, 1.0
"""Length of the true weights of `ridgeless`, and deviation of its noise. At this ratio the risk above d = n has a minimum of its own."""


# Kernels: a coefficient for each training sample and class


def _samples(point: TrialConfig, image_shape: ImageShape) -> int:
    return point.data.train_size or 1


def _gaussian_kernel(point: TrialConfig, data: PointData) -> Design:
    return kernel_regressed(point, data, *pixels(data))


def _gabor_kernel(point: TrialConfig, data: PointData) -> Design:
    features = GaborFeatures().to(data.train.index.device)
    train, test = (extract(features, some) for some in images(data))
    return kernel_regressed(point, data, train, test)


solved_family("gaussian_kernel", least_squares(_gaussian_kernel, _samples))
solved_family("gabor_kernel", least_squares(_gabor_kernel, _samples))


# Fixed features: a coefficient for each feature and class


def _gabor(point: TrialConfig, data: PointData) -> Design:
    return centred(point, data, GaborFeatures().to(data.train.index.device))


def _gabor_parameters(point: TrialConfig, image_shape: ImageShape, classes: int) -> int:
    return len(extract(GaborFeatures(), torch.zeros(1, *image_shape))[0]) * classes


def _gabor_multiply_adds(point: TrialConfig, image_shape: ImageShape) -> float:
    return factorization(point, image_shape, _samples(point, image_shape))  # there are more features than samples, as a rule


def _random_patches(point: TrialConfig, data: PointData) -> Design:
    train, _ = images(data)
    return centred(point, data, patch_features(train, point.model.width or 1, seed=derive(point.seed, "initialization")))


def _patch_columns(point: TrialConfig, image_shape: ImageShape) -> int:
    return 8 * (point.model.width or 1)


solved_family("gabor", Solver(scored(solved_by(_gabor)), _gabor_parameters, _gabor_multiply_adds, design=_gabor))
solved_family("random_patches", least_squares(_random_patches, _patch_columns), default_width=1000)


# Theorem 1: depth 2 is the theorem, more its corollary


def _theorem1(point: TrialConfig, data: PointData) -> Solved:
    """The label is a number, and the nearest whole one is the predicted class."""
    train, test = pixels(data)
    depth = _depth(point)
    network = interpolant(train, data.train.labels, depth=depth, seed=derive(point.seed, "initialization"))
    with torch.no_grad():
        numbers, others = network(train), network(test)
    error = float((numbers - data.train.labels).abs().max())
    classes = [values.round().clamp(0, data.classes - 1).long() for values in (numbers, others)]
    outputs = [nn.functional.one_hot(labels, data.classes).double() for labels in classes]
    return Solved(outputs[0], outputs[1], weight_count(len(train), train.shape[1], depth), {"largest_residual": error})


def _depth(point: TrialConfig) -> int:
    return max(2, point.model.depth or 2)


solved_family(
    "theorem1",
    Solver(
        scored(_theorem1),
        parameters=lambda point, image_shape, classes: weight_count(point.data.train_size or 1, prod(image_shape), _depth(point)),
        multiply_adds=lambda point, image_shape: 0.0,
        of_numbers=False,
    ),
    default_depth=2,
)


# Ridgeless regression


def _ridgeless(point: TrialConfig, device: torch.device) -> tuple[Columns, Columns]:
    """Outcome and curve row of one trial: losses are half the mean squared residual, on the sample and expected on a new one."""
    started = time.perf_counter()
    n, d = point.data.train_size or 1, point.data.dimension
    risk, residual = ridgeless_trial(n, d, signal=SIGNAL, noise=NOISE, seed=derive(point.seed, "ridgeless"))
    losses: Columns = {"train_error": None, "train_loss": residual / 2, "test_error": None, "test_loss": (risk + NOISE**2) / 2}
    outcome: Columns = losses | {
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


def _only_synthetic(point: TrialConfig) -> None:
    if point.data.name != "synthetic" or point.corruption.level or point.regularizers.weight_decay:
        raise ConfigError("model.name is ridgeless, which takes data.name synthetic, corruption.level 0 and no weight decay")


solved_family(
    "ridgeless",
    Solver(
        _ridgeless,
        parameters=lambda point, image_shape, classes: prod(image_shape),
        multiply_adds=lambda point, image_shape: factorization(point, image_shape, prod(image_shape)),
        check=_only_synthetic,
    ),
)
