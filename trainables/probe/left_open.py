"""The fields that a spec may leave open, and how each is chosen.

What a choice depends on is a *group*: a resolved point that stands for all points which share the choice, and whose key names it. A choice
that was made for a group holds wherever that key turns up again, however the study grows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from trainables.models import family
from trainables.point.config import TrialConfig
from trainables.probe import epochs, kernel_scale, learning_rate


@dataclass(frozen=True)
class Choice:
    """What was chosen for a group.

    Attributes:
        value: of the field; None where nothing could be chosen, and the field keeps its default.
        why: in words, why nothing was.
        seconds: that it took.
        losses: of a learning rate, each finalist's train losses on random and on true labels, of each width in turn; None for a run that
            diverged.
    """

    value: float | None
    why: str = ""
    seconds: float = 0.0
    losses: dict[str, list[float | None]] | None = None


@dataclass(frozen=True)
class OpenField:
    """A field that may be left open.

    Attributes:
        group: what the choice for a resolved point depends on; None where the point has no use for one.
        probed: the points that are looked at for the choice, given the group and all of its points.
        choose: the choice, given these.
        described: a group in words.
    """

    group: Callable[[TrialConfig], TrialConfig | None]
    probed: Callable[[TrialConfig, Sequence[TrialConfig]], list[TrialConfig]]
    choose: Callable[[Sequence[TrialConfig]], Choice]
    described: Callable[[TrialConfig], str]


def best_device() -> torch.device:
    """A GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _rate(points: Sequence[TrialConfig]) -> Choice:
    found = learning_rate.probe(points, best_device())
    losses = {f"{rate:g}": [loss if loss < float("inf") else None for loss in each] for rate, each in found.losses.items()}
    return Choice(found.chosen, found.why, losses=losses)


def _scale(points: Sequence[TrialConfig]) -> Choice:
    (group,) = points
    return Choice(kernel_scale.median_distance(group))


def _epochs(points: Sequence[TrialConfig]) -> Choice:
    return Choice(*epochs.probe(points, best_device()))


def _network(group: TrialConfig) -> str:
    depth = f" of depth {group.model.depth}" if "depth" in family(group.model.name).reads and group.model.depth else ""
    return f"{group.model.name}{depth} on {group.data.name}"


LEFT_OPEN: dict[str, OpenField] = {
    "model.kernel_scale": OpenField(kernel_scale.group, lambda group, points: [group], _scale, lambda group: group.data.name),
    "optimizer.learning_rate": OpenField(learning_rate.group, learning_rate.probed_points, _rate, _network),
    "budget.epochs": OpenField(epochs.group, epochs.probed_points, _epochs, lambda group: "the study"),
}
"""By field, in the order in which they are chosen: the rate at which random features fit depends on their scale, and epochs on the rate."""


def choose(field: str, points: Sequence[TrialConfig]) -> Choice:
    """Choose the value of a field, given the points that are looked at for it."""
    begun = time.perf_counter()
    found = LEFT_OPEN[field].choose(points)
    return Choice(found.value, found.why, round(time.perf_counter() - begun, 2), found.losses)
