"""The protocol of an engine: how K points of equal shapes go through the network at once, and how logits are scored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

from trainables.data.misclassified import misclassified
from trainables.data.protocol import Source
from trainables.engines.optimizers import StackedOptimizer
from trainables.point.config import Optimizer

State = dict[str, Tensor]
"""One member's parameters and buffers, as in ``nn.Module.state_dict``."""

Stream = tuple[int, str, int, int]
"""A random stream: seed, name, epoch, step (see `trainables.point.streams`)."""

ROWS = 256
"""Samples evaluated at once. Fixed on a CPU, because the bits of a product could depend on it."""


class Engine(Protocol):
    """K members with equal shapes. All tensors are on one device; parameters and gradients are float32."""

    name: str
    """What records call it: one of `trainables.engines.choice.ENGINES`."""
    parameters: list[Tensor]
    """Trainable parameters, each (K, *shape)."""
    gradients: list[Tensor]
    """Gradients of the last `gradient` call, shaped like `parameters`."""
    rows: int = ROWS
    """Samples of a member that are evaluated at once (see `trainables.engines.choice.rows_at_once`)."""

    def gradient(self, inputs: Tensor, targets: Tensor, streams: list[Stream]) -> None:
        """Fill `gradients` with the gradients of each member's mean loss on a batch.

        Args:
            inputs: (K, B, D) float32, an image flattened to D = C*H*W.
            targets: (K, classes, B) float32, a distribution over classes for each sample.
            streams: the random stream of each member's dropout in this step.
        """
        ...

    def step(self, optimizer: StackedOptimizer, inputs: Tensor, targets: Tensor, streams: list[Stream]) -> None:
        """Take each member's step on a batch: `gradient`, whose arguments these are, and what `optimizer`, made here, makes of it."""
        self.gradient(inputs, targets, streams)
        optimizer.step(self.gradients)

    def logits(self, inputs: Tensor, members: list[int]) -> Tensor:
        """Compute the logits (M, classes, B) of M `members` in evaluation mode, for inputs (M, B, D)."""
        ...

    def losses(self, inputs: Source, index: Tensor, labels: Tensor, members: list[int]) -> tuple[Tensor, Tensor]:
        """Compute each sample's loss (float32) and whether it is misclassified (bool), (M, n) each, for M `members` in evaluation mode.

        A tie for the largest logit counts as an error: a constant network has learnt nothing.

        Args:
            inputs: the data of all K members.
            index: the rows of `inputs` that are the samples, (M, n), or (1, n) if all members have the same.
            labels: (M, n) int64.
            members: indices of the members, in [0, K).
        """
        ...

    def optimizer(self, rule: Optimizer) -> StackedOptimizer:
        """Make an optimizer for `parameters` that fits this engine."""
        return StackedOptimizer(rule)

    def descend(
        self, optimizer: StackedOptimizer, inputs: Source, index: Tensor, labels: Tensor, size: int, smoothing: Tensor | None
    ) -> bool:
        """Take the steps of several batches at once where that is faster; return False where it is not, with nothing done.

        Args:
            optimizer: made by `optimizer`, with its learning rates set.
            inputs: the data of all members.
            index: the rows of `inputs` that are the samples, (K, m), in the order in which they are trained on.
            labels: (K, m) int64.
            size: number of samples in a batch; the last batch may have fewer.
            smoothing: (K,), the share of a target's weight that is spread over all classes; None for none.
        """
        return False

    def refill(self, keep: list[int], modules: list[nn.Module]) -> None:
        """Go on with the members `keep` (indices so far) in the first slots, and new ones after them.

        Args:
            keep: indices of the members that stay, in their new order.
            modules: one for each new member, with its initial parameters and its own dropout rate.
        """
        ...

    def state(self, member: int) -> State:
        """Copy one member's parameters and buffers."""
        ...


def losses_and_errors(
    logits_of: Callable[[Tensor, list[int]], Tensor], samples: tuple[Source, Tensor, Tensor], members: list[int], loss: str, rows: int
) -> tuple[Tensor, Tensor]:
    """Compute what `trainables.engines.Engine.losses` does, with `loss` "cross_entropy" or "squared", of so many `rows` at once.

    `logits_of` computes the logits (M, classes, B) of the members for inputs (M, B, D); they are overwritten. `samples` are the inputs,
    their index and their labels. With targets of regression, labels (M, n, T) float32, the loss is half the squared distance to them, and
    the error, float32, their mean squared difference.
    """
    losses, errors = [], []
    inputs, index, labels = samples
    for batch_index, batch_labels in zip(torch.split(index, rows, 1), torch.split(labels, rows, 1), strict=True):
        logits = logits_of(inputs.gather(batch_index).expand(len(members), -1, -1), members)
        if batch_labels.is_floating_point():
            errors.append((logits - batch_labels.transpose(1, 2)).square_().mean(1))
            losses.append(errors[-1][:, None] * (logits.shape[1] / 2))
            continue
        true_class = batch_labels[:, None]
        right = logits.gather(1, true_class)
        if loss == "squared":
            losses.append((logits.square().sum(1, keepdim=True) - 2 * right + 1) / 2)
        else:
            losses.append(torch.log_softmax(logits, 1).gather(1, true_class).neg_())
        errors.append(misclassified(logits, batch_labels, 1))
    return torch.cat(losses, 2).squeeze(1), torch.cat(errors, 1)
