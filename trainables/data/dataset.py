"""A data set in memory: images and labels as stored."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainables.point.config import ImageShape


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images (n, C, H, W), uint8 in [0, 255] or finite float32; labels (n,) int64 in [0, classes)."""

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    classes: int
    digest: str | None = None

    @property
    def image_shape(self) -> ImageShape:
        _, channels, height, width = self.train_images.shape
        return channels, height, width

    def fingerprint(self) -> str:
        """What is in it as 32 hexadecimal digits: its digest if it has one, else a hash of its images and labels."""
        if self.digest is not None:
            return self.digest[:32]
        found = hashlib.blake2b(digest_size=16)
        for array in self.arrays()[:4]:
            found.update(f"{array.dtype} {array.shape}".encode())
            found.update(np.ascontiguousarray(array).data)
        return found.hexdigest()

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int, str | None]:
        """The same memory as NumPy arrays, for an object store that other processes map."""
        tensors = (self.train_images, self.train_labels, self.test_images, self.test_labels)
        first, second, third, fourth = (tensor.numpy() for tensor in tensors)
        return first, second, third, fourth, self.classes, self.digest

    @staticmethod
    def from_arrays(*parts: Any) -> Dataset:
        """The data set of `arrays`, without a copy. Nothing writes to it: mapped memory is read-only."""
        *arrays, classes, digest = parts
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            train_images, train_labels, test_images, test_labels = (torch.from_numpy(array) for array in arrays)
        return Dataset(train_images, train_labels, test_images, test_labels, classes, digest)
