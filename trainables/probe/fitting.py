"""Whether a network can be trained at all: one pass forward and back, and a few samples by heart."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from trainables.data.inputs import point_data
from trainables.models import build
from trainables.point.config import Budget, Corruption, Regularizers, TrialConfig
from trainables.point.errors import leave_if_stopped, named
from trainables.point.streams import derive
from trainables.resolution import resolve, work
from trainables.training.loop import Training

SAMPLES = 32
"""Samples to be learnt by heart, in one batch."""
STEPS = 300
"""Steps that this may take."""
MULTIPLY_ADDS = 1e11
"""Of all steps together, about: three seconds of one core. A network of which this is less than a step takes one."""


@dataclass(frozen=True)
class Fit:
    """What came of it.

    Attributes:
        steps: after which every sample was right; None if that never was.
        tried: steps that there could be.
        why: what the network raised, or what its outputs are and should be; empty if it trains.
        wrong_outputs: whether it is the latter: training would teach something else than the classes.
    """

    steps: int | None = None
    tried: int = 0
    why: str = ""
    wrong_outputs: bool = False


def fit(point: TrialConfig, device: torch.device) -> Fit:
    """Train a resolved point on a few of its samples, with their true labels and without its regularizers.

    Before that, the outputs of two samples are looked at: one number a class, or the training would teach something else.
    """
    few = resolve(
        replace(
            point,
            data=replace(point.data, train_size=min(SAMPLES, point.data.train_size or 1), validation_size=0, replaced=None, left_out=None),
            corruption=Corruption(),
            model=replace(point.model, parameters_per_sample=None, hold="train_size"),
            regularizers=Regularizers(),
            optimizer=replace(point.optimizer, batch_size=SAMPLES),
            budget=Budget(epochs=1),
        )
    )
    try:
        if problem := _outputs(few, device):
            return Fit(why=problem, wrong_outputs=True)
        steps = int(min(STEPS, max(1, MULTIPLY_ADDS / max(1.0, work(few)))))
    except BaseException as error:
        leave_if_stopped(error)
        return Fit(why=named(error))
    training = Training([replace(few, budget=Budget(epochs=steps))], device)
    while not training.finished:
        for result in training.epoch():
            if result.status == "failed":
                return Fit(why=result.reason)
            return Fit(result.outcome["fit_epoch"], steps)
    raise AssertionError("a point has one result")


def _outputs(point: TrialConfig, device: torch.device) -> str:
    """What is wrong with the outputs of two samples; empty if nothing is."""
    data = point_data(point, device)
    module = build(point.model, 0.0, data.image_shape, data.classes, seed=derive(point.seed, "initialization")).to(device).eval()
    with torch.no_grad():
        found = module(data.train.inputs.gather(data.train.index[:2]).reshape(-1, *data.image_shape))
    wanted = (min(2, len(data.train.index)), data.classes)
    if isinstance(found, torch.Tensor) and tuple(found.shape) == wanted:
        return ""
    given = f"a tensor of shape {tuple(found.shape)}" if isinstance(found, torch.Tensor) else type(found).__name__
    return f"it gives {given} for {wanted[0]} samples of {data.classes} classes, and must give one of shape {wanted}"
