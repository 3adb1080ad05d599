"""What a search minimises and what it must keep to: columns of a record, or differences of them, never of the test set."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from analysis.records.searches.objectives import ON_VALIDATION, mean
from trainables.point.config import TrialConfig
from trainables.point.errors import ConfigError

OBJECTIVES = {
    "validation_error": "error on the validation split",
    "validation_gap": "validation error - train error: the generalization gap, on validation",
    "seconds": "training time",
    "parameters": "trainable parameters",
}
"""All are minimised."""
CONSTRAINED = (*OBJECTIVES, "train_error", "parameters_per_sample", "epochs")
"""What a constraint may be about."""
_CONSTRAINT = re.compile(r"\s*(\w+)\s*(<=|>=)\s*(\S+)\s*")


@dataclass(frozen=True)
class Constraint:
    """A bound on a measured number, such as ``train_error <= 0.01``."""

    text: str
    name: str
    sign: int
    bound: float

    def violation(self, rows: Sequence[Mapping[str, Any]]) -> float:
        """The amount by which the mean over the seeds breaks the bound; at most 0 if it keeps to it."""
        return self.sign * (mean(rows, self.name) - self.bound)


def parse_objectives(written: str | Sequence[str], trial: TrialConfig) -> tuple[str, ...]:
    """The objectives of a search.

    Raises:
        ConfigError: one is unknown, stands twice, is of the test set, or is never reported by such trials.
    """
    names = (written,) if isinstance(written, str) else tuple(written)
    if not names or len(set(names)) < len(names):
        raise ConfigError("search.objective must name one objective, or a list of different ones")
    for name in names:
        _check_name("objective", name, tuple(OBJECTIVES), trial)
    return names


def parse_constraint(text: str, trial: TrialConfig) -> Constraint:
    """A constraint as written.

    >>> parse_constraint("train_error <= 0.01", TrialConfig()).violation([{"train_error": 0.03, "status": "completed"}])
    0.019999999999999997

    Raises:
        ConfigError: it is no bound, or on something that it cannot be on.
    """
    found = _CONSTRAINT.fullmatch(text)
    try:
        name, comparison, bound = found.groups() if found else ("", "", "")
        number = float(bound)
    except ValueError:
        raise ConfigError(f"search.constraints: {text!r} must be NAME <= NUMBER or NAME >= NUMBER, such as train_error <= 0.01") from None
    _check_name("constraints", name, CONSTRAINED, trial)
    return Constraint(" ".join((name, comparison, bound)), name, 1 if comparison == "<=" else -1, number)


def _check_name(where: str, name: str, known: Sequence[str], trial: TrialConfig) -> None:
    if name.startswith("test_") or name == "generalization_gap":
        raise ConfigError(
            f"search.{where} names {name}, which is of the test set: a search that saw it would fit it, and what it reports would mean "
            "nothing; use validation_error or validation_gap"
        )
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"use {', '.join(known)}"
        raise ConfigError(f"search.{where} names {name!r}, which is never reported: {hint}")
    if name in ON_VALIDATION and not trial.data.validation_size:
        raise ConfigError(f"search.{where} names {name}, which is never reported without a validation split: set data.validation_size")
