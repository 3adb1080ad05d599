"""Training what is missing of a plan: its points, or what its search asks for and what compares the search's finds."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.fs

from analysis.records.store import open_store
from study.launch.cluster import EarlyStart, connected
from study.launch.context import Run
from study.launch.progress import Progress
from study.plan.packs import packs
from study.plan.plan import Plan
from study.records.folder import write_spec
from study.records.mirror import Mirror
from study.records.writer import FragmentWriter, Provenance, probe_store
from trainables.resolution import Point

if TYPE_CHECKING:
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


def train(plan: Plan, address: str | None, early: EarlyStart, progress: Progress, mirror: Mirror | None) -> Trained:
    """Run on Ray Tune what the plan lacks; Ray is not needed if that is nothing. The mirror follows meanwhile."""
    with _search_of(plan) as search, _following(plan, mirror):
        points = plan.unrecorded(_compared(search)) if search else plan.missing
        ran = len(points) + (search.left if search else 0)
        interrupted, halted = False, None
        if ran:
            from study.launch.breaker import Breaker  # brings Ray Tune, which is not needed otherwise

            with connected(plan.resources, address, early) as workers:
                write_spec(plan.root, plan.text)
                if mirror:
                    mirror.start()
                breaker = Breaker(partial(probe_store, plan.root), plan.resources.hours)
                writer = FragmentWriter(plan.root, Provenance(plan.study, _git_commit(), version("gaplab")))
                interrupted, halted = _train(Run(plan, writer, breaker, progress, workers), points, search)
        keys = search.keys() | {point.key for point in _compared(search)} if search else {point.key for point in plan.points}
        return Trained(frozenset(keys), ran, interrupted, halted)


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
    from study.launch.tuner import fit_packs, record_lost

    if search and not search.finished:
        from study.launch.searcher import fit_search

        fit_search(run, search)
        if run.breaker.reason:
            return
        points = run.unrecorded(_compared(search))
    lost = fit_packs(run, packs(points, run.workers, run.speed)) if points else []
    shared = [point for pack, _ in lost if len(pack) > 1 for point in pack]
    if shared and not run.breaker.reason:  # one of them may have killed the worker of all: each tells its own story
        lost = [(pack, reason) for pack, reason in lost if len(pack) == 1]
        lost += fit_packs(run, [[point] for point in run.unrecorded(shared, measured=False)])
    if not run.breaker.reason:
        record_lost(lost, run.writer)


def _forget_tune(root: str) -> None:
    """Remove Tune's own files (state, checkpoints of packs), which serve a running study only: records are what stays.

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


def _git_commit() -> str | None:
    """The commit of the folder the study is started from, if it is a git checkout."""
    try:
        found = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None if found.returncode == 0 else None
