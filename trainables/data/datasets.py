"""Data sets as tensors: loaded once a process, kept as stored (uint8) until used, shared by all points.

Labels and pixels are the data set's own here; `trainables.data.corruption` changes them, `trainables.data.inputs` preprocesses.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from trainables.models import ImageShape
from trainables.point.config import IMAGE_FILES, ConfigError, Data
from trainables.point.streams import generator

SYNTHETIC_SAMPLES = 10_000
"""Training samples, and test samples, of the synthetic set: a fixed pool that `train_size` takes its subset from."""

_TORCHVISION = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "cifar10": "CIFAR10", "cifar100": "CIFAR100", "svhn": "SVHN"}


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


def data_folder() -> Path:
    """Where downloads and `<name>.npz` files lie: the environment variable GAPLAB_DATA, or ~/.cache/gaplab."""
    return _expanded(os.environ.get("GAPLAB_DATA", "~/.cache/gaplab"))


@cache
def _expanded(folder: str) -> Path:
    return Path(folder).expanduser()


_SHARED: dict[str, Dataset] = {}


def load(data: Data) -> Dataset:
    """The data set that `data` names, from this process's memory after the first call.

    Raises:
        ConfigError: no such data set or file, a download that failed, a file that is not what it should be, or (for a resolved
            point) no longer the file that it was.
    """
    if data.name == "synthetic":
        return _synthetic(data.dimension, data.classes, data.separation)
    if data.name.startswith(IMAGE_FILES):
        from trainables.data.image_files import open_files  # which knows this module

        return _unchanged(data, open_files(data))
    return _unchanged(data, _SHARED.get(data.digest or data.name) or _load_named(data.name, data_folder()))


def _unchanged(data: Data, dataset: Dataset) -> Dataset:
    if data.digest not in (None, dataset.digest):
        raise ConfigError(f"data.name is {data.name}, but that is not the file of this point any more: its content has changed")
    return dataset


def share(name: str, dataset: Dataset) -> None:
    """Answer later loads of `name` from memory that this process was given, e.g. a node's object store."""
    _SHARED[dataset.digest or name] = dataset


@cache
def _load_named(name: str, folder: Path) -> Dataset:
    if name.startswith("npz:"):
        return read_npz(Path(name.removeprefix("npz:")).expanduser())
    if name == "digits":
        return _digits()
    if name not in _TORCHVISION:
        known = ", ".join(["digits", *_TORCHVISION, "synthetic"])
        raise ConfigError(f"data.name is {name!r}, which is no data set: use one of {known}, or npz:PATH for your own")
    if (folder / f"{name}.npz").is_file():
        return read_npz(folder / f"{name}.npz")
    return _torchvision(name, folder)


def _digits() -> Dataset:
    """The 1,797 handwritten digits that scikit-learn bundles (8x8, 10 classes); every fifth is a test image.

    Its file is read without scikit-learn, whose import takes half a second.
    """
    package = importlib.util.find_spec("sklearn")
    if package is None or package.origin is None:
        raise ConfigError("data.name is 'digits', which scikit-learn bundles: pip install scikit-learn")
    rows = np.loadtxt(Path(package.origin).parent / "datasets/data/digits.csv.gz", delimiter=",")
    images = torch.from_numpy(np.rint(rows[:, :64] * (255 / 16)).astype(np.uint8)).reshape(-1, 1, 8, 8)
    labels = torch.from_numpy(rows[:, 64].astype(np.int64))
    test = torch.arange(len(labels)) % 5 == 0
    return Dataset(images[~test], labels[~test], images[test], labels[test], 10)


def _torchvision(name: str, folder: Path) -> Dataset:
    """Downloaded once a machine, under a lock; torchvision verifies the checksums."""
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
    images: Callable[[Any], Tensor] = partial(_channels_first, channels_last=name != "svhn")
    labels = "labels" if name == "svhn" else "targets"
    train_labels, test_labels = (torch.as_tensor(getattr(part, labels), dtype=torch.int64) for part in (train, test))
    return Dataset(images(train.data), train_labels, images(test.data), test_labels, int(train_labels.max()) + 1)


def _channels_first(images: Any, channels_last: bool = True) -> Tensor:
    images = torch.as_tensor(images)
    if images.ndim == 3:
        return images[:, None].contiguous()
    return (images.permute(0, 3, 1, 2) if channels_last else images).contiguous()


def read_npz(path: Path) -> Dataset:
    """A Keras-style file: x_train, y_train, x_test, y_test; images H x W or H x W x C, uint8 or finite float; integer labels.

    Raises:
        ConfigError: the file is missing, damaged or holds something else; the sentence says what.
    """
    keys = ("x_train", "y_train", "x_test", "y_test")
    if not path.is_file():
        raise ConfigError(f"there is no data file {path}: give the path of a Keras-style .npz as npz:PATH")
    if not zipfile.is_zipfile(path):
        raise ConfigError(f"{path} is no .npz file, or only the beginning of one: copy it anew")
    try:
        with np.load(path, allow_pickle=False) as file:
            if missing := [key for key in keys if key not in file.files]:
                raise ConfigError(f"{path} lacks {', '.join(missing)}: a data file holds the arrays {', '.join(keys)}")
            arrays = {key: np.asarray(file[key]) for key in keys}
    except ConfigError:
        raise
    except Exception as error:  # zipfile, zlib and NumPy raise a dozen kinds on damaged bytes
        raise ConfigError(f"{path} is damaged or no .npz file of arrays ({' '.join(str(error).split())}): copy it anew") from None
    classes = _checked_classes(path, arrays)
    train_images, test_images = (_checked_images(path, key, arrays[key]) for key in ("x_train", "x_test"))
    if train_images.shape[1:] != test_images.shape[1:]:
        raise ConfigError(f"{path}: training images are {tuple(train_images.shape[1:])} but test images {tuple(test_images.shape[1:])}")
    if train_images.dtype != test_images.dtype:
        raise ConfigError(f"{path}: x_train is {arrays['x_train'].dtype} but x_test {arrays['x_test'].dtype}: both must be in one unit")
    train_labels, test_labels = (torch.from_numpy(arrays[key].reshape(-1).astype(np.int64)) for key in ("y_train", "y_test"))
    return Dataset(train_images, train_labels, test_images, test_labels, classes, _digest(arrays))


