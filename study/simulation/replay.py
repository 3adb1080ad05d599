"""Simulation: a planned study on a clock that costs nothing, from the records of one that ran (`study.simulation.cost`).

A grid or a drawn study is scheduled: its packs, in the order in which they would start, on so many workers. A search is
replayed: Optuna suggests, as in a run, each point is answered by the recorded one that is nearest, and takes as long as that
took; a pruner sees its curve. Packs take what their points take together; Ray's start and the loading of data are left out.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from analysis.records.searches.objectives import measured
from study.plan.packs import packs
from study.search.outcomes import Outcomes
from study.search.plan import SearchPlan
from study.search.pruning.leaving import SuggestionPruner
from study.search.quiet import quiet
from study.search.search import Search
from study.simulation.cost import RecordedCosts
from trainables.point.errors import ConfigError
from trainables.resolution import Point

PACK_SECONDS = 0.07
"""Tune's own time for a pack (30 to 70 ms were measured with workers that are reused)."""


@dataclass(frozen=True)
class Forecast:
    """What a planned study would take: hours from its first pack to its last, and hours of all workers together."""

    workers: int
    hours: float
    worker_hours: float


def schedule(seconds: Sequence[float], workers: int) -> list[float]:
    """When each job ends: jobs start in their order, each on the worker that is free first.

    >>> schedule([3, 1, 1, 2], workers=2)
    [3.0, 1.0, 2.0, 4.0]
    """
    free = [0.0] * min(workers, len(seconds))
    ends = []
    for job in seconds:
        end = heapq.heappop(free) + job
        heapq.heappush(free, end)
        ends.append(end)
    return ends


def forecast(points: Sequence[Point], recorded: RecordedCosts, workers: int) -> Forecast:
    """Schedule the packs of these points."""
    seconds = [PACK_SECONDS + sum(recorded.seconds(point.config, point.key) for point in pack) for pack in packs(points, workers)]
    return Forecast(workers, max(schedule(seconds, workers), default=0.0) / 3600, sum(seconds) / 3600)


def span(recorded: RecordedCosts, workers: int) -> tuple[float, float]:
    """Seconds from the first to the last record of the recorded study: as scheduled on so many workers, and as it was."""
    points = [Point(row["key"], point) for row, point in zip(recorded.rows, recorded.points, strict=True)]
    seconds = [PACK_SECONDS + sum(recorded.seconds(point.config, point.key) for point in pack) for pack in packs(points, workers)]
    ends = schedule(seconds, workers)
    finished = [row["finished"].timestamp() for row in recorded.rows]
    return max(ends) - min(ends), max(finished) - min(finished)


@dataclass
class Replay:
    """What came of a search on the simulated clock.

    Attributes:
        hours: from its first pack to its last.
        worker_hours: of training, of all workers together.
        found: (hour, best value by then), at every improvement; the mean over the cells' best.
        exact, points: answered by the recorded point itself, and in all.
    """

    hours: float = 0.0
    worker_hours: float = 0.0
    found: list[tuple[float, float]] = field(default_factory=list)
    exact: int = 0
    points: int = 0
    pruned: int = 0

    def best_by(self, hour: float) -> float | None:
        """The best value by that hour; None if there is none yet."""
        return min((value for when, value in self.found if when <= hour), default=None)


def replay(plan: SearchPlan, recorded: RecordedCosts, outcomes: Outcomes, workers: int) -> Replay:
    """Run a search against records.

    Args:
        outcomes: of the recorded study.

    Raises:
        ConfigError: the search has several objectives, or freezes what it trains.
    """
    if len(plan.objectives) > 1:
        raise ConfigError("search.objective: simulate compares searches of one objective")
    if plan.pruning and plan.pruning.freezes:
        raise ConfigError("search.pruner freeze_thaw: simulate does not freeze what it replays; name others with --pruner")
    with TemporaryDirectory(prefix="gaplab-simulate-") as folder, quiet():
        answers = _Answers()
        search = Search(replace(plan, storage="journal"), str(Path(folder) / plan.study), answers)
        return _Simulation(search, answers, recorded, outcomes).run(workers)


