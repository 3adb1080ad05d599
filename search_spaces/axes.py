"""Axes: the values that one field of a point takes, listed (`Values`) or drawn (`Distribution`)."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import exp, log
from sys import float_info
from typing import Any

from trainables.point.errors import ConfigError

MOST_VALUES = 1_000_000
"""Values of one axis at most: a slip such as ``range: 1e12`` must not fill the memory when it is written out."""


@dataclass(frozen=True)
class Values:
    """A listed axis: a grid takes each of its values."""

    values: tuple[Any, ...]


@dataclass(frozen=True)
class Distribution:
    """A random axis on [low, high], uniform in the value, its logarithm, the whole numbers or the choices.

    Attributes:
        kind: "uniform", "log_uniform", "int" or "choice".
        low, high: the bounds, both included; not used by "choice".
        log: for "int" only, whether it is uniform in the logarithm.
        choices: for "choice" only, the values.
    """

    kind: str
    low: float = 0.0
    high: float = 1.0
    log: bool = False
    choices: tuple[Any, ...] = ()

    def at(self, quantile: float) -> Any:
        """The value below which a share `quantile` in [0, 1) of the distribution lies.

        >>> Distribution("log_uniform", 1e-4, 1e-2).at(0.5)
        0.001
        >>> Distribution("int", 1, 4).at(0.99)
        4
        """
        if self.kind == "choice":
            return self.choices[int(quantile * len(self.choices))]
        if self.kind == "int":
            if self.log:
                value = int(exp(log(self.low) + quantile * (log(self.high + 1) - log(self.low))))
                return min(int(self.high), max(int(self.low), value))  # the logarithm of 5 comes back as 4.999...
            return int(self.low) + int(quantile * (int(self.high) - int(self.low) + 1))
        if self.kind == "log_uniform":
            return min(self.high, max(self.low, _tidy(exp(log(self.low) + quantile * (log(self.high) - log(self.low))))))
        return self.low + quantile * (self.high - self.low)


Axis = Values | Distribution


def parse_axis(name: str, written: Any) -> Axis:
    """The axis of field `name` as written in a spec: one kind with its argument.

    >>> parse_axis("seed", {"range": 3})
    Values(values=(0, 1, 2))

    Raises:
        ConfigError: what is written is no axis, or an empty one.
    """
    kinds = ", ".join(KINDS)
    if not isinstance(written, Mapping) or len(written) != 1:
        raise ConfigError(f"space.{name} must be one of {kinds} with its values, such as {{values: [0, 1]}}; it is {written!r}")
    kind, argument = next(iter(written.items()))
    if kind not in KINDS:
        near = difflib.get_close_matches(str(kind), KINDS, n=1)
        raise ConfigError(f"space.{name}: {kind!r} is no kind of axis: " + (f"did you mean {near[0]!r}?" if near else f"use {kinds}"))
    return KINDS[kind](f"space.{name}.{kind}", argument)


def _values(where: str, argument: Any) -> Values:
    if not isinstance(argument, Sequence) or isinstance(argument, str) or not argument:
        raise ConfigError(f"{where} must be a list with at least one value; it is {argument!r}")
    return Values(tuple(argument))


def _range(where: str, argument: Any) -> Values:
    bounds = argument if isinstance(argument, list) else [0, argument]
    if len(bounds) != 2 or not all(isinstance(bound, int) and not isinstance(bound, bool) for bound in bounds) or bounds[0] >= bounds[1]:
        raise ConfigError(f"{where} must be a count such as 5 (0 to 4), or [first, end] with end greater than first; it is {argument!r}")
    if bounds[1] - bounds[0] > MOST_VALUES:
        raise ConfigError(f"{where} has {bounds[1] - bounds[0]:,} values: an axis takes at most {MOST_VALUES:,}")
    return Values(tuple(range(*bounds)))


def _grid(logarithmic: bool) -> Callable[[str, Any], Values]:
    def parse(where: str, argument: Any) -> Values:
        low, high = _bounds(where, argument, {"low", "high", "points"}, positive=logarithmic)
        points = argument["points"]
        if not isinstance(points, int) or isinstance(points, bool) or not 2 <= points <= MOST_VALUES:
            raise ConfigError(f"{where}.points must be a whole number from 2 to {MOST_VALUES:,}; it is {points!r}")
        shares = [step / (points - 1) for step in range(points)]
        if logarithmic:
            return Values(tuple(_tidy(low ** (1 - share) * high**share) for share in shares))
        return Values(tuple(_tidy(low + share * (high - low)) for share in shares))

    return parse


def _distribution(kind: str) -> Callable[[str, Any], Distribution]:
    def parse(where: str, argument: Any) -> Distribution:
        allowed = {"low", "high", "log"} if kind == "int" else {"low", "high"}
        low, high = _bounds(where, argument, {"low", "high"}, positive=kind == "log_uniform", allowed=allowed)
        logarithmic = bool(argument.get("log", False))
        if kind == "int" and (int(low) != low or int(high) != high or (logarithmic and low < 1)):
            raise ConfigError(f"{where} needs whole bounds (at least 1 with log); they are {low:g} and {high:g}")
        return Distribution(kind, low, high, logarithmic)

    return parse


def _choice(where: str, argument: Any) -> Distribution:
    return Distribution("choice", choices=_values(where, argument).values)


def _bounds(where: str, argument: Any, needed: set[str], *, positive: bool, allowed: set[str] | None = None) -> tuple[float, float]:
    if not isinstance(argument, Mapping) or not needed <= set(argument) or not set(argument) <= (allowed or needed):
        raise ConfigError(f"{where} must give {', '.join(sorted(needed))}; it is {argument!r}")
    low, high = argument["low"], argument["high"]
    for bound in (low, high):
        if isinstance(bound, bool) or not isinstance(bound, int | float) or not abs(bound) <= float_info.max:
            raise ConfigError(f"{where}: {bound!r} is not a finite number")
    if low >= high or (positive and low <= 0):
        raise ConfigError(f"{where}: low must be {'positive and ' if positive else ''}below high; they are {low:g} and {high:g}")
    return float(low), float(high)


def _tidy(value: float) -> float:
    """Round to twelve digits: 0.1 stays 0.1 on every platform's power function, so that keys agree."""
    return float(f"{value:.12g}")


KINDS: dict[str, Callable[[str, Any], Axis]] = {
    "values": _values,
    "range": _range,
    "lin_grid": _grid(logarithmic=False),
    "log_grid": _grid(logarithmic=True),
    "uniform": _distribution("uniform"),
    "log_uniform": _distribution("log_uniform"),
    "int": _distribution("int"),
    "choice": _choice,
}
