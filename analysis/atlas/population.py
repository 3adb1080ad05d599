"""What tells the networks of an atlas apart: data set, noise, family and depth, optimizer, regularizer, capacity, and their seeds."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np
import pyarrow as pa

from analysis.errors import AnalysisError
from analysis.statistics.selection import averaged_over, codes, completed, data_sets, varying_fields
from analysis.statistics.tasks import refuse_regression

CAPACITY = "model.parameters_per_sample"
"""The ratio p/n aimed at: the same for all data sets and depths. The column ``parameters_per_sample`` is the ratio reached."""
LABELS = ("data_set", "noise", "network", "optimizer", "regularizer")
"""Columns that are added: what varies, in words."""
CELL = (*LABELS, CAPACITY)
"""Columns that tell the cells of an atlas apart: networks of one cell differ in seeds alone."""
TRUE, RANDOM = "true labels", "redraw 1"
"""The noise of networks on true labels, and on labels that are all drawn at random."""
GROUPS = {"data_set": "data.", "noise": "corruption.", "network": "model.", "optimizer": "optimizer.", "regularizer": "regularizers."}
"""Of each label, the fields that it says."""
_SWEPT = ("model.width", CAPACITY, "model.hold")
_SAME = {"random_labels": "redraw", "random_signs": "redraw", "symmetric": "flip"}
"""Noises that are others by another name: signs are labels of two classes that are drawn anew."""


def population(table: pa.Table) -> pa.Table:
    """The completed networks of an atlas, with the columns `LABELS` that say in words what varies, and ``classes`` of their data sets.

    Args:
        table: records of one study, whose data sets can be loaded.

    Raises:
        NothingToShow: no completed record.
        ConfigError: a data set cannot be loaded.
        AnalysisError: capacity does not vary as parameters per sample, or something varies that the columns do not tell apart.

    >>> named("optimizer", {"optimizer.name": "sgd", "optimizer.learning_rate": 0.03, "optimizer.momentum": 0.9}, [])
    'sgd 0.03, momentum 0.9'
    >>> named("regularizer", {"regularizers.weight_decay": 0.01, "regularizers.dropout": 0.0}, [])
    'weight_decay 0.01'
    """
    runs = completed(table)
    refuse_regression(runs, "an atlas is of")
    if runs[CAPACITY].null_count:
        raise AnalysisError(f"an atlas goes by {CAPACITY}, which some of these records do not have: let the space vary it")
    varying = [name for name in varying_fields(runs) if name not in _SWEPT]
    for label, prefix in GROUPS.items():
        fields = [name for name in runs.column_names if name.startswith(prefix) and not name.endswith((".seed", ".digest"))]
        fields = [name for name in fields if name not in _SWEPT]
        fields += ["corruption.kind"] if label == "data_set" else []  # signs make another task of a data set
        code = codes(runs, fields)
        words: dict[int, str] = {}
        first: dict[int, int] = {}
        for row, one in enumerate(code.tolist()):
            first.setdefault(one, row)
        for one, row in first.items():
            words[one] = named(label, {name: runs[name][row].as_py() for name in fields}, varying)
        runs = runs.append_column(label, pa.array([words[one] for one in code.tolist()], pa.string()))
    if pooled := [name for name in averaged_over(runs, CELL) if name not in _SWEPT]:
        raise AnalysisError(
            f"the cells of an atlas differ in seeds alone, but {', '.join(pooled)} varies within them: keep one value of it"
        )
    return runs.append_column("classes", _classes(runs))


def _classes(runs: pa.Table) -> pa.Array:
    """How many classes the task of each network has."""
    from trainables.data.corruption import classes_of
    from trainables.data.sets.sources import load
    from trainables.point.config import Corruption

    code = codes(runs, [*(name for name in runs.column_names if name.startswith("data.") and name != "data.seed"), "corruption.kind"])
    _, first = np.unique(code, return_index=True)
    tasks = ((data_sets(runs.slice(row, 1))[0], Corruption(kind=runs["corruption.kind"][int(row)].as_py())) for row in first)
    return pa.array(np.array([classes_of(load(data).classes, corruption) for data, corruption in tasks])[code], pa.int32())


def named(label: str, values: dict[str, Any], varying: Sequence[str]) -> str:
    """One of the `LABELS` of a network.

    Args:
        values: the config fields of the group, by their dotted names.
        varying: fields that vary in the atlas.
    """
    return _NAMES[label](values, [name for name in varying if name in values])


def _data_set(values: dict[str, Any], varying: Sequence[str]) -> str:
    """Its name, of a file without the folders that it lies in."""
    kind, colon, path = str(values["data.name"]).rpartition(":")
    name = f"{kind}{colon}{PurePath(path).name}" + (", even against odd" if values["corruption.kind"] == "random_signs" else "")
    return _with(name, values, [name for name in varying if name not in ("data.name", "corruption.kind")])


def _noise(values: dict[str, Any], varying: Sequence[str]) -> str:
    if not values["corruption.level"]:
        return TRUE
    kind = values["corruption.kind"]
    if kind == "class_conditional":
        transition = values["corruption.transition"]
        kind = f"matrix {hashlib.sha256(transition.encode()).hexdigest()[:8]}" if transition.startswith("[") else transition
    told = ("corruption.level", "corruption.kind", "corruption.transition")
    return _with(f"{_SAME.get(kind, kind)} {values['corruption.level']:g}", values, [name for name in varying if name not in told])


def _network(values: dict[str, Any], varying: Sequence[str]) -> str:
    depth = f"{values['model.name']} of depth {values['model.depth']}" if values["model.depth"] is not None else str(values["model.name"])
    return _with(depth, values, [name for name in varying if name not in ("model.name", "model.depth")])


def _optimizer(values: dict[str, Any], varying: Sequence[str]) -> str:
    told = ("optimizer.name", "optimizer.learning_rate", "optimizer.momentum")
    text = f"{values['optimizer.name']} {values['optimizer.learning_rate']:g}"
    if values["optimizer.name"] == "sgd" and values["optimizer.momentum"]:
        text += f", momentum {values['optimizer.momentum']:g}"
    return _with(text, values, [name for name in varying if name not in told])


def _regularizer(values: dict[str, Any], varying: Sequence[str]) -> str:
    used = [name for name in values if values[name] not in (None, 0, False) and name != "regularizers.decay_biases"]
    decays = [name for name in varying if name == "regularizers.decay_biases" and values[name]]
    return ", ".join(_field(name, values[name]) for name in (*used, *decays)) or "none"


_NAMES: dict[str, Callable[[dict[str, Any], Sequence[str]], str]] = {
    "data_set": _data_set,
    "noise": _noise,
    "network": _network,
    "optimizer": _optimizer,
    "regularizer": _regularizer,
}


def _with(text: str, values: dict[str, Any], fields: Sequence[str]) -> str:
    return ", ".join([text, *(_field(name, values[name]) for name in fields if values[name] is not None)])


def _field(name: str, value: Any) -> str:
    short = name.partition(".")[2]
    return short if value is True else f"{short} {value:g}" if isinstance(value, int | float) else f"{short} {value}"
