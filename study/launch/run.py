"""Running a study: plan, hand packs to Ray Tune, mirror to MLflow, say what came of it.

Resume is set difference: only points without a final record are planned. Nothing of Tune's own state is read again.
"""

from __future__ import annotations

import subprocess
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from analysis.records.fragments import statuses
from analysis.records.schema import FINAL
from analysis.records.store import open_store, study_root
from study.launch.cluster import EarlyStart, bundles, connected, worker_speed
from study.plan.points import Point, declared_points, expected_seconds, packs
from study.records.compaction import merge_if_many
from study.records.folder import claimed, read_statuses, write_spec
from study.records.mirror import Mirror, check_reachable, default_tracking_uri
from study.records.writer import FragmentWriter, Provenance, probe_store
from study.spec.reading import Spec
from trainables.engines.speed import Speed
from trainables.measures import find_measure
from trainables.models import custom as custom
from trainables.point.config import IMAGE_FILES, ConfigError, Data, TrialConfig
from trainables.resolution import resolve

if TYPE_CHECKING:
    from ray import tune
    from ray.tune.search import Searcher

    from study.launch.breaker import Breaker
    from study.search.search import Search

MOST_WORKER_LOSSES = 5
"""How often a pack is started anew after its worker was lost."""
LONG_PLAN = 2_000
"""Points after which Ray is started beside the planning of a new study: most mistakes have shown by then."""


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
    halted: str | None = None
    """Why it was stopped before its end, if nobody asked for that (see `study.launch.breaker`)."""

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
        ConfigError: the study cannot run; nothing was started, and nothing is left behind.
    """
    progress = progress or Progress()
    sources = read_sources(spec)
    root = study_root(storage, spec.study)
    with EarlyStart(spec.resources) as early:

        def planned(done: int) -> None:
            progress.planned(done)
            if done == LONG_PLAN and address is None:
                with suppress(ConfigError):  # a storage that cannot be read is no mistake of this point: it is said below
                    if not read_statuses(root):
                        early.begin()

        points = [] if spec.search.kind == "optuna" else declared_points(spec, planned)
        _check_image_files(spec, [point.config for point in points] or [spec.trial])
        with claimed(root):
            merge_if_many(root)
            recorded = read_statuses(root, spec.measures)
            search = _search(spec, root)
            if search:
                points = search.followed_by()
            missing = [point for point in points if recorded.get(point.key) not in FINAL]
            ran = len(missing) + (search.left if search else 0)
            mirror = _mirror(spec, storage, root, tracking_uri)
            interrupted, halted = False, None
            try:
                if ran:
                    interrupted, halted = _train(spec, missing, search, sources, root, address, early, progress, mirror)
            finally:
                _forget_tune(root)  # now that its processes are gone, which may write there to the last
                if mirror:
                    mirror.stop()
            if mirror:
                mirror.finish(progress.mirrored)
            merge_if_many(root)
    recorded = statuses(root, spec.measures)
    keys = {point.key for point in points}
    if search:
        keys = search.keys() | {point.key for point in search.followed_by()}
    counts = Counter(recorded[key] for key in keys if key in recorded)
    return Summary(root, len(keys), ran, counts, interrupted, mirror, halted)


def _search(spec: Spec, root: str) -> Search | None:
    """The search of a study that is one, as far as it has come; Optuna is not imported for others."""
    if spec.search.kind != "optuna":
        return None
    from study.search.search import Search

    return Search(spec, root)


def sync(spec: Spec, *, storage: str = "results", tracking_uri: str | None = None, progress: Progress | None = None) -> Mirror | None:
    """Copy the records of a study that MLflow does not have yet.

    Returns:
        The mirror, whose `error` says why it still lags, if it does; None for a study without tracking.

    Raises:
        ConfigError: there is no such study, or no tracking server.
    """
    root = study_root(storage, spec.study)
    if not read_statuses(root):
        raise ConfigError(f"there is nothing to copy: {root} holds no records")
    with claimed(root):
        mirror = _mirror(spec, storage, root, tracking_uri)
        if mirror:
            mirror.finish((progress or Progress()).mirrored)
        return mirror


def declared_and_recorded(spec: Spec, storage: str) -> tuple[list[Point], dict[str, str]]:
    """The points of a spec, and the status of every recorded key; nothing is started or written."""
    read_sources(spec)
    return declared_points(spec), read_statuses(study_root(storage, spec.study), spec.measures)


def _check_image_files(spec: Spec, trials: Iterable[TrialConfig]) -> None:
    """Raise ConfigError for what goes with image files alone, or not with them."""
    on_files = {trial.data.name.startswith(IMAGE_FILES) for trial in trials}
    if spec.resources.processes and False in on_files:
        raise ConfigError("resources.processes is for data from image files (imagefolder: or webdataset:): leave it out")
    if spec.measures and True in on_files:
        raise ConfigError(f"measures need the training images in memory, which image files are not: leave out {', '.join(spec.measures)}")


def read_sources(spec: Spec) -> dict[str, str]:
    """The user's model files, registered in this process: path -> text.

    Raises:
        ConfigError: one cannot be read, or raises, or the spec names a measure that neither they nor gaplab have.
    """
    sources = {}
    for path in spec.imports:
        try:
            sources[str(path)] = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"imports: {path} cannot be read: {error}") from None
    for name, text in sources.items():
        custom.register(name, text)
    for name in spec.measures:
        find_measure(name)
    return sources


def _mirror(spec: Spec, storage: str, root: str, tracking_uri: str | None) -> Mirror | None:
    """The mirror, not started, or None for a study without one.

    Raises:
        ConfigError: the tracking server cannot be reached.
    """
    if not spec.tracking.mlflow:
        return None
    uri = tracking_uri or default_tracking_uri(storage)
    if uri is None:
        raise ConfigError(f"--tracking-uri is needed: an SQLite database cannot lie in {storage}; or set tracking.mlflow to false")
    check_reachable(uri)
    return Mirror(uri, spec.study, root)


def _train(
    spec: Spec,
    points: list[Point],
    search: Search | None,
    sources: dict[str, str],
    root: str,
    address: str | None,
    early: EarlyStart,
    progress: Progress,
    mirror: Mirror | None,
) -> tuple[bool, str | None]:
    """Run the points, or what a search asks for, on Ray Tune; whether the user interrupted it, and why it was halted, if it was."""
    from ray.exceptions import OutOfMemoryError

    from study.launch.breaker import Breaker

    writer = FragmentWriter(root, Provenance(spec.study, _git_commit(), version("gaplab")))
    with connected(spec.resources, address, early) as workers:
        write_spec(root, spec)
        if mirror:
            mirror.start()
        try:
            breaker = Breaker(partial(probe_store, root), spec.resources.hours)
            if search and not search.finished:
                _fit_search(spec, search, sources, writer, progress, breaker, workers)
                if breaker.reason:
                    return False, breaker.reason
                recorded = statuses(root, spec.measures)
                points = [point for point in search.followed_by() if recorded.get(point.key) not in FINAL]
            at_once = workers if spec.resources.processes else spec.resources.workers  # their processes come on top of what Tune counts
            speed = worker_speed(spec.resources)
            fit = partial(_fit, spec, speed=speed, sources=sources, writer=writer, progress=progress, breaker=breaker, at_once=at_once)
            lost = fit(packs(points, workers, speed)) if points else []
            shared = [[point] for pack, _ in lost if len(pack) > 1 for point in pack]
            if shared and not breaker.reason:  # one of them may have killed the worker of all: each tells its own story
                recorded = statuses(root)
                lost = [(pack, reason) for pack, reason in lost if len(pack) == 1]
                lost += fit([pack for pack in shared if recorded.get(pack[0].key) not in FINAL])
            if not breaker.reason:
                _record_lost(lost, writer)
        except KeyboardInterrupt:
            return True, None
        except RuntimeError as error:
            if not isinstance(error.__cause__, OutOfMemoryError):
                raise
            # Tune restarts a trial whose worker died, but not one whose worker Ray itself ended for the sake of the node.
            return False, "a node ran out of memory, and Ray ended a worker: set fewer resources.workers, or resources.memory_gib"
    return False, breaker.reason


def _fit(
    spec: Spec,
    plan: list[list[Point]],
    speed: Speed,
    sources: dict[str, str],
    writer: FragmentWriter,
    progress: Progress,
    breaker: Breaker,
    at_once: int | None,
) -> list[tuple[list[Point], str]]:
    """Train packs; those whose workers were lost again and again, and why."""
    import ray

    seconds = [len(pack) * expected_seconds(pack[0].config, speed) for pack in plan]
    progress.started(sum(map(len, plan)), sum(seconds))
    references = [ray.put([point.config for point in pack]) for pack in plan]
    parameters = {"packs": references, "datasets": _placed_datasets([pack[0].config.data for pack in plan])}
    grid = _tuner(spec, parameters, seconds, sources, writer, progress, breaker, packs=len(plan), at_once=at_once).fit()
    results = [grid[number] for number in range(len(grid))]
    return [(plan[result.config["pack"]], _in_a_sentence(result.error)) for result in results if result.error and result.config]


def _fit_search(
    spec: Spec, search: Search, sources: dict[str, str], writer: FragmentWriter, progress: Progress, breaker: Breaker, workers: int
) -> None:
    """Train what the search asks for, until it has asked for everything."""
    from study.search.pruning import Pruner
    from study.search.searcher import PackSearcher, RemotePruner

    trials = [cell.trial for cell in search.cells]
    progress.started(search.left, search.left * sum(expected_seconds(resolve(trial)) for trial in trials) / len(trials))
    parameters: dict[str, Any] = {"packs": [], "datasets": _placed_datasets([trial.data for trial in trials])}
    if spec.search.pruner != "none":
        pruner = RemotePruner(*Pruner.of(spec.search, search.declared.objectives[0], spec.trial.budget))
        search.refill(pruner)
        parameters["pruner"] = pruner.actor
    seconds: list[float] = []
    reason = f"its worker was lost {MOST_WORKER_LOSSES + 1} times"
    searcher = PackSearcher(search, seconds, lambda pack: _record_lost([(list(pack), reason)], writer))
    at_once = spec.resources.workers or workers + 1  # one waits, so that no worker does; by itself Tune would let one run
    _tuner(spec, parameters, seconds, sources, writer, progress, breaker, searcher=searcher, at_once=at_once).fit()


def _in_a_sentence(error: Exception) -> str:
    """What a worker died of: the last line of an exception there, the first of what Ray says of a dead process."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    words = lines[-1] if "Traceback" in str(error) else lines[0]
    return f"its worker was lost {MOST_WORKER_LOSSES + 1} times: {words}"


