"""The columns of a table file, read by pyarrow and checked: features as numbers, labels as they are.

Numbers stay as they are, truth values become 0 and 1, and a column of names becomes one of 0 and 1 for each name that the training rows
have (one-hot), all 0 for a name that only test rows have. Nothing is filled in: an empty cell is an error.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.point.errors import ConfigError

MOST_NAMES = 1000
"""A column of more different names than this identifies its rows, or is text."""
_SHOWN = 3

Bools = NDArray[np.bool_]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Columns:
    """The columns of a file by name, as arrays of pyarrow, in the file's order."""

    path: Path
    held: Mapping[str, Any]
    rows: int

    def named(self, name: str) -> str:
        """How a sentence about a column begins."""
        return f"{self.path}: column {name!r}"


def listed(names: Sequence[str]) -> str:
    """The first few of them."""
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else "")


def read_columns(path: Path) -> Columns:
    """The columns of a CSV file (separated by commas, semicolons or tabs, names in the first line) or a Parquet file.

    Raises:
        ConfigError: there is no such file, it is damaged, or it is no table of named columns.
    """
    if not path.is_file():
        raise ConfigError(f"there is no data file {path}: data.name is the path of a CSV or Parquet file")
    try:
        import pyarrow as pa
    except ImportError:
        raise ConfigError(f"{path} is read by pyarrow, which is not installed: pip install pyarrow, or store it as .npz") from None
    is_csv = path.suffix.lower() == ".csv"
    try:
        table = _read_csv(path) if is_csv else _read_parquet(path)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is damaged or no {'CSV' if is_csv else 'Parquet'} file: {' '.join(str(error).split())}") from None
    names = table.column_names
    if repeated := sorted(name for name, count in Counter(names).items() if count > 1):
        raise ConfigError(f"{path}: the name {repeated[0]!r} stands over {names.count(repeated[0])} columns: give each its own")
    if is_csv and names and all(_is_number(name) for name in names):
        raise ConfigError(f"{path}: the first line holds numbers ({listed(names)}): write the names of the columns above it")
    if table.num_rows < 2 or len(names) < 2:
        raise ConfigError(f"{path} has {table.num_rows} rows and {len(names)} columns: a table has a row a sample, features and a label")
    return Columns(path, {name: _decoded(table[name].combine_chunks()) for name in names}, table.num_rows)


def _read_csv(path: Path) -> Any:
    from pyarrow import csv

    with path.open(encoding="utf-8-sig") as file:
        first = file.readline()
    whole = min(max(path.stat().st_size, 1), 2**31 - 1)  # so that a column's type is that of all its cells, not of the first megabyte's
    return csv.read_csv(
        path,
        read_options=csv.ReadOptions(block_size=whole),
        parse_options=csv.ParseOptions(delimiter=max(",;\t", key=first.count), newlines_in_values=True),
        convert_options=csv.ConvertOptions(strings_can_be_null=True, quoted_strings_can_be_null=False),
    )


def _read_parquet(path: Path) -> Any:
    from pyarrow import parquet

    return parquet.ParquetFile(path).read()


def _decoded(array: Any) -> Any:
    """The values themselves, of an array that stores each once."""
    import pyarrow as pa

    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def check_filled(columns: Columns, names: Sequence[str], what: str = "") -> None:
    """Raise ConfigError for empty cells of these columns, and for NaN among numbers; `what` says what such a column is for."""
    import pyarrow as pa

    empty = {}
    for name in names:
        array = columns.held[name]
        count = array.null_count
        if pa.types.is_floating(array.type):
            count += int(np.isnan(array.drop_null().to_numpy(zero_copy_only=False)).sum())
        if count:
            empty[name] = count
    if empty:
        found = listed([f"column {name!r} {what}has {count:,} empty {_cells(count)}" for name, count in empty.items()])
        raise ConfigError(f"{columns.path}: {found}: fill them in, or leave these rows or columns out")


def _cells(count: int) -> str:
    return "cell" if count == 1 else "cells"


def label_values(columns: Columns, name: str) -> NDArray[Any]:
    """A column of labels: whole numbers (int64) or names, (n,).

    Raises:
        ConfigError: it holds something else, or has empty cells.
    """
    import pyarrow as pa

    check_filled(columns, [name], "holds the labels, and ")
    array = columns.held[name]
    if pa.types.is_boolean(array.type) or _holds_names(array.type):
        return np.array([str(value) for value in array.to_pylist()])
    if not _holds_numbers(array.type):
        kind = f"is of the type {array.type}: labels are whole numbers, truth values or names"
        raise ConfigError(f"{columns.named(name)} holds the labels, and {kind}")
    values = _numbers(array)
    broken = values[values != np.rint(values)]
    if len(broken):
        raise ConfigError(
            f"{columns.named(name)} holds the labels, and {broken[0]:g} is no class: leave data.task out to learn numbers; "
            "data.label names another column"
        )
    return values.astype(np.int64)


