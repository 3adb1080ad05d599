"""Keras-style .npz files: checked when they are read, known by their content."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainables.data.dataset import Dataset
from trainables.point.config import ConfigError


def channels_first(images: Any, channels_last: bool = True) -> Tensor:
    """The images (n, C, H, W), of grey ones (n, H, W) with a channel, of others (n, H, W, C) if their channels are last."""
    found: Tensor = torch.as_tensor(images)
    if found.ndim == 3:
        return found[:, None].contiguous()
    return (found.permute(0, 3, 1, 2) if channels_last else found).contiguous()


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
        return channels_first(images)
    if not np.issubdtype(images.dtype, np.floating):
        raise ConfigError(f"{path}: {key} is {images.dtype}: pixels must be uint8, or floating-point numbers")
    images = images.astype(np.float32)
    if not np.isfinite(images).all():
        raise ConfigError(f"{path}: {key} holds NaN or infinite pixels ({int((~np.isfinite(images)).sum()):,} of them): clean them first")
    return channels_first(images)


def _digest(arrays: dict[str, np.ndarray]) -> str:
    """Content identifies data: the same arrays have one digest wherever the file lies and however it is compressed."""
    digest = hashlib.sha256()
    for key in sorted(arrays):
        digest.update(f"{key}{arrays[key].shape}{arrays[key].dtype.str}".encode())
        digest.update(np.ascontiguousarray(arrays[key]).data)
    return digest.hexdigest()[:32]
