"""The registry of complexity measures: one decorated function a measure."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypedDict

from trainables.measures.subject import Subject
from trainables.point.config import ConfigError

Function = Callable[[Subject], float]


class Common(TypedDict):
    """Arguments of `measure` that several measures share."""

    cost: str
    cheap: bool
    epochs: float
    ignores: str


@dataclass(frozen=True)
class Measure:
    """One registered measure.

    `cost` says in words what it takes: measures with one cost share it. `cheap` ones together cost less than a few epochs of training;
    the others at most about `epochs` of them.
    """

    name: str
    function: Function
    cost: str
    cheap: bool
    epochs: float = 0.0

    @property
    def doc(self) -> str:
        return self.function.__doc__ or ""


_MEASURES: dict[str, Measure] = {}
_BUNDLED = ("counts", "norms", "margins", "gradients", "pacbayes", "sharpness", "fitting", "memorisation")


def measure(name: str, *, cost: str, cheap: bool, epochs: float = 0.0, ignores: str = "") -> Callable[[Function], Function]:
    """Register a function of a `Subject` as the measure ``name``; its record column is ``measure.NAME``.

    Args:
        name: what a spec calls it.
        cost: what it takes, in words, such as "one forward pass".
        cheap: whether it costs little beside the training.
        epochs: most epochs of plain training that it costs, for `gaplab show`; one is three forward passes of all samples.
        ignores: what it does not see. The docstring is given the cost and this.
    """

    def register(function: Function) -> Function:
        ending = f"\n\n    Cost: {cost}." + (f" Ignores {ignores}." if ignores else "")
        function.__doc__ = (function.__doc__ or "").rstrip() + ending
        _MEASURES[name] = Measure(name, function, cost, cheap, epochs)
        return function

    return register


def known_measures() -> dict[str, Measure]:
    """Every measure known in this process, by name, bundled ones first."""
    for module in _BUNDLED:
        importlib.import_module(f"trainables.measures.{module}")
    return dict(_MEASURES)


def find_measure(name: str) -> Measure:
    """The measure of that name.

    Raises:
        ConfigError: there is none; the message suggests the nearest name.
    """
    known = known_measures()
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(known))}"
    raise ConfigError(f"measures names {name!r}, which is no measure: {hint}")


def measure_all(names: Iterable[str], subject: Subject) -> dict[str, float]:
    """The named measures of one subject, ``{name: value}``, in the order given. What they share is computed once.

    Raises:
        ConfigError: a name is no measure (nothing is computed then), or batch norm cannot be folded.
    """
    found = [find_measure(name) for name in names]
    return {each.name: float(each.function(subject)) for each in found}
