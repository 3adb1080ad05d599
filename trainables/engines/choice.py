"""The choice of an engine and of how many members train side by side: what measured fastest (`docs/engines.md`)."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import nn

from trainables.engines.base import Engine
from trainables.engines.modules import ModuleEngine
from trainables.engines.stacked import StackedDense, stack_size
from trainables.models.chains import activation_of, stackable
from trainables.point.config import ImageShape


def make_engine(template: nn.Module, *, loss: str, precision: str, image_shape: ImageShape) -> Engine:
    """Make the engine that measured fastest for the template's family, without members yet.

    Args:
        template: a module of the members' architecture, on their device.
        loss: "cross_entropy" or "squared".
        precision: "float32" or "bfloat16".
        image_shape: channels, height and width of an input.
    """
    if stackable(template):
        device = next(template.parameters()).device
        compiled = device.type == "cpu" and precision == "float32" and activation_of(template) is None  # machine code rectifies
        return _dense_engine(compiled)(template, loss, precision)
    return ModuleEngine(loss, precision, image_shape)


@lru_cache(maxsize=2)
def _dense_engine(compiled: bool) -> type[StackedDense]:
    """Return `CompiledDense`, which is a `StackedDense`, where `compiled` allows it and Numba and `sgemm` are there."""
    if compiled:
        try:
            from trainables.engines.compiled import CompiledDense
        except ImportError:
            return StackedDense
        return CompiledDense
    return StackedDense


def members_at_once(template: nn.Module, batch_size: int, inputs: int, device: torch.device) -> int:
    """Number of members that train side by side: as many as the cache (CPU) or a share of the memory (GPU) holds."""
    return stack_size(template, batch_size, inputs, device) if stackable(template) else 1
