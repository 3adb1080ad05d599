"""Ray Tune: packs become its trials, what it reports becomes progress."""

from __future__ import annotations

import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import ray
from ray import tune
from ray.tune.search import Searcher

from analysis.records.store import open_store
from study.launch.cluster import bundles, selectors
from study.launch.context import Run
from study.plan.packs import expected_seconds
from study.records.unfinished import Unfinished
from study.records.writer import FragmentWriter
from trainables.data.sets.sources import load
from trainables.point.config import Data
from trainables.resolution import Point
from trainables.training.members import Result
from trainables.tune import DataParallelism, PackSettings, PackTrainable

MOST_WORKER_LOSSES = 5
"""How often a pack is started anew after its worker was lost."""
NODES_SECONDS = 5.0
"""Between two looks at which nodes are gone."""
ROUNDS = 3
"""How often Tune is given points at most of which it lets go before they ended."""
LOST = f"its worker was lost {MOST_WORKER_LOSSES + 1} times"
Lost = tuple[list[Point], str]
"""A pack whose workers were lost again and again, and why."""
Losses = Counter[str]
"""Trial -> how often its worker was lost. Tune may give a trial up at the first: a worker that has ended a pack and then dies is handed
the next one all the same, and the error of that is dealt with twice, of which the second time finds a trial that is not running."""


@dataclass(frozen=True)
class Trials:
    """What Tune is to run.

    Attributes:
        parameters: what the trainable gets, besides what every run gives it.
        seconds: the expected seconds of each pack; a searcher adds those that it gives out.
        at_once: how many run at once at most.
        searcher: suggests packs; without one all packs are known.
        losses: of each trial; gets them.
        ended: gets the numbers of packs that ended.
        failed: gets the trial of each pack that Tune has given up, by its number.
    """

    parameters: dict[str, Any]
    seconds: list[float]
    at_once: int | None
    searcher: Searcher | None = None
    losses: Losses = field(default_factory=Counter)
    ended: set[int] = field(default_factory=set)
    failed: dict[int, Any] = field(default_factory=dict)

    def fit(self, run: Run) -> None:
        """Run them to their end."""
        plan = run.plan
        resources = plan.resources
        settings = PackSettings(
            sink=run.writer,
            sources=plan.sources,
            measures=plan.measures,
            shelf=Unfinished(plan.root),
            point_seconds=resources.point_seconds,
            keeps=plan.keeps,
            distribution=DataParallelism(resources.processes, resources.cpus, resources.gpus, f"{plan.root}/tune", resources.labels),
            admission=run.admission,
        )
        trainable = tune.with_parameters(PackTrainable, settings=settings, **self.parameters)
        where: dict[str, Any] = {"bundle_label_selector": selectors(resources)[:1]} if resources.labels else {}
        reserved = tune.PlacementGroupFactory(bundles(resources)[:1], **where)  # Ray Train reserves the processes'
        filesystem, path = open_store(plan.root)
        tuner = tune.Tuner(
            tune.with_resources(trainable, reserved),
            param_space={} if self.searcher else {"pack": tune.grid_search(list(range(len(self.seconds))))},
            tune_config=tune.TuneConfig(
                reuse_actors=True,
                max_concurrent_trials=self.at_once,
                search_alg=self.searcher,
                num_samples=-1 if self.searcher else 1,
            ),
            run_config=tune.RunConfig(
                name=uuid.uuid4().hex[:12],  # Tune's names are no identity: a run's folder is never read by another
                storage_path=f"{path}/tune",
                storage_filesystem=filesystem,
                verbose=0,
                progress_reporter=_Silent(),
                stop=run.breaker,
                callbacks=[_Report(run, self)],
                failure_config=tune.FailureConfig(max_failures=MOST_WORKER_LOSSES),
                checkpoint_config=tune.CheckpointConfig(num_to_keep=1),
            ),
        )
        tuner.fit()


