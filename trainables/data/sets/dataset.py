"""A data set in memory: images and labels as stored."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainables.point.config import ImageShape


@dataclass(frozen=True)
class Target:
    """A number that is learnt, in its own unit: its mean and its standard deviation over the training samples, by which it is scaled."""

    name: str
    mean: float
    deviation: float


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images (n, C, H, W), uint8 in [0, 255] or finite float32; labels (n,) int64 in [0, classes). A table of d columns is (n, d, 1, 1).

    Of regression, labels are (n, T) float32, each target at mean 0 and deviation 1 over the (true) training ones, and `classes` is T.

    Attributes:
        train_labels: the true ones, as far as the data set knows.
        given_labels: of a set that has true labels beside those given by people or machines, the given ones of the training samples.
        class_names: the classes as the file calls them; empty where they are the numbers from 0.
        facts: how a file was understood, name and value of each, for `trainables.data.sets.inspection`.
        doubts: sentences about what was guessed in it.
        targets: of regression, what is learnt, T of them; empty where labels are classes.
    """

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    classes: int
    digest: str | None = None
    given_labels: Tensor | None = None
    class_names: tuple[str, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    doubts: tuple[str, ...] = ()
    targets: tuple[Target, ...] = ()

    @property
    def is_regression(self) -> bool:
        """Whether labels are numbers and no classes."""
        return bool(self.targets)

    @property
    def image_shape(self) -> ImageShape:
        _, channels, height, width = self.train_images.shape
        return channels, height, width

    def fingerprint(self) -> str:
        """What is in it as 32 hexadecimal digits: its digest if it has one, else a hash of its images and labels."""
        if self.digest is not None:
            return self.digest[:32]
        found = hashlib.blake2b(digest_size=16)
        for part in self.arrays():
            if isinstance(part, np.ndarray):
                found.update(f"{part.dtype} {part.shape}".encode())
                found.update(np.ascontiguousarray(part).data)
        return found.hexdigest()

    @property
    def is_table(self) -> bool:
        """Whether a sample is a row of numbers, without height and width."""
        return self.image_shape[1:] == (1, 1)

    def arrays(self) -> tuple[Any, ...]:
        """Every attribute in its order, tensors as NumPy arrays of the same memory, for an object store that other processes map."""
        parts = (getattr(self, each.name) for each in fields(self))
        return tuple(part.numpy() if isinstance(part, Tensor) else part for part in parts)

    @staticmethod
    def from_arrays(*parts: Any) -> Dataset:
        """The data set of `arrays`, without a copy. Nothing writes to it: mapped memory is read-only."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            tensors: Any = (torch.from_numpy(part) if isinstance(part, np.ndarray) else part for part in parts)
            return Dataset(*tensors)


def digests(images: Tensor) -> list[bytes]:
    """A digest of the content of each image."""
    rows = images.reshape(len(images), -1).contiguous().numpy()
    return [hashlib.blake2b(row.data, digest_size=16).digest() for row in rows]
