"""Drivers that are killed, interrupted, bereft of their cluster, or not alone; what is left equals an undisturbed run, row for row."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray

import study
from analysis.records.fragments import fragments
from tests.study.disturbances import rows
from tests.study.drivers import started, started_head
from tests.study.in_this_process import rows_without_ray
from tests.study.worker_processes import MARK, workers

pytestmark = pytest.mark.xdist_group("faults")

WRITTEN: dict[str, Any] = {
    "study": "killed",
    "trial": {
        "data": {"name": "synthetic", "dimension": 8, "classes": 3, "train_size": 300},
        "optimizer": {"learning_rate": 0.1},
        "budget": {"epochs": 60, "evaluate_every": 10, "stop_at_train_error": None},
    },
    "space": {"model.width": {"values": [3, 4, 5, 6, 7, 8]}, "corruption.level": {"values": [0.0, 1.0]}, "seed": {"range": 4}},
    "resources": {"workers": 1},
    "tracking": {"mlflow": False},
}
KILLS = 4
"""The soak of tests/benchmarks has more."""


@pytest.fixture
def address(one_ray: None) -> str:
    """Of a Ray that outlives its drivers."""
    found: str = ray.get_runtime_context().gcs_address
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return rows_without_ray(study.understand(WRITTEN), tmp_path_factory.mktemp("undisturbed"))


def until(happened: Callable[[], Any], seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def test_drivers_killed_at_random_moments_lose_nothing(address: str, undisturbed: list[dict[str, Any]], tmp_path: Path) -> None:
    """One study after another, each killed until it is done: every other time soon after it has recorded something, else at any moment."""
    dice = random.Random(0)
    killed = grown = studies = 0
    while killed < KILLS:
        studies += 1
        storage = tmp_path / str(studies)
        root = str(storage / "killed")
        driver, recorded = started(WRITTEN, storage=str(storage), address=address), 0
        while True:
            if killed % 2:
                until(lambda: len(fragments(root)) > recorded or driver.exitcode is not None)  # noqa: B023
            driver.join(dice.uniform(0, 0.3) if killed % 2 else dice.uniform(0.1, 4) if killed < KILLS else 300)
            if driver.exitcode is not None:
                assert driver.exitcode == 0
                break
            driver.kill()
            driver.join()
            killed += 1
            found = len(fragments(root))
            grown += found > recorded
            driver, recorded = started(WRITTEN, storage=str(storage), address=address), found
        assert rows(root) == undisturbed
    assert grown >= 2, "no kill fell into training"


def test_a_point_in_training_goes_on_after_its_driver_was_killed(address: str, tmp_path: Path) -> None:
    """Members are kept after each epoch here, which the user's module asks for; else that would take a minute."""
    (tmp_path / "often.py").write_text("from trainables.training import unfinished\nunfinished.KEEP_SECONDS, unfinished.COST = 0.0, 1.0\n")
    long = WRITTEN["trial"] | {"budget": {"epochs": 150, "stop_at_train_error": None}, "model": {"width": 32}}
    written = WRITTEN | {"trial": long, "space": {"seed": {"range": 2}}, "imports": [str(tmp_path / "often.py")]}
    whole = rows_without_ray(study.understand(written), tmp_path / "undisturbed")
    root = tmp_path / "results" / "killed"
    driver = started(written, storage=str(tmp_path / "results"), address=address)
    until(lambda: list(root.glob("unfinished/*.pt")) or driver.exitcode is not None)
    driver.kill()
    driver.join()
    said: list[str] = []
    study.run(study.understand(written), storage=str(tmp_path / "results"), address=address, progress=study.Progress(noted=said.append))
    assert [line.partition(" the last stop")[0] for line in said] in (["2 points go on from"], ["1 point goes on from"])
    assert rows(str(root)) == whole
    assert not (root / "unfinished").exists()


def test_a_search_killed_while_suggestions_are_frozen_goes_on_with_them(address: str, tmp_path: Path) -> None:
    """What is thawed ends as what trained in one go; what stays frozen is recorded as pruned, as far as it got."""
    budget = {"epochs": 30, "evaluate_every": 2, "stop_at_train_error": None}
    data = WRITTEN["trial"]["data"] | {"validation_size": 60}
    search = {"kind": "optuna", "trials": 6, "at_once": 6, "sampler": "random"}
    axes = {"optimizer.learning_rate": {"log_uniform": {"low": 1e-3, "high": 1.0}}}
    written = WRITTEN | {"trial": WRITTEN["trial"] | {"data": data, "budget": budget}, "space": axes, "search": search, "replicates": 2}
    whole = {row["key"]: row for row in rows(study.run(study.understand(written), storage=str(tmp_path / "whole"), address=address).root)}
    frozen = written | {"search": search | {"pruner": "freeze_thaw", "min_epochs": 6, "total_epochs": 84}}
    root = tmp_path / "results" / "killed"
    driver = started(frozen, storage=str(tmp_path / "results"), address=address)
    until(lambda: len(list(root.glob("unfinished/*.pt"))) == 12 or driver.exitcode is not None)
    driver.kill()
    driver.join()
    study.run(study.understand(frozen), storage=str(tmp_path / "results"), address=address)
    found = {row["key"]: row for row in rows(str(root))}
    assert found.keys() == whole.keys()
    ended = [key for key, row in found.items() if row["status"] == "completed"]
    assert 2 <= len(ended) < 12
    assert all(found[key] == whole[key] for key in ended)
    dropped = [row for row in found.values() if row["status"] == "pruned"]
    assert {row["epochs"] for row in dropped} <= {6, 12, 18, 24}
    assert sum(row["epochs"] for row in found.values()) <= 2 * 84
    assert not (root / "unfinished").exists()


@pytest.mark.usefixtures("without_ray")
def test_a_driver_whose_cluster_is_gone_ends_and_the_study_goes_on_elsewhere(undisturbed: list[dict[str, Any]], tmp_path: Path) -> None:
    head, elsewhere = started_head()
    driver = started(WRITTEN, storage=str(tmp_path), address=elsewhere)
    root = str(tmp_path / "killed")
    until(lambda: fragments(root) or driver.exitcode is not None)
    head.kill()
    driver.join(300)
    assert driver.exitcode not in (None, 0)
    assert 0 < len(rows(root)) < len(undisturbed)
    study.run(study.understand(WRITTEN), storage=str(tmp_path))
    assert rows(root) == undisturbed


@pytest.mark.usefixtures("without_ray")
def test_a_second_ctrl_c_ends_it_at_once_and_loses_nothing(undisturbed: list[dict[str, Any]], tmp_path: Path) -> None:
    path, root = tmp_path / "spec.yaml", str(tmp_path / "results" / "killed")
    path.write_text(json.dumps(WRITTEN))
    command = [sys.executable, "-c", "from study.cli.app import main; main()", "run", str(path), "--storage", str(tmp_path / "results")]
    owner = f"twice {os.getpid()}"
    environment = os.environ | {MARK: owner}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True, env=environment) as process:
        until(lambda: fragments(root) or process.poll() is not None)
        for _ in range(2):
            os.killpg(process.pid, signal.SIGINT)
            time.sleep(0.3)
        _, err = process.communicate(timeout=300)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    until(lambda: not workers(owner))
    assert 0 < len(rows(root)) < len(undisturbed)
    study.run(study.understand(WRITTEN), storage=str(tmp_path / "results"))
    assert rows(root) == undisturbed
