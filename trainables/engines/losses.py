"""Loss and misclassification from logits, for engines that have nothing faster."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from trainables.data.misclassified import misclassified
from trainables.data.protocol import Source

ROWS = 256
"""Samples evaluated at once. Fixed, because the bits of a product could depend on it."""


def losses_and_errors(
    logits_of: Callable[[Tensor, list[int]], Tensor], inputs: Source, index: Tensor, labels: Tensor, members: list[int], loss: str
) -> tuple[Tensor, Tensor]:
    """Compute what `trainables.engines.Engine.losses` does, with `loss` "cross_entropy" or "squared".

    `logits_of` computes the logits (M, classes, B) of the members for inputs (M, B, D); they are overwritten.
    """
    losses, errors = [], []
    for batch_index, batch_labels in zip(torch.split(index, ROWS, 1), torch.split(labels, ROWS, 1), strict=True):
        logits = logits_of(inputs.gather(batch_index).expand(len(members), -1, -1), members)
        true_class = batch_labels[:, None]
        right = logits.gather(1, true_class)
        if loss == "squared":
            losses.append((logits.square().sum(1, keepdim=True) - 2 * right + 1) / 2)
        else:
            losses.append(torch.log_softmax(logits, 1).gather(1, true_class).neg_())
        errors.append(misclassified(logits, batch_labels, 1))
    return torch.cat(losses, 2).squeeze(1), torch.cat(errors, 1)
