"""The randomization tests of Zhang et al. 2017, section 2.1, the label flip of Nakkiran et al. 2019, and other label noise.

Labels of the training set are corrupted, and pixels of training and test images. Each draw follows from a seed alone:
a higher level corrupts the same labels and more, and a sample's label does not depend on the subset it is used in.
"""

from __future__ import annotations

import torch
from torch import Tensor

from trainables.data.label_noise import instance_dependent, matched_matrix, passed_through, transition_matrix
from trainables.data.sets.dataset import Dataset
from trainables.data.sets.given_labels import given_labels
from trainables.point.config import Corruption
from trainables.point.errors import ConfigError
from trainables.point.kinds import LABEL_KINDS
from trainables.point.streams import generator
from trainables.point.transitions import OF_GIVEN

OF_NUMBERS = ("redraw", "random_labels", "given")
"""Kinds of label noise that the targets of regression can have; the others need classes."""


def classes_of(classes: int, corruption: Corruption) -> int:
    """Classes of a task whose data set has `classes`: a label is taken modulo this number.

    `random_signs` makes a two-class task of any set, the odd labels (+1) against the even ones (-1).
    """
    return 2 if corruption.kind == "random_signs" else classes


def labels_of(dataset: Dataset, corruption: Corruption) -> tuple[Tensor, Tensor]:
    """The true labels of all training samples of a data set and those trained on, (n,) int64 in [0, `classes_of`), or (n, T) targets.

    Args:
        corruption: resolved (level and seed filled in).
    """
    classes = classes_of(dataset.classes, corruption)
    true = within_classes(dataset.train_labels, classes)
    return true, corrupt_labels(true, classes, corruption, _given(dataset, corruption), dataset.train_images)


def within_classes(labels: Tensor, classes: int) -> Tensor:
    """Labels modulo the number of classes; targets of regression as they are."""
    return labels if labels.is_floating_point() else labels % classes


def _given(dataset: Dataset, corruption: Corruption) -> Tensor | None:
    """The labels that the data came with, or that a file beside it holds."""
    if corruption.labels_in_force is None:
        return dataset.given_labels
    labels, digest = given_labels(corruption.labels_in_force, dataset)
    if corruption.digest not in (None, digest):
        raise ConfigError(f"corruption.labels is {corruption.labels}, but these are not the labels of this point any more")
    return labels


def corrupt_labels(
    labels: Tensor, classes: int, corruption: Corruption, given: Tensor | None = None, images: Tensor | None = None
) -> Tensor:
    """The labels trained on.

    `redraw` and `random_labels` draw a corrupted label uniformly over all classes, so that it is wrong with probability
    level*(C-1)/C; `flip` draws it uniformly over the other classes, so that it is wrong with probability level. `random_signs`
    is `redraw` of the two classes that `classes_of` leaves. `given` takes a sample's given label with probability level, so that it is
    wrong with probability level times the rate of wrong labels in the data. `class_conditional` passes a label through its transition
    matrix with probability level, and `instance` makes it wrong by features, with level as the mean rate (`trainables.data.label_noise`).

    Targets of regression know `OF_NUMBERS` alone: `redraw` draws all numbers of a sample anew from those of all samples, with replacement,
    so that their distribution stays and a sample may draw its own.

    Args:
        labels: true labels, (n,) int64 in [0, classes), or targets, (n, T) float32.
        corruption: resolved (level and seed filled in); pixel kinds leave labels as they are.
        given: the labels that came with the data, (n,) int64 in [0, classes), for `given` and the transitions that are measured from them.
        images: of the samples, (n, C, H, W), for `instance`.

    >>> labels = torch.arange(10)
    >>> bool((corrupt_labels(labels, 10, Corruption("flip", 1.0, seed=0)) == labels).any())
    False
    """
    if corruption.kind not in LABEL_KINDS:
        return labels
    assert corruption.level is not None
    assert corruption.seed is not None
    if corruption.kind == "instance":
        assert images is not None
        return instance_dependent(labels, images, classes, corruption.level, corruption.seed) if corruption.level else labels
    chosen = torch.rand(len(labels), generator=generator(corruption.seed, "corrupted labels"), dtype=torch.float64) < corruption.level
    numbers = labels.is_floating_point()
    chosen = chosen[:, None] if numbers else chosen
    draw = generator(corruption.seed, "new labels")
    if corruption.kind == "given":
        assert given is not None
        new = given
    elif numbers:
        assert corruption.kind in OF_NUMBERS
        new = labels[torch.randint(0, len(labels), (len(labels),), generator=draw)]
    elif corruption.transition_in_force in OF_GIVEN:
        assert given is not None
        new = passed_through(labels, matched_matrix(corruption.transition_in_force, labels, given, classes), draw)
    elif corruption.transition_in_force not in (None, "symmetric"):
        new = passed_through(labels, transition_matrix(corruption.transition_in_force, classes), draw)
    elif corruption.kind in ("flip", "class_conditional"):
        new = (labels + torch.randint(1, classes, labels.shape, generator=draw)) % classes
    else:
        new = torch.randint(0, classes, labels.shape, generator=draw)
    return torch.where(chosen, new, labels)


def corrupt_pixels(pixels: Tensor, corruption: Corruption, split: str, mean: Tensor, deviation: Tensor) -> Tensor:
    """Images with `level` of their pixels shuffled or replaced; a pixel's channels move together.

    `shuffled_pixels` applies one permutation to every image of both splits; `random_pixels` draws one for each image;
    `gaussian` draws pixels from N(mean, deviation^2) of each channel. With a level below 1 the corrupted positions are
    drawn too (for all images together under `shuffled_pixels`), round(level * H * W) of them.

    Args:
        pixels: (n, C, H, W), uint8 or float32.
        split: "train" or "test", so that the two draw differently where images draw for themselves.
        mean, deviation: of each channel of the training set, (C,), in the units of `pixels`.

    Returns:
        (n, C, H, W) of the dtype of `pixels`, float32 for `gaussian`.
    """
    assert corruption.level is not None
    assert corruption.seed is not None
    count, channels, height, width = pixels.shape
    positions = height * width
    affected = round(corruption.level * positions)
    flat = pixels.reshape(count, channels, positions)
    if corruption.kind == "shuffled_pixels":
        source = _partial_permutations(1, positions, affected, generator(corruption.seed, "shuffled pixels"))[0]
        return flat[:, :, source].reshape(pixels.shape)
    draw = generator(corruption.seed, f"{corruption.kind} {split}")
    if corruption.kind == "random_pixels":
        result = torch.empty_like(flat)
        for rows in torch.split(torch.arange(count), 2048):  # bounds the memory of the random keys
            source = _partial_permutations(len(rows), positions, affected, draw)
            result[rows] = flat[rows].gather(2, source[:, None, :].expand(-1, channels, -1))
        return result.reshape(pixels.shape)
    noise = torch.randn(flat.shape, generator=draw) * deviation[:, None] + mean[:, None]
    if affected == positions:
        return noise.reshape(pixels.shape)
    chosen = torch.rand(count, positions, generator=draw).argsort(1) < affected
    return torch.where(chosen[:, None, :], noise, flat.float()).reshape(pixels.shape)


def _partial_permutations(count: int, positions: int, affected: int, draw: torch.Generator) -> Tensor:
    """(count, positions): each row permutes a random `affected` of the positions uniformly and leaves the others."""
    order = torch.rand(count, positions, generator=draw, dtype=torch.float64).argsort(1)[:, :affected]
    source = torch.arange(positions).repeat(count, 1)
    return source.scatter_(1, order.sort(1).values, order)