def _record_lost(lost: list[tuple[list[Point], str]], writer: FragmentWriter) -> None:
    """A point that takes its worker with it cannot write its own record."""
    from trainables.training.loop import Result

    writer([Result(point.config, point.key, "failed", reason, {}, []) for pack, reason in lost for point in pack], None)


def _forget_tune(root: str) -> None:
    """Tune's own files (state, checkpoints of packs) serve a running study only: records are what stays.

    Those of drivers that were killed go too: this one has the study for itself.
    """
    filesystem, path = open_store(root)
    with suppress(OSError):
        filesystem.delete_dir(f"{path}/tune")


def _tuner(
    spec: Spec,
    parameters: dict[str, Any],
    seconds: list[float],
    sources: dict[str, str],
    writer: FragmentWriter,
    progress: Progress,
    breaker: Breaker,
    *,
    packs: int = 0,
    searcher: Searcher | None = None,
    at_once: int | None = None,
) -> tune.Tuner:
    """Runs the first `packs` of the parameters, or what the searcher suggests."""
    from ray import tune

    from trainables.tune import Distribution, PackTrainable

    parameters = {"measures": spec.measures, "point_seconds": spec.resources.point_seconds, **parameters}
    parameters["distribution"] = Distribution(spec.resources.processes, spec.resources.cpus, spec.resources.gpus, f"{writer.root}/tune")
    trainable = tune.with_parameters(PackTrainable, sources=sources, sink=writer, **parameters)
    resources = tune.PlacementGroupFactory(bundles(spec.resources)[:1])  # Ray Train reserves the processes'
    filesystem, path = open_store(writer.root)
    return tune.Tuner(
        tune.with_resources(trainable, resources),
        param_space={} if searcher else {"pack": tune.grid_search(list(range(packs)))},
        tune_config=tune.TuneConfig(
            reuse_actors=True,
            max_concurrent_trials=at_once,
            search_alg=searcher,
            num_samples=-1 if searcher else 1,
        ),
        run_config=tune.RunConfig(
            name=uuid.uuid4().hex[:12],  # Tune's names are no identity: a run's folder is never read by another
            storage_path=f"{path}/tune",
            storage_filesystem=filesystem,
            verbose=0,
            stop=breaker,
            callbacks=[_progress_callback(seconds, progress, breaker)],
            failure_config=tune.FailureConfig(max_failures=MOST_WORKER_LOSSES),
            checkpoint_config=tune.CheckpointConfig(num_to_keep=1),
        ),
    )


