"""Every point that a spec declares, resolved and keyed, once."""

from __future__ import annotations

from collections.abc import Callable

from search_spaces.space import Assignment
from study.spec.reading import Spec
from trainables.models import family
from trainables.point.config import TrialConfig, with_fields
from trainables.point.errors import ConfigError, leave_if_stopped, named
from trainables.point.gc_paused import gc_paused
from trainables.resolution import Point, resolve


def declared_points(
    spec: Spec, progress: Callable[[int], None] = lambda done: None, settled: Callable[[list[TrialConfig]], list[TrialConfig]] | None = None
) -> list[Point]:
    """Every point of the study, resolved, each key once, in the order of the space.

    Args:
        settled: gives resolved points what the spec leaves open; without it they keep the defaults.

    Raises:
        ConfigError: a point cannot be run; the sentence names its assignment.
    """
    configs: list[TrialConfig] = []
    assignment: Assignment = {}
    try:
        with gc_paused():
            for done, assignment in enumerate(spec.assignments()):
                configs.append(_resolved(with_fields(spec.trial, assignment)))
                progress(done + 1)
    except ConfigError as error:
        source = f"{spec.source}: " if spec.source else ""
        where = f" (at {', '.join(f'{name} = {value}' for name, value in assignment.items())})" if assignment else ""
        raise ConfigError(f"{source}{error}{where}") from None
    if settled:
        configs = settled(configs)
    points: dict[str, Point] = {}
    with gc_paused():
        for config in configs:
            key = config.key()
            points.setdefault(key, Point(key, config))
    return list(points.values())


def _resolved(point: TrialConfig) -> TrialConfig:
    try:
        return resolve(point)
    except ConfigError:
        raise
    except BaseException as error:
        leave_if_stopped(error)
        if family(point.model.name).digest is None:
            raise
        raise ConfigError(f"your model {point.model.name} cannot be built: it raises {named(error)}") from None