def target_values(columns: Columns, name: str) -> NDArray[np.float64]:
    """A column of numbers to be learnt, (n,).

    Raises:
        ConfigError: it holds something else, or has empty cells.
    """
    check_filled(columns, [name], "holds the targets, and ")
    if not _holds_numbers(columns.held[name].type):
        raise ConfigError(f"{columns.named(name)} is of the type {columns.held[name].type}: data.task: regression learns numbers")
    return _numbers(columns.held[name])


def has_fractions(columns: Columns, name: str) -> bool:
    """Whether a column holds numbers of which some are not whole."""
    import pyarrow as pa

    kind = columns.held[name].type
    if not (pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        return False
    values = _numbers(columns.held[name].drop_null())
    return bool(((values != np.rint(values)) & np.isfinite(values)).any())


def encoded(columns: Columns, names: Sequence[str], trained: Bools) -> tuple[Floats, str, list[str]]:
    """The features (n, d) float32, what they were made from, in words, and what is to be said about them, a sentence each.

    Args:
        names: of the columns.
        trained: whether each row is a training row, (n,) bool.

    Raises:
        ConfigError: a column has empty cells, or holds what is neither numbers nor names.
    """
    check_filled(columns, names)
    parts: list[Floats] = []
    categories: dict[str, int] = {}
    doubts: list[str] = []
    for name in names:
        if _holds_names(columns.held[name].type):
            part, unseen = _one_hot(columns, name, trained)
            categories[name] = part.shape[1]
            if unseen:
                doubts.append(f"{unseen:,} test rows have a name in column {name!r} that no training row has: all its columns are 0 there")
        else:
            part = _number_column(columns, name)
            if len(part) > _SHOWN and (np.diff(part[:, 0]) == 1).all():
                doubts.append(f"column {name!r} numbers the rows: it says nothing of a sample, and much of the order of the file")
        parts.append(part)
    described = f"{len(names) - len(categories):,} of numbers"
    if categories:
        counts = listed([f"{name} ({count})" for name, count in categories.items()])
        described += f"; {len(categories):,} of names, as {sum(categories.values()):,} of 0 and 1: {counts}"
    return np.concatenate(parts, axis=1), described, doubts


def _one_hot(columns: Columns, name: str, trained: Bools) -> tuple[Floats, int]:
    """A column of 0 and 1 for each name among the training rows, in their order, and how many rows have none of these names."""
    stored = columns.held[name].dictionary_encode()
    words, codes = stored.dictionary.to_pylist(), stored.indices.to_numpy(zero_copy_only=False)
    known = sorted(np.unique(codes[trained]).tolist(), key=words.__getitem__)
    odd = [words[code] for code in known if not _is_number(words[code])]
    if 2 * len(odd) < len(known):
        said = f"holds numbers, and cells such as {odd[0]!r}" if odd else "holds numbers as text"
        raise ConfigError(f"{columns.named(name)} {said}: store numbers, and leave a cell empty where there is none")
    if len(known) > MOST_NAMES:
        raise ConfigError(f"{columns.named(name)} holds {len(known):,} different names, more than {MOST_NAMES:,}: leave it out")
    place = np.full(len(words), -1)
    place[known] = np.arange(len(known))
    places = place[codes]
    hot = np.zeros((columns.rows, len(known)), np.float32)
    seen = places >= 0
    hot[np.flatnonzero(seen), places[seen]] = 1
    return hot, int((~seen).sum())


def _number_column(columns: Columns, name: str) -> Floats:
    import pyarrow as pa

    array = columns.held[name]
    if not (_holds_numbers(array.type) or pa.types.is_boolean(array.type)):
        raise ConfigError(f"{columns.named(name)} is of the type {array.type}: a table holds numbers, truth values and names; leave it out")
    values = _numbers(array)
    with np.errstate(over="ignore"):
        found = values.astype(np.float32)
    if not np.isfinite(found).all():
        raise ConfigError(f"{columns.named(name)} holds {values[~np.isfinite(found)][0]:g}, which is no finite number of single precision")
    return found[:, None]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _holds_names(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _holds_numbers(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _numbers(array: Any) -> NDArray[np.float64]:
    import pyarrow as pa

    if pa.types.is_boolean(array.type):
        array = array.cast(pa.int8())
    return np.asarray(array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False))
