"""The protocol of an engine: how K points of equal shapes go through the network at once."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn

from trainables.data.source import Source
from trainables.engines.optimizers import StackedOptimizer
from trainables.point.config import Optimizer

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

    def losses(self, inputs: Source, index: Tensor, labels: Tensor, members: list[int]) -> tuple[Tensor, Tensor]:
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
        self, optimizer: StackedOptimizer, inputs: Source, index: Tensor, labels: Tensor, size: int, smoothing: Tensor | None
    ) -> bool:
        """Take the steps of several batches at once, where that is faster; False if not, and nothing has been done.

        Args:
            optimizer: the engine's own, with its learning rates set.
            inputs: of which `index` (K, m) takes the samples, `size` a batch, with `labels` (K, m).
            smoothing: (K,), the share of a target's weight that is spread over all classes; None for none.
        """
        return False

    def refill(self, keep: list[int], modules: list[nn.Module]) -> None:
        """Go on with the members `keep` (their places now), followed by new ones, each with its own module's dropout rate."""
        ...

    def state(self, member: int) -> State:
        """A copy of one member's parameters and buffers."""
        ...
