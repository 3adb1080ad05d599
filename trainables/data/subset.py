"""The training subset and the validation split of a point: disjoint, seeded, balanced over the classes."""

from __future__ import annotations

import torch
from torch import Tensor

from trainables.point.config import Data
from trainables.point.errors import ConfigError
from trainables.point.streams import generator


def left_out(data: Data, available: int) -> list[int]:
    """The samples of the training split that `data.left_out` names, ascending, each once; none by default.

    Args:
        data: of a point.
        available: samples in the training split.

    Raises:
        ConfigError: that is no list of indices into the training split.

    >>> left_out(Data(left_out="17, 3,3"), 20)
    [3, 17]
    """
    if data.left_out is None:
        return []
    try:
        indices = sorted({int(part) for part in data.left_out.split(",")})
    except ValueError:
        indices = []
    if not indices or indices[0] < 0 or indices[-1] >= available:
        raise ConfigError(
            f"data.left_out is {data.left_out!r}: it is indices of training samples of {data.name}, 0 to {available - 1:,}, such as 3,17"
        )
    return indices


def split(labels: Tensor, classes: int, data: Data) -> tuple[Tensor, Tensor]:
    """Indices of the training subset and of the validation split: disjoint, seeded, each balanced over the classes.

    Balanced: every class has size//C samples or one more; a class that has fewer gives all, the others share the rest. Samples whose
    targets are numbers are drawn uniformly.
    The training subset does not depend on `validation_size`, and a smaller one is part of a larger one. With `data.replaced` one of its
    samples, counted in ascending order, gives its place to the first of those left out by both. The samples of `data.left_out` are in
    neither, and leave the order of the others as it is.

    Args:
        labels: true labels, (n,) int64, or targets, (n, T) float32.
        data: resolved (`train_size` and `seed` filled in), with train_size + validation_size <= n.

    Returns:
        (train_size,) and (validation_size,) int64, ascending but for a replaced sample.
    """
    assert data.train_size is not None
    assert data.seed is not None
    if labels.is_floating_point():
        labels, classes = torch.zeros(len(labels), dtype=torch.int64), 1
    order = torch.randperm(len(labels), generator=generator(data.seed, "subset"))
    if missing := left_out(data, len(labels)):
        order = order[~torch.isin(order, torch.tensor(missing))]
    train = _balanced(order, labels, classes, data.train_size)
    taken = torch.zeros(len(labels), dtype=torch.bool)
    taken[train] = True
    left = order.flip(0)
    left = left[~taken[left]]
    validation = _balanced(left, labels, classes, data.validation_size)
    train = train.sort().values
    if data.replaced is not None:
        taken[validation] = True
        train[data.replaced] = left[~taken[left]][0]
    return train, validation.sort().values


def _balanced(order: Tensor, labels: Tensor, classes: int, size: int) -> Tensor:
    """The first `size` of `order` that keep the classes balanced."""
    if size == 0:
        return order[:0]
    ranked = labels[order]
    counts = ranked.bincount(minlength=classes)
    rank = torch.empty_like(order)  # of each among those of its class
    rank[ranked.argsort(stable=True)] = torch.arange(len(order)) - (counts.cumsum(0) - counts).repeat_interleave(counts)
    return order[rank.argsort(stable=True)[:size]]
