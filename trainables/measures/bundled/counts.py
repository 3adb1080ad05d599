"""Measures that only count: they know the architecture, not what was learned."""

from __future__ import annotations

from math import e, isnan, log, log2, nan, prod, sqrt

from trainables.measures.layers import root_per_sample
from trainables.measures.registry import measure
from trainables.measures.subject import Subject
from trainables.models.activations import is_replaced


@measure("parameters", cost="none", cheap=True)
def parameters(subject: Subject) -> float:
    """Number of parameters: sqrt(p/n), p the trainable parameters with biases and batch norm, as in the column `parameters`.

    Source: Jiang et al. 2020, eq. 20. Ignores all that was learned: constant for a fixed architecture and n.
    """
    count = sum(parameter.numel() for parameter in subject.module.parameters() if parameter.requires_grad)
    return root_per_sample(count, subject.samples)


@measure("vc_dimension", cost="one forward pass of one sample", cheap=True)
def vc_dimension(subject: Subject) -> float:
    """VC dimension, by its upper bound for piecewise linear networks: sqrt(d/n), d of `vc_dimension_bound`.

    Source: Bartlett et al. 2019. Ignores all that was learned. NaN with another `model.activation` than rectifiers.
    """
    return root_per_sample(subject.once(_vc_dimension), subject.samples)


@measure("vc_bound", cost="one forward pass of one sample", cheap=True, ignores="all that was learned")
def vc_bound(subject: Subject) -> float:
    """The bound of the generalization gap from the VC dimension: `vc_gap_bound` of it, at confidence 95 %.

    Vacuous above 1, as it is for networks that can fit random labels: there it is the same number for all. NaN as `vc_dimension` is.
    """
    dimension = subject.once(_vc_dimension)
    return dimension if isnan(dimension) else vc_gap_bound(dimension, subject.samples)


def vc_dimension_bound(parameters: list[int], units: list[int]) -> float:
    """Upper bound of the VC dimension of a ReLU network, a layer an entry, in order.

    d = L + S log2(4 e R log2(2 e R)), with W_i the parameters of layers 1 to i, k_i the units of layer i,
    S = sum_i W_i and R = sum_i i k_i.

    Source: Bartlett, Harvey, Liaw and Mehrabian 2019, "Nearly-tight VC-dimension and pseudodimension bounds for piecewise
    linear neural networks", the refined upper bound, for activations of two linear pieces. It holds for shared weights too:
    its proof counts a layer's polynomials (the units, all positions of a channel) and their variables (its own weights).

    Args:
        parameters: weights and biases of each layer, shared ones once.
        units: outputs of each layer, all positions of a convolution.

    >>> round(vc_dimension_bound([9, 4], [3, 1]), 1)
    178.4
    """
    so_far = [sum(parameters[: layer + 1]) for layer in range(len(parameters))]
    r = sum((layer + 1) * count for layer, count in enumerate(units))
    return len(parameters) + sum(so_far) * log2(4 * e * r * log2(2 * e * r))


def vc_gap_bound(dimension: float, samples: int, *, confidence: float = 0.95) -> float:
    """Bound of test error - train error of a two-class learner, for all functions of a class at once, by its VC dimension d.

    sqrt(8/n (log g + log(4/delta))), delta = 1 - confidence, g the growth function at 2n samples: at most (2en/d)^d for d <= 2n, and
    always at most 2^(2n), which is less from d = 0.655 n on.

    Source: Vapnik and Chervonenkis 1971 with the lemma of Sauer 1972. Vacuous above 1. Ignores all but the count: data, algorithm
    and what was learned. With several classes it bounds one class against the rest.

    >>> vc_gap_bound(10, 10**6) < 0.05 < 1 < vc_gap_bound(10**7, 10**6)
    True
    """
    every = 2 * samples * log(2)
    log_growth = min(every, dimension * log(2 * e * samples / dimension)) if dimension < 2 * samples else every
    return sqrt(8 / samples * (log_growth + log(4 / (1 - confidence))))


def _vc_dimension(subject: Subject) -> float:
    """Layers in the order in which they run, which is one that the theorem allows: inputs come from earlier layers only.

    Ignores max pooling, batch norm that was not folded, and that the classes share a network.
    """
    if is_replaced(subject.folded):
        return nan
    layers = subject.layers
    weights = [layer.weight.numel() + (0 if layer.module.bias is None else layer.module.bias.numel()) for layer in layers]
    return vc_dimension_bound(weights, [prod(layer.output_shape) for layer in layers])
