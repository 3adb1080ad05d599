"""One pack, or one point, as a trial of Ray Tune: the only file of `trainables` that knows Ray.

Tune schedules packs and restarts them after a worker is lost. Results do not pass through it: a worker hands finished points to `sink`
(which writes a record fragment) before it reports their number, and keeps those that are not done on a `shelf`, where the next worker
finds them, of this run or of another (see `trainables.training.unfinished`).
"""

from __future__ import annotations

import gc
import json
import time
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import ray
import torch
from ray import tune

from trainables.data.sets.dataset import Dataset
from trainables.data.sets.sources import share
from trainables.gpu_memory import keep_to
from trainables.models import custom as custom
from trainables.point.config import TrialConfig, with_fields
from trainables.point.errors import ConfigError
from trainables.point.text import dumps, loads
from trainables.reproducibility import keep_bits
from trainables.resolution import resolve
from trainables.training.device_failures import PoisonedError
from trainables.training.distributed import Processes
from trainables.training.freezing import Pauses
from trainables.training.loop import Pruner, Training
from trainables.training.members import Result, failure
from trainables.training.samples import PER_SAMPLE
from trainables.training.unfinished import Keeper, Shelf, bits

SLICE_SECONDS = 2.0
"""Training time between two reports to Tune (at least one epoch)."""
FIRST_SLICE_SECONDS = 0.2
"""Training time before a worker's first report: a user soon sees that a study works."""


class Sink(Protocol):
    """The receiver of results."""

    def __call__(self, results: Sequence[Result], device: str) -> None:
        """Take finished points and the name of the device; when this returns, they are recorded."""

    def recorded(self, keys: Collection[str], measures: Sequence[str]) -> set[str]:
        """Those of the keys that were taken before, with these measures, and need no training."""


def _device(granted: tune.PlacementGroupFactory | None) -> torch.device:
    """What this worker trains on: a GPU if Ray granted one or a fraction of it. Who was granted none sees all of its node too."""
    gpus = granted.required_resources.get("GPU", 0) if isinstance(granted, tune.PlacementGroupFactory) else 0
    if gpus and torch.cuda.is_available():
        keep_to(gpus)
        return torch.device("cuda")
    keep_bits()  # also here: a worker on another node does not inherit the driver's environment
    torch.set_num_threads(1)  # a worker per core, and one thread's bits
    return torch.device("cpu")


@dataclass(frozen=True)
class DataParallelism:
    """How a point is trained: by `processes` of Ray Train's TorchTrainer, or (None) in the trial itself.

    Attributes:
        cpus: of each process, one to compute and the others to decode images.
        gpus: of each process.
        storage: folder or URI that all nodes reach, for Ray Train's own files.
        labels: that the nodes of the processes must have, as Ray's selectors.
    """

    processes: int | None
    cpus: float
    gpus: float
    storage: str
    labels: dict[str, str] | None = None

    @property
    def loaders(self) -> int:
        """Processes that decode images beside each that computes."""
        return max(0, int(self.cpus) - 1)


@dataclass(frozen=True)
class PackSettings:
    """What all packs of a run have in common.

    Attributes:
        sink: records results.
        sources: text of the user's files with custom models, by path.
        measures: complexity measures of every trained network, by name.
        shelf: keeps points that are not done; None for nowhere.
        point_seconds: a point that takes longer has failed.
        keeps: of which points the network is kept; None for none.
        distribution: over processes, and how many of them decode images.
        admission: asked where the worker is; what it answers is why nothing may be trained there. It is reported as ``refused``.
    """

    sink: Sink
    sources: Mapping[str, str] = field(default_factory=dict)
    measures: Sequence[str] = ()
    shelf: Shelf | None = None
    point_seconds: float | None = None
    keeps: Callable[[TrialConfig], bool] | None = None
    distribution: DataParallelism | None = None
    admission: Callable[[], str | None] | None = None


