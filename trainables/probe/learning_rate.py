"""The learning rate at which networks fit: short runs at many rates, on random and on true labels.

A study compares networks at equal fit, so the rate wanted is one at which labels are memorised. Each candidate trains the same network from
the same initialization for a while, once on random labels and once on true ones, and a few finalists do so four times as long. Of those
whose training did not diverge the one with the lowest train loss is chosen, the sum over both kinds of labels: where a network is too
small for random ones, the true ones decide. Among rates that come within some percent of it the smallest is taken, whose noise is the least
once training has come further. All corruption levels, seeds and regularizers of a study share the choice, so that what is compared is not
trained differently.

One rate holds for all widths and numbers of samples of a study, so that lines over capacity are of one rate: it is probed at up to three
widths, the narrowest, the widest and the one between them in ratio, and the rate is chosen whose losses are above the best of each width
by the smallest factor, taken over the widths by the geometric mean. With `model.parameterization: mup` that is the rate of each of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil, exp, inf, isfinite, log, sqrt

import torch

from trainables.models import family
from trainables.point.config import Budget, Corruption, Data, Model, Optimizer, TrialConfig, with_fields
from trainables.point.errors import leave_if_stopped
from trainables.resolution import capacity, resolve, work
from trainables.training.loop import Training

RATES = (10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0003)
"""Candidates for SGD, whatever its momentum."""
ADAPTIVE_RATES = (0.1, 0.03, 0.01, 0.003, 0.001, 0.0003, 0.0001, 0.00003, 0.00001)
"""Candidates for Adam and AdamW, whose steps do not grow with the gradient."""
SAMPLES = 4096
"""Training samples of a probe at most: with too few of them labels are memorised at rates that are too high for more."""
STEPS = 200
"""Steps of a finalist's run at most."""
FEWEST_STEPS = 24
"""Steps of a finalist's run at least: fewer tell good rates from bad ones no more."""
MULTIPLY_ADDS = 1.5e11
"""Of all runs at one width together, about, as far as `FEWEST_STEPS` allows: five seconds of one core."""
MOST_MULTIPLY_ADDS = 3e12
"""Of all runs at one width together: what takes more is not probed."""
FINALISTS = 4
"""Rates that go on after a quarter of the steps."""
AS_GOOD = 0.05
"""Rates whose losses are this close, as a share of them, are equally good."""
LEARNT = 0.01
"""Losses below this are all the same: the labels are learnt."""
LEVELS = (1.0, 0.0)
"""Probed corruption levels: random labels and true ones."""


@dataclass(frozen=True)
class Probe:
    """What the finalists came to.

    Attributes:
        losses: rate -> the train losses at the end on random and on true labels, of each width in turn; infinite where training diverged.
        why: in words, why nothing was chosen; empty if something was.
    """

    losses: dict[float, tuple[float, ...]]
    why: str = ""

    @property
    def chosen(self) -> float | None:
        """The smallest rate that is as good as the best; None if every run diverged or failed."""
        scores = _scores(self.losses)
        best = min(scores.values(), default=inf)
        return min((rate for rate, score in scores.items() if score <= best * (1 + AS_GOOD)), default=None) if best < inf else None


def _scores(losses: Mapping[float, Sequence[float]]) -> dict[float, float]:
    """By how much each rate is above the best of each width: the geometric mean of the factors, at least 1; infinite if it diverged."""
    pair = len(LEVELS)
    per_width = {
        rate: [max(LEARNT, sum(each[start : start + pair])) for start in range(0, len(each), pair)] for rate, each in losses.items()
    }
    best = [min(some) for some in zip(*per_width.values(), strict=True)]
    return {
        rate: exp(sum(log(one / least) for one, least in zip(each, best, strict=True)) / len(best)) if max(each) < inf else inf
        for rate, each in per_width.items()
    }


def group(point: TrialConfig) -> TrialConfig | None:
    """What the rate of a resolved point depends on, as a point of its own; None where nothing is trained, or images stay in their files.

    Points of one group share their data, architecture, optimizer, batch size and loss. Width, number of samples, corruption,
    regularizers, schedule, warm-up, budget and seeds are left out.
    """
    if point.is_solved or point.data.streamed or not point.budget.epochs:
        return None
    data = replace(point.data, train_size=1, validation_size=0, seed=0, replaced=None, left_out=None)
    model = replace(point.model, parameters_per_sample=None, hold="train_size", width=1)
    return _shared(data, model, point.optimizer)