def fit_packs(run: Run, packs: list[list[Point]]) -> tuple[list[Lost], list[list[Point]]]:
    """Train packs.

    Returns:
        Those whose workers were lost again and again, and those that Tune has given up before.
    """
    resources = run.plan.resources
    seconds = [len(pack) * expected_seconds(pack[0].config, run.speed) for pack in packs]
    run.progress.started(sum(map(len, packs)), sum(seconds))
    references = [ray.put([point.config for point in pack]) for pack in packs]
    parameters = {"packs": references, "datasets": placed_datasets(pack[0].config.data for pack in packs)}
    at_once = run.workers if resources.processes else resources.workers  # their processes come on top of what Tune counts
    trials = Trials(parameters, seconds, at_once)
    trials.fit(run)
    lost = {number: trial for number, trial in trials.failed.items() if for_good(trials.losses[trial.trial_id])}
    given_up = [pack for number, pack in enumerate(packs) if number not in trials.ended and number not in lost]
    # Tune's own results do not tell which pack they are of: one that has not reported bears the configuration that its worker had before.
    return [(packs[number], _in_a_sentence(trial.get_pickled_error() or trial.get_error())) for number, trial in lost.items()], given_up


def for_good(losses: int) -> bool:
    """Whether a pack that has lost so many workers is not started again."""
    return losses > MOST_WORKER_LOSSES


def let_go(points: int) -> str:
    """What is said of points that are given to Tune again."""
    who, whom = ("1 point was", "it") if points == 1 else (f"{points:,} points were", "them")
    return f"{who} let go of without a record or a failure: training goes on with {whom}"


def record_lost(lost: list[Lost], writer: FragmentWriter) -> None:
    """Record points that take their worker with them, and so cannot write their own records."""
    writer([Result(point.config, point.key, "failed", reason, {}, []) for pack, reason in lost for point in pack], None)


def _in_a_sentence(error: Exception | str | None) -> str:
    """What a worker died of: the last line of an exception there, the first of what Ray says of a dead process."""
    if not error:
        return LOST
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    words = lines[-1] if "Traceback" in str(error) or "ray::" in lines[0] else lines[0]
    return f"{LOST}: {words}"


def placed_datasets(wanted: Iterable[Data]) -> dict[str, Any]:
    """Data sets in Ray's object store, by digest, or by name where they have none: one copy a node, which its workers map."""
    in_memory = {data for data in wanted if not (data.made_of or data.streamed)}
    used = {dataset.digest or data.name: dataset for data in in_memory for dataset in [load(data)]}
    return {name: ray.put(dataset.arrays()) for name, dataset in used.items()}


class _Silent(tune.ProgressReporter):
    """Reports nothing. Tune's own reporter for notebooks clears what a cell shows, whatever its verbosity."""

    def should_report(self, trials: list[Any], done: bool = False) -> bool:
        return False

    def report(self, trials: list[Any], done: bool, *sys_info: str) -> None:
        """Do nothing."""


def _gone_nodes() -> dict[str, str]:
    """The addresses of the nodes that the cluster has had and has no more, by their identifiers."""
    interface: Any = ray  # which has no types
    return {node["NodeID"]: node["NodeManagerAddress"] for node in interface.nodes() if not node["Alive"]}


class _Report(tune.Callback):
    """Passes every report on: the points that ended, and what is newly done of the pack's expected seconds."""

    def __init__(self, run: Run, trials: Trials) -> None:
        self._progress, self._breaker, self._trials = run.progress, run.breaker, trials
        self._shares: dict[float, float] = defaultdict(float)
        self._gone, self._asked = _gone_nodes().keys(), time.monotonic()

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any) -> None:
        pack, share = trial.config["pack"], result["share"]
        self._progress.advanced(Counter(result["points"]), self._trials.seconds[pack] * (share - self._shares[pack]))
        self._shares[pack] = share
        self._say_of_nodes()
        if result["done"]:
            self._trials.ended.add(pack)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._trials.losses[trial.trial_id] += 1
        self._trials.failed[trial.config["pack"]] = trial
        self._breaker.lost(trial.trial_id, for_good=for_good(self._trials.losses[trial.trial_id]))

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._trials.losses[trial.trial_id] += 1
        self._breaker.lost(trial.trial_id, for_good=False)
        trial.set_config(trial.config | {"restarted": True})

    def _say_of_nodes(self) -> None:
        """Name the nodes that have gone since this was asked last; Ray may take half a minute to be sure of one."""
        if time.monotonic() < self._asked + NODES_SECONDS:
            return
        self._asked, gone = time.monotonic(), _gone_nodes()
        if new := [name for identifier, name in gone.items() if identifier not in self._gone]:
            which = f"node {new[0]} is" if len(new) == 1 else f"nodes {', '.join(sorted(new))} are"
            self._progress.noted(f"{which} gone: what was trained there starts anew on another, without the points that were recorded")
        self._gone = gone.keys()

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return tune.Callback, ()  # Tune pickles callbacks to restore runs, which gaplab never does
