"""Points grouped into packs by what they are expected to cost, the longest first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from math import ceil

from trainables.data.corruption import classes_of
from trainables.data.inputs import input_shape
from trainables.data.sets.sources import load
from trainables.engines.choice import Way, Workload, known
from trainables.engines.speed import CORE, Speed
from trainables.models import family
from trainables.point.config import TrialConfig
from trainables.point.errors import leave_if_stopped
from trainables.resolution import Point, capacity, work

SECONDS_PER_PACK = 20.0
"""A pack is about this long at most: long enough that Tune's 30 to 70 ms a trial do not count, short enough to lose."""
PACKS_PER_WORKER = 6
"""At least so many packs a worker, as far as points suffice: the last ones must be able to end together."""
SIDE_BY_SIDE = 8
"""Points of a pack on a GPU at least, as far as all workers have some: so few is the least that is tried to train side by side there."""
_SECONDS_PER_POINT = 3e-4
"""To set up, and to record (tests/benchmarks/bench_overhead.py)."""


def packs(points: Iterable[Point], workers: int, speed: Speed = CORE) -> list[list[Point]]:
    """Groups of equal signature, none longer than its share of the whole at a worker's speed, in order of falling cost.

    On a GPU they are of as many points as train side by side there, though that be longer: what is done stays when a worker is lost.
    """
    groups: dict[tuple[object, ...], list[Point]] = defaultdict(list)
    for point in points:
        groups[point.config.signature()].append(point)
    costs = {signature: expected_seconds(group[0].config, speed) for signature, group in groups.items()}
    total = sum(costs[signature] * len(group) for signature, group in groups.items())
    longest = max(1e-9, min(SECONDS_PER_PACK, total / (workers * PACKS_PER_WORKER)))
    found: list[tuple[float, list[Point]]] = []
    for signature, group in groups.items():
        pieces = min(len(group), ceil(len(group) * costs[signature] / longest))
        if speed.card is not None:
            pieces = min(pieces, max(workers, ceil(len(group) / _side_by_side(group[0].config, speed.card))))
        found += [(costs[signature] * len(piece), piece) for piece in (group[start::pieces] for start in range(pieces))]
    return [piece for _, piece in sorted(found, key=lambda pair: -pair[0])]


def expected_seconds(point: TrialConfig, speed: Speed = CORE) -> float:
    """A resolved point's training time if it spends all its epochs, on one core by default: right in order, not in seconds."""
    steps = _steps(point)
    if speed.card is not None and (way := _measured_way(point, speed.card, steps)) and way.seconds:
        return steps * way.over(steps) + _SECONDS_PER_POINT
    return _multiply_adds(point) / speed.multiply_adds_per_second + steps * speed.seconds_per_step + _SECONDS_PER_POINT


def _measured_way(point: TrialConfig, card: str, steps: int) -> Way | None:
    """How so many steps of such a network are taken on such a GPU, if it was measured here when an engine was chosen."""
    dataset = load(point.data)
    shape = input_shape(dataset, point.data.preprocessing)
    return known(Workload.of(point, shape, classes_of(dataset.classes, point.corruption)), card, steps)


def _side_by_side(point: TrialConfig, card: str) -> int:
    """How many points like this one train side by side on a GPU, as far as is known; images that stay in their files are read by one."""
    if point.data.streamed:
        return 1
    way = _measured_way(point, card, _steps(point))
    return way.slots if way and way.seconds else SIDE_BY_SIDE


def _steps(point: TrialConfig) -> int:
    return ceil((point.data.train_size or 1) / point.optimizer.batch_size) * point.budget.epochs


def _multiply_adds(point: TrialConfig) -> float:
    try:
        return work(point)
    except BaseException as error:
        leave_if_stopped(error)
        if family(point.model.name).digest is None:
            raise
        return 3.0 * capacity(point) * (point.data.train_size or 1) * point.budget.epochs  # your model looks at its input's values


def duration(seconds: float) -> str:
    """Seconds in the largest unit of which there are two.

    >>> duration(0.2), duration(59), duration(7300)
    ('a second', '59 seconds', '2 hours')
    """
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} seconds" if seconds >= 1.5 else "a second"
