"""A search on Ray Tune: the `Searcher` whose suggestions are packs, and the pruner that workers ask."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.tune.search import Searcher

from study.launch.context import Run
from study.launch.tuner import LOST, ROUNDS, Losses, Trials, for_good, let_go, placed_datasets, record_lost
from study.plan.packs import expected_seconds
from study.search.pruning import Pruning, SuggestionPruner
from study.search.search import Search
from trainables.point.text import dumps
from trainables.resolution import Point, resolve


def fit_search(run: Run, search: Search) -> None:
    """Train what the search asks for, until it has asked for everything."""
    trials = [cell.trial for cell in search.cells]
    run.progress.started(search.left, search.left * sum(expected_seconds(resolve(trial)) for trial in trials) / len(trials))
    parameters: dict[str, Any] = {"packs": [], "datasets": placed_datasets(trial.data for trial in trials)}
    if search.plan.pruning:
        pruner = RemotePruner(search.plan.pruning)
        search.refill(pruner)
        parameters["pruner"] = pruner.actor
    seconds, writer, losses = list[float](), run.writer, Losses()  # not the run: Tune pickles the searcher; what is drawn cannot be
    searcher = PackSearcher(search, seconds, losses, lambda pack: record_lost([(list(pack), LOST)], writer))
    at_once = run.plan.resources.workers or run.workers + 1  # one waits, so that no worker does; by itself Tune would let one run
    Trials(parameters, seconds, at_once, searcher, losses).fit(run)


class PackSearcher(Searcher):
    """Gives Tune the packs of a `Search`, and has their outcomes reported to Optuna.

    Args:
        search: what to ask.
        seconds: gets the expected seconds of every pack that is given out.
        losses: of workers, so far, of each trial.
        lost: called with a point that has taken its worker with it again and again, to record that.
    """

    def __init__(self, search: Search, seconds: list[float], losses: Losses, lost: Callable[[Sequence[Point]], None]) -> None:
        super().__init__()
        self._search, self._seconds, self._losses, self._lost = search, seconds, losses, lost
        self._packs: dict[str, list[Point]] = {}
        self._rounds = 1

    def suggest(self, trial_id: str) -> Any:
        if trial_id in self._packs:  # Tune's ids are 32 random bits: it asks again, with another
            return None
        pack = self._search.next_pack() or self._of_the_let_go()
        if pack is None:
            return None if self._packs and not self._search.finished else Searcher.FINISHED
        self._packs[trial_id] = pack
        self._seconds.append(sum(expected_seconds(point.config) for point in pack))
        return {"pack": len(self._seconds) - 1, "points": dumps([point.config for point in pack])}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        self._search.collect()

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        pack = self._packs.pop(trial_id)
        if error and for_good(self._losses[trial_id] + 1) and not self._search.give_up(pack):
            self._lost(pack)
        self._search.collect()

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
