"""Labels as files hold them (numbers from 0 or from 1, -1 and +1, truth values, names, one-hot rows) read as the classes 0 to C - 1.

Floats of which some are not whole are no classes but numbers to be learnt, the targets of regression: these are brought to mean 0 and
deviation 1. So is whatever numbers a file holds where `data.task` says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from trainables.data.sets.dataset import Target
from trainables.point.errors import ConfigError

TASK = "data.task: regression takes them for numbers to be learnt"
"""Ends the sentence about labels that are no classes."""


def read_labels(path: Path, stored: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """The labels of each list as int64 in [0, C), and the C classes as they are called in the file.

    The classes are those of ``y_train``. All lists are of one kind.

    Args:
        stored: the lists by name, ``y_train`` and ``y_test`` among them: (n,), a column (n, 1), or one-hot rows (n, C).

    Raises:
        ConfigError: a list is empty or holds something else, or the classes are not numbered without a hole.
    """
    lists = {name: _as_list(path, name, labels) for name, labels in stored.items()}
    kinds = {labels.dtype.kind in "US" for labels in lists.values()}
    if len(kinds) > 1:
        raise ConfigError(f"{path}: some of {', '.join(stored)} hold names and others numbers: all must be of one kind")
    present = np.unique(lists["y_train"])
    classes = present if kinds == {True} else _numbered(path, present, np.unique(np.concatenate(list(lists.values()))))
    found = {name: np.searchsorted(classes, labels) for name, labels in lists.items()}
    for name, labels in lists.items():
        strange = found[name] == len(classes)
        strange[~strange] = classes[found[name][~strange]] != labels[~strange]
        if strange.any():
            first = labels[strange][0]
            known = f"the classes {classes[0]} to {classes[-1]}" if kinds == {False} else f"the {len(classes)} classes of y_train"
            count, place = int(strange.sum()), int(np.flatnonzero(strange)[0])
            marks = f": if it marks samples without a label, leave these out ({count:,} of {len(labels):,}, first at {place})"
            raise ConfigError(f"{path}: {name} holds the label {first}, outside {known}{marks if first == -1 else ''}")
    return {name: indices.astype(np.int64) for name, indices in found.items()}, tuple(str(label) for label in classes)


def _as_list(path: Path, name: str, labels: np.ndarray) -> np.ndarray:
    """A list of names or of whole numbers, (n,)."""
    if labels.ndim == 2 and labels.shape[1] > 1 and labels.dtype.kind in "biuf" and _one_hot(labels):
        return np.asarray(labels.argmax(1))
    if labels.ndim and labels.size and labels.size == len(labels):
        flat = labels.reshape(-1)
        _check_there(path, name, flat)
        if flat.dtype.kind in "US":
            return flat
        if flat.dtype.kind in "biu" or (flat.dtype.kind == "f" and np.isfinite(flat).all() and (flat == np.rint(flat)).all()):
            return flat.astype(np.int64)
    empty = "; it is empty" if labels.ndim and not labels.size else ""
    raise ConfigError(
        f"{path}: {name} must be a list of whole numbers or names, one label a sample, or one-hot rows; "
        f"it is {labels.dtype} {labels.shape}{empty}" + (f". {TASK}" if labels.size and labels.dtype.kind in "iuf" else "")
    )


def _check_there(path: Path, name: str, labels: np.ndarray) -> None:
    """Raise ConfigError for samples without a label: an empty name, or NaN."""
    missing = (
        np.isnan(labels) if labels.dtype.kind == "f" else np.char.strip(labels) == "" if labels.dtype.kind == "U" else np.zeros(0, bool)
    )
    if missing.any():
        count, place = int(missing.sum()), int(np.flatnonzero(missing)[0])
        what = "nan" if labels.dtype.kind == "f" else "an empty name"
        where = f"{count:,} of {len(labels):,} samples, first at {place}"
        raise ConfigError(f"{path}: {name} has no label for {where}: it is {what} there; leave these samples out")


def _one_hot(labels: np.ndarray) -> bool:
    return bool(((labels == 0) | (labels == 1)).all() and (labels.sum(1) == 1).all())


def _numbered(path: Path, present: np.ndarray, everywhere: np.ndarray) -> np.ndarray:
    """The classes of labels that are numbers: from 0, from 1 where no list holds a 0, or -1 and +1."""
    if present.tolist() == [-1, 1]:
        return present
    start = 1 if present[0] == 1 and len(present) > 1 and everywhere[0] == 1 else 0
    classes = np.arange(start, max(int(present[-1]) + 1, start + 2))
    if present[0] >= 0 and len(present) <= present[-1] - start:
        absent = int(classes[: len(present)][present != classes[: len(present)]][0])
        raise ConfigError(f"{path}: y_train holds the label {present[-1]} but no label {absent}: number the C classes 0 to C - 1. {TASK}")
    return classes


def are_numbers(stored: Mapping[str, np.ndarray], task: str | None) -> bool:
    """Whether labels are numbers to be learnt: as `task` says, else where some are floats that are not whole. One-hot rows are whole."""
    if task is not None:
        return task == "regression"
    return any(labels.dtype.kind == "f" and bool(((labels != np.rint(labels)) & np.isfinite(labels)).any()) for labels in stored.values())


def read_targets(
    where: object, stored: Mapping[str, np.ndarray], true: str, names: Sequence[str] | None = None
) -> tuple[dict[str, np.ndarray], tuple[Target, ...]]:
    """The targets of each list as float32 (n, T), each at mean 0 and deviation 1 over the training samples, and what they are.

    Args:
        where: what holds them, for a sentence.
        stored: the lists by name, (n,) or (n, T) numbers, all of one T.
        true: the list of the training samples' true targets, over which mean and deviation are taken.
        names: of the targets; their places by default.

    Raises:
        ConfigError: a list is empty, holds no numbers or others than finite ones, has another T, or a target does not vary.
    """
    held: dict[str, np.ndarray] = {}
    for name, values in stored.items():
        if values.ndim not in (1, 2) or not values.size or values.dtype.kind not in "biuf":
            given = f"{values.dtype} {values.shape}{'' if values.size else '; it is empty'}"
            raise ConfigError(f"{where}: {name} must hold numbers to be learnt, N or N x T of them; it is {given}")
        held[name] = values.reshape(len(values), -1).astype(np.float64)
        if broken := int((~np.isfinite(held[name])).sum()):
            raise ConfigError(f"{where}: {name} holds {broken:,} targets that are NaN or infinite: leave these samples out")
        first = next(iter(held))
        if held[name].shape[1] != held[first].shape[1]:
            raise ConfigError(f"{where}: {name} has {held[name].shape[1]} targets a sample, and {first} {held[first].shape[1]}")
    mean, deviation = held[true].mean(0), held[true].std(0)
    constant = np.flatnonzero(deviation <= 1e-12 * np.abs(mean))
    if len(constant):
        raise ConfigError(f"{where}: {true} holds {mean[constant[0]]:g} for every training sample: there is nothing to learn")
    called = names or ([str(place) for place in range(len(mean))] if len(mean) > 1 else [""])
    targets = tuple(Target(*one) for one in zip(called, mean.tolist(), deviation.tolist(), strict=True))
    return {name: ((values - mean) / deviation).astype(np.float32) for name, values in held.items()}, targets
