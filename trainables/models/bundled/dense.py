"""Fully connected networks: `linear`, and the `mlp` of any depth.

At the paper's settings (28x28x3 inputs, 10 classes) the MLPs have exactly the published counts: 1,209,866 for one hidden
layer of 512 and 1,735,178 for three (Zhang et al. 2017, Table 1).
"""

from __future__ import annotations

from itertools import pairwise
from math import prod

from torch import nn

from trainables.data.protocol import PointData
from trainables.least_squares.solving import Design, least_squares, pixels, regressed
from trainables.models.registry import model_family
from trainables.point.config import ImageShape, Model, TrialConfig


def dense_stack(sizes: list[int], dropout: float, batch_norm: bool) -> nn.Sequential:
    """Build a flattening, then linear layers of the given sizes with ReLU (and batch norm before, dropout after it) between them."""
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in pairwise(sizes[:-1]):
        layers.append(nn.Linear(inputs, outputs))
        if batch_norm:
            layers.append(nn.BatchNorm1d(outputs))
        layers += [nn.ReLU(), nn.Dropout(dropout)]  # also at rate 0: all rates have one structure, and share a pack
    layers.append(nn.Linear(sizes[-2], sizes[-1]))
    return nn.Sequential(*layers)


def _has_hidden_units(model: Model) -> bool:
    return bool(model.depth)


@model_family(
    "mlp", default_width=512, default_depth=1, reads=("width", "depth", "batch_norm"), has_hidden_units=_has_hidden_units, has_mup=True
)
def mlp(model: Model, dropout: float, image_shape: ImageShape, classes: int) -> nn.Module:
    """Build `depth` hidden layers of `width` units each."""
    return dense_stack([prod(image_shape), *[model.width or 0] * (model.depth or 0), classes], dropout, bool(model.batch_norm))


def _design(point: TrialConfig, data: PointData) -> Design:
    return regressed(point, data, *pixels(data))


_solver = least_squares(_design, lambda point, image_shape: prod(image_shape))


@model_family("linear", default_width=1, reads=(), solver=_solver, has_hidden_units=lambda model: False)
def linear(model: Model, dropout: float, image_shape: ImageShape, classes: int) -> nn.Module:
    """Build softmax (or least-squares) regression. Data and classes fix its capacity: `width` has no effect."""
    return dense_stack([prod(image_shape), classes], dropout, False)
