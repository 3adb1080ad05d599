"""Private parts of Ray, Optuna and MLflow that a study uses, each with a public way that takes its place.

Another version that lacks them, or has them with another face, is noticed at their first use (to import one of them takes
seconds), and the study takes the slower way.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from study.packages import NAMES

if TYPE_CHECKING:
    import optuna
    from sqlalchemy import Table

PRELOADED = ",".join([*NAMES, "trainables.tune", "trainables.engines.compiled"])
"""For the environment variable RAY_preload_python_modules: what the worker processes that Ray has ready load before they get work."""


@cache
def preloads_modules() -> bool:
    """Whether this version of Ray heeds RAY_preload_python_modules. Another ignores it: its workers load modules when they need them."""
    try:
        worker = importlib.util.find_spec("ray._private.workers.default_worker")
    except ModuleNotFoundError:
        return False
    return worker is not None and worker.origin is not None and "worker-preload-modules" in Path(worker.origin).read_text("utf-8")


@contextmanager
def tune_takes_ready_processes() -> Iterator[None]:
    """Have Tune's workers be processes that Ray has ready, which saves 2 s at the start of a study.

    Tune asks for environment variables, for which Ray would start processes anew. Those on this machine have ours anyway,
    and one more that is for PyTorch Lightning. Where Tune keeps these elsewhere, it starts its processes anew.
    """
    cache_module = _tunes_variables()
    if cache_module is None:
        yield
        return
    asked = cache_module.DEFAULT_ENV_VARS, cache_module.ENV_VARS_TO_PROPAGATE
    cache_module.DEFAULT_ENV_VARS, cache_module.ENV_VARS_TO_PROPAGATE = {}, set()
    try:
        yield
    finally:
        cache_module.DEFAULT_ENV_VARS, cache_module.ENV_VARS_TO_PROPAGATE = asked


def _tunes_variables() -> Any:
    """The module in which Tune names the environment variables of its workers; None if there is none as we know it."""
    try:
        module = importlib.import_module("ray.tune.execution.class_cache")
    except ModuleNotFoundError:
        return None
    known = isinstance(getattr(module, "DEFAULT_ENV_VARS", None), dict) and isinstance(getattr(module, "ENV_VARS_TO_PROPAGATE", None), set)
    return module if known else None


@contextmanager
def without_rays_messages() -> Iterator[None]:
    """Have Ray not print what it hears of its nodes and workers, such as the last lines of a dead node's log.

    It prints that on the driver's standard output, where `log_to_driver` has no say. What matters of it is in records, and what
    `study.launch.tuner` says. Where Ray prints elsewhere, the user reads it.
    """
    worker = _rays_worker()
    if worker is None:
        yield
        return
    prints = worker.print_to_stdstream

    def but_messages(data: Any, *arguments: Any, **named: Any) -> Any:
        return None if data.get("pid") == "raylet" else prints(data, *arguments, **named)

    worker.print_to_stdstream = but_messages
    try:
        yield
    finally:
        worker.print_to_stdstream = prints


def _rays_worker() -> Any:
    """The module by which Ray prints on a driver's standard output; None if there is none as we know it."""
    try:
        module = importlib.import_module("ray._private.worker")
    except ModuleNotFoundError:
        return None
    prints, listens = getattr(module, "print_to_stdstream", None), getattr(module, "listen_error_messages", None)
    if prints is None or listens is None or next(iter(inspect.signature(prints).parameters), None) != "data":
        return None
    return module


def reopened(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> optuna.Trial:
    """A trial that an earlier process left running, to go on with: under its own number, with the parameters it has.

    Optuna has no public way to that. Where the private one is not as we know it, the trial is failed, and another with its
    parameters asked for in its place.
    """
    import optuna

    identifier = getattr(trial, "_trial_id", None)
    if identifier is not None and list(inspect.signature(optuna.Trial).parameters) == ["study", "trial_id"]:
        return optuna.Trial(study, identifier)
    study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    study.enqueue_trial(trial.params)
    return study.ask()


def mlflow_tables(columns: Mapping[str, Collection[str]]) -> tuple[dict[str, Table], str]:
    """MLflow's own tables of runs and experiments and the revision of their schema; or none, and in words why: then its client writes.

    Args:
        columns: by table, those that are known.
    """
    try:
        from mlflow.store.db.utils import _get_latest_schema_revision
        from mlflow.store.tracking.dbmodels import models

        classes = (models.SqlRun, models.SqlParam, models.SqlTag, models.SqlMetric, models.SqlLatestMetric)
        tables = {model.__table__.name: model.__table__ for model in classes}
        head = _get_latest_schema_revision()
    except (ImportError, AttributeError):
        return {}, "the installed MLflow keeps its tables elsewhere"
    if {name: set(table.columns.keys()) for name, table in tables.items()} != {name: set(names) for name, names in columns.items()}:
        return {}, "the installed MLflow has other columns"
    return tables | {"experiments": models.SqlExperiment.__table__}, head
