"""The epochs that networks need to fit: the widest ones of a study, at its highest corruption level, trained until they reach their target.

Narrower networks, nearer to the interpolation threshold, take longer than the widest, so a study gets several times the epochs that those
took. A network that fits stops there (`budget.stop_at_train_error`), so that more epochs cost only those that do not fit. One number
holds for the whole study: networks are compared at one budget.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from trainables.models import family
from trainables.point.config import Budget, Corruption, Data, Model, Regularizers, TrialConfig
from trainables.point.fit import is_regression
from trainables.probe import learning_rate
from trainables.resolution import capacity, resolve, work
from trainables.training.loop import Training

TIMES = 3
"""Epochs of a study, in those that its widest networks took."""
STEP = 50
"""Epochs are rounded up to a multiple of this."""
MOST = 1_000
"""Epochs that a probe goes on for at most."""
MULTIPLY_ADDS = 5e11
"""Of a run, at most, its backward passes included: some fifteen seconds of one core."""
ROOM = 3.0
"""Parameters a sample below which the widest network need not fit, whatever its budget."""
KINDS = 3
"""Kinds of networks and data (see `learning_rate.group`) that are tried, the first ones."""
_STUDY = TrialConfig(
    data=Data(name="synthetic", train_size=1, seed=0),
    corruption=Corruption(level=0.0, seed=0),
    model=Model(width=1),
    budget=Budget(epochs=1),
)
"""Stands for any study: its key is that of the one choice."""


def group(point: TrialConfig) -> TrialConfig | None:
    """The study as a whole; None for a point that is not trained, has no target to stop at, or whose images stay in their files."""
    budget = point.budget
    if (
        point.is_solved
        or point.data.streamed
        or not budget.epochs
        or (budget.stop_at_train_error, budget.stop_at_train_loss) == (None, None)
    ):
        return None
    return _STUDY


def probed_points(_: TrialConfig, points: Sequence[TrialConfig]) -> list[TrialConfig]:
    """Of each kind of network and data the widest, with the highest corruption level and then the most samples; no regularizers."""
    widest: dict[TrialConfig | None, TrialConfig] = {}
    for point in points:
        kind = learning_rate.group(point)
        if kind not in widest or _size(point) > _size(widest[kind]):
            widest[kind] = point
    return [replace(point, regularizers=Regularizers()) for point in list(widest.values())[:KINDS]]


def _size(point: TrialConfig) -> tuple[float, ...]:
    return point.model.width or 1, point.corruption.level or 0.0, point.data.train_size or 1


def probe(points: Sequence[TrialConfig], device: torch.device) -> tuple[int | None, str]:
    """The epochs for a study, given its `probed_points`; or None, and in words why."""
    took = []
    for point in points:
        if capacity(point) < ROOM * (point.data.train_size or 1):
            continue
        epochs = int(min(MOST, MULTIPLY_ADDS / max(1.0, work(replace(point, budget=Budget(epochs=1))))))
        width = f" of width {point.model.width}" if "width" in family(point.model.name).reads else ""
        name = f"{point.model.name}{width} on {point.data.name}"
        if epochs < STEP:
            return None, f"{name} would take long to try"
        fitted, why = _fitted_at(point, epochs, device)
        if fitted is None:
            return None, f"{name} {why}"
        took.append(fitted)
    if not took:
        return None, f"no network has {ROOM:g} parameters a sample, with which it could fit whatever its labels are"
    needed = TIMES * max(took)
    return max(Budget().epochs, -(-needed // STEP) * STEP), ""


def _fitted_at(point: TrialConfig, epochs: int, device: torch.device) -> tuple[int | None, str]:
    """The epoch at which a point reached its target, or in words how far it came."""
    training = Training([resolve(replace(point, budget=replace(point.budget, epochs=epochs, evaluate_every=1)))], device)
    while not training.finished:
        for result in training.epoch():
            if result.status != "completed":
                return None, result.reason or result.status
            error = result.outcome["train_nmse" if is_regression(point) else "train_error"]
            return result.outcome["fit_epoch"], f"is at a train error of {error:.2g} after {epochs} epochs: raise budget.epochs beyond that"
    raise AssertionError("a point has one result")
