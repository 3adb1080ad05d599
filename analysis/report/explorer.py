"""The report's explorer: every point with what varied and what came out, as the page's own code reads it.

A page of 100,000 points opens quickly and stays small because no point is markup, or text in JSON: a column is one typed array, of codes
where it has few values, and all arrays together are deflated once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import isfinite
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from analysis.errors import AnalysisError
from analysis.figures.drawing.style import OKABE_ITO, colours
from analysis.records.schema import MEASURE, OUTCOMES, RECORDS
from analysis.report.embedded import embedded
from analysis.statistics.aggregate import ERRORS
from analysis.statistics.selection import SEEDS, completed, lines_over, varying_fields
from analysis.statistics.tasks import OF_REGRESSION, named
from analysis.words import words
from trainables.point.config import TrialConfig, field_types, flatten, left_open_words

MOST_CURVES = 2_000
"""The most points whose learning curves a page carries."""
MOST_EPOCHS = 60
"""The most epochs that it carries of one curve, both ends among them."""
CURVE_VALUES = ("train_error", "test_error")
CURVES_READ = (*CURVE_VALUES, *named(CURVE_VALUES, regression=True))
"""Columns of the curves: a point has the errors of its own task alone."""
_MOST_CODES = 255
"""A number column with more values than this is an array of its numbers."""
MOST_EXACT = 20_000
"""In a page of more points, numbers that came out keep 16 significant bits (an error of 0.0016 % at most, where four digits are shown):
they are most of a page of many points with many measures."""
_WIDE = 50.0
"""An axis over positive values whose ends differ by this factor is logarithmic at first."""
_NEVER_LOG = (*ERRORS, "validation_error")
_RAMP = 64
_CAPACITY = ("parameters", "parameters_per_sample")
_SIZE_AIMS = ("model.parameters_per_sample", "model.hold")
_CONFIG = tuple(field_types())
_KEY = re.compile("[0-9a-f]{32}")


@dataclass(frozen=True)
class Explorer:
    """The points as the page takes them.

    Attributes:
        description: says what stands where in the bytes, for JSON: ``count`` points; their ``columns``; ``lines``, which columns tell lines
            over an axis apart; ``point``, what a spec of one point holds beside its own values; where ``keys`` and ``curves`` lie.
        payload: the arrays, little-endian, each from a multiple of 8 bytes on, `embedded`. Their types are NumPy's, and ``f3``: the three
            upper bytes of numbers of 32 bits, all the highest first.
    """

    description: dict[str, Any]
    payload: str


def stated_beside(spec: str | None) -> dict[str, Any]:
    """What a spec of one of a study's points takes over from the study's own: the files that it imports, and its measures."""
    try:
        written = YAML(typ="safe", pure=True).load(spec or "")
    except (YAMLError, ValueError, RecursionError):
        return {}
    lists = {name: written.get(name) for name in ("imports", "measures")} if isinstance(written, dict) else {}
    return {name: value for name, value in lists.items() if isinstance(value, list) and all(isinstance(one, str) for one in value)}


class _Bytes:
    """Arrays one after another, each from a multiple of 8 bytes on."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.length = 0

    def add(self, values: NDArray[Any] | bytes) -> int:
        """Append an array; returns the byte it begins at."""
        start = self.length
        part = values if isinstance(values, bytes) else values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()
        part += bytes(-len(part) % 8)
        self.parts.append(part)
        self.length += len(part)
        return start

    def text(self) -> str:
        return embedded(b"".join(self.parts))


def explorer(table: pa.Table, curves: Callable[[pa.Table], pa.Table], *, spec: dict[str, Any] | None) -> Explorer:
    """The points of a study, packed for its page.

    Args:
        table: records, with all their columns.
        curves: loads the columns key, epoch and `CURVES_READ` of the curves of some records.
        spec: what a spec of one of these points needs beside the point (``imports``, ``measures``); None for runs of other origin, which
            no spec describes.
    """
    packed = _Bytes()
    seeds = ("seed", *(name for name in SEEDS[1:] if not table[name].equals(table["seed"])))  # the others follow it, as by default
    settings = [*varying_fields(table), *(name for name in seeds if _several(table[name]))]
    settings += [name for name in _SIZE_AIMS if name not in settings and _several(table[name])]
    measured = [name for name in table.column_names if name.startswith(MEASURE)]
    others = [name for name in table.column_names if name not in RECORDS.names and name not in measured]
    outcomes = [name for name in (*OUTCOMES, *measured, *others) if table[name].null_count < table.num_rows]
    roles = dict.fromkeys(settings, "setting") | dict.fromkeys(("status", "reason", *outcomes), "outcome")
    columns = [_column(table[name], name, role, packed) for name, role in roles.items() if table[name].null_count < table.num_rows]
    repeated = {label for label, group in groupby(sorted(one["label"] for one in columns)) if len(list(group)) > 1}
    for column in columns:
        column["label"] = column["name"] if column["label"] in repeated else column["label"]
    description = {
        "count": table.num_rows,
        "columns": columns,
        "start": _start([one["name"] for one in columns if one["role"] == "setting"], columns),
        "lines": _lines(table, [one for one in columns if one["kind"] == "number"]),
        "point": None if spec is None else {"spec": spec, "fields": _shared(table, settings)},
        "keys": _keys(table, packed),
        "curves": _curves(table, curves, packed) if table.num_rows <= MOST_CURVES else None,
        "palettes": {theme: _palette(dark=theme == "dark") for theme in ("light", "dark")},
    }
    return Explorer(description, packed.text())


