"""A look at the networks of a plan before it runs: whether each trains at all, and what the study would take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from study.plan.packs import expected_seconds
from study.plan.plan import Plan
from study.plan.probing import answers
from trainables.point.config import TrialConfig, sizes_only
from trainables.probe.fitting import SAMPLES
from trainables.resolution import capacity, resolve

ENOUGH = 10.0
"""Parameters for each of the few samples from which on it is a fault of training if they are not fitted."""


@dataclass(frozen=True)
class Looked:
    """One network of a study.

    Attributes:
        point: one of its points.
        parameters: of the network.
        points: how many there are.
        seconds: what all of them take on one core if each spends all its epochs, in order of magnitude.
        fits: in words, whether it learns a few samples by heart.
        problem: what is to be changed, as a sentence; empty if nothing is.
    """

    point: TrialConfig
    parameters: int
    points: int
    seconds: float
    fits: str
    problem: str


def looked_at(plan: Plan) -> list[Looked]:
    """Look at every network of a plan that is trained: one for each architecture on each data set, by each optimizer."""
    groups: dict[tuple[object, ...], list[TrialConfig]] = {}
    for point in [resolve(cell.trial) for cell in plan.search.cells] if plan.search else [point.config for point in plan.points]:
        if not point.is_solved and not point.data.streamed:
            kind = (sizes_only(point.model), point.data.digest or point.data.name, point.data.preprocessing, point.optimizer.name)
            groups.setdefault((*kind, point.corruption.kind == "random_signs"), []).append(point)
    firsts = [group[0] for group in groups.values()]
    found = answers([("fits", [point]) for point in firsts], plan.sources) if firsts else []
    return [_looked(group, answer) for group, answer in zip(groups.values(), found, strict=True)]


def _looked(group: Sequence[TrialConfig], answer: dict[str, object]) -> Looked:
    point = group[0]
    parameters = capacity(point)
    seconds = sum(expected_seconds(one) for one in group)
    network = f"{point.model.name} of width {point.model.width} on {point.data.name}"
    why, steps, tried = str(answer.get("why", "")), answer.get("steps"), answer.get("tried")
    if why:
        return Looked(point, parameters, len(group), seconds, "does not train", f"{network} does not train: {why}")
    if steps is not None:
        return Looked(point, parameters, len(group), seconds, f"after {steps} steps", "")
    if tried == 1:
        return Looked(point, parameters, len(group), seconds, "one step taken, which is long enough", "")
    fits = f"not in {tried} steps"
    if parameters < ENOUGH * SAMPLES:
        return Looked(point, parameters, len(group), seconds, f"{fits}, with {parameters:,} parameters", "")
    rate = point.optimizer.learning_rate
    problem = (
        f"{network} does not fit {SAMPLES} samples in {tried} steps at optimizer.learning_rate {rate:g}: leave the rate to the probe "
        "(auto), or look at the model"
    )
    return Looked(point, parameters, len(group), seconds, fits, problem)
