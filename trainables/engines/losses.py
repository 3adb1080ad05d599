"""Loss and errors from logits, for engines that have nothing faster."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from trainables.data.errors import misclassified
from trainables.data.source import Source

ROWS = 256
"""Samples evaluated at once. Fixed, because the bits of a product could depend on it."""


def losses_and_errors(
    logits_of: Callable[[Tensor, list[int]], Tensor], inputs: Source, index: Tensor, labels: Tensor, members: list[int], loss: str
) -> tuple[Tensor, Tensor]:
    """See `trainables.engines.Engine.losses`; `logits_of` gives logits (M, classes, B) of the members, which are overwritten."""
    losses, errors = [], []
    for rows, own in zip(index.split(ROWS, 1), labels.split(ROWS, 1), strict=True):
        logits = logits_of(inputs.gather(rows).expand(len(members), -1, -1), members)
        places = own[:, None]
        right = logits.gather(1, places)
        if loss == "squared":
            losses.append((logits.square().sum(1, keepdim=True) - 2 * right + 1) / 2)
        else:
            losses.append(torch.log_softmax(logits, 1).gather(1, places).neg_())
        errors.append(misclassified(logits, own, 1))
    return torch.cat(losses, 2).squeeze(1), torch.cat(errors, 1)
