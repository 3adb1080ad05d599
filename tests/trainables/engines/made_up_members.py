"""Members of a pack for engines: modules of a family, a batch for each, and how far results are apart."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from trainables.engines import Stream
from trainables.models import build, family
from trainables.point.config import ImageShape, Model

SHAPE = (2, 8, 9)
CLASSES = 4
EPSILON = 2.0**-23


def modules(
    fields: dict[str, Any], count: int, *, width: int = 6, dropout: float = 0.0, shape: ImageShape = SHAPE, classes: int = CLASSES
) -> list[nn.Module]:
    model = family(fields["name"]).complete(Model(**fields | {"width": width}))
    return [build(model, dropout, shape, classes, seed=seed) for seed in range(count)]


def streams(count: int, step: int = 0) -> list[Stream]:
    return [(member, "dropout", 0, step) for member in range(count)]


def batch(count: int, size: int, *, shape: ImageShape = SHAPE, classes: int = CLASSES, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Inputs (K, B, D) and targets (K, classes, B), distributions that are not one-hot."""
    draw = torch.Generator().manual_seed(seed)
    return (
        torch.randn(count, size, prod(shape), generator=draw),
        torch.rand(count, classes, size, generator=draw).softmax(1),
    )


def loss_of(outputs: Tensor, target: Tensor, loss: str) -> Tensor:
    """The mean loss by its definition: outputs and target (B, classes)."""
    if loss == "squared":
        return (outputs - target).square().sum(1).mean() / 2
    return -(target * outputs.log_softmax(1)).sum(1).mean()


def trainable(module: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def gradients_of(module: nn.Module) -> list[Tensor]:
    found = [parameter.grad for parameter in trainable(module)]
    assert all(gradient is not None for gradient in found)
    return found  # type: ignore[return-value]


def distance(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """The norm of the difference of two lists of arrays, relative to the norm of the expected ones.

    Of a list as a whole: a bias before batch norm has no gradient but rounding errors.
    """
    pairs = list(zip(found, expected, strict=True))
    assert all(ours.shape == theirs.shape for ours, theirs in pairs)
    difference = sum(float((ours.double() - theirs.detach().double()).square().sum()) for ours, theirs in pairs)
    return (difference / sum(float(theirs.detach().double().square().sum()) for _, theirs in pairs)) ** 0.5
