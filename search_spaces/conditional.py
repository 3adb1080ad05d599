"""Conditions: an axis that is asked for only where others have certain values.

A strength matters only when its regularizer is on, the decay of a schedule only under that schedule. ``when:`` says so:

    space:
      switches: [use_mixup]                 # on or off, and no field of a point
      regularizers.mixup: {uniform: {low: 0.1, high: 1}, when: use_mixup}
      optimizer.schedule: {choice: [constant, exponential]}
      optimizer.decay: {uniform: {low: 0.8, high: 0.99}, when: {optimizer.schedule: exponential}}

Where a condition does not hold, the field keeps the value that the study's trial gives it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any, Protocol

from search_spaces.axes import Axis, Distribution, Values
from trainables.point.errors import ConfigError

Condition = Mapping[str, tuple[Any, ...]]
"""Axis or switch -> the values under which another axis is asked for. All must hold."""

SWITCH = Distribution("choice", choices=(False, True))
"""The axis of a switch."""


class Asker(Protocol):
    """What suggestions are drawn from: an `optuna.Trial`, or anything with these three methods of it."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float: ...

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int: ...

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any: ...


def parse_condition(name: str, written: Any) -> Condition:
    """Parse what stands at ``when:`` in the axis of field `name`: a switch, or axes with a value or a list of values each.

    >>> parse_condition("optimizer.decay", {"optimizer.schedule": ["exponential", "step"]})
    {'optimizer.schedule': ('exponential', 'step')}
    >>> parse_condition("regularizers.mixup", "use_mixup")
    {'use_mixup': (True,)}

    Raises:
        ConfigError: it is neither.
    """
    if isinstance(written, str):
        return {written: (True,)}
    if not isinstance(written, Mapping) or not written:
        raise ConfigError(f"space.{name}.when must be a switch, or {{FIELD: VALUE}} with a field that the space varies; it is {written!r}")
    return {parent: tuple(values) if isinstance(values, list) else (values,) for parent, values in written.items()}


def check_conditions(axes: Mapping[str, Axis], conditions: Mapping[str, Condition], switches: Iterable[str]) -> None:
    """Raise ConfigError for a condition that can never hold, or can never be decided, and for a switch that switches nothing."""
    for name, condition in conditions.items():
        for parent, wanted in condition.items():
            if parent not in axes:
                raise ConfigError(
                    f"space.{name}.when names {parent}, which is not searched: a condition is on a switch or another axis of the space"
                )
            possible = _listed(axes[parent])
            if possible is None:
                raise ConfigError(f"space.{name}.when names {parent}, which has no listed values: a condition is on a choice or a switch")
            if never := [value for value in wanted if value not in possible]:
                raise ConfigError(f"space.{name}.when wants {parent} = {never[0]!r}, which it never is: its values are {list(possible)}")
    in_order(axes, conditions)
    if idle := set(switches) - {parent for condition in conditions.values() for parent in condition}:
        raise ConfigError(f"space.switches names {', '.join(sorted(idle))}, which no `when:` asks for")


def in_order(axes: Iterable[str], conditions: Mapping[str, Condition]) -> list[str]:
    """Sort the axes, each after those that its condition asks for.

    Raises:
        ConfigError: conditions go in a circle.
    """
    try:
        return list(TopologicalSorter({name: list(conditions.get(name, ())) for name in axes}).static_order())
    except CycleError as error:
        circle = ", ".join(sorted(set(error.args[1])))
        raise ConfigError(f"space: the conditions of {circle} wait for each other: break the circle") from None


def holds(condition: Condition, assignment: Mapping[str, Any]) -> bool:
    """Whether every field that the condition names is assigned one of its values."""
    return all(parent in assignment and assignment[parent] in wanted for parent, wanted in condition.items())


def settled(assignment: Mapping[str, Any], conditions: Mapping[str, Condition], switches: Sequence[str]) -> dict[str, Any]:
    """Return the assignment without the fields whose condition does not hold, and without the switches.

    >>> settled({"use_mixup": False, "regularizers.mixup": 0.5}, {"regularizers.mixup": {"use_mixup": (True,)}}, ["use_mixup"])
    {}
    """
    if not conditions:
        return dict(assignment)
    kept: dict[str, Any] = {}
    for name in in_order(assignment, {name: conditions[name] for name in assignment if name in conditions}):
        if name in assignment and holds(conditions.get(name, {}), kept):
            kept[name] = assignment[name]
    return {name: kept[name] for name in assignment if name in kept and name not in switches}


def under(conditions: Mapping[str, Condition], values: Mapping[str, Any]) -> tuple[dict[str, Condition], set[str]]:
    """Return what is left of the conditions when some fields are fixed to a value, and the axes that are never asked for then.

    >>> under({"optimizer.decay": {"optimizer.schedule": ("exponential",)}}, {"optimizer.schedule": "constant"})
    ({}, {'optimizer.decay'})
    """
    left: dict[str, Condition] = {}
    barred: set[str] = set()
    for name in in_order(conditions, conditions):
        condition = conditions.get(name, {})
        decided = {parent: wanted for parent, wanted in condition.items() if parent in values}
        if not holds(decided, values) or not barred.isdisjoint(condition):
            barred.add(name)
        elif name not in values and (undecided := {parent: wanted for parent, wanted in condition.items() if parent not in values}):
            left[name] = undecided
    return left, barred


def suggest(
    trial: Asker, axes: Mapping[str, Axis], conditions: Mapping[str, Condition], switches: Sequence[str], given: Mapping[str, Any]
) -> dict[str, Any]:
    """Ask `trial` for a value of every random axis whose condition holds, parents first.

    Args:
        given: fields that are assigned already, such as a cell's; they are part of the answer.
    """
    chosen = dict(given)
    for name in in_order(axes, conditions):
        axis = axes.get(name)
        if isinstance(axis, Distribution) and name not in given and holds(conditions.get(name, {}), chosen):
            chosen[name] = _ask(trial, name, axis)
    return {name: value for name, value in chosen.items() if name not in switches}


def _ask(trial: Asker, name: str, axis: Distribution) -> Any:
    if axis.kind == "choice":
        return trial.suggest_categorical(name, axis.choices)
    if axis.kind == "int":
        return trial.suggest_int(name, int(axis.low), int(axis.high), log=axis.log)
    return trial.suggest_float(name, axis.low, axis.high, log=axis.kind == "log_uniform")


def _listed(axis: Axis) -> tuple[Any, ...] | None:
    if isinstance(axis, Values):
        return axis.values
    return axis.choices if axis.kind == "choice" else None
