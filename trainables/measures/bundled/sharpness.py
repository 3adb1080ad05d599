"""Sharpness: how fast the network breaks when its parameters move, in the worst direction or on average.

alpha is the half side of the largest box |u_i| <= alpha around the parameters in which gradient ascent on the loss finds no point whose
training accuracy is more than 0.1 lower; alpha' that of |u_i| <= alpha' |w_i|, in units of each parameter's size.
Ascent: 10 steps of a quarter of the box along the sign of the gradient, projected back. The search bisects log alpha in
[1e-6, 2] until the drop is 0.1 within 0.01, at most 15 times. All parameters move, biases too.

The search only shows that a box breaks, never that one holds: ascent that ends in a local maximum reads as flat. The loss is cross-entropy.
"""

from __future__ import annotations

from math import exp, log

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from trainables.measures.bundled.norms import squared_distance, squared_norm
from trainables.measures.bundled.pacbayes import DROP, Deviation, noisy
from trainables.measures.layers import parameters, root_per_sample
from trainables.measures.outputs import GRADIENT_BATCH, accuracy, logits, outputs
from trainables.measures.registry import Common, measure
from trainables.measures.subject import Subject

_TOLERANCE, _SMALLEST, _LARGEST, _BISECTIONS, _ASCENT = 0.01, 1e-6, 2.0, 15, 10
_WORST: Common = {
    "cost": "150 steps of gradient ascent or fewer, once for sharpness_flatness, _orig and _init",
    "cheap": False,
    "epochs": 200,
    "ignores": "that rescaled ReLU layers compute the same function",
}
RELATIVE = 0.1
"""Noise of `sharpness_average` in units of each parameter's size."""
DRAWS = 10


@measure("sharpness_flatness", **_WORST)
def sharpness_flatness(subject: Subject) -> float:
    """Worst-case sharpness: sqrt(v/n), v = 1/alpha^2.

    Source: Keskar et al. 2017 ("On large-batch training"), in the form of Jiang et al. 2020. Changes when ReLU layers are rescaled.
    """
    return root_per_sample(subject.once(alpha) ** -2, subject.samples)


@measure(
    "sharpness_mag_flatness",
    cost="150 steps of gradient ascent or fewer",
    cheap=False,
    epochs=200,
    ignores="parameters of 0, which do not move",
)
def sharpness_mag_flatness(subject: Subject) -> float:
    """Worst-case sharpness in units of each parameter's size: sqrt(v/n), v = 1/alpha'^2.

    Source: Jiang et al. 2020, "1/alpha' sharpness-mag". Without the least side epsilon that they give each parameter, which alone
    may break a deep network; so it is unchanged when ReLU layers are rescaled. A parameter of 0 does not move.
    """
    return root_per_sample(subject.once(magnitude_aware_alpha) ** -2, subject.samples)


@measure("sharpness_orig", **_WORST)
def sharpness_orig(subject: Subject) -> float:
    """`pacbayes_orig` with the noise that stays in the box: sigma = alpha / sqrt(2 log(2k/0.05)), k the number of parameters.

    So much Gaussian noise leaves |u_i| <= alpha with probability 0.95 at least. Jiang et al. 2020 have a measure of this name; the
    constants are our derivation.
    """
    return _bound(subject, subject.once(squared_norm))


@measure("sharpness_init", **_WORST)
def sharpness_init(subject: Subject) -> float:
    """The measure `sharpness_orig`, with the distance from initialization |w - w0|^2 for |w|^2."""
    return _bound(subject, subject.once(squared_distance))


@measure("sharpness_average", cost="10 forward passes", cheap=False, epochs=4, ignores="the worst direction")
def sharpness_average(subject: Subject) -> float:
    """Average-case sharpness: mean training loss under noise - training loss, over 10 draws u_i ~ N(0, (0.1 w_i)^2).

    Source: average-case adaptive sharpness, as Andriushchenko et al. 2023 ("A modern look at the relationship between sharpness and
    generalization") compare it; the size 0.1 is ours. In nats. Unchanged, in expectation, when ReLU layers are rescaled.
    """

    def loss(scores: Tensor) -> float:
        return cross_entropy(scores.double(), subject.labels).item()

    perturbed = [loss(outputs(subject, noisy(subject, _relative, RELATIVE, draw))) for draw in range(DRAWS)]
    return sum(perturbed) / DRAWS - loss(subject.once(logits))


def alpha(subject: Subject) -> float:
    """Search half the side of the largest box that keeps the training accuracy."""
    return _largest_box(subject, lambda parameter, level: torch.full_like(parameter, level))


def magnitude_aware_alpha(subject: Subject) -> float:
    """Search alpha', as `alpha` does alpha, with sides in proportion to each parameter."""
    return _largest_box(subject, _relative)


def _relative(parameter: Tensor, level: float) -> Tensor:
    return level * parameter.abs()


def _largest_box(subject: Subject, side: Deviation) -> float:
    reached = accuracy(subject, subject.once(logits))
    low, high = log(_SMALLEST), log(_LARGEST)
    level = _LARGEST
    for _ in range(_BISECTIONS):
        level = exp((low + high) / 2)
        drop = reached - _worst_accuracy(subject, side, level, enough=reached - DROP - _TOLERANCE)
        if abs(drop - DROP) < _TOLERANCE:
            break
        low, high = (low, log(level)) if drop > DROP else (log(level), high)
    return level


def _worst_accuracy(subject: Subject, side: Deviation, level: float, enough: float) -> float:
    """Find the lowest accuracy on the path of gradient ascent in the box; the path ends where it falls below `enough`."""
    theta = parameters(subject.folded)
    limits = {name: side(value, level) for name, value in theta.items()}
    moved = dict(theta)
    worst = 1.0
    for _ in range(_ASCENT):
        if worst < enough:
            break
        gradient = _gradient(subject, moved)
        for name, value in moved.items():
            stepped = value + limits[name] / 4 * gradient[name].sign()
            moved[name] = torch.minimum(torch.maximum(stepped, theta[name] - limits[name]), theta[name] + limits[name])
        worst = min(worst, accuracy(subject, outputs(subject, moved)))
    return worst


def _gradient(subject: Subject, values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Compute the gradient of the training loss at these parameters."""
    leaves = {name: value.clone().requires_grad_() for name, value in values.items()}
    for inputs, labels in zip(torch.split(subject.inputs, GRADIENT_BATCH), torch.split(subject.labels, GRADIENT_BATCH), strict=True):
        torch.autograd.backward(cross_entropy(functional_call(subject.folded, leaves, (inputs,)), labels, reduction="sum"))
    return {name: leaf.grad if leaf.grad is not None else torch.zeros_like(leaf) for name, leaf in leaves.items()}


def _bound(subject: Subject, squared: float) -> float:
    count = sum(value.numel() for value in parameters(subject.folded).values())
    level = subject.once(alpha) / (2 * log(2 * count / 0.05)) ** 0.5
    return root_per_sample(squared / (4 * level**2) + log(subject.samples / level) + 10, subject.samples)