class _Simulation:
    """A search whose packs are trained by the clock."""

    def __init__(self, search: Search, answers: _Answers, recorded: RecordedCosts, outcomes: Outcomes) -> None:
        self._search, self._answers, self._recorded, self._outcomes = search, answers, recorded, outcomes
        self._pruner: SuggestionPruner | None = None
        self._came = Replay()
        if search.plan.pruning:
            self._pruner = SuggestionPruner(search.plan.pruning)
            search.refill(self._pruner)

    def run(self, workers: int) -> Replay:
        idle, order, now = workers, count(), 0.0
        events: list[tuple[float, int, _Pack]] = []
        while events or not self._search.finished:
            while idle and (pack := self._search.next_pack()) is not None:
                begun = _Pack([self._member(point) for point in pack])
                heapq.heappush(events, (now + PACK_SECONDS + begun.next_seconds(), next(order), begun))
                idle -= 1
            if not events:
                break
            now, _, running = heapq.heappop(events)
            self._record(running.advance(self._pruner))
            self._note(now)
            if running.members:
                heapq.heappush(events, (now + running.next_seconds(), next(order), running))
            else:
                idle += 1
                self._came.worker_hours += running.seconds / 3600
        self._came.hours = now / 3600
        return self._came

    def _member(self, point: Point) -> _Member:
        nearest, exact = self._recorded.nearest(point.config, point.key)
        self._came.points += 1
        self._came.exact += exact
        row = self._outcomes[nearest]
        for objective in self._search.plan.objectives:
            try:
                measured(row, objective)
            except TypeError:
                raise ConfigError(
                    f"the recorded point nearest to a suggestion has no {objective}, which the search minimizes: --from takes a study "
                    "whose points have data.validation_size"
                ) from None
        return _Member(point.key, row, dict(self._outcomes.curve(nearest)), float(row["seconds"] or 0.0))

    def _record(self, ended: Sequence[_Member]) -> None:
        for member in ended:
            self._came.pruned += member.pruned
            self._answers.rows[member.key] = dict(member.row) | ({"status": "pruned"} if member.pruned else {})
            self._answers.curves[member.key] = {epoch: row for epoch, row in member.curve.items() if epoch <= member.epoch}

    def _note(self, now: float) -> None:
        """Report what is recorded, and note whether that is better."""
        self._search.collect()
        try:
            value = sum(cell.study.best_value for cell in self._search.cells) / len(self._search.cells)
        except ValueError:  # a cell has none yet
            return
        if not self._came.found or value < self._came.found[-1][1]:
            self._came.found.append((now / 3600, value))


class _Answers:
    """Records in memory (see `study.search.outcomes.Answers`)."""

    def __init__(self) -> None:
        self.rows: dict[str, Mapping[str, Any]] = {}
        self.curves: dict[str, Mapping[int, Mapping[str, Any]]] = {}

    def __contains__(self, key: str) -> bool:
        return key in self.rows

    def __getitem__(self, key: str) -> Mapping[str, Any]:
        return self.rows[key]

    def refresh(self) -> None:
        """Nothing: records arrive by themselves."""

    def curve(self, key: str) -> Mapping[int, Mapping[str, Any]]:
        return self.curves[key]


@dataclass
class _Member:
    """A point in simulated training: the record and the curve that it will turn out to have."""

    key: str
    row: Mapping[str, Any]
    curve: dict[int, Mapping[str, Any]]
    seconds: float
    epoch: int = 0
    pruned: bool = False

    @property
    def epochs(self) -> int:
        """The epoch at which it ends; one that has none (a closed form) ends at its first."""
        return max(1, self.row["epochs"] or 0)


class _Pack:
    """Points that train side by side, all at once."""

    def __init__(self, members: list[_Member]) -> None:
        self.members = members
        self.seconds = PACK_SECONDS

    def _next_epoch(self) -> int:
        """The next at which a member is evaluated or ends."""
        return min(epoch for member in self.members for epoch in (*member.curve, member.epochs) if epoch > member.epoch)

    def next_seconds(self) -> float:
        """Time until then: the members share the worker."""
        epoch = self._next_epoch()
        return sum(member.seconds / member.epochs * (min(epoch, member.epochs) - member.epoch) for member in self.members)

    def advance(self, pruner: SuggestionPruner | None) -> list[_Member]:
        """Train until then; those that end with it."""
        epoch, self.seconds = self._next_epoch(), self.seconds + self.next_seconds()
        for member in self.members:
            member.epoch = min(epoch, member.epochs)
        going_on = [member for member in self.members if member.epoch < member.epochs]
        reports = [(member.key, epoch, member.curve[epoch]) for member in going_on if epoch in member.curve]
        leaving = set(pruner.judge(reports)) if pruner and reports else set()
        for member in going_on:
            member.pruned = member.key in leaving
        ended = [member for member in self.members if member.epoch >= member.epochs or member.pruned]
        self.members = [member for member in going_on if not member.pruned]
        return ended
