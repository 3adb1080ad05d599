"""The local learning coefficient: how fast the volume of low loss around the trained network shrinks with the loss."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from trainables.measures import curvature
from trainables.measures.layers import parameters
from trainables.measures.outputs import GRADIENT_BATCH
from trainables.measures.registry import measure
from trainables.measures.subject import Subject

LOCALIZATION = 100.0
"""As Lau et al. 2023: flat directions are walked for a tenth of a unit."""
WARM_UP, DRAWS = 200, 300


@measure(
    "learning_coefficient",
    cost=f"{WARM_UP + DRAWS} gradients of the whole training set",
    cheap=False,
    epochs=WARM_UP + DRAWS,
    ignores="that rescaled ReLU layers compute the same function, and whatever a walk of so few steps does not reach",
)
def learning_coefficient(subject: Subject) -> float:
    """Local learning coefficient, by a Langevin walk at inverse temperature 1/log n (`trainables.measures.curvature`).

    The loss is cross-entropy. d/2 for a regular model of d parameters, and less where directions are flat. Source: Lau et al. 2023, "The
    local learning coefficient: a singularity-aware complexity measure". NaN for fewer than 3 samples.
    """
    if subject.samples < 3:
        return float("nan")
    theta = parameters(subject.folded)
    shapes = {name: (value.shape, value.numel()) for name, value in theta.items()}

    def loss(point: Tensor) -> tuple[float, Tensor]:
        leaf = point.detach().clone().requires_grad_()
        values = {
            name: piece.view(shape)
            for (name, (shape, _)), piece in zip(shapes.items(), leaf.split([count for _, count in shapes.values()]), strict=True)
        }
        total, gradient = 0.0, torch.zeros_like(point)
        for inputs, labels in zip(subject.inputs.split(GRADIENT_BATCH), subject.labels.split(GRADIENT_BATCH), strict=True):
            part = cross_entropy(functional_call(subject.folded, values, (inputs,)), labels, reduction="sum") / subject.samples
            gradient += torch.autograd.grad(part, leaf, retain_graph=True)[0]
            total += part.item()
        return total, gradient

    start = torch.cat([value.detach().reshape(-1) for value in theta.values()])
    generator = torch.Generator().manual_seed(subject.seed)
    return curvature.learning_coefficient(loss, start, subject.samples, generator, localization=LOCALIZATION, warm_up=WARM_UP, draws=DRAWS)
