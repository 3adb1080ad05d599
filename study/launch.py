"""Running a study: plan, hand packs to Ray Tune, mirror to MLflow, say what came of it.

Resume is set difference: only points without a final record are planned. Nothing of Tune's own state is read again.
"""

from __future__ import annotations

import logging
import os
import subprocess
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from study.mirror import Mirror, default_tracking_uri
from study.plan import Point, declared_points, expected_seconds, packs
from study.records import FINAL, FragmentWriter, Provenance, open_store, statuses, study_root
from study.spec import Resources, Spec
from trainables import own_models
from trainables.config import ConfigError

if TYPE_CHECKING:
    from ray import tune

MOST_WORKER_LOSSES = 5
"""How often a pack is started anew after its worker was lost."""


@dataclass
class Progress:
    """What `run` tells its caller while it goes; the command line draws it."""

    planned: Callable[[int], None] = lambda done: None
    started: Callable[[int, float], None] = lambda points, seconds: None
    advanced: Callable[[Counter[str], float], None] = lambda statuses, seconds: None
    mirrored: Callable[[int, int], None] = lambda done, total: None


@dataclass
class Summary:
    """What came of a run: where its results lie and how many points have which status."""

    root: str
    declared: int
    ran: int
    counts: Counter[str] = field(default_factory=Counter)
    interrupted: bool = False
    mirror: Mirror | None = None

    @property
    def missing(self) -> int:
        """Declared points without a final record."""
        return self.declared - sum(self.counts[status] for status in FINAL)


def run(
    spec: Spec,
    *,
    storage: str = "results",
    tracking_uri: str | None = None,
    address: str | None = None,
    progress: Progress | None = None,
) -> Summary:
    """Run what is missing of a study; Ctrl-C (KeyboardInterrupt) stops it cleanly.

    Args:
        storage: local folder or URI; everything of the study lies under ``storage/STUDY``.
        tracking_uri: MLflow's; an SQLite database beside the results by default.
        address: of a Ray cluster; one on this machine, for this run, by default.

    Raises:
        ConfigError: the study cannot run; nothing was started.
    """
    progress = progress or Progress()
    sources = read_sources(spec)
    points = declared_points(spec, progress.planned)
    root = study_root(storage, spec.study)
    prepare_storage(root, spec)
    recorded = statuses(root)
    missing = [point for point in points if recorded.get(point.key) not in FINAL]
    mirror = open_mirror(spec, storage, root, tracking_uri)
    interrupted = False
    try:
        if missing:
            interrupted = _train(spec, missing, sources, root, address, progress)
    finally:
        if mirror:
            mirror.finish(progress.mirrored)
    recorded = statuses(root)
    counts = Counter(recorded[point.key] for point in points if point.key in recorded)
    return Summary(root, len(points), len(missing), counts, interrupted, mirror)


def declared_and_recorded(spec: Spec, root: str) -> tuple[list[Point], dict[str, str]]:
    """The points of a spec, and the status of every recorded key; nothing is started or written."""
    read_sources(spec)
    return declared_points(spec), statuses(root)


def read_sources(spec: Spec) -> dict[str, str]:
    """The user's model files, registered in this process: path -> text."""
    sources = {str(path): path.read_text() for path in spec.imports}
    for path, text in sources.items():
        own_models.register(path, text)
    return sources


def prepare_storage(root: str, spec: Spec) -> None:
    """Make the study's folder and put its spec there.

    Raises:
        ConfigError: the storage cannot be written.
    """
    try:
        filesystem, path = open_store(root)
        filesystem.create_dir(path, recursive=True)
        with filesystem.open_output_stream(f"{path}/spec.yaml") as stream:
            stream.write(spec.text.encode())
    except (OSError, ValueError) as error:
        raise ConfigError(f"--storage: {root} cannot be written ({str(error).splitlines()[0]}): give a folder or URI that can") from None


def open_mirror(spec: Spec, storage: str, root: str, tracking_uri: str | None) -> Mirror | None:
    """The running mirror, or None for a study without one.

    Raises:
        ConfigError: the tracking server cannot be reached.
    """
    if not spec.tracking.mlflow:
        return None
    uri = tracking_uri or default_tracking_uri(storage)
    if uri is None:
        raise ConfigError(f"--tracking-uri is needed: an SQLite database cannot lie in {storage}; or set tracking.mlflow to false")
    mirror = Mirror(uri, spec.study, root)
    mirror.start()
    return mirror


def _train(spec: Spec, points: list[Point], sources: dict[str, str], root: str, address: str | None, progress: Progress) -> bool:
    """Run the points on Ray Tune; whether the user interrupted it."""
    with _ray(spec.resources, address) as workers:
        plan = packs(points, workers)
        seconds = [sum(expected_seconds(point.config) for point in pack) for pack in plan]
        progress.started(len(points), sum(seconds))
        tuner = _tuner(spec, plan, seconds, sources, root, progress)
        try:
            tuner.fit()
        except KeyboardInterrupt:
            return True
        finally:
            _forget_tune(root)
    return False


