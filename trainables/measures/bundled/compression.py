"""A bound on the test error from how short the trained network can be written down: a number that holds, not a correlate."""

from __future__ import annotations

from math import lgamma, log

import torch
from torch import Tensor

from trainables.measures.layers import parameters
from trainables.measures.outputs import accuracy, outputs
from trainables.measures.registry import measure
from trainables.measures.subject import Subject

CONFIDENCE = 0.05
"""delta: the bound fails with at most this probability over draws of the training set."""
GRIDS = (1, 2, 4, 8, 16, 32, 64)
"""Steps of a tensor's grid on either side of 0; the best of them is taken, and saying which is paid for."""
_STEP_BITS = 16
"""For the step of a tensor's grid, as a half-precision number."""


@measure(
    "compression_bound",
    cost=f"{len(GRIDS)} forward passes",
    cheap=False,
    epochs=len(GRIDS),
    ignores="the network as trained: it is of the one with rounded weights",
)
def compression_bound(subject: Subject) -> float:
    """Upper bound on the test error of the network with rounded weights, at confidence 95 %; 1 and nearly 1 say nothing.

    Occam's razor bound (Langford 2005, "Tutorial on practical prediction theory for classification", theorem 4.6; Zhou et al. 2019,
    "Non-vacuous generalization bounds at the ImageNet scale", for networks): with probability 1 - delta over training sets of n samples
    every network h with a description of L(h) bits in a prefix code fixed beforehand has
    kl(train error || test error) <= (L ln 2 + ln(1/delta))/n. The code: each tensor's distance from the initialization, which does not
    depend on the data, rounded to a grid of one step size; which steps were taken, by an adaptive code. The test error is that on
    samples with labels as they were trained on: with corrupted labels it is the error against labels corrupted in the same way.
    """
    final, initial = parameters(subject.folded), parameters(subject.folded_initial)
    bounds = []
    for grid in GRIDS:
        rounded, bits = {}, log(len(GRIDS), 2)
        for name, value in final.items():
            steps, step = on_grid(value - initial[name], grid)
            rounded[name] = initial[name] + steps * step
            bits += _STEP_BITS + code_length(steps, grid)
        error = 1 - accuracy(subject, outputs(subject, rounded))
        bounds.append(largest_error(error, (bits * log(2) + log(1 / CONFIDENCE)) / subject.samples))
    return min(bounds)


def on_grid(moved: Tensor, grid: int) -> tuple[Tensor, float]:
    """Round a tensor to whole multiples of a step of half precision, from -grid to grid; returns the multiples and the step."""
    step = float((moved.abs().max() / grid).half()) if moved.numel() else 0.0
    if step == 0.0:
        return torch.zeros_like(moved), 0.0
    return (moved / step).round().clamp(-grid, grid), step


def code_length(steps: Tensor, grid: int) -> float:
    """Bits for a sequence of whole numbers from -grid to grid, one after the other, each predicted by Laplace's rule from those before.

    With N numbers of K kinds, n_k of kind k, this is log2 of (N + K - 1)! / ((K - 1)! prod n_k!), and 2 bits for ending an arithmetic
    code (Cover and Thomas 2006, sections 13.2 and 13.3).
    """
    kinds = 2 * grid + 1
    counts = torch.bincount((steps.reshape(-1) + grid).long(), minlength=kinds).tolist()
    nats = lgamma(steps.numel() + kinds) - lgamma(kinds) - sum(lgamma(count + 1) for count in counts)
    return nats / log(2) + 2


def largest_error(seen: float, divergence: float) -> float:
    """The largest p with kl(seen || p) <= divergence, of Bernoulli distributions in nats."""
    low, high = seen, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if _divergence(seen, middle) <= divergence:
            low = middle
        else:
            high = middle
    return high


def _divergence(seen: float, true: float) -> float:
    """Kullback-Leibler divergence of two Bernoulli distributions, in nats."""
    if true >= 1.0:
        return float("inf") if seen < 1.0 else 0.0
    first = seen * log(seen / true) if seen > 0 else 0.0
    return first + ((1 - seen) * log((1 - seen) / (1 - true)) if seen < 1 else 0.0)
