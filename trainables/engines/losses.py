"""Loss and mistakes from logits, for engines that have nothing faster."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from trainables.data.inputs import StackedInputs

ROWS = 256
"""Samples evaluated at once. Fixed, because the bits of a product could depend on it."""


def losses_and_errors(
    logits_of: Callable[[Tensor, list[int]], Tensor], inputs: StackedInputs, index: Tensor, labels: Tensor, members: list[int], loss: str
) -> tuple[Tensor, Tensor]:
    """See `trainables.engines.Engine.losses`; `logits_of` gives logits (M, classes, B) of the members, which are overwritten."""
    losses, mistakes = [], []
    for rows, own in zip(index.split(ROWS, 1), labels.split(ROWS, 1), strict=True):
        logits = logits_of(inputs.gather(rows).expand(len(members), -1, -1), members)
        places = own[:, None]
        right = logits.gather(1, places)
        if loss == "squared":
            losses.append((logits.square().sum(1, keepdim=True) - 2 * right + 1) / 2)
        else:
            losses.append(torch.log_softmax(logits, 1).gather(1, places).neg_())
        mistakes.append((right > logits.scatter_(1, places, float("-inf")).amax(1, keepdim=True)).logical_not_())
    return torch.cat(losses, 2).squeeze(1), torch.cat(mistakes, 2).squeeze(1)
