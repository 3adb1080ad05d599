"""What a search consists of: its cells, and the suggestions that are made in each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainables.point.config import TrialConfig
from trainables.resolution import Point

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial


@dataclass
class Cell:
    """One cell of the listed axes with its own Optuna study, as far as that has come."""

    trial: TrialConfig
    assignment: Mapping[str, Any]
    study: optuna.Study
    left: int
    """Suggestions that are still to be asked for."""


@dataclass(frozen=True)
class Suggestion:
    """What Optuna proposed: one point a seed, and the trial to which their mean is reported, or (frozen) was."""

    cell: Cell
    trial: optuna.Trial | FrozenTrial
    points: tuple[Point, ...]
