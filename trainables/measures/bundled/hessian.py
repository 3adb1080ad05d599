"""The curvature of the loss at the end of training, by products of the Hessian with vectors.

The Hessian is that of the mean cross-entropy over the training samples, at the labels trained on, whatever the network was trained on,
in all parameters, biases too. A rectifier has no second derivative at its kink: automatic differentiation takes 0. All of these change
when ReLU layers are rescaled.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from trainables.measures.curvature import lanczos, signs
from trainables.measures.layers import parameters
from trainables.measures.outputs import GRADIENT_BATCH
from trainables.measures.registry import measure
from trainables.measures.subject import Subject

STEPS = 30
"""Products for the largest eigenvalue: enough for 1 % of it at the spectra of trained networks, whose largest values stand apart."""
VECTORS = 20
"""Products for the trace."""
STARTS, OF_A_START = 4, 20
"""Starts for the effective dimension, and products for each."""
_IGNORES = "that rescaled ReLU layers compute the same function"


def _start(subject: Subject, number: int) -> Tensor:
    """A vector of signs on the network's device."""
    values = parameters(subject.folded).values()
    generator = torch.Generator().manual_seed(subject.seed + number)
    return signs(sum(value.numel() for value in values), generator).to(next(iter(values)))


def hessian_product(subject: Subject, vector: Tensor) -> Tensor:
    """Multiply the Hessian with a vector (d,), by differentiating the gradient's product with it (Pearlmutter 1994)."""
    theta = {name: value.detach().clone().requires_grad_() for name, value in parameters(subject.folded).items()}
    leaves = list(theta.values())
    pieces = [piece.view_as(leaf) for piece, leaf in zip(vector.split([leaf.numel() for leaf in leaves]), leaves, strict=True)]
    total = torch.zeros_like(vector)
    for inputs, labels in zip(subject.inputs.split(GRADIENT_BATCH), subject.labels.split(GRADIENT_BATCH), strict=True):
        loss = cross_entropy(functional_call(subject.folded, theta, (inputs,)), labels, reduction="sum") / subject.samples
        gradients = torch.autograd.grad(loss, leaves, create_graph=True, materialize_grads=True)
        along = torch.stack([(gradient * piece).sum() for gradient, piece in zip(gradients, pieces, strict=True)]).sum()
        seconds = torch.autograd.grad(along, leaves, materialize_grads=True)
        total += torch.cat([second.reshape(-1) for second in seconds])
    return total


@measure("hessian_top", cost=f"{STEPS} products with the Hessian", cheap=False, epochs=3 * STEPS, ignores=_IGNORES)
def hessian_top(subject: Subject) -> float:
    """Largest eigenvalue of the Hessian, by Lanczos' method.

    Full-batch gradient descent at the rate eta ends near 2/eta (Cohen et al. 2021, "Gradient descent on neural networks typically occurs
    at the edge of stability"); with cross-entropy, of networks that fit, it falls again.
    """
    return lanczos(lambda vector: hessian_product(subject, vector), _start(subject, 0), STEPS).values[-1].item()


@measure("hessian_trace", cost=f"{VECTORS} products with the Hessian", cheap=False, epochs=3 * VECTORS, ignores=_IGNORES)
def hessian_trace(subject: Subject) -> float:
    """Trace of the Hessian: the mean of z'Hz over vectors of random signs (Hutchinson 1990), without bias."""
    found = (_start(subject, number) for number in range(VECTORS))
    return sum(float(hessian_product(subject, vector) @ vector) for vector in found) / VECTORS


@measure(
    "effective_dimension",
    cost=f"{STARTS * OF_A_START} products with the Hessian",
    cheap=False,
    epochs=3 * STARTS * OF_A_START,
    ignores=_IGNORES,
)
def effective_dimension(subject: Subject) -> float:
    """Number of directions that the data determines: the sum of v/(v + 1) over the eigenvalues v of n times the Hessian.

    Negative eigenvalues count 0, and the prior's precision is 1. Source: MacKay 1992 ("Bayesian interpolation"); Maddox et al. 2020
    ("Rethinking parameter counting in deep models"). By stochastic Lanczos quadrature (Ubaru, Chen and Saad 2017).
    """
    total = 0.0
    for number in range(STARTS):
        start = _start(subject, number)
        seen = lanczos(lambda vector: hessian_product(subject, vector), start, OF_A_START)
        scaled = (subject.samples * seen.values).clamp(min=0.0)
        total += len(start) * float((seen.shares * scaled / (scaled + 1)).sum())
    return total / STARTS
