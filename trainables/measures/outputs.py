"""The outputs of a trained network on its training inputs, in batches."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.func import functional_call

from trainables.measures.subject import Subject

BATCH = 1024
"""Samples in one forward pass."""
GRADIENT_BATCH = 256
"""Samples in one backward pass, which keeps all activations."""


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
