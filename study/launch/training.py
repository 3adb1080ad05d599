"""Training what is missing of a plan: its points, or what its search asks for and what compares the search's finds."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.fs

from analysis.records.schema import FINAL
from analysis.records.store import open_store
from study.launch.cluster import LocalRay, connected, unused_gpus
from study.launch.context import Run
from study.launch.node_checks import Check, Needs, admission, check_nodes
from study.launch.progress import Progress
from study.plan.packs import packs
from study.plan.plan import Plan
from study.records.chosen import write_chosen
from study.records.declared import write_undeclared
from study.records.folder import check_writable, write_spec
from study.records.mirror import Mirror
from study.records.provenance import Provenance, git_commit
from study.records.unfinished import Unfinished
from study.records.writer import FragmentWriter, probe_store
from study.spec.sections import Resources
from trainables.gpu_memory import processes_overlap
from trainables.redaction import redacted
from trainables.resolution import Point

if TYPE_CHECKING:
    from study.launch.tuner import Lost
    from study.search.search import Search

_RUN_NAME = re.compile("([0-9a-f]{32}-)?[0-9a-f]{12}")
"""The name of a run of Tune, or of a point that Ray Train trains, which is the name of its folder."""


@dataclass(frozen=True)
class Trained:
    """How training ended.

    Attributes:
        keys: of all points of the study, those that a search asked for included.
        ran: how many points there were to train.
        interrupted: whether the user stopped it.
        halted: why it was stopped before its end, if nobody asked for that (see `study.launch.breaker`).
    """

    keys: frozenset[str]
    ran: int
    interrupted: bool = False
    halted: str | None = None


def train(
    plan: Plan, address: str | None, local: LocalRay, progress: Progress, mirror: Mirror | None, allow_mixed: bool = False
) -> Trained:
    """Run on Ray Tune what the plan lacks; Ray is not needed if that is nothing. The mirror follows meanwhile.

    Args:
        address: of a cluster, whose nodes are looked at first (see `study.launch.node_checks.check_nodes`).
    """
    with _search_of(plan) as search, _following(plan, mirror):
        points = plan.unrecorded(_compared(search)) if search else plan.missing
        _note_what_runs_again(plan, points, progress)
        for line in search.told if search else ():
            progress.noted(line)
        ran = len(points) + (search.left if search else 0)
        interrupted, halted = False, None
        if ran:
            check_writable(plan.root)  # said now, and not by workers that have trained
            from study.launch.breaker import Breaker  # brings Ray Tune, which is not needed otherwise

            with connected(plan.resources, address, local) as workers:
                if address is not None:
                    progress.checked([*check_nodes(_needs(plan), allow_mixed), *_tracked(mirror)])
                if said := unused_gpus(plan.resources) or (None if address else shared_gpus(plan.resources)):  # nodes speak for themselves
                    progress.noted(said)
                _store(plan, search)
                if mirror:
                    mirror.start()
                breaker = Breaker(partial(probe_store, plan.root), plan.resources.hours)
                _take_up(plan, points, progress)
                writer = FragmentWriter(plan.root, Provenance(plan.study, git_commit(Path.cwd()), version("gaplab")))
                asked = admission() if address is not None and not allow_mixed else None
                interrupted, halted = _train(Run(plan, writer, breaker, progress, workers, asked), points, search)
        if halted is None:  # a search has declared more by now, and a spec may have changed that needs no training
            _store(plan, search)
        return Trained(_declared(plan, search), ran, interrupted, halted)


def _needs(plan: Plan) -> Needs:
    """What the plan needs of every node; data that are held in memory come from here."""
    trials = [cell.trial for cell in plan.search.cells] if plan.search else [point.config for point in plan.missing]
    folders = {trial.data.name.partition(":")[2] for trial in trials if trial.data.streamed}
    return Needs(plan.root, sources=plan.sources, folders=tuple(sorted(folders)))


def _tracked(mirror: Mirror | None) -> list[Check]:
    """What is said of MLflow, which was asked before."""
    return [Check("tracking", True, f"{redacted(mirror.tracking_uri)} answers here; no other node writes to it")] if mirror else []


def _take_up(plan: Plan, points: list[Point], progress: Progress) -> None:
    """Say what goes on from where it was stopped, and what cannot; remove what was kept of points that are recorded since."""
    unfinished = Unfinished(plan.root)
    kept, wanted = unfinished.keys(), {point.key for point in points}
    unfinished.remove({key for key in kept - wanted if plan.recorded.get(key) in FINAL})
    begun = kept & wanted
    damaged = unfinished.damaged(begun)
    for key in damaged:
        progress.noted(f"what was trained of point {key} before the last stop is damaged: it starts again")
    unfinished.remove(damaged)
    if going_on := len(begun) - len(damaged):
        who = "1 point goes" if going_on == 1 else f"{going_on:,} points go"
        progress.noted(f"{who} on from the last stop, where processor and PyTorch are the same as then")


def _note_what_runs_again(plan: Plan, points: list[Point], progress: Progress) -> None:
    """Say which of the points that are to be trained are recorded, without a measure."""
    for line in plan.trained_again(points):
        progress.noted(line)


def _declared(plan: Plan, search: Search | None) -> frozenset[str]:
    """The keys of all points of the study, those included that a search has asked for so far, and its comparison."""
    if search is None:
        return frozenset(point.key for point in plan.points)
    return frozenset(search.keys() | {point.key for point in _compared(search)})


def _store(plan: Plan, search: Search | None) -> None:
    """Put what the study declares beside its records."""
    write_spec(plan.root, plan.text)
    write_chosen(plan.root, plan.chosen)
    write_undeclared(plan.root, plan.recorded.keys() | plan.unmeasured.keys(), _declared(plan, search))


@contextmanager
def _search_of(plan: Plan) -> Iterator[Search | None]:
    """The search of a plan that has one, as far as it has come; Optuna is not imported for others."""
    if plan.search is None:
        yield None
        return
    from study.search.quiet import quiet
    from study.search.search import Search

    with quiet():
        yield Search(plan.search, plan.root)


@contextmanager
def _following(plan: Plan, mirror: Mirror | None) -> Iterator[None]:
    """Afterwards the mirror stops by itself, and what Tune kept is gone."""
    try:
        yield
    finally:
        _forget_tune(plan.root)  # now that its processes are gone, which may write there to the last
        if mirror:
            mirror.stop()


def _compared(search: Search) -> list[Point]:
    """The points that compare what a search has found once it is finished."""
    if not search.finished:
        return []
    from study.search.ablation import compared

    return compared(search)


def _train(run: Run, points: list[Point], search: Search | None) -> tuple[bool, str | None]:
    """Train the points, or what the search asks for; whether the user interrupted it, and why it was halted, if it was."""
    from ray.exceptions import OutOfMemoryError

    try:
        _fit(run, points, search)
    except KeyboardInterrupt:
        return True, None
    except RuntimeError as error:
        if not isinstance(error.__cause__, OutOfMemoryError):
            raise
        # Tune restarts a trial whose worker died, but not one whose worker Ray itself ended for the sake of the node.
        return False, "a node ran out of memory, and Ray ended a worker: set fewer resources.workers, or resources.memory_gib"
    return False, run.breaker.reason


def _fit(run: Run, points: list[Point], search: Search | None) -> None:
    """Train until everything is recorded, or the breaker says stop."""
    if search and not search.finished:
        from study.launch.searcher import fit_search

        fit_search(run, search)
        if run.breaker.reason:
            return
        points = run.unrecorded(_compared(search))
        _note_what_runs_again(run.plan, points, run.progress)
    for measures, some in run.plan.by_measures(points).items():
        if not run.breaker.reason:
            _fit_points(run.measuring(measures), some)


def _fit_points(run: Run, points: list[Point]) -> None:
    """Train points for the same measures; those that take their worker with them are recorded as failed."""
    from study.launch.tuner import record_lost

    lost = _fit_to_the_end(run, points, lambda left: packs(left, run.workers, run.speed))
    shared = [point for pack, _ in lost if len(pack) > 1 for point in pack]
    if shared and not run.breaker.reason:  # one of them may have killed the worker of all: each tells its own story
        lost = [(pack, reason) for pack, reason in lost if len(pack) == 1]
        if left := run.unrecorded(shared, measured=False):
            lost += _fit_to_the_end(run, left, lambda left: [[point] for point in left])
    if not run.breaker.reason:
        record_lost(lost, run.writer)


def _fit_to_the_end(run: Run, points: list[Point], packed: Callable[[list[Point]], list[list[Point]]]) -> list[Lost]:
    """Train points, again if Tune lets go of some before they ended; returns those whose workers were lost again and again.

    What is not there after `ROUNDS` is missing, which the summary counts.
    """
    from study.launch.tuner import ROUNDS, fit_packs, let_go

    lost: list[Lost] = []
    left = points
    for attempt in range(ROUNDS):
        if attempt:
            run.progress.noted(let_go(len(left)))
        some, given_up = fit_packs(run, packed(left))
        lost += some
        if run.breaker.reason:
            break
        gone = {point.key for pack, _ in some for point in pack}
        left = run.without_outcome([point for point in left if point.key not in gone], [point.key for pack in given_up for point in pack])
        if not left:
            break
    return lost


def shared_gpus(resources: Resources) -> str | None:
    """In a sentence, what it means that packs share a GPU of this machine, if they do."""
    packs = int(1 / resources.gpus + 1e-9) if resources.gpus else 1
    if packs < 2:
        return None
    if processes_overlap():
        return f"{packs} packs share a GPU, and their kernels run side by side: NVIDIA's multi-process service runs here"
    advice = "start NVIDIA's multi-process service before Ray (nvidia-cuda-mps-control -d), or have one larger pack: --set resources.gpus=1"
    return f"{packs} packs share a GPU, and their kernels take turns: {advice}"


def _forget_tune(root: str) -> None:
    """Remove Tune's own files, which serve a running study only: records are what stays.

    Those of drivers that were killed go too: this one has the study for itself. What in that folder has not the name of a run
    of Tune stays, whoever has put it there.
    """
    filesystem, path = open_store(root)
    with suppress(OSError):
        found = filesystem.get_file_info(pyarrow.fs.FileSelector(f"{path}/tune"))
        scratch = [one for one in found if _RUN_NAME.fullmatch(one.base_name) and one.type == pyarrow.fs.FileType.Directory]
        for one in scratch:
            filesystem.delete_dir(one.path)
        if len(scratch) == len(found):
            _remove_empty_folder(filesystem, f"{path}/tune")


def _remove_empty_folder(filesystem: pyarrow.fs.FileSystem, path: str) -> None:
    """Remove a folder in which nothing lies; an object store has none but those in which something does."""
    if isinstance(filesystem, pyarrow.fs.LocalFileSystem):
        Path(path).rmdir()
    elif not filesystem.get_file_info(pyarrow.fs.FileSelector(path)):
        filesystem.delete_dir(path)  # the mark that some stores keep of an empty folder
