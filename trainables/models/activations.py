"""What a network's hidden units do in place of rectifying: the functions that a point may name, with their derivatives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import pi, sqrt

import torch
from torch import Tensor, nn

from trainables.point.config import Model
from trainables.point.errors import ConfigError


@dataclass(frozen=True)
class Activation:
    """One of them: the layer that modules have, and the derivative by its inputs, element by element."""

    layer: type[nn.Module]
    derivative: Callable[[Tensor], Tensor]


def _gelu(inputs: Tensor) -> Tensor:
    """Derivative of x * P(x) with P the normal distribution function (Hendrycks and Gimpel 2016): P(x) + x * p(x)."""
    below: Tensor = torch.special.ndtr(inputs)
    return below + inputs * inputs.square().mul(-0.5).exp_().div_(sqrt(2 * pi))


def _silu(inputs: Tensor) -> Tensor:
    """Derivative of x * s(x) with s the logistic function (Elfwing et al. 2018): s(x) * (1 + x * (1 - s(x)))."""
    sigmoid = inputs.sigmoid()
    return sigmoid * (1 + inputs * (1 - sigmoid))


def _tanh(inputs: Tensor) -> Tensor:
    return 1 - inputs.tanh().square()


class Gelu(nn.GELU):
    """See `ACTIVATIONS`."""


class Silu(nn.SiLU):
    """See `ACTIVATIONS`."""


class Tanh(nn.Tanh):
    """See `ACTIVATIONS`."""


ACTIVATIONS = {"gelu": Activation(Gelu, _gelu), "silu": Activation(Silu, _silu), "tanh": Activation(Tanh, _tanh)}
"""By what `model.activation` calls them; `relu` is what families have. Classes of their own tell them from a custom model's."""


def is_replaced(module: nn.Module) -> bool:
    """Whether some rectifiers of a module gave their place to another activation."""
    return any(isinstance(layer, Gelu | Silu | Tanh) for layer in module.modules())


def activate(module: nn.Module, model: Model) -> None:
    """Put the activation that the model names in the place of every rectifier of a module.

    Raises:
        ConfigError: the module has none, as a layer.
    """
    if model.activation in (None, "relu"):
        return
    replaced = [name for name, layer in module.named_modules() if type(layer) is nn.ReLU]
    if not replaced:
        raise ConfigError(
            f"model.activation is {model.activation}, but model {model.name} has no rectifier as a layer, whose place it takes"
        )
    for name in replaced:
        module.set_submodule(name, ACTIVATIONS[model.activation].layer())
