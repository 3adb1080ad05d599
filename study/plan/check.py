"""A look at the networks of a plan before it runs: whether each trains at all, and what the study would take.

`gaplab check` looks at all of them (`looked_at`), a run at a few of the user's own (`tried_before_training`).
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from study.plan.packs import duration, expected_seconds
from study.plan.plan import Plan
from study.plan.probing import PATIENCE_SECONDS, answers
from trainables.point.config import TrialConfig, sizes_only
from trainables.point.errors import ConfigError
from trainables.probe.fitting import SAMPLES
from trainables.resolution import capacity, resolve

ENOUGH = 10.0
"""Parameters for each of the few samples from which on it is a fault of training if they are not fitted."""
MOST_BEFORE_TRAINING = 3
"""Networks that a run looks at: the smallest, the largest, and those between them."""
PATIENCE_BEFORE_TRAINING = 20.0
"""Seconds that one of them may take; one is done in one to three, and the first has PyTorch to start."""


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
        wrong_outputs: whether the problem is that it does not give one number a class.
    """

    point: TrialConfig
    parameters: int
    points: int
    seconds: float
    fits: str
    problem: str
    wrong_outputs: bool = False


def looked_at(plan: Plan) -> list[Looked]:
    """Look at every network of a plan that is trained: one for each architecture on each data set, by each optimizer."""
    trials = [resolve(cell.trial) for cell in plan.search.cells] if plan.search else [point.config for point in plan.points]
    return _answered(list(_networks(trials).values()), plan, PATIENCE_SECONDS)


def tried_before_training(plan: Plan) -> list[str]:
    """Look at the user's own networks among the missing points: in sentences, what was found; nothing if there are none.

    An architecture that has trained in this study before is not looked at again.

    Raises:
        ConfigError: one does not give a number for each class, so that training it would teach something else. What raises or does not
            learn is said alone: the points of the one fail with their reason, and those of the other have a verdict after the run.
    """
    try:
        trials = [resolve(cell.trial) for cell in plan.search.cells] if plan.search else [point.config for point in plan.points]
    except ConfigError:
        return []  # of a search whose trial cannot stand alone
    if not any(trial.model.digest for trial in trials):
        return []
    plan = plan.with_records()
    if plan.search and "completed" in plan.recorded.values():
        return []
    trials = trials if plan.search else [point.config for point in plan.missing]
    proven = {_kind(point.config) for point in plan.points if plan.recorded.get(point.key) == "completed"}
    own = {kind: group for kind, group in _networks(trials).items() if group[0].model.digest and kind not in proven}
    if not own:
        return []
    begun = time.perf_counter()
    by_size = sorted(own.values(), key=lambda group: capacity(group[0]))
    places = sorted({round(place * (len(by_size) - 1) / (MOST_BEFORE_TRAINING - 1)) for place in range(MOST_BEFORE_TRAINING)})
    patience = min(PATIENCE_BEFORE_TRAINING, plan.resources.point_seconds or PATIENCE_BEFORE_TRAINING)
    found = _answered([by_size[place] for place in places], plan, patience)
    if wrong := [one.problem for one in found if one.wrong_outputs]:
        raise ConfigError(wrong[0])
    return list(_told(found, list(own.values()), time.perf_counter() - begun))


def _told(found: Sequence[Looked], own: Collection[Sequence[TrialConfig]], seconds: float) -> Iterable[str]:
    """What was found of the user's own networks, in sentences: of those that train, one."""
    if well := [one for one in found if not one.problem]:
        names = ", ".join(sorted({one.point.model.name for one in well}))
        many = f"{len(well)} of {len(own)} networks train" if len(own) > 1 else "it trains"
        fits = ", ".join(dict.fromkeys(one.fits for one in well))
        whole = duration(sum(expected_seconds(point) for group in own for point in group))
        said = f"{many}, tried in {seconds:.1f} seconds; {SAMPLES} samples are fitted {fits}"
        yield f"{names}: {said}; all points take in the order of {whole} on one core"
    yield from (one.problem for one in found if one.problem)


def _networks(trials: Iterable[TrialConfig]) -> dict[tuple[object, ...], list[TrialConfig]]:
    """The points that train, by their network."""
    groups: dict[tuple[object, ...], list[TrialConfig]] = {}
    for point in trials:
        if not point.is_solved and not point.data.streamed:
            groups.setdefault(_kind(point), []).append(point)
    return groups


def _kind(point: TrialConfig) -> tuple[object, ...]:
    """The network of a point: its architecture, data and optimizer."""
    data = point.data
    made_of = tuple(getattr(data, name) for name in data.made_of)
    of_data = (data.digest or data.name, made_of, data.preprocessing, point.corruption.kind == "random_signs")
    return sizes_only(point.model), *of_data, point.optimizer.name


def _answered(groups: Sequence[Sequence[TrialConfig]], plan: Plan, patience: float) -> list[Looked]:
    """What comes of trying the first point of each group."""
    found = answers([("fits", [group[0]]) for group in groups], plan.sources, patience) if groups else []
    return [_looked(group, answer) for group, answer in zip(groups, found, strict=True)]


def _looked(group: Sequence[TrialConfig], answer: dict[str, object]) -> Looked:
    point = group[0]
    parameters = capacity(point)
    seconds = sum(expected_seconds(one) for one in group)
    network = f"{point.model.name} of width {point.model.width} on {point.data.name}"
    why, steps, tried, wrong = str(answer.get("why", "")), answer.get("steps"), answer.get("tried"), bool(answer.get("wrong_outputs"))
    if why:
        return Looked(point, parameters, len(group), seconds, "does not train", f"{network} does not train: {why}", wrong)
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
