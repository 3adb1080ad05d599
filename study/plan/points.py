"""From a spec to packs: every declared point once, less what is recorded, grouped by shape, the longest first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import ceil

from search_spaces.space import Assignment
from study.spec.reading import Spec
from trainables.engines.speed import CORE, Speed
from trainables.models import family
from trainables.point.config import ConfigError, TrialConfig, with_fields
from trainables.point.gc_paused import gc_paused
from trainables.resolution import capacity, resolve, work

SECONDS_PER_PACK = 20.0
"""A pack is about this long at most: long enough that Tune's 30 to 70 ms a trial do not count, short enough to lose."""
PACKS_PER_WORKER = 6
"""At least so many packs a worker, as far as points suffice: the last ones must be able to end together."""
_SECONDS_PER_POINT = 3e-4
"""To set up, and to record (tests/benchmarks/bench_overhead.py)."""


@dataclass(frozen=True)
class Point:
    """A resolved point with its key, both computed once."""

    key: str
    config: TrialConfig


def declared_points(spec: Spec, progress: Callable[[int], None] = lambda done: None) -> list[Point]:
    """Every point of the study, resolved, each key once, in the order of the space.

    Raises:
        ConfigError: a point cannot be run; the sentence names its assignment.
    """
    points: dict[str, Point] = {}
    assignment: Assignment = {}
    try:
        with gc_paused():
            for done, assignment in enumerate(spec.assignments()):
                config = _resolved(with_fields(spec.trial, assignment))
                key = config.key()
                points.setdefault(key, Point(key, config))
                progress(done + 1)
    except ConfigError as error:
        source = f"{spec.source}: " if spec.source else ""
        place = f" (at {', '.join(f'{name} = {value}' for name, value in assignment.items())})" if assignment else ""
        raise ConfigError(f"{source}{error}{place}") from None
    return list(points.values())


def _resolved(point: TrialConfig) -> TrialConfig:
    try:
        return resolve(point)
    except ConfigError:
        raise
    except Exception as error:
        if family(point.model.name).digest is None:
            raise
        raise ConfigError(f"your model {point.model.name} cannot be built: it raises {type(error).__name__}: {error}") from None


def packs(points: Iterable[Point], workers: int, speed: Speed = CORE) -> list[list[Point]]:
    """Groups of equal signature, none longer than its share of the whole at a worker's speed, in order of falling cost."""
    groups: dict[tuple[object, ...], list[Point]] = defaultdict(list)
    for point in points:
        groups[point.config.signature()].append(point)
    costs = {signature: expected_seconds(group[0].config, speed) for signature, group in groups.items()}
    total = sum(costs[signature] * len(group) for signature, group in groups.items())
    longest = max(1e-9, min(SECONDS_PER_PACK, total / (workers * PACKS_PER_WORKER)))
    found: list[tuple[float, list[Point]]] = []
    for signature, group in groups.items():
        pieces = min(len(group), ceil(len(group) * costs[signature] / longest))
        found += [(costs[signature] * len(piece), piece) for piece in (group[start::pieces] for start in range(pieces))]
    return [piece for _, piece in sorted(found, key=lambda pair: -pair[0])]


def expected_seconds(point: TrialConfig, speed: Speed = CORE) -> float:
    """A resolved point's training time if it spends all its epochs, on one core by default: right in order, not in seconds."""
    steps = ceil((point.data.train_size or 1) / point.optimizer.batch_size) * point.budget.epochs
    return _multiply_adds(point) / speed.multiply_adds_per_second + steps * speed.seconds_per_step + _SECONDS_PER_POINT


def _multiply_adds(point: TrialConfig) -> float:
    try:
        return work(point)
    except Exception:
        if family(point.model.name).digest is None:
            raise
        return 3.0 * capacity(point) * (point.data.train_size or 1) * point.budget.epochs  # your model looks at its input's values
