"""The random weights that a network starts from, where a point names them in place of its family's own."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt

import torch
from torch import Tensor, nn

from trainables.point.config import Model

LAYERS = (nn.Linear, nn.modules.conv._ConvNd)
"""The layers whose start is chosen."""


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
            if isinstance(layer, LAYERS):
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


def scale_to_width(module: nn.Module, base: nn.Module) -> None:
    """Make a module's start that of the maximal update parameterization (see `trainables.models.parameterization`), in place.

    Args:
        base: the module of the base width; its numbers are not looked at.
    """
    with torch.no_grad():
        for layer, other in zip(module.modules(), base.modules(), strict=True):
            if isinstance(layer, LAYERS) and isinstance(other, LAYERS):
                inputs, outputs = growth(layer.weight.shape, other.weight.shape)
                if outputs == 1:
                    layer.weight.mul_(inputs**-0.5)
                if layer.bias is not None:
                    layer.bias.mul_(inputs**0.5)


def growth(shape: torch.Size, base: torch.Size) -> tuple[float, float]:
    """By which factors a parameter has more inputs, and more outputs, than the same parameter of the base width."""
    return shape[1] / base[1] if len(shape) > 1 else 1.0, shape[0] / base[0]
