"""The section ``space:`` of a spec: its axes, checked against the fields that they set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from search_spaces.axes import Axis, Distribution, Values, parse_axis
from search_spaces.conditional import SWITCH, Condition, parse_condition
from search_spaces.regularizers import regularizer_axes
from search_spaces.space import Assignment, Space
from study.spec.fields import checked_value, unknown_field
from trainables.point.config import TrialConfig, field_types
from trainables.point.errors import ConfigError


def read_space(written: Mapping[str, Any], trial: TrialConfig) -> Space:
    """The space as written, around a trial.

    Raises:
        ConfigError: an axis is none, sets an unknown field, or leaves a field's range.
    """
    rest = dict(written)
    switches = _switches(rest)
    if "regularizers" in rest:
        switches, rest = _with_regularizers(switches, rest, trial)
    conditions = _conditions(rest)
    zipped, added, excluded = (_list_of_mappings(word, rest.pop(word, [])) for word in ("zip", "add", "exclude"))
    groups = tuple(_zipped(group) for group in zipped)
    added_values, excluded_values = (_assignments(word, part) for word, part in (("add", added), ("exclude", excluded)))
    axes: dict[str, Axis] = dict.fromkeys(switches, SWITCH)
    axes |= {name: _axis(name, axis) for name, axis in rest.items()}
    return Space(axes, groups, added_values, excluded_values, conditions, tuple(switches))


def _switches(rest: dict[str, Any]) -> list[str]:
    """Take the switches out of the section."""
    switches = rest.pop("switches", [])
    if not isinstance(switches, list) or not all(isinstance(name, str) for name in switches) or set(switches) & set(field_types()):
        raise ConfigError(f"space.switches must be a list of names that are no fields, such as use_mixup; it is {switches!r}")
    return switches


def _with_regularizers(switches: list[str], rest: dict[str, Any], trial: TrialConfig) -> tuple[list[str], dict[str, Any]]:
    """The switches and axes, with those of ``space.regularizers`` where none are written out."""
    if "model.name" in rest:
        raise ConfigError("space.regularizers has the ranges of one architecture, so model.name cannot vary: write the axes out")
    bundled = regularizer_axes(rest.pop("regularizers"), trial)
    bundled = {name: axis for name, axis in bundled.items() if name not in rest}
    asked = {axis.get("when") for axis in bundled.values() if isinstance(axis, dict) and isinstance(axis.get("when"), str)}
    return [*switches, *(name for name in bundled.pop("switches") if name in asked)], bundled | rest


def _conditions(rest: dict[str, Any]) -> dict[str, Condition]:
    """Take the conditions (``when``) out of the axes."""
    conditions = {name: parse_condition(name, axis["when"]) for name, axis in rest.items() if isinstance(axis, Mapping) and "when" in axis}
    for name in conditions:
        rest[name] = {part: value for part, value in rest[name].items() if part != "when"}
    return conditions


def _list_of_mappings(word: str, part: Any) -> list[dict[str, Any]]:
    if not isinstance(part, list) or not all(isinstance(one, dict) and one for one in part):
        raise ConfigError(f"space.{word} must be a list of mappings from fields; it is {part!r}")
    return part


def _zipped(group: Mapping[str, Any]) -> dict[str, Values]:
    axes = {name: _axis(name, axis) for name, axis in group.items()}
    if not all(isinstance(axis, Values) for axis in axes.values()):
        raise ConfigError("space.zip takes listed axes (values, range, lin_grid, log_grid)")
    return {name: axis for name, axis in axes.items() if isinstance(axis, Values)}


def _assignments(word: str, part: list[dict[str, Any]]) -> tuple[Assignment, ...]:
    return tuple({name: checked_value(name, value, f"space.{word}.") for name, value in one.items()} for one in part)


def _axis(name: str, written: Any) -> Axis:
    if name not in field_types():
        raise ConfigError(f"space.{name}: " + unknown_field(str(name), list(field_types())))
    axis = parse_axis(name, written)
    if isinstance(axis, Values):
        return Values(tuple(checked_value(name, value, "space.") for value in axis.values))
    probes = axis.choices if axis.kind == "choice" else (axis.at(0.0), axis.at(0.999999))
    checked = tuple(checked_value(name, value, "space.") for value in probes)
    return Distribution("choice", choices=checked) if axis.kind == "choice" else axis