def _placed_datasets(wanted: Iterable[Data]) -> dict[str, Any]:
    """Data sets in Ray's object store: one copy a node, which its workers map."""
    import ray

    from trainables.data.sources import load

    used = {data.name: data for data in wanted}
    return {name: ray.put(load(data).arrays()) for name, data in used.items() if not name.startswith(("synthetic", *IMAGE_FILES))}


def _progress_callback(seconds: list[float], progress: Progress, breaker: Breaker) -> tune.Callback:
    """Tells `progress` of every report: the points that ended, and what is newly done of the pack's expected seconds."""
    from ray import tune

    behind: dict[int, float] = defaultdict(float)

    class Report(tune.Callback):
        def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any) -> None:
            pack, share = trial.config["pack"], result["share"]
            progress.advanced(Counter(result["points"]), seconds[pack] * (share - behind[pack]))
            behind[pack] = share

        def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            breaker.lost(trial.trial_id, for_good=True)

        def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            breaker.lost(trial.trial_id, for_good=False)
            trial.set_config(trial.config | {"restarted": True})

        def __reduce__(self) -> tuple[type, tuple[()]]:
            return tune.Callback, ()  # Tune pickles callbacks to restore runs, which gaplab never does

    return Report()


def _git_commit() -> str | None:
    """The commit of the folder the study is started from, if it is a git checkout."""
    try:
        found = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None if found.returncode == 0 else None
