"""Machine annotators: three weak classifiers that give labels to a data set, each after having seen a few samples of every class.

They stand in for the people of CIFAR-10N (Wei et al. 2022) where no labels of people are at hand. Their mistakes, too, follow from what a
sample looks like. They are no people: each is a function of the pixels alone, which a network may learn.

They compute with whole numbers, so that every machine gives the same labels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainables.point.streams import generator

SHOWN = 5
"""Samples of each class, with their true labels, that an annotator learns from; each has its own."""
ROUNDS = 20
"""Of the perceptron, through its samples."""
_ROWS = 8192
_UNITS = 32
"""Whole numbers to a standard deviation, of inputs that are no pixels."""


def machine_labels(images: Tensor, labels: Tensor, classes: int) -> dict[str, NDArray[np.int64]]:
    """The lists of CIFAR-10N for any data set, (n,) int64 each: what annotators say of every training sample.

    `random_label1` to `random_label3` are those of the class whose mean image is nearest, of the nearest sample, and of a perceptron, among
    `SHOWN` samples a class. `aggre_label` is what most of them say, one of the three where all differ; `worse_label` is one of the wrong
    ones, drawn once, where any is wrong; `clean_label` is true.

    Args:
        images: of all training samples, (n, C, H, W).
        labels: their true labels, (n,) int64 in [0, classes).
    """
    inputs = _whole(images.flatten(1))
    said = []
    for place, learn in enumerate((_nearest_mean, _nearest_sample, _perceptron)):
        shown = _shown(labels, classes, place)
        classify = learn(inputs[shown].double(), labels[shown], classes)
        said.append(torch.cat([classify(rows.double()) for rows in torch.split(inputs, _ROWS)]))
    votes = torch.stack(said)
    one = torch.rand(votes.shape, generator=generator(0, "one of the annotators"), dtype=torch.float64)
    agreed = torch.stack([(votes == own).sum(0) for own in votes]).double() + one / 2  # one of the three where all differ
    wrong = votes != labels
    lists = {f"random_label{place}": own for place, own in enumerate(said, start=1)}
    lists["aggre_label"] = votes.gather(0, agreed.argmax(0)[None])[0]
    lists["worse_label"] = torch.where(wrong.any(0), votes.gather(0, (one * wrong).argmax(0)[None])[0], labels)
    return {name: own.numpy() for name, own in (lists | {"clean_label": labels}).items()}


def _whole(inputs: Tensor) -> Tensor:
    """Inputs (n, d) as whole numbers, int32: pixels as they are, else each column in parts of its standard deviation."""
    if inputs.dtype == torch.uint8:
        return inputs.int()
    deviation = inputs.double().std(0)
    scaled = (inputs.double() - inputs.double().mean(0)) / deviation.where(deviation > 0, 1.0) * _UNITS
    return scaled.clamp(-8 * _UNITS, 8 * _UNITS).round().int()


def _shown(labels: Tensor, classes: int, annotator: int) -> Tensor:
    """The samples that an annotator learns from: up to `SHOWN` of each class, class by class."""
    order = torch.randperm(len(labels), generator=generator(0, "shown to the annotator", annotator))
    return torch.cat([order[labels[order] == label][:SHOWN] for label in range(classes)])


Classify = Callable[[Tensor], Tensor]
"""Inputs (n, d) float64, whole numbers, to classes (n,) int64."""


def _nearest_mean(shown: Tensor, labels: Tensor, classes: int) -> Classify:
    """Sums of the samples stand for means, so that products stay whole."""
    present = labels.unique()
    sums = torch.stack([shown[labels == label].sum(0) for label in present])
    counts = torch.stack([(labels == label).sum() for label in present]).double()
    return lambda inputs: present[((2 * inputs @ sums.T) / counts - sums.square().sum(1) / counts.square()).argmax(1)]


def _nearest_sample(shown: Tensor, labels: Tensor, classes: int) -> Classify:
    return lambda inputs: labels[(2 * inputs @ shown.T - shown.square().sum(1)).argmax(1)]


def _perceptron(shown: Tensor, labels: Tensor, classes: int) -> Classify:
    """Rosenblatt's rule for several classes: a mistake adds the sample to its own class's weights and takes it from those of the other."""
    centre = shown.mean(0).round()
    weights = torch.zeros(classes, shown.shape[1], dtype=torch.float64)
    samples = shown - centre
    for _ in range(ROUNDS):
        for sample, label in zip(samples, labels, strict=True):
            taken_for = (weights @ sample).argmax()
            if taken_for != label:
                weights[label] += sample
                weights[taken_for] -= sample
    return lambda inputs: ((inputs - centre) @ weights.T).argmax(1)