def _checked_classes(path: Path, arrays: dict[str, np.ndarray]) -> int:
    for split in ("train", "test"):
        images, labels = arrays[f"x_{split}"], arrays[f"y_{split}"]
        if labels.ndim == 0 or labels.size == 0 or labels.size != len(labels) or not np.issubdtype(labels.dtype, np.integer):
            raise ConfigError(f"{path}: y_{split} must be a list of whole numbers, one label an image; it is {labels.dtype} {labels.shape}")
        if images.ndim == 0 or len(images) != len(labels):
            raise ConfigError(f"{path}: x_{split} has {len(images) if images.ndim else 0} images but y_{split} {len(labels)} labels")
    present = np.unique(arrays["y_train"])
    classes = max(2, int(present[-1]) + 1)
    for split in ("train", "test"):
        low, high = int(arrays[f"y_{split}"].min()), int(arrays[f"y_{split}"].max())
        if low < 0 or high >= classes:
            raise ConfigError(f"{path}: y_{split} holds the label {low if low < 0 else high}, outside the classes 0 to {classes - 1}")
    if len(present) <= present[-1]:
        absent = int(np.argmax(present != np.arange(len(present))))
        raise ConfigError(f"{path}: y_train holds the label {present[-1]} but no label {absent}: number the C classes 0 to C - 1")
    return classes


def _checked_images(path: Path, key: str, images: np.ndarray) -> Tensor:
    if images.ndim not in (3, 4) or min(images.shape) == 0:
        raise ConfigError(f"{path}: {key} has shape {images.shape}: images must be N x H x W or N x H x W x C")
    if images.dtype == np.uint8:
        return _channels_first(images)
    if not np.issubdtype(images.dtype, np.floating):
        raise ConfigError(f"{path}: {key} is {images.dtype}: pixels must be uint8, or floating-point numbers")
    images = images.astype(np.float32)
    if not np.isfinite(images).all():
        raise ConfigError(f"{path}: {key} holds NaN or infinite pixels ({int((~np.isfinite(images)).sum()):,} of them): clean them first")
    return _channels_first(images)


def _digest(arrays: dict[str, np.ndarray]) -> str:
    """Content identifies data: the same arrays have one digest wherever the file lies and however it is compressed."""
    digest = hashlib.sha256()
    for key in sorted(arrays):
        digest.update(f"{key}{arrays[key].shape}{arrays[key].dtype.str}".encode())
        digest.update(np.ascontiguousarray(arrays[key]).data)
    return digest.hexdigest()[:32]


@cache
def _synthetic(dimension: int, classes: int, separation: float) -> Dataset:
    """A mixture of `classes` Gaussians N(mu_c, I) in `dimension` dimensions, as 1 x 1 x dimension "images".

    The means lie on random directions at distance separation/sqrt(2) from the origin: two of them are `separation`
    apart when the directions are orthogonal (made so where dimension >= classes).
    """
    draw = generator(0, "synthetic", dimension, classes)
    directions = torch.randn(classes, dimension, generator=draw, dtype=torch.float64)
    if dimension >= classes:
        directions = torch.linalg.qr(directions.T).Q.T
    means = torch.nn.functional.normalize(directions) * (separation / 2**0.5)
    labels = torch.arange(2 * SYNTHETIC_SAMPLES) % classes
    points = (means[labels] + torch.randn(len(labels), dimension, generator=draw, dtype=torch.float64)).float()[:, None, None]
    return Dataset(points[:SYNTHETIC_SAMPLES], labels[:SYNTHETIC_SAMPLES], points[SYNTHETIC_SAMPLES:], labels[SYNTHETIC_SAMPLES:], classes)


def split(labels: Tensor, classes: int, data: Data) -> tuple[Tensor, Tensor]:
    """Indices of the training subset and of the validation split: disjoint, seeded, each balanced over the classes.

    Balanced: every class has size//C samples or one more; a class that has fewer gives all, the others share the rest.
    The training subset does not depend on `validation_size`, and a smaller one is part of a larger one. With `data.replaced` one of its
    samples, counted in ascending order, gives its place to the first of those left out by both.

    Args:
        labels: true labels, (n,) int64.
        data: resolved (`train_size` and `seed` filled in), with train_size + validation_size <= n.

    Returns:
        (train_size,) and (validation_size,) int64, ascending but for a replaced sample.
    """
    assert data.train_size is not None
    assert data.seed is not None
    order = torch.randperm(len(labels), generator=generator(data.seed, "subset"))
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
