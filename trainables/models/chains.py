"""Chains: networks that flatten, then apply linear layers with ReLU and dropout between them, perhaps after one layer of fixed features."""

from __future__ import annotations

from torch import nn

from trainables.models.fourier import FourierFeatures


def layers_of(module: nn.Module) -> list[tuple[str, nn.Module]] | None:
    """List the named linear (and leading fixed-feature) layers of a stackable module; None if it is not stackable.

    The layers must be of exactly these classes and all trained: a subclass, a parametrization or a frozen layer computes something else.
    """
    if type(module) is not nn.Sequential or not all(parameter.requires_grad for parameter in module.parameters()):
        return None
    named = list(module.named_children())
    if not named or type(named[0][1]) is not nn.Flatten or type(named[-1][1]) is not nn.Linear:
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
            expected = (nn.ReLU,)
        else:
            expected = (nn.Linear,)
    return found


def stackable(module: nn.Module) -> bool:
    """Whether a module is such a chain, so that `trainables.engines.stacked` can run it."""
    return layers_of(module) is not None
