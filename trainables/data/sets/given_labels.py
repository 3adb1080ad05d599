"""Labels that people gave to the images of a data set, in a file beside it, such as those of CIFAR-10N and CIFAR-100N (Wei et al. 2022).

``corruption: {kind: given, labels: "CIFAR-10_human.pt:worse_label"}`` names the published file and one of its lists. The file holds no
images, so labels can be joined by their order alone. That it is the order of the data set is checked by the file's `clean_label`: the true
labels, which must be those of the data set at every place. Sorting or shuffling either of them would show there.

An .npz file may hold the images too, as `x_train`: then labels are joined by the content of images, and `clean_label` is checked after it.

``labels: "machine:worse_label"`` takes labels of no file but of `trainables.data.annotators`, which give some to any data set in memory.
"""

from __future__ import annotations

import hashlib
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainables.data.annotators import machine_labels
from trainables.data.sets.dataset import Dataset, digests
from trainables.data.sets.npz import channels_first
from trainables.point.errors import ConfigError

CLEAN = "clean_label"
MACHINE = "machine"
"""In the place of a file: labels of machine annotators."""
_IMAGES = "x_train"
_FIELD = "corruption.labels"


def given_labels(source: str, dataset: Dataset) -> tuple[Tensor, str]:
    """The labels of the training samples that `source` names, (n,) int64, and a digest of them.

    Args:
        source: FILE:LIST, a file of torch.save or an .npz file, and the name of one of the lists in it; or machine:LIST.

    Raises:
        ConfigError: the file cannot be read, lacks a list, or is not of this data set; the sentence says which.
    """
    file, _, name = source.rpartition(":")
    if not file:
        raise ConfigError(f"{_FIELD} is {source!r}: it must be FILE:LIST, such as CIFAR-10_human.pt:worse_label, or machine:LIST")
    if file == MACHINE:
        return _of_machines(name, dataset)
    path = Path(file).expanduser()
    lists = _lists(path)
    for wanted, use in ((name, f"which {_FIELD} names"), (CLEAN, "the true labels, by which its order is checked")):
        if wanted not in lists or wanted == _IMAGES:
            known = ", ".join(sorted(lists.keys() - {_IMAGES})) or "no list of labels"
            raise ConfigError(f"{path} lacks {wanted!r}, {use}: it has {known}")
    true = dataset.train_labels.numpy()
    order = _order(path, lists[_IMAGES], dataset) if _IMAGES in lists else None
    for label in (CLEAN, name):
        count = len(true) if order is None else len(lists[_IMAGES])
        if len(lists[label]) != count:
            raise ConfigError(f"{path}: {label} has {len(lists[label]):,} labels, and not {count:,}, one for each training sample")
    clean, given = (lists[label] if order is None else lists[label][order] for label in (CLEAN, name))
    different = np.flatnonzero(clean != true)
    if len(different):
        raise ConfigError(
            f"{path}: {CLEAN} differs from the labels of the data set at {len(different):,} of {len(true):,} places, first at "
            f"{different[0]}: it is of another data set, or of the same in another order"
        )
    outside = given[(given < 0) | (given >= dataset.classes)]
    if len(outside):
        raise ConfigError(f"{path}: {name} holds the label {outside[0]}, outside the classes 0 to {dataset.classes - 1}")
    return torch.from_numpy(given), hashlib.sha256(given.tobytes()).hexdigest()[:32]


def _of_machines(name: str, dataset: Dataset) -> tuple[Tensor, str]:
    """One of the lists of machine annotators, and its digest."""
    lists = _machine_lists(dataset)
    if name not in lists:
        raise ConfigError(f"{_FIELD} is {MACHINE}:{name}: the lists of machine annotators are {', '.join(sorted(lists))}")
    return torch.from_numpy(lists[name]), hashlib.sha256(lists[name].tobytes()).hexdigest()[:32]


@lru_cache(maxsize=4)
def _machine_lists(dataset: Dataset) -> dict[str, NDArray[np.int64]]:
    return machine_labels(dataset.train_images, dataset.train_labels, dataset.classes)


@cache
def _lists(path: Path) -> dict[str, NDArray[Any]]:
    """The lists of whole numbers in a file, by name, and its images if it has some."""
    if not path.is_file():
        raise ConfigError(f"{_FIELD} names {path}, and there is no such file")
    try:
        held = _npz(path) if path.suffix.lower() == ".npz" else _torch(path)
    except Exception as error:  # pickle, zipfile and torch raise a dozen kinds on damaged bytes
        said = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"{path} is damaged, or holds more than lists of labels, which is not loaded ({said}): store them as .npz"
        ) from None
    if not isinstance(held, dict):
        raise ConfigError(f"{path} holds no lists of labels by name")
    arrays = {str(name): np.asarray(value) for name, value in held.items() if isinstance(value, np.ndarray | Tensor | list)}
    found = {name: array.astype(np.int64) for name, array in arrays.items() if array.ndim == 1 and array.dtype.kind in "iu"}
    return found | {name: array for name, array in arrays.items() if name == _IMAGES}


def _order(path: Path, images: NDArray[Any], dataset: Dataset) -> NDArray[np.int64]:
    """The place in the file of each training sample's image, by its content; equal images in their order."""
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or dataset.train_images.dtype != torch.uint8:
        raise ConfigError(
            f"{path}: {_IMAGES} is {images.dtype} {images.shape}: labels are joined by the content of uint8 images, N x H x W x C"
        )
    places: dict[bytes, list[int]] = {}
    for place, digest in enumerate(digests(channels_first(images))):
        places.setdefault(digest, []).append(place)
    for several in places.values():
        several.reverse()
    order = np.array([found.pop() if (found := places.get(digest)) else -1 for digest in digests(dataset.train_images)])
    if missing := np.flatnonzero(order < 0).tolist():
        raise ConfigError(
            f"{path}: {_IMAGES} lacks the images of {len(missing):,} of {len(order):,} training samples, first of sample {missing[0]}: "
            "it is of another data set"
        )
    return order


def _npz(path: Path) -> Any:
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def _torch(path: Path) -> Any:
    """What a file of torch.save holds, if that is tensors, NumPy arrays and plain values: nothing else in it is carried out."""
    rebuilt: Any = np.empty(0).__reduce__()[0]
    modules = ("numpy.core.multiarray", "numpy._core.multiarray")  # before and since NumPy 2
    kinds = {type(np.dtype(kind)) for kind in (np.int8, np.int16, np.int32, np.int64, np.uint8)}
    allowed: list[Any] = [*((rebuilt, f"{module}._reconstruct") for module in modules), np.ndarray, np.dtype, *kinds]
    with torch.serialization.safe_globals(allowed):
        return torch.load(path, map_location="cpu", weights_only=True)
