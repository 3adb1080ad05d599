"""Chains: networks that flatten, then apply linear layers with one kind of activation, and dropout, between them.

There may be one layer of fixed features before them.
"""

from __future__ import annotations

from torch import nn

from trainables.models.activations import ACTIVATIONS, Activation
from trainables.models.fourier import FourierFeatures

_SERVED = {nn.ReLU, *(one.layer for one in ACTIVATIONS.values())}


def layers_of(module: nn.Module) -> list[tuple[str, nn.Module]] | None:
    """List the named linear (and leading fixed-feature) layers of a stackable module; None if it is not stackable.

    The layers must be of exactly these classes and all trained: a subclass, a parametrization or a frozen layer computes something else.
    """
    if type(module) is not nn.Sequential or not all(parameter.requires_grad for parameter in module.parameters()):
        return None
    named = list(module.named_children())
    if not named or type(named[0][1]) is not nn.Flatten or type(named[-1][1]) is not nn.Linear:
        return None
    activations = _activations(module)
    if len(activations) > 1 or not activations <= _SERVED:
        return None
    found: list[tuple[str, nn.Module]] = []
    expected: tuple[type, ...] = (nn.Linear, FourierFeatures)
    for name, layer in named[1:]:
        if isinstance(layer, nn.Dropout) and found and expected == (nn.Linear,):
            continue
        if type(layer) not in expected:
            return None
        if isinstance(layer, FourierFeatures):
            found.append((name, layer))
            expected = (nn.Linear,)
        elif isinstance(layer, nn.Linear):
            found.append((name, layer))
            expected = tuple(activations)
        else:
            expected = (nn.Linear,)
    return found


def activation_of(module: nn.Module) -> Activation | None:
    """What hidden units of a stackable module do; None where they rectify."""
    return next((one for one in ACTIVATIONS.values() if one.layer in _activations(module)), None)


def _activations(module: nn.Module) -> set[type[nn.Module]]:
    """The classes of the layers that are neither linear, nor features, nor dropout, nor the flattening."""
    return {type(layer) for layer in module.children() if not isinstance(layer, nn.Linear | FourierFeatures | nn.Dropout | nn.Flatten)}


def stackable(module: nn.Module) -> bool:
    """Whether a module is such a chain, so that `trainables.engines.stacked` can run it."""
    return layers_of(module) is not None
