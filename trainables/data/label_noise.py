"""Label noise that depends on the class (a transition matrix), or on the sample's features (Xia et al. 2020)."""

from __future__ import annotations

import torch
from torch import Tensor

from trainables.point.errors import ConfigError
from trainables.point.streams import generator
from trainables.point.transitions import rows_of

CIFAR10_MISTAKES = {9: 1, 2: 0, 4: 7, 3: 5, 5: 3}
"""Truck to automobile, bird to airplane, deer to horse, cat to dog and dog to cat."""
RATE_DEVIATION = 0.1
"""Of the rates of single samples around their level (Xia et al. 2020, Algorithm 2)."""


def transition_matrix(transition: str, classes: int) -> Tensor:
    """The probability that a corrupted label of class i (row) becomes class j (column), (C, C) float64.

    A corruption of some level applies it with that probability, so that labels pass through (1 - level) * I + level * T.

    - `symmetric`: each other class alike, which is `flip`.
    - `pair_flip`: the next class, the first after the last (Han et al. 2018, "Co-teaching").
    - `asymmetric_cifar10`: the classes of CIFAR-10 that look alike, `CIFAR10_MISTAKES`; others keep their label (Patrini et al. 2017).
    - rows of numbers: as they stand.

    Raises:
        ConfigError: it is not for that many classes.
    """
    if transition == "symmetric":
        return (1 - torch.eye(classes, dtype=torch.float64)) / (classes - 1)
    if transition == "pair_flip":
        return torch.eye(classes, dtype=torch.float64).roll(1, dims=1)
    if transition == "asymmetric_cifar10":
        if classes != 10:
            raise ConfigError(f"corruption.transition is asymmetric_cifar10, which is for CIFAR-10's ten classes; the data has {classes}")
        matrix = torch.eye(classes, dtype=torch.float64)
        for true, taken_for in CIFAR10_MISTAKES.items():
            matrix[true] = torch.eye(classes, dtype=torch.float64)[taken_for]
        return matrix
    rows = rows_of(transition)
    if len(rows) != classes:
        raise ConfigError(f"corruption.transition is a matrix of {len(rows)} classes, but the data has {classes}")
    return torch.tensor(rows, dtype=torch.float64)


def matched_matrix(transition: str, labels: Tensor, given: Tensor, classes: int) -> Tensor:
    """The transition that has to do with given labels what its name says, (C, C) float64.

    - `given_matrix`: how often each class was given each label. A class without samples keeps its label.
    - `given_rate`: any other class alike, as often as given labels are wrong over all samples.

    Args:
        labels: true labels, (n,) int64 in [0, classes).
        given: the given ones of the same samples.
    """
    counts = torch.bincount(labels * classes + given, minlength=classes**2).reshape(classes, classes).double()
    same = torch.eye(classes, dtype=torch.float64)
    if transition == "given_rate":
        rate = 1 - counts.trace() / counts.sum()
        return (1 - rate) * same + rate * transition_matrix("symmetric", classes)
    of_class = counts.sum(1, keepdim=True)
    return torch.where(of_class > 0, counts / of_class.clamp_min(1), same)


def passed_through(labels: Tensor, matrix: Tensor, draw: torch.Generator) -> Tensor:
    """Labels (n,) int64, each drawn anew from its class's row of a transition matrix."""
    uniform = torch.rand(len(labels), generator=draw, dtype=torch.float64)
    found = torch.empty_like(labels)
    for label, row in enumerate(matrix):
        own = labels == label
        found[own] = _drawn(row.expand(int(own.sum()), -1), uniform[own])
    return found


def instance_dependent(labels: Tensor, images: Tensor, classes: int, level: float, seed: int) -> Tensor:
    """Labels that are wrong with a probability of each sample's own, and then in a way that its features decide.

    Algorithm 2 of Xia et al. 2020 ("Part-dependent label noise"): a sample's rate q is drawn from N(level, 0.1^2) truncated to [0, 1].
    With that probability its label y becomes class j != y with probability softmax(x W_y)_j, where the entries of the matrix W_y of class
    y, inputs x classes, are standard normal and x are its inputs, here with mean 0 and deviation 1 of each channel over the training set.

    The mean of the rates is the level but for levels within about 0.2 of 0 or 1, where truncation moves it inwards. A higher level
    corrupts the same labels alike and more.

    Args:
        labels: true labels, (n,) int64.
        images: of all training samples, (n, C, H, W).
        level: in (0, 1].
        seed: of the draws.
    """
    rates = truncated_normal(level, torch.rand(len(labels), generator=generator(seed, "rates of wrong labels"), dtype=torch.float64))
    chosen = torch.rand(len(labels), generator=generator(seed, "corrupted labels"), dtype=torch.float64) < rates
    uniform = torch.rand(len(labels), generator=generator(seed, "new labels"), dtype=torch.float64)
    mean, deviation = _channel_moments(images)
    inputs = images[0].numel()
    found = labels.clone()
    for label in range(classes):
        weights = torch.randn(inputs, classes, generator=generator(seed, "weights of wrong labels", label), dtype=torch.float64)
        for rows in torch.split(torch.nonzero(chosen & (labels == label))[:, 0], 2048):  # bounds the memory of inputs in double precision
            some = ((images[rows].double() - mean) / deviation).flatten(1)
            projected = some @ weights
            projected[:, label] = float("-inf")
            found[rows] = _drawn(projected.softmax(1), uniform[rows])
    return found


def truncated_normal(mean: float, uniform: Tensor) -> Tensor:
    """The quantiles at `uniform`, in [0, 1), of N(mean, RATE_DEVIATION^2) truncated to [0, 1], float64."""
    ends = torch.tensor([(0 - mean) / RATE_DEVIATION, (1 - mean) / RATE_DEVIATION], dtype=torch.float64)
    low, high = torch.special.ndtr(ends)
    deviates: Tensor = torch.special.ndtri(low + uniform * (high - low))
    return (mean + RATE_DEVIATION * deviates).clamp(0, 1)


def _drawn(probabilities: Tensor, uniform: Tensor) -> Tensor:
    """One of the columns of each row (n, C) of probabilities, by its `uniform` number in [0, 1): never one of probability 0."""
    upper = probabilities.cumsum(1)
    upper = upper / upper[:, -1:]
    return torch.searchsorted(upper, uniform[:, None], right=True)[:, 0]


def _channel_moments(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel, (C, 1, 1) float64; the deviation of a constant channel is taken as 1."""
    channels = images.shape[1]
    total, squares = torch.zeros(2, channels, dtype=torch.float64)
    for part in torch.split(images, 2048):
        values = part.double()
        total += values.sum((0, 2, 3))
        squares += values.square().sum((0, 2, 3))
    count = images.numel() / channels
    mean = total / count
    deviation = (squares / count - mean.square()).clamp_min(0).sqrt()
    return mean[:, None, None], deviation.where(deviation > 0, 1.0)[:, None, None]
