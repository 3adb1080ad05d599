"""What stands in for private parts of Ray, Optuna and MLflow that another version lacks."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ray._private import worker
from ray.tune.execution import class_cache

from study import compat
from study.records.tracking.rows import COLUMNS
from study.search.plan import plan_search
from study.search.search import Search
from tests.study.made_up_searches import STATES, Trained, spec_of, trials_of


def test_this_version_has_what_is_looked_for() -> None:
    assert compat.preloads_modules()
    assert compat._tunes_variables() is class_cache
    assert compat._rays_worker() is worker
    tables, revision = compat.mlflow_tables(COLUMNS)
    assert {*COLUMNS, "experiments"} == tables.keys()
    assert revision


def test_tune_asks_for_no_variables_for_a_while() -> None:
    asked = class_cache.DEFAULT_ENV_VARS, class_cache.ENV_VARS_TO_PROPAGATE
    with compat.tune_takes_ready_processes():
        assert ({}, set()) == (class_cache.DEFAULT_ENV_VARS, class_cache.ENV_VARS_TO_PROPAGATE)
    assert asked == (class_cache.DEFAULT_ENV_VARS, class_cache.ENV_VARS_TO_PROPAGATE)


@pytest.mark.parametrize("there", [None, ModuleType("class_cache")], ids=["gone", "other"])
def test_a_ray_that_names_them_elsewhere_is_left_alone(there: ModuleType | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray.tune.execution.class_cache", there)
    with compat.tune_takes_ready_processes():
        assert class_cache.DEFAULT_ENV_VARS


def test_ray_prints_no_messages_of_its_own_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    printed: list[str] = []

    def prints(data: dict[str, Any], ignore_prefix: bool) -> None:
        printed.extend(data["lines"])

    monkeypatch.setattr(worker, "print_to_stdstream", prints)
    with compat.without_rays_messages():
        worker.print_to_stdstream({"lines": ["a log of 5 KB"], "pid": "raylet", "is_err": False}, ignore_prefix=False)
        worker.print_to_stdstream({"lines": ["of a worker"], "pid": 7, "is_err": False}, ignore_prefix=False)
    assert printed == ["of a worker"]
    assert worker.print_to_stdstream is prints
    monkeypatch.setattr(worker, "print_to_stdstream", lambda lines: printed.extend(lines))
    with compat.without_rays_messages():
        worker.print_to_stdstream(["as another version does"])
    assert printed == ["of a worker", "as another version does"]


def test_an_mlflow_with_other_tables_is_left_to_its_client(monkeypatch: pytest.MonkeyPatch) -> None:
    assert compat.mlflow_tables(dict(COLUMNS) | {"runs": ["run_uuid"]}) == ({}, "the installed MLflow has other columns")
    monkeypatch.setitem(sys.modules, "mlflow.store.db.utils", None)
    assert compat.mlflow_tables(COLUMNS) == ({}, "the installed MLflow keeps its tables elsewhere")


def test_a_ray_that_preloads_nothing_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    compat.preloads_modules.cache_clear()
    monkeypatch.setattr(compat.importlib.util, "find_spec", lambda name: None)
    assert not compat.preloads_modules()
    compat.preloads_modules.cache_clear()


@pytest.mark.parametrize("private", [True, False])
def test_suggestions_that_were_left_open_go_on(private: bool, tmp_path: Path, trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is trained once with the values it had: under its own number, or, without Optuna's private part, under another."""
    spec = spec_of(trials=6, at_once=2)
    search = Search(plan_search(spec), str(tmp_path))
    search.next_pack()
    left_open = [trial.params for trial in trials_of(tmp_path) if trial.state == STATES.RUNNING]
    if not private:
        monkeypatch.setattr(compat.inspect, "signature", lambda function: _Other())
    trained.run(spec)
    trials = trials_of(tmp_path)
    states = [trial.state for trial in trials]
    assert states.count(STATES.COMPLETE) == 6
    assert states.count(STATES.FAIL) == len(trials) - 6 == (0 if private else len(left_open))
    completed = [trial.params for trial in trials if trial.state == STATES.COMPLETE]
    assert len(left_open) == 2
    assert all(completed.count(parameters) == 1 for parameters in left_open)


class _Other:
    """A signature that is not the one known."""

    parameters = ("study", "number")
