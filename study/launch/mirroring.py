"""The way of records to MLflow: the mirror of a plan, what it copies at the end of a run, and `sync`, which does so later."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from analysis.records.store import study_root
from study.guest import as_found
from study.launch.progress import Progress
from study.plan.plan import Plan
from study.records.folder import claimed, read_statuses
from study.records.front import charts_of, front_of
from study.records.mirror import Mirror
from study.records.tracking.finished_runs import DRAWN
from study.records.tracking.other_storage import check_experiment
from study.records.tracking.tracking_uri import check_reachable, default_tracking_uri
from study.spec.reading import Spec
from study.spec.sections import TrackingSection
from trainables.point.config import flatten
from trainables.point.errors import ConfigError


def mirror_of(plan: Plan, tracking_uri: str | None) -> Mirror | None:
    """The mirror of a plan, not started; None for a study without tracking.

    Raises:
        ConfigError: the tracking server cannot be reached, or has the points of another storage under this name.
    """
    if not plan.tracking.mlflow:
        return None
    uri = _usable(tracking_uri, plan.storage, plan.study, plan.root)
    return Mirror(
        uri, plan.study, plan.root, plan.varied, lambda: (flatten(point.config) for point in plan.points), _most_drawn(plan.tracking)
    )


def copied_to_the_end(mirror: Mirror, plan: Plan, charts: Sequence[Path], progress: Progress) -> bool:
    """Copy to MLflow what it lacks, and show the study there; False if the user ends this by Ctrl-C."""
    try:
        mirror.finish(progress.mirrored)
        if not mirror.error:
            trials = [cell.trial for cell in plan.search.cells] if plan.search else [point.config for point in plan.points]
            mirror.show(front_of(plan.root, plan.study, plan.text, charts, [trial.data for trial in trials]))
    except KeyboardInterrupt:
        return False
    return True


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
    with as_found(), claimed(root):
        if not spec.tracking.mlflow:
            return None
        uri = _usable(tracking_uri, storage, spec.study, root)
        mirror = Mirror(uri, spec.study, root, spec.space.fields(), drawn=_most_drawn(spec.tracking))
        mirror.finish((progress or Progress()).mirrored)
        if not mirror.error:
            mirror.show(front_of(root, spec.study, spec.text, charts_of(root)))
        return mirror


def _usable(tracking_uri: str | None, storage: str, study: str, root: str) -> str:
    """The URI given, or the default one, once a server or database answers there that has no other storage's points of this study."""
    uri = tracking_uri or default_tracking_uri(storage)
    if uri is None:
        raise ConfigError(f"--tracking-uri is needed: an SQLite database cannot lie in {storage}; or set tracking.mlflow to false")
    check_reachable(uri)
    check_experiment(uri, study, root)
    return uri


def _most_drawn(tracking: TrackingSection) -> int | None:
    """The most points of a metric's curve; None for all."""
    return None if tracking.curves == "all" else DRAWN
