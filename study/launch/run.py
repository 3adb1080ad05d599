"""Running a study: plan it, train what is missing on Ray Tune, mirror the records to MLflow, say what came of it.

Resume is set difference: only points without a final record are planned. Nothing of Tune's own state is read again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from analysis.records.store import study_root
from study.guest import as_found, stop_on_sigterm
from study.launch.cluster import LocalRay
from study.launch.mirroring import copied_to_the_end, mirror_of
from study.launch.progress import Progress, in_notebook, notebook_progress
from study.launch.summary import Summary
from study.launch.training import Trained, train
from study.plan.check import tried_before_training
from study.plan.plan import Plan, plan_study
from study.records.compaction import merge_if_many
from study.records.folder import claimed, read_statuses
from study.records.mirror import Mirror
from study.records.verify import put_damaged_aside_or_warn, warn_of_disagreement
from study.spec.reading import Spec
from trainables.data.sets.inspection import warnings_of
from trainables.data.sets.sources import load
from trainables.point.errors import ConfigError
from trainables.resolution import Point

LONG_PLAN = 2_000
"""Points after which Ray is started beside the planning of a new study: most errors of a spec have shown by then."""


def run(
    spec: Spec,
    *,
    storage: str = "results",
    tracking_uri: str | None = None,
    address: str | None = None,
    progress: Progress | None = None,
    allow_mixed: bool = False,
    concluded: Callable[[Summary], Sequence[Path]] = lambda summary: (),
) -> Summary:
    """Run what is missing of a study; Ctrl-C (KeyboardInterrupt) stops it cleanly.

    The caller's process is left as it was found: signal handlers, environment, logging levels, warning filters. A notebook shows progress
    by itself, and the summary as a figure.

    Args:
        storage: local folder or URI; everything of the study lies under ``storage/STUDY``.
        tracking_uri: MLflow's; an SQLite database beside the results by default.
        address: of a Ray cluster; one on this machine, for this run, by default.
        allow_mixed: run also on a cluster whose nodes have other versions of gaplab, Python's minor one, or what it computes with.
        concluded: called once the records are complete, before what MLflow still lacks is copied to it; returns the charts that go
            with the study's run there.

    Raises:
        ConfigError: the study cannot run, or not go on; what is recorded stays, and of one that never started nothing is left behind.
    """
    progress = progress or (notebook_progress() if in_notebook() else Progress())
    with as_found(), LocalRay(spec.resources) as local:
        stop_on_sigterm()
        plan = plan_study(
            spec, storage, _planned(storage, spec.study, address, local, progress), lambda: local.begin() if address is None else None
        )
        tried = tried_before_training(plan)
        with claimed(plan.root):
            mirror = mirror_of(plan, tracking_uri)
            plan = _with_sound_records(plan)
            for line in (*(plan.told if plan.missing or plan.search else ()), *_doubts(plan.missing), *tried):
                progress.noted(line)
            trained = train(plan, address, local, progress, mirror, allow_mixed)
            summary = _summary(plan, trained, mirror)
            progress.trained()
            charts = concluded(summary)
            if mirror and not trained.interrupted:  # a user who has stopped training does not wait for it
                summary = replace(summary, copying_interrupted=not copied_to_the_end(mirror, plan, charts, progress))
            merge_if_many(plan.root)
        return summary


def _planned(storage: str, study: str, address: str | None, local: LocalRay, progress: Progress) -> Callable[[int], None]:
    """Called with every point that is planned: starts Ray beside a long plan of a new study, if it is to run here."""

    def planned(done: int) -> None:
        progress.planned(done)
        if done == LONG_PLAN and address is None:
            with suppress(ConfigError):  # a storage that cannot be read is no error of this point: it is said later
                if not read_statuses(study_root(storage, study)):
                    local.begin()

    return planned


def _with_sound_records(plan: Plan) -> Plan:
    """The plan with what is recorded, once damaged files are put aside, and merged if they are many."""
    put_damaged_aside_or_warn(plan.root)
    merge_if_many(plan.root)
    return plan.with_records()


def _doubts(points: Sequence[Point]) -> Iterator[str]:
    """What looks wrong in the user's own data files (see `gaplab data`), a sentence each."""
    read = (point.config.data for point in points)
    own = {data.digest: data for data in read if data.name.startswith("npz:") or data.is_table_file}
    for data in sorted(own.values(), key=lambda data: data.name):
        yield from (f"{data.name}: {doubt}." for doubt in warnings_of(load(data)))


def _summary(plan: Plan, trained: Trained, mirror: Mirror | None) -> Summary:
    """What came of it, by the records that are there now."""
    warn_of_disagreement(plan.root, plan.unmeasured)
    recorded = read_statuses(plan.root, plan.measures)
    counts = Counter(recorded[key] for key in trained.keys if key in recorded)
    return Summary(plan, len(trained.keys), trained.ran, counts, trained.interrupted, mirror, trained.halted)
