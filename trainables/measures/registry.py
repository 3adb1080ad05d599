"""The registry of complexity measures: one decorated function a measure.

A measure takes a `Subject`, the trained network with its data, and returns one number. A custom measure joins by the decorator:

    from trainables.measures import Subject, measure

    @measure("largest_weight", cost="a pass over the weights", cheap=True)
    def largest_weight(subject: Subject) -> float:
        return max(layer.weight.abs().max().item() for layer in subject.layers)

Conventions, kept by all bundled measures:

- Batch norm is folded first (`Subject.folded`); weights w are those of convolutions and linear layers, without biases.
- n is the number of training samples given. A measure that enters a bound as sqrt(v/n) is returned in that form, and the
  logarithm of such a v as (v - log n)/2, as in the code of Dziugaite et al. 2020, so that training sets of several sizes compare.
  Each docstring says v and whether this form applies.
- Equation numbers are those of Jiang et al. 2020, "Fantastic generalization measures and where to find them", as that code gives them.
- NaN means that the measure is not defined for this network: a margin that is not positive, a curve that never came down.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypedDict

from trainables.measures.subject import Subject
from trainables.point.errors import ConfigError

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

    Attributes:
        name: what a spec calls it.
        function: computes it.
        cost: what it takes, in words: measures with the same cost share it.
        cheap: whether it costs little beside the training: all cheap ones together cost less than a few epochs.
        epochs: most epochs of plain training that it costs.
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
    """Every measure known in this process, by name, bundled ones first: every module of the room `bundled` is imported."""
    room = importlib.import_module("trainables.measures.bundled")
    for module in sorted(found.name for found in pkgutil.iter_modules(room.__path__)):
        importlib.import_module(f"{room.__name__}.{module}")
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
    """Compute the named measures of one subject, ``{name: value}``, in the order given. What they share is computed once.

    Raises:
        ConfigError: a name is no measure (nothing is computed then), or batch norm cannot be folded.
    """
    found = [find_measure(name) for name in names]
    return {each.name: float(each.function(subject)) for each in found}
