"""Named sets: scikit-learn's, and the images that torchvision downloads or that lie as ``NAME.npz`` in the data folder."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from functools import cache, partial
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainables.compat import digits_table
from trainables.data.sets.bundled import TABLES, bundled_table
from trainables.data.sets.dataset import Dataset
from trainables.data.sets.npz import channels_first, read_npz
from trainables.point.config import MADE_UP
from trainables.point.errors import ConfigError

_TORCHVISION = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "cifar10": "CIFAR10", "cifar100": "CIFAR100", "svhn": "SVHN"}


SMALL = {"small_digits": ("digits", 1), "small_mnist": ("mnist", 2), "small_cifar10": ("cifar10", 4)}
"""Small sets, on which a network takes milliseconds: made of which set, by the mean over squares of how many pixels a side."""
_PER_CLASS = 250
"""Training images a class of the small sets of MNIST and CIFAR-10, and test images a class."""


def data_folder() -> Path:
    """The folder where downloads and `<name>.npz` files are kept: the environment variable GAPLAB_DATA, or ~/.cache/gaplab."""
    return _expanded(os.environ.get("GAPLAB_DATA", "~/.cache/gaplab"))


@cache
def _expanded(folder: str) -> Path:
    return Path(folder).expanduser()


@cache
def load_named(name: str, folder: Path, task: str | None = None) -> Dataset:
    """A data set that is named, or a file of arrays, read once a process.

    Args:
        folder: where downloaded sets lie, and ``NAME.npz``.
        task: of an ``npz:PATH``, as `data.task`.
    """
    if name.startswith("npz:"):
        return read_npz(Path(name.removeprefix("npz:")).expanduser(), task)
    if name == "digits":
        return _digits()
    if name in TABLES:
        return bundled_table(name)
    if name in SMALL:
        return _small(name, folder)
    if name not in _TORCHVISION:
        known = ", ".join(["digits", *TABLES, *_TORCHVISION, *SMALL, *MADE_UP])
        own = "npz:PATH, or the path of a .csv or .parquet file, for your own"
        raise ConfigError(f"data.name is {name!r}, which is no data set: use one of {known}, or {own}")
    if (folder / f"{name}.npz").is_file():
        return read_npz(folder / f"{name}.npz")
    return _torchvision(name, folder)


def _digits() -> Dataset:
    """The 1,797 handwritten digits that scikit-learn bundles (8x8, 10 classes); every fifth is a test image."""
    rows = digits_table()
    if rows is None:
        raise ConfigError("data.name is 'digits', which scikit-learn bundles: pip install scikit-learn")
    images = torch.from_numpy(np.rint(rows[:, :64] * (255 / 16)).astype(np.uint8)).reshape(-1, 1, 8, 8)
    labels = torch.from_numpy(rows[:, 64].astype(np.int64))
    test = torch.arange(len(labels)) % 5 == 0
    return Dataset(images[~test], labels[~test], images[test], labels[test], 10)


def _small(name: str, folder: Path) -> Dataset:
    """Few training images with few pixels, and enough test images to tell gaps apart.

    Of the digits every third is a training image and the others are test images (599 and 1,198); of MNIST and CIFAR-10 the first
    `_PER_CLASS` of each class in either split, in the order of the file (2,500 and 2,500), as 14x14 grey and 8x8 coloured images: means
    over squares of pixels, rounded half up.
    """
    of, side = SMALL[name]
    whole = load_named(of, folder)
    if of == "digits":
        images, labels = torch.cat([whole.train_images, whole.test_images]), torch.cat([whole.train_labels, whole.test_labels])
        train = torch.arange(len(labels)) % 3 == 0
        return Dataset(images[train], labels[train], images[~train], labels[~train], whole.classes)
    train_index, test_index = _first_of_each_class(whole.train_labels), _first_of_each_class(whole.test_labels)
    train_images, test_images = (_pooled(each, side) for each in (whole.train_images[train_index], whole.test_images[test_index]))
    return Dataset(train_images, whole.train_labels[train_index], test_images, whole.test_labels[test_index], whole.classes)


def _first_of_each_class(labels: Tensor) -> Tensor:
    return torch.cat([(labels == each).nonzero()[:_PER_CLASS, 0] for each in labels.unique()]).sort().values


def _pooled(images: Tensor, side: int) -> Tensor:
    """The mean over squares of ``side`` pixels a side, rounded half up."""
    count, channels, height, width = images.shape
    sums = images.long().reshape(count, channels, height // side, side, width // side, side).sum((3, 5))
    return ((sums + side * side // 2) // side**2).to(torch.uint8)


def _torchvision(name: str, folder: Path) -> Dataset:
    """Downloaded once a machine, under a lock; torchvision verifies the checksums."""
    from filelock import FileLock  # here alone: training on other data needs torch and NumPy only

    splits = [{"split": "train"}, {"split": "test"}] if name == "svhn" else [{"train": True}, {"train": False}]
    try:
        source = getattr(importlib.import_module("torchvision.datasets"), _TORCHVISION[name])
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f"{name}.lock"):
            train, test = (source(str(folder), download=True, **split) for split in splits)
    except (ImportError, OSError, RuntimeError, HTTPException) as error:
        raise ConfigError(
            f"data.name is {name!r}, but torchvision could not download it to {folder} ({' '.join(str(error).split())}): "
            f"check the connection, or put a Keras-style file there as {name}.npz"
        ) from None
    images: Callable[[Any], Tensor] = partial(channels_first, channels_last=name != "svhn")
    labels = "labels" if name == "svhn" else "targets"
    train_labels, test_labels = (torch.as_tensor(getattr(part, labels), dtype=torch.int64) for part in (train, test))
    return Dataset(images(train.data), train_labels, images(test.data), test_labels, int(train_labels.max()) + 1)
