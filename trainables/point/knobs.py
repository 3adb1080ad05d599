"""Fields of a point that say their meaning and their range, and the check of it."""

from __future__ import annotations

import dataclasses
from dataclasses import Field, fields
from functools import cache
from math import inf, isfinite
from typing import Any

from trainables.point.errors import ConfigError


def knob(
    default: Any,
    doc: str,
    *,
    low: float | None = None,
    high: float | None = None,
    open_low: bool = False,
    open_high: bool = False,
    word: str | None = None,
) -> Any:
    """A field with its documentation and its range [low, high]; ``open_*`` excludes that end.

    Args:
        word: by which a spec leaves the field to a probe of the data (see `trainables.probe`).
    """
    limits = {"low": low, "high": high, "open_low": open_low, "open_high": open_high}
    return dataclasses.field(default=default, metadata={"doc": doc, "word": word, **limits})


def check_range(field: Field[Any], value: Any, name: str) -> None:
    """Raise ConfigError when a number lies outside the range that its field states."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    if isinstance(value, float) and not isfinite(value):
        raise ConfigError(f"{name} is {value}: it must be a finite number")
    limits = field.metadata
    low, high = limits.get("low"), limits.get("high")
    below = low is not None and (value <= low if limits["open_low"] else value < low)
    above = high is not None and (value >= high if limits["open_high"] else value > high)
    if below or above:
        raise ConfigError(f"{name} is {value}: it must be {range_of(field)}")


def range_of(field: Field[Any]) -> str:
    """The range of a field in words, empty for none."""
    limits = field.metadata
    low, high = limits.get("low"), limits.get("high")
    if low is None and high is None:
        return ""
    above = "" if low is None else f"greater than {low}" if limits["open_low"] else f"at least {low}"
    below = "" if high is None else f"less than {high}" if limits["open_high"] else f"at most {high}"
    return " and ".join(part for part in (above, below) if part)


@cache
def limited(group: type) -> tuple[tuple[str, float, float, Field[Any]], ...]:
    """The fields of a group that have a range: name, what lies between these ends is right, and the field itself."""
    knobs = [field for field in fields(group) if range_of(field)]
    ends = [tuple(inf * sign if field.metadata[end] is None else field.metadata[end] for end, sign in _ENDS) for field in knobs]
    return tuple((field.name, low, high, field) for field, (low, high) in zip(knobs, ends, strict=True))


_ENDS = (("low", -1), ("high", 1))


class Group:
    """Shared by the groups of fields: the check of their ranges. Points are made by the hundred thousand, so most are let through."""

    def __post_init__(self) -> None:
        for name, low, high, field in limited(type(self)):  # type: ignore[arg-type]
            value = getattr(self, name)
            if value is not None and not low < value < high:
                check_range(field, value, f"{type(self).__name__.lower()}.{name}")
