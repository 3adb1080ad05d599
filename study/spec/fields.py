"""The values of a point's fields, checked one by one as they stand in a spec."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from trainables.point.config import TrialConfig, field_types, left_open_words, with_fields
from trainables.point.errors import ConfigError
from trainables.point.transitions import as_text

_LARGEST = 2**63 - 1


def checked_value(name: str, value: Any, where: str) -> Any:
    """The value of a field, of its type and in its range.

    Raises:
        ConfigError: it is not; the sentence begins with `where` and the name.
    """
    types = field_types()
    if name not in types:
        raise ConfigError(f"{where}{name}: " + unknown_field(str(name), list(types)))
    if name.endswith(".digest"):
        raise ConfigError(f"{where}{name} is filled in by gaplab: leave it out")
    if isinstance(value, int) and abs(value) > _LARGEST:
        raise ConfigError(f"{where}{name} is beyond {_LARGEST:,}, the largest whole number that a record holds")
    try:
        if name == "corruption.transition" and isinstance(value, list):
            value = as_text(value)
        value = _adapter(types[name]).validate_python(value, strict=True)
        with_fields(TrialConfig(), {name: value})
    except ValidationError as error:
        raise ConfigError(f"{where}{name} is {value!r}: {problem_of(error.errors(include_url=False)[0], name)}") from None
    except ConfigError as error:
        raise ConfigError(f"{where}{error}") from None
    return value


_SHAPES = {
    "list_type": "a list, such as [...] or lines that begin with a hyphen",
    **dict.fromkeys(("dict_type", "model_type"), "a mapping, such as {NAME: VALUE}"),
}
"""What YAML calls the things of which pydantic has other names, by its kinds of errors."""


def problem_of(found: Mapping[str, Any], name: str) -> str:
    """What pydantic says of a value, with what would be right where that is a matter of quotes.

    Args:
        found: one of its errors.
        name: of the field.
    """
    value = found["input"]
    if found["type"] == "string_type" and isinstance(value, int | float):
        return f"""it should be text, in quotes: "{value}", or on the command line --set '{name}="{value}"'"""
    if found["type"] in _SHAPES:
        return f"it should be {_SHAPES[found['type']]}"
    return str(found["msg"]).removeprefix("Value error, ").replace("Input", "it", 1)


OPEN = object()
"""Stands for the value of a field that is left to a probe of the data."""


def value_or_open(name: str, value: Any, where: str) -> Any:
    """The value of a field of the trial as `checked_value` gives it, or `OPEN` for the word that leaves it open."""
    word = left_open_words().get(name)
    if word is not None and value == word:
        return OPEN
    try:
        return checked_value(name, value, where)
    except ConfigError as error:
        raise ConfigError(f"{error}, or {word}") if word and isinstance(value, str) else error from None


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def unknown_field(name: str, known: list[str]) -> str:
    """That there is no such field, with the nearest of the known ones and their groups, by the whole name or by its last part."""
    groups = {full.partition(".")[0] for full in known}
    last = {full.rpartition(".")[2]: full for full in known}
    near = difflib.get_close_matches(name, [*known, *groups], n=1, cutoff=0.7)
    near = near or [last[part] for part in difflib.get_close_matches(name.rpartition(".")[2], last, n=1)]
    return "no such field" + (f": did you mean {near[0]!r}?" if near else f": known are {', '.join(known)}")


def dotted(trial: Mapping[str, Any]) -> dict[str, Any]:
    """{"data": {"name": ...}} or {"data.name": ...} as {"data.name": ...}.

    Raises:
        ConfigError: a group is no mapping, or a field stands there twice.
    """
    flat: dict[str, Any] = {}
    groups = {name.partition(".")[0] for name in field_types() if "." in name}
    for name, value in trial.items():
        if name in groups and not isinstance(value, Mapping):
            raise ConfigError(f"trial.{name} must be a mapping of its fields, such as {{{_first_field(name)}: ...}}; it is {value!r}")
        inner = {f"{name}.{inner}": inner_value for inner, inner_value in value.items()} if name in groups else {name: value}
        if twice := flat.keys() & inner:
            raise ConfigError(f"trial names {', '.join(sorted(twice))} twice: keep one of them")
        flat |= inner
    return flat


def _first_field(group: str) -> str:
    return next(name for name in field_types() if name.startswith(f"{group}.")).partition(".")[2]
