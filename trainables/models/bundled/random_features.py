"""Random Fourier features with a trained linear readout (Rahimi and Recht 2007; Belkin et al. 2019).

phi(x) = sqrt(2/N) * cos(W x / scale + b), W ~ N(0, 1), b ~ U[0, 2 pi): N random cosines that approximate the Gaussian
kernel exp(-|x - x'|^2 / (2 scale^2)). W and b are fixed; the readout has N weights a class and no bias, so that the
interpolation threshold of least squares lies at N = n.
"""

from __future__ import annotations

from math import prod

import torch
from torch import nn

from trainables.data.protocol import PointData
from trainables.least_squares.features import extract
from trainables.least_squares.solving import Design, least_squares, pixels, regressed
from trainables.models.fourier import FourierFeatures
from trainables.models.registry import build, model_family
from trainables.point.config import ImageShape, Model, TrialConfig
from trainables.point.streams import derive


def _design(point: TrialConfig, data: PointData) -> Design:
    module = build(point.model, 0.0, data.image_shape, data.classes, seed=derive(point.seed, "initialization"))
    features = module[:-1].to(data.train.index.device, torch.float64)  # type: ignore[index]
    train, test = (extract(features, some.double(), batch=1024) for some in pixels(data))
    return regressed(point, data, train, test)


_solver = least_squares(_design, lambda point, image_shape: point.model.width or 1, has_width=True)


@model_family("random_features", default_width=1000, reads=("width", "kernel_scale"), solver=_solver)
def random_features(model: Model, dropout: float, image_shape: ImageShape, classes: int) -> nn.Module:
    """Build `width` random features with a readout; only the readout is trained."""
    features = model.width or 0
    fixed = FourierFeatures(prod(image_shape), features, model.kernel_scale)
    return nn.Sequential(nn.Flatten(), fixed, nn.Dropout(dropout), nn.Linear(features, classes, bias=False))
