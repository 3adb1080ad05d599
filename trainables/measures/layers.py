"""The weight layers of a network with their shapes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class Layer:
    """One convolution or linear layer of the folded network.

    `weight` and `initial` have the shape of ``module.weight``; `input_shape` and `output_shape` are those of one sample.
    """

    name: str
    module: nn.Conv2d | nn.Linear
    weight: Tensor
    initial: Tensor
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]


def weight_layers(folded: nn.Module, initial: nn.Module, example: Tensor) -> list[Layer]:
    """List convolutions and linear layers in the order in which they first run. Other modules with weights are left out.

    Args:
        folded: the trained network without batch norm.
        initial: the same at initialization.
        example: (1, C, H, W), an input to run it on.
    """
    found: dict[str, Layer] = {}

    def note(name: str, start: Tensor) -> Any:
        def hook(module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            shapes = tuple(inputs[0].shape[1:]), tuple(output.shape[1:])
            found.setdefault(name, Layer(name, module, module.weight.detach(), start, *shapes))

        return hook

    hooks = [
        layer.register_forward_hook(note(name, initial.get_parameter(f"{name}.weight").detach()))
        for name, layer in folded.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear)
    ]
    try:
        with torch.no_grad():
            folded(example)
    finally:
        for hook in hooks:
            hook.remove()
    return list(found.values())


def parameters(module: nn.Module) -> dict[str, Tensor]:
    """Collect all parameters by name, detached."""
    return {name: parameter.detach() for name, parameter in module.named_parameters()}


def root_per_sample(value: float, samples: int) -> float:
    """Compute sqrt(v/n), the form in which v enters a bound of the gap. NaN for negative v."""
    return (value / samples) ** 0.5 if value >= 0 else float("nan")
