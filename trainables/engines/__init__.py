"""Engines: how K points of equal shapes go through the network at once.

An engine holds the parameters of K members stacked along the first axis and offers the gradient of the mean loss on a
batch, and the loss and mistakes on samples. `StackedDense` multiplies all members in one batched product, with a
hand-written backward pass; `CompiledDense` is the same as machine code for a CPU; `ModuleEngine` runs any ``nn.Module``
member by member. `docs/engines.md` says which family gets which, and the measured gain.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn

from trainables.data.inputs import StackedInputs
from trainables.engines.optimizers import StackedOptimizer
from trainables.models import ImageShape
from trainables.point.config import Optimizer

if TYPE_CHECKING:
    from trainables.engines.stacked import StackedDense

State = dict[str, Tensor]
"""One member's parameters and buffers, as in ``nn.Module.state_dict``."""


Stream = tuple[int, str, int, int]
"""A random stream: seed, name, epoch, step (see `trainables.point.streams`)."""


class Engine(Protocol):
    """K members with equal shapes. Tensors live on one device; parameters and gradients are float32."""

    parameters: list[Tensor]
    """Trainable parameters, each (K, *shape)."""
    gradients: list[Tensor]
    """Gradients of the last `gradient` call, shaped like `parameters`."""

    def gradient(self, inputs: Tensor, targets: Tensor, streams: list[Stream]) -> None:
        """Fill `gradients` with those of each member's mean loss.

        Args:
            inputs: (K, B, D) float32, an image flattened to D = C*H*W.
            targets: (K, classes, B) float32, a distribution over classes for each sample.
            streams: of each member's dropout in this step.
        """
        ...

    def logits(self, inputs: Tensor, members: list[int]) -> Tensor:
        """(len(members), classes, B) of those members in evaluation mode, for inputs (len(members), B, D)."""
        ...

    def losses(self, inputs: StackedInputs, index: Tensor, labels: Tensor, members: list[int]) -> tuple[Tensor, Tensor]:
        """Loss (float32) and mistakes (bool) of those members in evaluation mode, (len(members), n) each.

        A tie for the largest logit is a mistake: a constant network has learnt nothing.

        Args:
            index: the samples of `inputs`, (len(members), n), or (1, n) if all have the same.
            labels: (len(members), n) int64.
        """
        ...

    def optimizer(self, rule: Optimizer) -> StackedOptimizer:
        """What steps `parameters` by `gradients`."""
        return StackedOptimizer(rule)

    def descend(
        self, optimizer: StackedOptimizer, inputs: StackedInputs, index: Tensor, labels: Tensor, size: int, smoothing: Tensor | None
    ) -> bool:
        """Take the steps of several batches at once, where that is faster; False if not, and nothing has been done.

        Args:
            optimizer: the engine's own, with its learning rates set.
            inputs: of which `index` (K, m) takes the samples, `size` a batch, with `labels` (K, m).
            smoothing: (K,), the share of a target's weight that is spread over all classes; None for none.
        """
        return False

    def seat(self, keep: list[int], modules: list[nn.Module]) -> None:
        """Go on with the members `keep` (their places now), followed by new ones, each with its own module's dropout rate."""
        ...

    def state(self, member: int) -> State:
        """A copy of one member's parameters and buffers."""
        ...


def stackable(module: nn.Module) -> bool:
    """Whether `StackedDense` can run the module: flatten, then linear layers with ReLU and dropout between them."""
    from trainables.engines.stacked import layers_of

    return layers_of(module) is not None


def make_engine(template: nn.Module, *, loss: str, precision: str, image_shape: ImageShape) -> Engine:
    """The engine that measures fastest for the template's family, without members yet.

    Args:
        template: a module of the members' architecture.
        loss: "cross_entropy" or "squared".
        precision: "float32" or "bfloat16".
    """
    from trainables.engines.modules import ModuleEngine

    if stackable(template):
        device = next(template.parameters()).device
        return _dense_engine(device.type == "cpu" and precision == "float32")(template, loss, precision)
    return ModuleEngine(loss, precision, image_shape)


@lru_cache(maxsize=2)
def _dense_engine(compiled: bool) -> type[StackedDense]:
    """`CompiledDense` if it may be and can; it is a `StackedDense`."""
    from trainables.engines.stacked import StackedDense

    if compiled:
        try:
            from trainables.engines.compiled import CompiledDense
        except ImportError:
            return StackedDense
        return CompiledDense
    return StackedDense


def members_at_once(template: nn.Module, batch_size: int, inputs: int, device: torch.device) -> int:
    """How many members train side by side: as many as the fast cache (CPU) or a share of the memory (GPU) holds."""
    from trainables.engines.stacked import stack_size

    return stack_size(template, batch_size, inputs, device) if stackable(template) else 1
