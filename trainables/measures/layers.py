"""The weight layers of a network with their shapes, and its outputs in batches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

if TYPE_CHECKING:
    from trainables.measures.subject import Subject

BATCH = 1024
"""Samples in one forward pass."""
GRADIENT_BATCH = 256
"""Samples in one backward pass, which keeps all activations."""


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


def weight_layers(subject: Subject) -> list[Layer]:
    """List convolutions and linear layers in the order in which they first run. Other modules with weights are left out."""
    found: dict[str, Layer] = {}

    def note(name: str, initial: Tensor) -> Any:
        def hook(module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            shapes = tuple(inputs[0].shape[1:]), tuple(output.shape[1:])
            found.setdefault(name, Layer(name, module, module.weight.detach(), initial, *shapes))

        return hook

    initial = subject.folded_initial
    hooks = [
        layer.register_forward_hook(note(name, initial.get_parameter(f"{name}.weight").detach()))
        for name, layer in subject.folded.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear)
    ]
    try:
        with torch.no_grad():
            subject.folded(subject.inputs[:1])
    finally:
        for hook in hooks:
            hook.remove()
    return list(found.values())


def parameters(module: nn.Module) -> dict[str, Tensor]:
    """Collect all parameters by name, detached."""
    return {name: parameter.detach() for name, parameter in module.named_parameters()}


@torch.no_grad()
def outputs(subject: Subject, replaced: Mapping[str, Tensor] | None = None) -> Tensor:
    """Compute the outputs (n, classes) of the folded network on the training inputs, with some parameters replaced."""
    values = dict(replaced or {})
    return torch.cat([functional_call(subject.folded, values, (batch,)) for batch in torch.split(subject.inputs, BATCH)])


def logits(subject: Subject) -> Tensor:
    """Compute the outputs (n, classes) of the trained network; use it as ``subject.once(logits)``."""
    return outputs(subject)


def accuracy(subject: Subject, scores: Tensor) -> float:
    """Fraction of samples whose largest output is at the label trained on."""
    return (scores.argmax(1) == subject.labels).double().mean().item()


def root_per_sample(value: float, samples: int) -> float:
    """Compute sqrt(v/n), the form in which v enters a bound of the gap. NaN for negative v."""
    return (value / samples) ** 0.5 if value >= 0 else float("nan")