class PackTrainable(tune.Trainable):
    """Trains the pack that ``config["pack"]`` counts, or that ``config["points"]`` holds as text.

    With ``config["pauses"]`` points pause at an epoch, and are kept then, or pruned (see `trainables.training.freezing.Pauses`). What they
    have reported by then stands in ``paused``: JSON, by key, of epochs and errors.
    With ``config["restarted"]`` its worker was lost: what that had recorded since its last checkpoint is not trained again.

    Its parameters come through `tune.with_parameters`:
        packs: object references, each to a list of resolved points.
        datasets: digest of a data set, or its name -> reference to its `Dataset.arrays()`, placed once a node and read without a copy.
        settings: what all packs of a run have in common.
        pruner: an actor whose `judge` says which members leave early (see `trainables.training.loop.Training`); None for no one.
    """

    def setup(  # type: ignore[override]  # Tune passes what with_parameters holds by name
        self,
        config: dict[str, Any],
        packs: list[ray.ObjectRef[Any]],
        datasets: dict[str, ray.ObjectRef[Any]],
        settings: PackSettings,
        pruner: ray.actor.ActorHandle[Any] | None = None,
    ) -> None:
        self._refused = settings.admission() if settings.admission else None
        gc.freeze()  # what is loaded stays: looking at it again and again takes a third of a small network's making
        self._device = _device(self.trial_resources)
        self._hardware = torch.cuda.get_device_name() if self._device.type == "cuda" else "cpu"  # now: a poisoned device may not answer
        for path, text in settings.sources.items():
            custom.register(path, text)
        for name, reference in datasets.items():
            share(name, Dataset.from_arrays(*ray.get(reference)))
        self._packs, self._settings, self._pruner = packs, settings, pruner
        self._slice = FIRST_SLICE_SECONDS
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """A finished worker takes the next pack: no new process, no second load of data."""
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        points = loads(config["points"]) if "points" in config else ray.get(self._packs[config["pack"]])
        self._keeper = _keeper(self._settings.shelf, self._device, self._settings.measures)
        self._pauses = Pauses(config["pauses"], self._keeper) if config.get("pauses") and self._keeper else None
        self._training = self._training_of(points)
        if config.get("restarted"):
            self._training.leave_out(self._settings.sink.recorded({point.key() for point in points}, self._settings.measures))
        self._begun_with: list[Result] = []
        if self._keeper and isinstance(self._training, Training):
            if self._pauses:
                self._begun_with = self._pauses.begin(self._training, points, self._device)
            self._keeper.resume(self._training, self._device)

    def _training_of(self, points: list[TrialConfig]) -> Training | _TogetherTraining:
        by, shared = self._settings.distribution, self._settings
        settings: dict[str, Any] = {"measures": shared.measures, "point_seconds": shared.point_seconds, "keeps": shared.keeps}
        settings["loaders"] = by.loaders if by else 0
        if by and by.processes:
            return _TogetherTraining(points, by, settings | {"sources": shared.sources, "pruner": self._pruner, "shelf": shared.shelf})
        return Training(points, self._device, pruner=self._pauses or _asking(self._pruner), **settings)

    def step(self) -> dict[str, Any]:
        if self._refused:
            return {"points": {}, "reasons": {}, "share": 0.0, "done": True, "refused": self._refused}
        started = time.monotonic()
        results, self._begun_with = self._begun_with, []
        try:
            while not self._training.finished and time.monotonic() - started < self._slice:
                results += self._training.epoch()
                self._keep()
        except PoisonedError:  # Tune ends this process, and goes on in another: what has ended stays
            self._record(results)
            raise
        self._slice = SLICE_SECONDS
        results, paused = self._record(results)
        self._forget([result.key for result in results])
        return {
            "points": dict(Counter(result.status for result in results)),
            "reasons": dict(Counter(result.reason.partition("\n")[0][:200] for result in results if result.status == "failed")),
            "share": self._training.share,
            "done": self._training.finished,
            **({"paused": json.dumps(paused)} if paused else {}),
        }

    def _record(self, results: list[Result]) -> tuple[list[Result], dict[str, Any]]:
        """Record what has ended, and keep what has paused; the former, and what the latter have reported."""
        ended, paused = self._pauses.keep(results) if self._pauses else (results, {})
        self._settings.sink(ended, self._hardware)
        return ended, paused

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: points that are not done are kept one by one (see `trainables.training.unfinished`). Tune may ask when a trial ends."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing, likewise."""

    def _keep(self) -> None:
        """Keep what is not done, if it is time; a `_TogetherTraining` does so in its processes."""
        if self._keeper and isinstance(self._training, Training):
            self._keeper.keep(self._training)

    def _forget(self, keys: Collection[str]) -> None:
        """Take from the shelf what is recorded now."""
        if isinstance(self._training, Training) and self._keeper:
            self._keeper.forget(keys)
        elif self._settings.shelf and keys:
            self._settings.shelf.remove(keys)


def _keeper(shelf: Shelf | None, device: torch.device, measures: Sequence[str], processes: int = 1) -> Keeper | None:
    """What keeps a training's members on the shelf, if there is one."""
    return None if shelf is None else Keeper(shelf, bits(device, PER_SAMPLE in measures, processes))


def _asking(pruner: ray.actor.ActorHandle[Any] | None) -> Pruner | None:
    """A pruner that asks the actor."""
    return None if pruner is None else lambda reports: ray.get(pruner.judge.remote(reports))


