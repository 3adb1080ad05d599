"""The random weights that a network starts from, where a point names them in place of its family's own."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt

import torch
from torch import Tensor, nn

from trainables.point.config import Model

_LAYERS = (nn.Linear, nn.modules.conv._ConvNd)


def _lecun(weight: Tensor) -> None:
    nn.init.normal_(weight, std=1 / sqrt(weight[0].numel()))


def _he(weight: Tensor) -> None:
    nn.init.normal_(weight, std=sqrt(2 / weight[0].numel()))


_WEIGHTS: dict[str, Callable[[Tensor], object]] = {"he": _he, "xavier": nn.init.xavier_uniform_, "lecun": _lecun}


def initialize(module: nn.Module, model: Model) -> None:
    """Draw the weights of linear layers and convolutions anew, from torch's default generator, and scale them, as the model says.

    With fan_in inputs and fan_out outputs of a unit, the weights have mean 0 and variance 2/fan_in (`he`: He et al. 2015, eq. 10),
    2/(fan_in + fan_out) (`xavier`: Glorot and Bengio 2010, eq. 16, uniform) or 1/fan_in (`lecun`: LeCun et al. 1998, eq. 16), and biases
    are 0. `pytorch` is the layers' own ``reset_parameters``: uniform with variance 1/(3 fan_in), biases too. Other layers stay.
    """
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, _LAYERS):
                _initialize_layer(layer, model)


def _initialize_layer(layer: nn.Linear | nn.modules.conv._ConvNd, model: Model) -> None:
    if model.initialization == "pytorch":
        layer.reset_parameters()
    elif model.initialization is not None:
        _WEIGHTS[model.initialization](layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    if model.initialization_scale is not None:
        layer.weight.mul_(model.initialization_scale)
