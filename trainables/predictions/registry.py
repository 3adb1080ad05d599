"""The theories by their names, and what a caller needs of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from trainables.point.config import TrialConfig
from trainables.point.errors import ConfigError
from trainables.predictions import cross_validation, eigenlearning, random_features, tangent_kernel


@dataclass(frozen=True)
class Theory:
    """A theory that predicts a point.

    Attributes:
        name: what the command line calls it.
        title: what it is, in a legend.
        predict: from a resolved point and what was recorded of it to ``{"test_loss": value}``; raises `OutOfRegime`.
        axes: fields over which its line is usually drawn, the most telling first.
        between: fields in which it is smooth and cheap, so that the line is drawn between the points too.
    """

    name: str
    title: str
    predict: Callable[[TrialConfig, Mapping[str, Any]], dict[str, float]]
    axes: tuple[str, ...]
    between: tuple[str, ...] = ()


_SIZES = ("model.width", "data.train_size", "regularizers.weight_decay", "model.kernel_scale", "corruption.level")
_THEORIES = (
    Theory("eigen", "eigenlearning", eigenlearning.predict, ("data.train_size", *_SIZES), ("data.train_size",)),
    Theory("gcv", "generalized cross-validation", cross_validation.predict_generalized, _SIZES),
    Theory("loo", "leaving out one training sample at a time", cross_validation.predict_left_out, _SIZES),
    Theory("rf", "deterministic equivalent", random_features.predict, _SIZES, ("model.width",)),
    Theory("ntk", "tangent kernel at initialization", tangent_kernel.predict, _SIZES),
)


def known_theories() -> dict[str, Theory]:
    """Every theory by its name."""
    return {theory.name: theory for theory in _THEORIES}


def find_theory(name: str) -> Theory:
    """The theory of that name.

    Raises:
        ConfigError: there is none.
    """
    known = known_theories()
    if name not in known:
        raise ConfigError(f"{name!r} is no theory: known are {', '.join(known)}")
    return known[name]