class _TogetherTraining:
    """Trains points one after another, each by several processes of Ray Train, with the methods of `Training`.

    Args:
        points: resolved.
        by: which processes.
        settings: of the training in each process, with the `sources` of the user's files and the pruner's actor.
    """

    def __init__(self, points: Sequence[TrialConfig], by: DataParallelism, settings: dict[str, Any]) -> None:
        self._waiting, self._total = list(points)[::-1], len(points)
        self._by, self._settings = by, settings

    @property
    def finished(self) -> bool:
        return not self._waiting

    @property
    def share(self) -> float:
        return 1 - len(self._waiting) / self._total

    def epoch(self) -> list[Result]:
        """The result of the next point, all its epochs. A lost process is replaced, and all go on from what is on the shelf."""
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer

        point, by = self._waiting.pop(), self._by
        where: dict[str, Any] = {"label_selector": by.labels} if by.labels else {}
        each = {"CPU": by.cpus} | ({"GPU": by.gpus} if by.gpus else {})
        trainer = TorchTrainer(
            _one_of_several,  # type: ignore[arg-type]  # what it returns is the return_value below
            train_loop_config={"point": dumps([point])} | self._settings,
            scaling_config=ScalingConfig(num_workers=by.processes or 1, use_gpu=by.gpus > 0, resources_per_worker=each, **where),
            run_config=RunConfig(
                name=f"{point.key()}-{uuid.uuid4().hex[:12]}",
                storage_path=by.storage,
                failure_config=FailureConfig(max_failures=3),
            ),
        )
        try:
            return [trainer.fit().return_value]  # type: ignore[attr-defined]  # Ray's stub is of its older Result
        except Exception as error:
            return [failure(point, error)]

    def leave_out(self, keys: Collection[str]) -> None:
        self._waiting = [point for point in self._waiting if point.key() not in keys]


def _one_of_several(config: dict[str, Any]) -> Result:
    """One process of a TorchTrainer; Ray has initialized `torch.distributed` here, by NCCL on GPUs and gloo on CPUs."""
    from ray import train
    from ray.train.torch import get_device

    settings = dict(config)
    points, sources = loads(settings.pop("point")), settings.pop("sources")
    pruner, shelf = settings.pop("pruner"), settings.pop("shelf")
    context, device = train.get_context(), get_device()
    if device.type == "cpu":
        keep_bits()
        torch.set_num_threads(1)
    for path, text in sources.items():
        custom.register(path, text)
    processes = Processes(context.get_world_rank(), context.get_world_size())
    training = Training(points, device, processes=processes, pruner=_asking(pruner), **settings)
    keeper = _keeper(shelf, device, settings["measures"], processes.count)
    if keeper:  # all find the same: nobody keeps anything before all have trained
        keeper.resume(training, device)
    while not (results := training.epoch()):
        if keeper and processes.rank == 0:
            keeper.keep(training)
    return results[0]


class PointTrainable(tune.Trainable):
    """One point as a trial of its own, for Tune's schedulers (ASHA, population based training): an epoch a report.

    The configuration of a trial holds dotted fields of a point, e.g. ``{"data.train_size": 500, "optimizer.learning_rate":
    tune.loguniform(0.001, 1)}``; all others have their defaults. Reported are the epoch, train and validation error, and with
    the last epoch the columns of a record. A trial that a scheduler leaves alone ends as `study.run` records that point.

    Population based training (Jaderberg et al. 2017) gives a trial another's network and changes its strengths on the way.
    Such a trial is no point any more: its key would not say what was run. ``schedule`` in its reports does, as JSON: the
    fields from each epoch on, those of the networks it took over included. Fix ``data.seed`` and ``corruption.seed`` for
    the population, so that all see the same samples.

    Raises:
        ConfigError: the fields make no point, or a trial takes over a network of other shapes or other data.
    """

    def setup(self, config: dict[str, Any]) -> None:
        self._device = _device(self.trial_resources)
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        self._fields = dict(config)
        self._point = resolve(with_fields(TrialConfig(), config))
        self._training = Training([self._point], self._device, pruner=self._note)
        self._schedule: list[dict[str, Any]] = [{"epoch": 0, **self._fields}]
        self._latest: dict[str, Any] = {}

    def _note(self, reports: Sequence[tuple[str, int, dict[str, Any]]]) -> list[str]:
        for _, epoch, errors in reports:
            self._latest = {"epoch": epoch, **errors}
        return []

    def step(self) -> dict[str, Any]:
        results = self._training.epoch()
        for result in results:
            self._latest = {"epoch": result.outcome.get("epochs"), "status": result.status, "reason": result.reason, **result.outcome}
        return self._latest | {"schedule": json.dumps(self._schedule), "done": self._training.finished}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        state = {"training": self._training.state_dict(), "point": dumps([self._point]), "schedule": self._schedule}
        torch.save(state, Path(checkpoint_dir) / "point.pt")

    def load_checkpoint(self, checkpoint: str) -> None:  # type: ignore[override]  # a folder, as save_checkpoint was given
        state = torch.load(Path(checkpoint) / "point.pt", map_location=self._device, weights_only=True)
        donor = loads(state["point"])[0]
        if donor.signature() != self._point.signature():
            raise ConfigError("a trial takes over a network of other shapes: a population may vary what docs/fields.md does not size by")
        if (donor.data, donor.corruption) != (self._point.data, self._point.corruption):
            raise ConfigError("a trial takes over a network that saw other samples: fix data.seed and corruption.seed for the population")
        training, self._schedule = state["training"], state["schedule"]
        for member in training["members"]:
            member["key"] = self._point.key()
        training["waiting"] = [self._point.key() for _ in training["waiting"]]
        self._training.load_state_dict(training)
        if donor != self._point:
            epoch = training["members"][0]["epoch"] if training["members"] else 0
            self._schedule = [*self._schedule, {"epoch": epoch, **self._fields}]