def _column(column: pa.ChunkedArray, name: str, role: str, packed: _Bytes) -> dict[str, Any]:
    """One column: its name, its words, and its values as an array of codes or of numbers."""
    about: dict[str, Any] = {"name": name, "label": words(name).replace("$", ""), "role": role}
    if role == "setting" and name in _CONFIG and name not in _SIZE_AIMS and not name.endswith(".digest"):
        about["default"] = flatten(TrialConfig())[name]
        about["always"] = name in left_open_words()
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        numbers = column.cast(pa.float64(), safe=False).fill_null(float("nan")).to_numpy()
        known = np.unique(numbers[~np.isnan(numbers)])
        about |= {
            "kind": "number",
            "whole": pa.types.is_integer(kind),
            "log": _is_wide(known) and name not in (*ERRORS, "validation_error"),
        }
        if len(known) <= _MOST_CODES and np.isfinite(known).all():
            codes = np.where(np.isnan(numbers), len(known), np.searchsorted(known, numbers)).astype(np.uint8)
            values = [int(value) for value in known] if pa.types.is_integer(kind) else known.tolist()
            return about | {"values": values, "type": "u1", "offset": packed.add(codes)}
        exact = role == "setting" or (pa.types.is_integer(kind) and known[-1] >= 2**24)
        if exact:
            return about | {"type": "f8", "offset": packed.add(numbers)}
        if len(numbers) > MOST_EXACT:
            return about | {"type": "f3", "offset": packed.add(_shortened(numbers))}
        return about | {"type": "f4", "offset": packed.add(numbers.astype(np.float32))}
    texts = column if pa.types.is_boolean(kind) else column.cast(pa.string())
    coded = texts.combine_chunks().dictionary_encode()
    order = pc.sort_indices(coded.dictionary.cast(pa.string())).to_numpy()
    place = np.empty(len(order) + 1, np.uint32)
    place[order], place[-1] = np.arange(len(order)), len(order)
    codes = place[coded.indices.fill_null(len(order)).to_numpy(zero_copy_only=False)]
    size = "u1" if len(order) <= _MOST_CODES else "u4"
    values = [coded.dictionary[int(index)].as_py() for index in order]
    return about | {"kind": "name", "values": values, "type": size, "offset": packed.add(codes.astype(size))}


def _shortened(numbers: NDArray[np.float64]) -> bytes:
    """Numbers rounded to 16 significant bits, in 24: the planes of the three upper bytes of float32, which deflate better apart."""
    bits = numbers.astype("<f4").view("<u4").astype(np.uint64)
    rounded = ((bits + 0x7F + ((bits >> 8) & 1)) >> 8 << 8).astype("<u4")
    kept = np.where(np.isfinite(numbers), rounded, bits & 0xFFFFFF00).astype("<u4")
    return kept.view(np.uint8).reshape(-1, 4)[:, :0:-1].T.tobytes()


def _is_wide(known: NDArray[np.float64]) -> bool:
    return bool(len(known) and known[0] > 0 and isfinite(known[-1]) and known[-1] >= _WIDE * known[0])


def _several(column: pa.ChunkedArray) -> bool:
    return bool(pc.count_distinct(column, mode="all").as_py() > 1)


