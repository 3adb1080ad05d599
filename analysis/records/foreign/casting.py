"""Foreign values as values of a column's type: what cannot be one is said with its run, and never ends in an error of Arrow's."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from analysis.errors import AnalysisError

_NOTHING = ("", "none", "null", "n/a")
_TRUE, _FALSE = ("true", "yes", "1", "1.0"), ("false", "no", "0", "0.0")
_MILLISECONDS = 1e11
"""Larger numbers of seconds since 1970 are milliseconds: the one is the year 5138, the other 1973."""


def as_column(values: Sequence[Any], column: pa.Field, ids: Sequence[str]) -> pa.Array:
    """Values of runs, of any type, as a column.

    Args:
        values: numbers, texts, booleans or None, an entry a run.
        column: its name and type.
        ids: the runs.

    Raises:
        AnalysisError: a value that is none of the column's.
    """
    read = _reader(column.type)
    found = []
    for index, value in enumerate(values):
        try:
            found.append(read(value))
        except (ValueError, OverflowError, OSError):
            raise AnalysisError(f"run {ids[index]} has {value!r} where {column.name} must be {_in_words(column.type)}") from None
    return pa.array(found, column.type)


def number(value: Any) -> float | None:
    """A value as a number.

    Raises:
        ValueError: it is a text that says none.
    """
    if value is None or isinstance(value, int | float):
        return None if value is None else float(value)
    text = str(value).strip()
    return None if text.lower() in _NOTHING else float({"true": "1", "false": "0"}.get(text.lower(), text))


def _reader(kind: pa.DataType) -> Callable[[Any], Any]:
    if pa.types.is_boolean(kind):
        return _truth
    if pa.types.is_integer(kind):
        return lambda value: _whole(value, kind.bit_width)
    if pa.types.is_floating(kind):
        return number
    return _moment if pa.types.is_timestamp(kind) else _text


def _truth(value: Any) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text in _NOTHING or text == "nan":
        return None
    if text not in _TRUE + _FALSE:
        raise ValueError(value)
    return text in _TRUE


def _whole(value: Any, bits: int) -> int | None:
    if isinstance(value, str) and value.strip().lstrip("+-").isdecimal():
        whole = int(value)
    else:
        read = number(value)
        if read is None or math.isnan(read):
            return None
        if not read.is_integer():
            raise ValueError(value)
        whole = int(read)
    if not -(2 ** (bits - 1)) <= whole < 2 ** (bits - 1):
        raise ValueError(value)
    return whole


def _moment(value: Any) -> datetime | None:
    if value is None or isinstance(value, datetime):
        return value if value is None or value.tzinfo else value.replace(tzinfo=UTC)
    try:
        read = number(value)
    except ValueError:
        moment = datetime.fromisoformat(str(value).strip())
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if read is None or math.isnan(read):
        return None
    return datetime.fromtimestamp(read / 1000 if abs(read) > _MILLISECONDS else read, UTC)


def _text(value: Any) -> str | None:
    return None if value is None or (isinstance(value, float) and math.isnan(value)) else str(value)


def _in_words(kind: pa.DataType) -> str:
    if pa.types.is_boolean(kind):
        return "true or false"
    if pa.types.is_integer(kind):
        return "a whole number"
    return "a number" if pa.types.is_floating(kind) else "a moment, such as 2026-03-01T12:00:00"