def _forget_tune(root: str) -> None:
    """Tune's own files (state, checkpoints of packs) serve a running study only: records are what stays."""
    filesystem, path = open_store(f"{root}/tune")
    with suppress(OSError):
        filesystem.delete_dir(path)


def _tuner(spec: Spec, plan: list[list[Point]], seconds: list[float], sources: dict[str, str], root: str, progress: Progress) -> tune.Tuner:
    import ray
    from ray import tune

    from trainables.tune import PackTrainable

    writer = FragmentWriter(root, Provenance(spec.study, _git_commit(), version("gaplab")))
    trainable = tune.with_parameters(
        PackTrainable,
        packs=[ray.put([point.config for point in pack]) for pack in plan],
        datasets=_placed_datasets(plan),
        sources=sources,
        sink=writer,
    )
    resources = tune.PlacementGroupFactory([{"CPU": spec.resources.cpus, "GPU": spec.resources.gpus}])
    filesystem, path = open_store(root)
    return tune.Tuner(
        tune.with_resources(trainable, resources),
        param_space={"pack": tune.grid_search(list(range(len(plan))))},
        tune_config=tune.TuneConfig(reuse_actors=True, max_concurrent_trials=spec.resources.workers),
        run_config=tune.RunConfig(
            name=uuid.uuid4().hex[:12],  # Tune's names are no identity: a run's folder is never read by another
            storage_path=f"{path}/tune",
            storage_filesystem=filesystem,
            verbose=0,
            callbacks=[_progress_callback(seconds, progress)],
            failure_config=tune.FailureConfig(max_failures=MOST_WORKER_LOSSES),
            checkpoint_config=tune.CheckpointConfig(num_to_keep=1),
        ),
    )


def _placed_datasets(plan: list[list[Point]]) -> dict[str, Any]:
    """Data sets in Ray's object store: one copy a node, which its workers map."""
    import ray

    from trainables.data import load

    used = {pack[0].config.data.name: pack[0].config.data for pack in plan}
    return {name: ray.put(load(data).arrays()) for name, data in used.items() if name != "synthetic"}


def _progress_callback(seconds: list[float], progress: Progress) -> tune.Callback:
    """Tells `progress` of every report: the points that ended, and what is newly done of the pack's expected seconds."""
    from ray import tune

    behind = [0.0] * len(seconds)

    class Report(tune.Callback):
        def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any) -> None:
            pack, share = trial.config["pack"], result["share"]
            progress.advanced(Counter(result["points"]), seconds[pack] * (share - behind[pack]))
            behind[pack] = share

        def __reduce__(self) -> tuple[type, tuple[()]]:
            return tune.Callback, ()  # Tune pickles callbacks to restore runs, which gaplab never does

    return Report()


@contextmanager
def _ray(resources: Resources, address: str | None) -> Iterator[int]:
    """A connection to Ray, quiet, and the number of workers that fit; a cluster of our own ends with it."""
    os.environ |= {
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # no five files a trial: records are the results
        "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C reaches us as KeyboardInterrupt
        "RAY_AIR_NEW_OUTPUT": "0",  # verbose=0 is silent only with the old output
        "RAY_CHDIR_TO_TRIAL_DIR": "0",  # a worker stays in the folder that the study was started in
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }
    import ray

    cores = os.cpu_count() or 1
    local = address is None
    if local:
        wanted = resources.workers or max(1, int(cores / resources.cpus))
        ray.init(
            num_cpus=max(1, round(wanted * resources.cpus)),
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            configure_logging=True,
        )
    else:
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise ConfigError(f"--address: no Ray cluster answers at {address} ({str(error).splitlines()[0]})") from None
    for name in ("ray.tune", "ray.air"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        available = ray.cluster_resources()
        by_cpu = int(available.get("CPU", 1) / resources.cpus)
        by_gpu = int(available.get("GPU", 0) / resources.gpus) if resources.gpus else by_cpu
        fitting = min(by_cpu, by_gpu)
        if fitting < 1:
            raise ConfigError(
                f"resources: a worker takes {resources.cpus:g} CPUs and {resources.gpus:g} GPUs, more than the cluster has "
                f"({available.get('CPU', 0):g} and {available.get('GPU', 0):g})"
            )
        yield min(fitting, resources.workers or fitting)
    finally:
        ray.shutdown()


def _git_commit() -> str | None:
    """The commit of the folder the study is started from, if it is a git checkout."""
    try:
        found = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None if found.returncode == 0 else None
