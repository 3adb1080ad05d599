"""A Ray that cannot start on a busy machine: a second chance, then a sentence; the doctor tells slow from broken."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray

import study
from study.launch import cluster, doctor
from study.launch.cluster import StartError, start
from study.spec.sections import Resources

WAIT = "RAY_worker_register_timeout_seconds"
LATE = "The current node timed out during startup. This could happen because some of the raylet failed to startup.\nMore lines."
TRIAL = "{data: {train_size: 100}, optimizer: {learning_rate: 0.1}, budget: {epochs: 1}}"
SPEC = f"study: slow\ntrial: {TRIAL}\nspace: {{seed: {{range: 2}}}}\ntracking: {{mlflow: false}}\n"


@pytest.fixture
def tries(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """How long each start of Ray was told to wait for its workers; none of them succeeds."""
    found: list[str | None] = []

    def init(**options: Any) -> None:
        found.append(os.environ.get(WAIT))
        raise Exception(LATE)

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(cluster, "RESTART_SECONDS", 0.01)
    return found


def load(monkeypatch: pytest.MonkeyPatch, processes: float) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (processes, processes, processes))
    monkeypatch.setattr(os, "cpu_count", lambda: 2)


def test_a_ray_that_does_not_start_gets_a_second_chance_and_more_time(tries: list[str | None], monkeypatch: pytest.MonkeyPatch) -> None:
    load(monkeypatch, 27)
    with pytest.raises(StartError) as raised:
        start(Resources(workers=1))
    assert tries == [None, "300"]
    assert WAIT not in os.environ
    assert str(raised.value).startswith("Ray did not start, twice (The current node timed out during startup.")
    assert "this machine is busy (27 processes want its 2 cores): try again when it has less to do" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_ray_that_starts_the_second_time_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[bool] = []

    def init(**options: Any) -> None:
        started.append(True)
        if len(started) == 1:
            raise RuntimeError(LATE)

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(cluster, "RESTART_SECONDS", 0.01)
    start(Resources(workers=1))
    assert len(started) == 2


def test_the_command_says_one_sentence_and_ends_with_2(
    tries: list[str | None], tmp_path: Path, gaplab: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "spec.yaml").write_text(SPEC)
    answer = gaplab("run", str(tmp_path / "spec.yaml"), "--storage", str(tmp_path / "results"))
    assert (answer.code, len(tries)) == (2, 2)
    assert answer.err.startswith("gaplab: Ray did not start, twice (")
    assert len(answer.err.splitlines()) == 1
    assert "Traceback" not in answer.err


def test_an_early_start_that_fails_is_the_same_sentence(tries: list[str | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("study.launch.run.LONG_PLAN", 1)
    (tmp_path / "spec.yaml").write_text(SPEC)
    with pytest.raises(StartError, match="Ray did not start, twice"):
        study.run(study.read_spec(str(tmp_path / "spec.yaml")), storage=str(tmp_path / "results"))
    assert len(tries) == 2, "and it is not tried a third time"


def test_the_doctor_tells_slow_from_broken(tries: list[str | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def found() -> doctor.Check:
        return next(check for check in doctor.checks(str(tmp_path)) if check.name == "ray")

    load(monkeypatch, 27)
    slow = found()
    assert slow.good
    assert slow.found.startswith("could not be told: Ray was not there in time, and this machine is busy (27 processes want its 2 cores)")
    load(monkeypatch, 0)
    broken = found()
    assert not broken.good
    assert "Ray did not start, twice" in broken.found


def test_a_task_that_comes_late_says_nothing_of_ray_on_a_busy_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def late(*arguments: Any, **named: Any) -> None:
        raise ray.exceptions.GetTimeoutError("Get timed out: some object(s) not ready.")

    monkeypatch.setattr(cluster, "connected", lambda *arguments: nullcontext())
    monkeypatch.setattr(ray, "remote", lambda **options: lambda function: SimpleNamespace(remote=function))
    monkeypatch.setattr(ray, "get", late)
    for processes, good, said in ((27, True, "could not be told: Ray's task was not done in time"), (0, False, "GetTimeoutError: ")):
        load(monkeypatch, processes)
        (found,) = [check for check in doctor.checks(str(tmp_path)) if check.name == "ray"]
        assert (found.good, found.found.startswith(said)) == (good, True)


def test_the_doctor_never_ends_the_ray_of_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor, "_ray", lambda: 1 / 0)
    assert all("ray stop" not in check.remedy for check in doctor.checks(str(tmp_path)))