@lru_cache(maxsize=4096)
def _shared(data: Data, model: Model, optimizer: Optimizer) -> TrialConfig:
    plain = Optimizer()
    return TrialConfig(
        data=data,
        corruption=Corruption(level=0.0, seed=0),
        model=model,
        optimizer=replace(
            optimizer,
            learning_rate=plain.learning_rate,
            schedule=plain.schedule,
            decay=plain.decay,
            decay_every=plain.decay_every,
            warmup=plain.warmup,
        ),
        budget=Budget(epochs=1),
    )


def probed_points(group: TrialConfig, points: Sequence[TrialConfig]) -> list[TrialConfig]:
    """The points at which the rate of a group is probed: up to three of its widths, each with the most samples that a point has.

    Args:
        group: the group.
        points: all of its points.
    """
    sizes: dict[int, int] = {}
    for point in points:
        width = (point.model.width or 1) if "width" in family(group.model.name).reads else 1
        sizes[width] = max(sizes.get(width, 0), point.data.train_size or 1)
    middle = min(sizes, key=lambda width: abs(log(width / sqrt(min(sizes) * max(sizes)))))
    return [_probed(group, width, sizes[width]) for width in sorted({min(sizes), middle, max(sizes)})]


def _probed(group: TrialConfig, width: int, samples: int) -> TrialConfig:
    """A point of the group, with so few samples that a finalist sees each of them twice."""
    sized = replace(group, data=replace(group.data, train_size=samples), model=replace(group.model, width=width))
    seen = max(FEWEST_STEPS, steps_of(sized)) * group.optimizer.batch_size
    return replace(sized, data=replace(sized.data, train_size=max(1, min(samples, SAMPLES, seen // 2))))


def candidates(point: TrialConfig) -> tuple[float, ...]:
    """The rates that are tried for a group."""
    return RATES if point.optimizer.name == "sgd" else ADAPTIVE_RATES


def steps_of(point: TrialConfig) -> int:
    """Steps of a finalist at a point, so that all runs there keep to the multiply-adds; 0 where not even the fewest do."""
    samples = max(1, min(point.optimizer.batch_size, point.data.train_size or 1))
    one = replace(point, data=replace(point.data, train_size=samples), budget=replace(point.budget, epochs=1))
    try:
        a_step = work(one)
    except BaseException as error:  # the user's own model, which looks at its input's values
        leave_if_stopped(error)
        a_step = 3.0 * capacity(one) * samples
    runs = len(LEVELS) * (FINALISTS + (len(candidates(point)) - FINALISTS) / 4)
    if FEWEST_STEPS * runs * a_step > MOST_MULTIPLY_ADDS:
        return 0
    return int(min(STEPS, max(FEWEST_STEPS, MULTIPLY_ADDS / (runs * max(1.0, a_step)))))


def probe(points: Sequence[TrialConfig], device: torch.device) -> Probe:
    """Train the points of a group (see `probed_points`) at every candidate rate, once for each of `LEVELS`, and the finalists longer."""
    epochs = [steps_of(point) // ceil((point.data.train_size or 1) / point.optimizer.batch_size) for point in points]
    if not all(epochs):
        return Probe({}, "its runs would take long")
    first, reason = _losses(points, [max(1, count // 4) for count in epochs], candidates(points[0]), device)
    scores = _scores(first)
    best = sorted((rate for rate in scores if scores[rate] < inf), key=lambda rate: scores[rate])[:FINALISTS]
    if not best:
        return Probe(first, reason or "every run diverged")
    losses, reason = _losses(points, epochs, sorted(best, reverse=True), device)
    found = Probe(losses)
    return found if found.chosen is not None else Probe(losses, reason or "every run diverged")


def _losses(
    points: Sequence[TrialConfig], epochs: Sequence[int], rates: Sequence[float], device: torch.device
) -> tuple[dict[float, tuple[float, ...]], str]:
    """The train losses at the end of the runs at each rate, infinite where there is none, and why the last of those that failed did."""
    found: dict[float, tuple[float, ...]] = dict.fromkeys(rates, ())
    reason = ""
    for point, count in zip(points, epochs, strict=True):
        budget = Budget(epochs=count, evaluate_every=count, stop_at_train_error=None)
        runs = {
            (rate, level): resolve(with_fields(replace(point, budget=budget), {"optimizer.learning_rate": rate, "corruption.level": level}))
            for rate in rates
            for level in LEVELS
        }
        training = Training(list(runs.values()), device)
        losses: dict[str, float] = {}
        while not training.finished:
            for result in training.epoch():
                loss = result.outcome.get("train_loss") if result.status == "completed" else None
                losses[result.key] = inf if loss is None or not isfinite(loss) else loss
                if result.status == "failed":
                    reason = result.reason
        for rate in rates:
            found[rate] += tuple(losses[runs[rate, level].key()] for level in LEVELS)
    return found, reason