def _start(settings: Sequence[str], columns: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the explorer shows before its reader chooses: the gap against capacity, coloured by corruption, as far as there is one."""
    varying = [one["name"] for one in columns if len(one.get("values", (0, 1))) > 1]
    numbers = [one["name"] for one in columns if one["kind"] == "number" and one["name"] in varying] or [columns[0]["name"]]

    def first(*names: str) -> str:
        return next((name for name in names if name in varying), numbers[0])

    own = [name for name in settings if name not in (*SEEDS, *_SIZE_AIMS)]
    sizes = [name for name in _CAPACITY if name in varying and name == "parameters_per_sample"]
    axes = [*own[:7], *(name for name in sizes if name not in own), *(name for name in (*ERRORS, *OF_REGRESSION) if name in varying)]
    return {
        "x": first("parameters_per_sample", *own, "train_error", "train_nmse"),
        "y": first(*ERRORS, *OF_REGRESSION, "test_loss"),
        "colour": first("corruption.level", "corruption.kind", *own, "interpolated"),
        "axes": list(dict.fromkeys(axes))[:10],
    }


def _lines(table: pa.Table, columns: Sequence[dict[str, Any]]) -> dict[str, list[str]]:
    """By axis, the columns that tell lines over it apart: only seeds are averaged, so a line agrees in all other settings."""
    names = [one["name"] for one in columns if one["role"] == "setting" or one["name"] in _CAPACITY]
    names = [name for name in names if name not in (*SEEDS, *_SIZE_AIMS)]
    needed = ["status", *_CAPACITY, "corruption.kind", "corruption.level", *SEEDS, *varying_fields(table), *names]
    lines = {}
    try:
        runs = completed(table.select(list(dict.fromkeys(needed))))
    except AnalysisError:
        return {}
    for name in names:
        lines[name] = lines_over(runs, name)[1]
    return lines


def _shared(table: pa.Table, settings: Sequence[str]) -> dict[str, Any]:
    """The fields of a point that all records share and that a spec must state: those that are not at their defaults, and those that it
    would leave to a probe.

    The width that was solved for stands for the ratio aimed at, and what gaplab fills in itself is left out.
    """
    defaults, shared = flatten(TrialConfig()), {}
    for name in _CONFIG:
        if name in (*settings, *_SIZE_AIMS) or name.endswith(".digest") or name not in table.column_names:
            continue
        if name in SEEDS[1:] and table[name].equals(table["seed"]):
            continue
        value = table[name][0].as_py()
        if value != defaults[name] or name in ("data.name", "model.name", *left_open_words()):
            shared[name] = value
    return shared


def _keys(table: pa.Table, packed: _Bytes) -> dict[str, Any]:
    """Where the keys lie, as 16 bytes each; keys of other origin are texts."""
    keys = table["key"].to_pylist()
    if all(_KEY.fullmatch(str(key)) for key in keys):
        return {"offset": packed.add(bytes.fromhex("".join(keys)))}
    return {"values": [str(key) for key in keys]}


def _curves(table: pa.Table, load: Callable[[pa.Table], pa.Table], packed: _Bytes) -> dict[str, Any] | None:
    """Where the curves lie: for each point the index of its first epoch, then the epochs and values; None without a curve."""
    curves = load(table)
    points = pc.index_in(curves["key"], value_set=table["key"].combine_chunks())
    curves = curves.append_column("point", points).filter(pc.is_valid(points)).sort_by([("point", "ascending"), ("epoch", "ascending")])
    if not curves.num_rows:
        return None
    point = curves["point"].to_numpy().astype(np.int64)
    counts = np.bincount(point, minlength=table.num_rows)
    rank = np.arange(len(point)) - (np.cumsum(counts) - counts)[point]
    steps = (MOST_EPOCHS - 1) / np.maximum(counts[point] - 1, MOST_EPOCHS - 1)
    kept = (rank == 0) | (np.floor(rank * steps + 1e-9) > np.floor((rank - 1) * steps + 1e-9))
    starts = np.concatenate([[0], np.cumsum(np.bincount(point[kept], minlength=table.num_rows))]).astype(np.uint32)
    read = {"epoch": curves["epoch"]} | {
        name: pc.coalesce(*(curves[one].cast(pa.float32()) for one in (name, of_regression)))
        for name, of_regression in zip(CURVE_VALUES, named(CURVE_VALUES, regression=True), strict=True)
    }
    arrays = {name: column.cast(pa.float32()).fill_null(float("nan")).to_numpy()[kept] for name, column in read.items()}
    return {"starts": packed.add(starts), "length": int(kept.sum())} | {name: packed.add(array) for name, array in arrays.items()}


def _palette(*, dark: bool) -> dict[str, list[str]]:
    from matplotlib.colors import to_hex

    return {
        "ramp": [to_hex(colour) for colour in colours(range(_RAMP), dark=dark)],
        "names": [to_hex(colour) for colour in colours([str(index) for index in range(len(OKABE_ITO))], dark=dark)],
    }
