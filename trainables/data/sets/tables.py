"""CSV and Parquet files as data sets: a row a sample, one column its label or target; known by their content, as .npz files are.

The label stands in the column that `data.label` names, else in `label`, `target` or `y`, else in the last one. Beside it, a column of
that name and `_true` holds the true labels of labels that are known to be wrong in part, as `y_train_true` of an .npz file does; rows are
tested on the true ones. A column `split` says of each row whether it is for `train` or `test`; without one, `data.test_fraction` of each
class's rows are drawn by `data.test_seed`, the same for all seeds of a study.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from trainables.data.sets import columns as of
from trainables.data.sets.columns import Bools, Columns, check_filled, encoded, label_values, listed, read_columns
from trainables.data.sets.dataset import Dataset, Target
from trainables.data.sets.labels import TASK, read_targets
from trainables.data.sets.npz import as_numbers, digest_of
from trainables.point.config import Data
from trainables.point.errors import ConfigError
from trainables.point.streams import generator

LABELS = ("label", "target", "y")
"""Names of the column of labels, in this order, where `data.label` does not say."""
SPLIT = "split"
TEST_FRACTION = 0.2
TRUE = "_true"

Labels = NDArray[np.int64]


def open_table(data: Data) -> Dataset:
    """The data set in the file that `data` names, read once a process.

    Columns are channels of 1 x 1 images, as those of a table in an .npz file, so that `standardize` acts on each.

    Raises:
        ConfigError: the file is missing or damaged, or holds what no network can be trained on; the sentence says which column.
    """
    fraction = TEST_FRACTION if data.test_fraction is None else data.test_fraction
    return _opened(Path(data.name).expanduser(), data.label, data.task, (fraction, data.test_seed or 0))


@cache
def _opened(path: Path, label: str | None, task: str | None, test: tuple[float, int]) -> Dataset:
    columns = read_columns(path)
    chosen, doubts = _label_column(columns, label)
    true_column = chosen + TRUE
    has_true = true_column in columns.held
    numbers = task == "regression" or (task is None and of.has_fractions(columns, chosen))
    given: NDArray[Any]
    true: NDArray[Any]
    names: tuple[str, ...] = ()
    if numbers:
        given = of.target_values(columns, chosen)
        true = of.target_values(columns, true_column) if has_true else given
        tested, split = _split(columns, np.zeros(columns.rows, np.int64), test, "the rows")
    else:
        given, names = _classes(columns, chosen)
        true = _true_labels(columns, true_column, names) if has_true else given
        tested, split = _split(columns, true, test, "each class")
        _check_trained(columns, chosen, np.union1d(true[~tested], given[~tested]), names)
    features = [name for name in columns.held if name not in (chosen, true_column, SPLIT)]
    if not features:
        raise ConfigError(f"{path} has a label and no other column: there is nothing to learn from")
    rows, described, more = encoded(columns, features, ~tested)
    arrays: dict[str, NDArray[Any]] = {"x_train": rows[~tested], "x_test": rows[tested], "y_train": given[~tested], "y_test": true[tested]}
    if has_true:
        arrays["y_train_true"] = true[~tested]
    digest = digest_of(as_numbers(arrays) if numbers else arrays)
    targets: tuple[Target, ...] = ()
    if numbers:
        labels = {name: array for name, array in arrays.items() if name.startswith("y_")}
        scaled, targets = read_targets(columns.named(chosen), labels, "y_train_true" if has_true else "y_train", [chosen])
        arrays |= scaled
    held = {name: torch.from_numpy(array) for name, array in arrays.items()}
    return Dataset(
        held["x_train"][:, :, None, None],
        held.get("y_train_true", held["y_train"]),
        held["x_test"][:, :, None, None],
        held["y_test"],
        len(targets) or len(names),
        digest,
        held["y_train"] if has_true else None,
        class_names=names,
        facts=(("target" if numbers else "label", f"column {chosen!r}"), ("columns", described), ("test rows", split)),
        doubts=(*doubts, *more),
        targets=targets,
    )


def _label_column(columns: Columns, wanted: str | None) -> tuple[str, list[str]]:
    """The column of labels, and a sentence if it was guessed."""
    names = list(columns.held)
    if wanted is not None:
        if wanted not in names:
            raise ConfigError(f"data.label is {wanted!r}, but {columns.path} has no such column: it has {listed(names)}")
        return wanted, []
    by_name = {name.lower(): name for name in names}
    for name in LABELS:
        if name in by_name:
            return by_name[name], []
    beside = {SPLIT, *(name + TRUE for name in names)}
    last = next((name for name in reversed(names) if name not in beside), names[-1])
    return last, [f"the label is taken to be column {last!r}, the last one: data.label names another"]


def _classes(columns: Columns, name: str) -> tuple[Labels, tuple[str, ...]]:
    """The labels as int64 in [0, C), and the classes as they are called: all that stand in the column, in their order."""
    classes, places = np.unique(label_values(columns, name), return_inverse=True)
    if len(classes) < 2:
        raise ConfigError(f"{columns.named(name)} holds the labels, and all are {classes[0]}: there is nothing to learn")
    if 2 * len(classes) > columns.rows:
        many = f"{len(classes):,} different values in {columns.rows:,} rows"
        raise ConfigError(
            f"{columns.named(name)} holds the labels, and has {many}: these are no classes. data.label names another column, and {TASK}"
        )
    return places.astype(np.int64), tuple(map(str, classes))


def _true_labels(columns: Columns, name: str, classes: tuple[str, ...]) -> Labels:
    places = {label: place for place, label in enumerate(classes)}
    values = [str(value) for value in label_values(columns, name)]
    if strange := sorted(set(values) - places.keys()):
        raise ConfigError(f"{columns.named(name)} holds the true label {strange[0]}, which the given labels do not have")
    return np.array([places[value] for value in values], np.int64)


def _check_trained(columns: Columns, name: str, present: Labels, classes: tuple[str, ...]) -> None:
    """Raise ConfigError for a class that stands in no training row."""
    absent = np.setdiff1d(np.arange(len(classes)), present)
    if len(absent):
        raise ConfigError(f"{columns.named(name)} has the class {classes[absent[0]]} in test rows alone: no network can learn it")


def _split(columns: Columns, labels: Labels, test: tuple[float, int], what: str) -> tuple[Bools, str]:
    """Whether each row is a test row, and how that was decided, in words; `test` is the share tested of each label, and its seed."""
    fraction, seed = test
    if SPLIT in columns.held:
        return _stated_split(columns), f"as column {SPLIT!r} says"
    draw = generator(seed, "test rows")
    tested = np.zeros(len(labels), bool)
    for label in range(int(labels.max()) + 1):
        rows = np.flatnonzero(labels == label)
        order = torch.randperm(len(rows), generator=draw).numpy()
        tested[rows[order[: round(fraction * len(rows))]]] = True
    if not tested.any() or tested.all():
        count = int(tested.sum())
        raise ConfigError(
            f"data.test_fraction is {fraction:g}, which leaves {len(labels) - count:,} of the {len(labels):,} rows of {columns.path} "
            f"to train on and {count:,} to test"
        )
    return tested, f"{fraction:.3g} of {what}, drawn by data.test_seed {seed}"


def _stated_split(columns: Columns) -> Bools:
    check_filled(columns, [SPLIT], "says which rows are for train and for test, and ")
    parts = [str(value).strip().lower() for value in columns.held[SPLIT].to_pylist()]
    if strange := sorted(set(parts) - {"train", "test"}):
        raise ConfigError(
            f"{columns.named(SPLIT)} holds {strange[0]!r}: it says of each row whether it is for train or test; "
            "call it otherwise if it is a feature"
        )
    tested = np.array([part == "test" for part in parts])
    if tested.all() or not tested.any():
        raise ConfigError(f"{columns.named(SPLIT)} says {parts[0]!r} of every row: there must be rows for train and for test")
    return tested
