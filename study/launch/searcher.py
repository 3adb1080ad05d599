"""A search on Ray Tune: the `Searcher` whose suggestions are packs, and the pruner that workers ask."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.tune.search import Searcher

from study.launch.cluster import workers_now
from study.launch.context import Run
from study.launch.tuner import LOST, ROUNDS, Losses, Trials, for_good, let_go, placed_datasets, record_lost
from study.plan.packs import expected_seconds
from study.search.custom import CustomError
from study.search.pruning.leaving import Pruning, SuggestionPruner
from study.search.search import Search
from trainables.point.text import dumps
from trainables.resolution import Point, resolve

MOST_AT_ONCE = 100_000
"""Packs that Tune would take at once; unless it is told a number, it would let one wait at a time."""
_LOOK_SECONDS = 2.0
"""Between two looks at what the cluster has."""


def fit_search(run: Run, search: Search) -> None:
    """Train what the search asks for, until it has asked for everything."""
    trials = [cell.trial for cell in search.cells]
    each = sum(expected_seconds(resolve(trial)) for trial in trials) / len(trials)
    run.progress.started(search.left, search.left * each * search.plan.trained_share)
    parameters: dict[str, Any] = {"packs": [], "datasets": placed_datasets(trial.data for trial in trials)}
    if search.plan.pruning and not search.plan.pruning.freezes:
        pruner = RemotePruner(search.plan.pruning)
        search.refill(pruner)
        parameters["pruner"] = pruner.actor
    seconds, writer, losses = list[float](), run.writer, Losses()  # not the run: Tune pickles the searcher; what is drawn cannot be
    searcher = PackSearcher(search, seconds, losses, lambda pack: record_lost([(list(pack), LOST)], writer), _room(run))
    Trials(parameters, seconds, run.plan.resources.workers or MOST_AT_ONCE, searcher, losses).fit(run)
    if searcher.error:
        raise searcher.error


def _room(run: Run) -> Callable[[], int]:
    """How many packs may be out at once: one waits, so that no worker does. Nodes that join are counted within seconds."""
    resources, least = run.plan.resources, run.workers
    if resources.workers:
        return lambda: MOST_AT_ONCE  # Tune holds to that itself
    known, since = least, 0.0

    def room() -> int:
        nonlocal known, since
        if time.monotonic() - since > _LOOK_SECONDS:
            known, since = max(least, workers_now(resources)), time.monotonic()
        return known + 1

    return room


class PackSearcher(Searcher):
    """Gives Tune the packs of a `Search`, and has their outcomes reported to Optuna.

    Args:
        search: what to ask.
        seconds: gets the expected seconds of every pack that is given out.
        losses: of workers, so far, of each trial.
        lost: called with a point that has taken its worker with it again and again, to record that.
        room: how many packs may be out at once.

    Attributes:
        error: of the user's own sampler, after which nothing is asked of it; packs in training end.
    """

    def __init__(
        self,
        search: Search,
        seconds: list[float],
        losses: Losses,
        lost: Callable[[Sequence[Point]], None],
        room: Callable[[], int] = lambda: MOST_AT_ONCE,
    ) -> None:
        super().__init__()
        self._search, self._seconds, self._losses, self._lost, self._room = search, seconds, losses, lost, room
        self._packs: dict[str, list[Point]] = {}
        self._rounds = 1
        self.error: CustomError | None = None

    def suggest(self, trial_id: str) -> Any:
        if trial_id in self._packs:  # Tune's ids are 32 random bits: it asks again, with another
            return None
        if len(self._packs) >= self._room():
            return None
        try:
            pack = None if self.error else self._search.next_pack() or self._of_the_let_go()
        except CustomError as error:
            self.error, pack = error, None
        if self.error:
            return Searcher.FINISHED
        if pack is None:
            return None if self._packs and not self._search.finished else Searcher.FINISHED
        self._packs[trial_id] = pack
        self._seconds.append(sum(expected_seconds(point.config) * self._search.share(point.key) for point in pack))
        return {"pack": len(self._seconds) - 1, "points": dumps([point.config for point in pack]), "pauses": self._search.pauses(pack)}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        self._note_paused(result)
        self._collect()

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        pack = self._packs.pop(trial_id)
        self._note_paused(result or {})
        if error and for_good(self._losses[trial_id] + 1) and not self._search.give_up(pack):
            self._lost(pack)
        self._collect()

    def _note_paused(self, result: Mapping[str, Any]) -> None:
        """Pass on which points have paused; JSON has epochs as texts."""
        curves = json.loads(result.get("paused", "{}"))
        self._search.paused({key: {int(epoch): row for epoch, row in curve.items()} for key, curve in curves.items()})

    def _collect(self) -> None:
        try:
            self._search.collect()
        except CustomError as error:
            self.error = error

    def _of_the_let_go(self) -> list[Point] | None:
        """A pack of points that are not recorded, and that nobody trains any more."""
        if self._packs or self._rounds == ROUNDS or not (left := self._search.queue_again()):
            return None
        self._rounds += 1
        warnings.warn(let_go(left), stacklevel=2)
        return self._search.next_pack()

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the state of a search is Optuna's storage and the records. Tune wants to see a file."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Nothing; see `save`."""

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return Searcher, ()  # Tune pickles what it was given to restore runs, which gaplab never does; a sampler may be of any kind


class RemotePruner(SuggestionPruner):
    """A pruner in a process of its own, which workers ask and the driver informs. Its `actor` goes to the workers."""

    def __init__(self, pruning: Pruning) -> None:
        self.actor: Any = ray.remote(SuggestionPruner).options(num_cpus=0).remote(pruning)

    def enter(self, *arguments: Any) -> None:
        ray.get(self.actor.enter.remote(*arguments))

    def close(self, key: str) -> None:
        self.actor.close.remote(key)

    def remember(self, *arguments: Any) -> None:
        self.actor.remember.remote(*arguments)
