"""The context of a run: what all that it does has in common."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from analysis.records.fragments import statuses
from analysis.records.schema import FINAL
from study.launch.cluster import worker_speed
from study.launch.progress import Progress
from study.plan.plan import Plan
from study.records.writer import FragmentWriter
from trainables.engines.speed import Speed
from trainables.resolution import Point

if TYPE_CHECKING:
    from study.launch.breaker import Breaker


@dataclass(frozen=True)
class Run:
    """A plan that is being carried out.

    Attributes:
        writer: how workers record results.
        breaker: what stops it early.
        workers: how many fit the cluster, or may in time.
        admission: what a worker asks when it starts: why it may not train, if it may not (see `study.launch.node_checks.admission`).
    """

    plan: Plan
    writer: FragmentWriter
    breaker: Breaker
    progress: Progress
    workers: int
    admission: Callable[[], str | None] | None = None

    @cached_property
    def speed(self) -> Speed:
        """The speed of a worker, measured when it is first asked for."""
        return worker_speed(self.plan.resources)

    def measuring(self, measures: tuple[str, ...]) -> Run:
        """The same run, of points that are trained for these measures."""
        return self if measures == self.plan.measures else replace(self, plan=replace(self.plan, measures=measures))

    def unrecorded(self, points: Iterable[Point], measured: bool = True) -> list[Point]:
        """Those of the points that have no final record by now.

        Args:
            measured: a record without the plan's measures does not count.
        """
        recorded = statuses(self.plan.root, self.plan.measures if measured else ())
        return [point for point in points if recorded.get(point.key) not in FINAL]

    def without_outcome(self, points: Sequence[Point], given_up: Collection[str]) -> list[Point]:
        """Those of the points that have neither a record nor a failure.

        Args:
            given_up: keys of points that did not end: a failure of theirs is one of before.
        """
        lacking = {point.key for point in self.unrecorded(point for point in points if point.key in given_up)}
        there = statuses(self.plan.root)
        return [point for point in points if point.key in lacking or point.key not in there]
