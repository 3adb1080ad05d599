"""Data sources: what `data.name` stands for, loaded once a process and shared by all points.

Labels and pixels are the data set's own here; `trainables.data.corruption` changes them, `trainables.data.inputs` preprocesses.
"""

from __future__ import annotations

from trainables.data.sets.dataset import Dataset
from trainables.data.sets.image_files import open_files
from trainables.data.sets.named import data_folder, load_named
from trainables.data.sets.synthetic import made_up
from trainables.data.sets.tables import open_table
from trainables.point.config import Data
from trainables.point.errors import ConfigError

_KINDS = {"classification": "classes", "regression": "numbers"}
_SHARED: dict[str, Dataset] = {}


def load(data: Data) -> Dataset:
    """The data set that `data` names, from this process's memory after the first call.

    Raises:
        ConfigError: no such data set or file, a download that failed, a file that is not what it should be, or (for a resolved
            point) no longer the file that it was.
    """
    if data.made_of:
        return _of_task(data, made_up(data))
    if data.streamed:
        return _of_task(data, _unchanged(data, open_files(data)))
    return _of_task(data, _unchanged(data, _SHARED.get(data.digest or data.name) or _opened(data)))


def _opened(data: Data) -> Dataset:
    if data.is_table_file:
        return open_table(data)
    return load_named(data.name, data_folder(), data.task if data.name.startswith("npz:") else None)


def _of_task(data: Data, dataset: Dataset) -> Dataset:
    found = "regression" if dataset.is_regression else "classification"
    if data.task not in (None, found):
        raise ConfigError(f"data.task is {data.task}, but the labels of {data.name} are {_KINDS[found]}: leave it out")
    return dataset


def _unchanged(data: Data, dataset: Dataset) -> Dataset:
    if data.digest not in (None, dataset.digest):
        raise ConfigError(f"data.name is {data.name}, but that is not the file of this point any more: its content has changed")
    return dataset


def share(name: str, dataset: Dataset) -> None:
    """Answer later loads of `name` from memory that this process was given, e.g. a node's object store."""
    _SHARED[dataset.digest or name] = dataset
