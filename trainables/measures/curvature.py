"""What surrounds the end of training: the spectrum of the Hessian from its products with vectors, and the volume of low loss from walks.

Both take functions of a flat vector of parameters and know no network: `trainables.measures.bundled.hessian` and `learning_coefficient`
give them one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import exp, log

import torch
from torch import Tensor

Product = Callable[[Tensor], Tensor]
"""The product of a symmetric (d, d) matrix with a vector (d,)."""
LossGradient = Callable[[Tensor], tuple[float, Tensor]]
"""The mean loss at a vector of parameters (d,), and its gradient (d,)."""
ACCEPTED = 0.574
"""The share of proposals at which a Langevin walk moves fastest (Roberts and Rosenthal 1998)."""


@dataclass(frozen=True)
class Spectrum:
    """What Lanczos' method sees of a matrix from one start: its Ritz values (m,), and the start's share in each (m,), which sum to 1."""

    values: Tensor
    shares: Tensor


def lanczos(product: Product, start: Tensor, steps: int) -> Spectrum:
    """Run Lanczos' method with full reorthogonalization (Golub and Van Loan 2013, section 10.3).

    Args:
        product: of the matrix.
        start: (d,), not 0.
        steps: products at most; fewer where the start lies in the span of fewer eigenvectors.

    Returns:
        The spectrum, in float64, values ascending. After d steps the values are the matrix' eigenvalues.
    """
    basis = [start / torch.linalg.vector_norm(start)]
    diagonal: list[float] = []
    beside: list[float] = []
    while True:
        image = product(basis[-1])
        diagonal.append(float(image @ basis[-1]))
        if len(basis) == min(steps, len(start)):
            break
        known = torch.stack(basis)
        for _ in range(2):  # once leaves what rounding made of it
            image = image - known.T @ (known @ image)
        rest = float(torch.linalg.vector_norm(image))
        if rest <= torch.finfo(start.dtype).eps * max(map(abs, diagonal)) * len(start) ** 0.5:
            break
        beside.append(rest)
        basis.append(image / rest)
    off = torch.tensor(beside, dtype=torch.float64)
    tridiagonal = torch.diag(torch.tensor(diagonal, dtype=torch.float64)) + torch.diag(off, 1) + torch.diag(off, -1)
    values, vectors = torch.linalg.eigh(tridiagonal)
    return Spectrum(values, vectors[0].square())


def signs(dimension: int, generator: torch.Generator) -> Tensor:
    """Draw a vector (d,) of independent signs, for which the mean of z'Az is the trace of A (Hutchinson 1990)."""
    return torch.randint(0, 2, (dimension,), generator=generator).mul_(2).sub_(1).float()


def learning_coefficient(
    loss: LossGradient, start: Tensor, samples: int, generator: torch.Generator, *, localization: float, warm_up: int, draws: int
) -> float:
    """Estimate the local learning coefficient: n beta (E[L(w)] - L(w*)) with beta = 1/log n, over w near w*.

    The expectation is over the density exp(-n beta L(w) - localization/2 |w - w*|^2), the estimator of Lau et al. 2023 ("The local
    learning coefficient: a singularity-aware complexity measure"). They walk by SGLD; this walk has whole gradients and
    Metropolis' correction (MALA), so that its step size, which is tuned in the warm-up, biases nothing. What a walk of so few steps has
    not reached by then is not counted.

    Args:
        loss: the mean loss over the training samples, and its gradient.
        start: w*, (d,).
        samples: n, at least 3.
        localization: of the walk to w*, per squared unit of parameters.
        warm_up: steps in which the step size is tuned and nothing is counted.
        draws: steps that count.

    Returns:
        The coefficient; NaN where the loss at the start is not finite. Of a regular model it is d/2 in the limit of many samples.
    """
    weight = samples / log(samples)
    here, (there, slope) = start.clone(), loss(start)
    least, total, size = there, 0.0, 1.0 / (localization + weight)
    if not abs(least) < float("inf"):
        return float("nan")

    def energy(at: float, point: Tensor) -> float:
        return weight * at + localization / 2 * float((point - start).square().sum())

    pull = weight * slope
    for step in range(warm_up + draws):
        noise = torch.randn(start.shape, generator=generator).to(start)
        proposed = here - size / 2 * pull + size**0.5 * noise
        at, slope = loss(proposed)
        back = weight * slope + localization * (proposed - start)
        forth = float((proposed - here + size / 2 * pull).square().sum())
        returned = float((here - proposed + size / 2 * back).square().sum())
        odds = energy(there, here) - energy(at, proposed) + (forth - returned) / (2 * size)
        chance = exp(min(0.0, odds)) if odds == odds else 0.0
        if float(torch.rand((), generator=generator)) < chance:
            here, there, pull = proposed, at, back
        if step < warm_up:
            size *= exp((chance - ACCEPTED) * 10 / (10 + step) ** 0.6)
        else:
            total += there
    return weight * (total / draws - least)
