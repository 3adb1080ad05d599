"""Ray started beside a long plan: used by the study, and ended with it, or with the mistake that the plan shows."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import ray

import study
from study.cli.terminal.interrupts import CODE
from study.launch import run as launch
from study.launch import training
from study.launch.cluster import LocalRay
from study.plan import plan
from study.spec.sections import Resources
from trainables.point.errors import ConfigError

pytestmark = pytest.mark.xdist_group("ray")
WRITTEN: dict[str, Any] = {
    "study": "long",
    "trial": {"data": {"train_size": 100}, "optimizer": {"learning_rate": 0.1}, "budget": {"epochs": 1}},
    "space": {"model.width": {"values": [2, 3, 4]}},
    "resources": {"workers": 1},
    "tracking": {"mlflow": False},
}


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether Ray was started early, each time that a study connects; any plan is long."""
    found = []

    def connected(resources: Resources, address: str | None, local: LocalRay) -> AbstractContextManager[int]:
        found.append(local.begun)
        return original(resources, address, local)

    original = training.connected
    monkeypatch.setattr(training, "connected", connected)
    monkeypatch.setattr(launch, "LONG_PLAN", 1)
    return found


def test_a_new_study_with_a_long_plan_uses_it_and_ends_it(
    begun: list[bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    summary = study.run(study.understand(WRITTEN), storage=str(tmp_path))
    assert (begun, summary.counts) == ([True], {"completed": 3})
    assert not ray.is_initialized()
    more = WRITTEN | {"space": {"model.width": {"values": [2, 3, 4, 5]}}}
    request.getfixturevalue("without_ray")  # which is not asked for `begun`
    monkeypatch.setattr(training, "connected", lambda resources, address, local: nullcontext(begun.append(local.begun) or 1))
    summary = study.run(study.understand(more), storage=str(tmp_path))
    assert (begun, summary.ran) == ([True, False], 1), "a study that has records may have nothing left to run"
    assert not ray.is_initialized()


def test_a_mistake_that_shows_later_leaves_nothing(begun: list[bool], tmp_path: Path) -> None:
    wrong = WRITTEN | {"space": {"data.train_size": {"values": [100, 10**6]}}}
    with pytest.raises(ConfigError, match=re.escape("data.train_size")):
        study.run(study.understand(wrong), storage=str(tmp_path / "results"))
    assert begun == []
    assert not ray.is_initialized()
    assert list(tmp_path.iterdir()) == []


def test_a_storage_that_cannot_be_read_is_no_mistake_of_a_point(begun: list[bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable(root: str, measures: tuple[str, ...] = ()) -> None:
        raise ConfigError("--storage: it cannot be read")

    monkeypatch.setattr(launch, "read_statuses", unreadable)
    monkeypatch.setattr(plan, "read_recorded", unreadable)
    with pytest.raises(ConfigError, match=r"^--storage: it cannot be read$"):
        study.run(study.understand(WRITTEN), storage=str(tmp_path / "results"))
    assert begun == []


INTERRUPTED_START = """
import os, signal, sys, time
import ray._raylet
made = ray._raylet.CoreWorker
def interrupted(*arguments, **named):
    worker = made(*arguments, **named)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(1)  # where the interrupt would be raised in this thread
    return worker
ray._raylet.CoreWorker = interrupted
from study.cli.app import main
sys.argv = ["gaplab", "run", "spec.yaml"]
main()
"""


def test_ctrl_c_in_the_middle_of_rays_start_is_no_crash(tmp_path: Path) -> None:
    """A core worker that was made and belongs to nobody ends the process by a segmentation fault, after the last word."""
    (tmp_path / "spec.yaml").write_text(json.dumps(WRITTEN))
    done = subprocess.run([sys.executable, "-c", INTERRUPTED_START], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == CODE, done.stderr
    assert done.stderr.strip() == "Interrupted: what is recorded stays, and the same command goes on from there."
