"""Keras-style .npz files: checked when they are read, known by their content."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainables.data.sets.dataset import Dataset, Target
from trainables.data.sets.labels import are_numbers, read_labels, read_targets
from trainables.point.errors import ConfigError

_IMAGES = ("x_train", "x_test")
_LABELS = ("y_train", "y_test")
_TRUE = "y_train_true"
"""The true labels of training samples whose labels are known to be wrong in part."""
_VOCABULARY = "vocabulary"
"""How many tokens there are, in a file of sequences."""
_MOST_NUMBERS = 2**31
"""One-hot numbers of a file of sequences: 8 GB."""


def channels_first(images: Any, channels_last: bool = True) -> Tensor:
    """The images (n, C, H, W), of grey ones (n, H, W) with a channel, of others (n, H, W, C) if their channels are last."""
    found: Tensor = torch.as_tensor(images)
    if found.ndim == 3:
        return found[:, None].contiguous()
    return (found.permute(0, 3, 1, 2) if channels_last else found).contiguous()


def read_npz(path: Path, task: str | None = None) -> Dataset:
    """A Keras-style file: x_train, y_train, x_test, y_test, and y_train_true where y_train is known to hold wrong labels.

    Images are N x H x W or N x H x W x C, uint8 or finite floats; tables are N x d numbers. A table's columns are channels of 1 x 1 images,
    so that `standardize` acts on each. With an integer ``vocabulary`` in the file samples are sequences, N x T tokens from 0 to
    vocabulary - 1, and become one-hot (N, T, 1, vocabulary). What labels may be, `trainables.data.sets.labels` says.

    Args:
        task: whether labels are classes or numbers, as `data.task`; None for what they look like.

    Raises:
        ConfigError: the file is missing, damaged or holds something else; the sentence says what.
    """
    arrays = _read(path)
    stored = {key: arrays[key] for key in (*_LABELS, _TRUE) if key in arrays}
    for split in ("train", "test"):
        samples, labels = arrays[f"x_{split}"], arrays[f"y_{split}"]
        if labels.ndim and labels.size and (samples.ndim == 0 or len(samples) != len(labels)):
            raise ConfigError(f"{path}: x_{split} has {len(samples) if samples.ndim else 0} images but y_{split} {len(labels)} labels")
    numbers = are_numbers(stored, task)
    names: tuple[str, ...] = ()
    targets: tuple[Target, ...] = ()
    if numbers:
        found, targets = read_targets(path, stored, _TRUE if _TRUE in stored else "y_train")
    else:
        found, names = read_labels(path, stored)
    if _TRUE in found and len(found[_TRUE]) != len(found["y_train"]):
        raise ConfigError(f"{path}: y_train has {len(found['y_train'])} labels but {_TRUE} {len(found[_TRUE])}")
    vocabulary = _vocabulary(path, arrays)
    if vocabulary is None:
        train_images, test_images = (_checked_images(path, key, arrays[key]) for key in _IMAGES)
    else:
        train_images, test_images = (_one_hot(path, key, arrays[key], vocabulary) for key in _IMAGES)
    if train_images.shape[1:] != test_images.shape[1:]:
        raise ConfigError(f"{path}: training images are {tuple(train_images.shape[1:])} but test images {tuple(test_images.shape[1:])}")
    if vocabulary is None and train_images.dtype != test_images.dtype:
        raise ConfigError(f"{path}: x_train is {arrays['x_train'].dtype} but x_test {arrays['x_test'].dtype}: both must be in one unit")
    given, test_labels = (torch.from_numpy(found[key]) for key in _LABELS)
    true = torch.from_numpy(found[_TRUE]) if _TRUE in found else given
    facts = (("tokens", f"{train_images.shape[1]} of {vocabulary:,}, one-hot"),) if vocabulary else ()
    also_given = given if _TRUE in found else None
    digest = digest_of(as_numbers(arrays) if numbers else arrays)
    doubts = probabilities(stored) if numbers else ()
    outputs = len(targets) or len(names)
    return Dataset(train_images, true, test_images, test_labels, outputs, digest, also_given, names, facts, doubts, targets)


def _read(path: Path) -> dict[str, np.ndarray]:
    keys = (*_IMAGES, *_LABELS)
    if not path.is_file():
        raise ConfigError(f"there is no data file {path}: give the path of a Keras-style .npz as npz:PATH")
    if not zipfile.is_zipfile(path):
        raise ConfigError(f"{path} is no .npz file, or only the beginning of one: copy it anew")
    try:
        with np.load(path, allow_pickle=False) as file:
            if missing := [key for key in ("x_train", "y_train", "x_test", "y_test") if key not in file.files]:
                raise ConfigError(f"{path} lacks {', '.join(missing)}: a data file holds the arrays x_train, y_train, x_test, y_test")
            return {key: _array(path, file, key) for key in (*keys, _TRUE, _VOCABULARY) if key in file.files}
    except ConfigError:
        raise
    except Exception as error:  # zipfile, zlib and NumPy raise a dozen kinds on damaged bytes
        raise ConfigError(f"{path} is damaged or no .npz file of arrays ({' '.join(str(error).split())}): copy it anew") from None


def _array(path: Path, file: Any, key: str) -> np.ndarray:
    """One array of an open file.

    Raises:
        ConfigError: it is of Python objects, which only code stored in the file could make.
    """
    try:
        return np.asarray(file[key])
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
        stored = f"names by {key}.astype(str), numbers by {key}.astype(int)" if key.startswith("y_") else "numbers"
        raise ConfigError(f"{path}: {key} is an array of Python objects, which is not loaded: store {stored}") from None


def _vocabulary(path: Path, arrays: dict[str, np.ndarray]) -> int | None:
    """How many tokens there are; None in a file of other samples than sequences."""
    if _VOCABULARY not in arrays:
        return None
    stored = arrays[_VOCABULARY]
    if stored.size != 1 or stored.dtype.kind not in "iu" or stored.item() < 2:
        raise ConfigError(f"{path}: vocabulary is {stored.tolist()!r:.60}: it must be one integer, the number of tokens, at least 2")
    return int(stored.item())


def _one_hot(path: Path, key: str, tokens: np.ndarray, vocabulary: int) -> Tensor:
    """Sequences (N, T) as (N, T, 1, vocabulary) of 0 and 1."""
    if tokens.ndim != 2 or min(tokens.shape) == 0 or tokens.dtype.kind not in "iu":
        given = f"{tokens.dtype} of shape {tokens.shape}"
        raise ConfigError(f"{path}: {key} is {given}: beside a vocabulary it must be N x T integers, the tokens")
    if (least := tokens.min()) < 0 or tokens.max() >= vocabulary:
        found = f"tokens from {least} to {tokens.max()}"
        raise ConfigError(f"{path}: {key} has {found}: with vocabulary {vocabulary} they go from 0 to {vocabulary - 1}")
    if (numbers := tokens.size * vocabulary) > _MOST_NUMBERS:
        raise ConfigError(f"{path}: {key} is {numbers:,} numbers one-hot, more than {_MOST_NUMBERS:,}: use fewer samples or tokens")
    return torch.nn.functional.one_hot(torch.from_numpy(tokens.astype(np.int64)), vocabulary)[:, :, None].float()


def _checked_images(path: Path, key: str, images: np.ndarray) -> Tensor:
    if images.ndim not in (2, 3, 4) or min(images.shape) == 0:
        raise ConfigError(f"{path}: {key} has shape {images.shape}: images must be N x H x W or N x H x W x C, a table N x d")
    if images.ndim == 4 and images.shape[1] in (1, 3) and images.shape[3] not in (1, 2, 3, 4):
        raise ConfigError(
            f"{path}: {key} has shape {images.shape}, channels first: store N x H x W x C, in NumPy {key}.transpose(0, 2, 3, 1)"
        )
    if images.ndim == 2:
        if images.dtype.kind not in "biuf":
            raise ConfigError(f"{path}: {key} is {images.dtype}: a table holds numbers")
        images = images.astype(np.float32)[:, None, None]
    if images.dtype == np.uint8:
        return channels_first(images)
    if not np.issubdtype(images.dtype, np.floating):
        raise ConfigError(f"{path}: {key} is {images.dtype}: pixels must be uint8, or floating-point numbers")
    images = images.astype(np.float32)
    if not np.isfinite(images).all():
        raise ConfigError(f"{path}: {key} holds NaN or infinite pixels ({int((~np.isfinite(images)).sum()):,} of them): clean them first")
    return channels_first(images)


def probabilities(stored: dict[str, np.ndarray]) -> tuple[str, ...]:
    """A doubt, where numbers to be learnt look like the probabilities of classes."""
    rows = stored["y_train"]
    if rows.ndim == 2 and rows.shape[1] > 1 and (rows >= 0).all() and np.allclose(rows.sum(1), 1, atol=1e-4):
        return ("the rows of y_train are not negative and sum to 1, as probabilities of classes do: they are learnt as numbers",)
    return ()


def as_numbers(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays with targets as float64, and a word that tells their digest from that of the same numbers as classes."""
    labels = {name: array.astype(np.float64) for name, array in arrays.items() if name in (*_LABELS, _TRUE)}
    return arrays | labels | {"task": np.array("regression")}


def digest_of(arrays: dict[str, np.ndarray]) -> str:
    """Content identifies data: the same arrays have one digest wherever the file lies and however it is compressed."""
    digest = hashlib.sha256()
    for key in sorted(arrays):
        digest.update(f"{key}{arrays[key].shape}{arrays[key].dtype.str}".encode())
        digest.update(np.ascontiguousarray(arrays[key]).data)
    return digest.hexdigest()[:32]
