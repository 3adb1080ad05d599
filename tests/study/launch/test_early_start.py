"""Ray started beside a long plan: used by the study, and ended with it, or with the mistake that the plan shows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import ray

import study
from study.launch import run as launch
from study.launch.cluster import EarlyStart
from study.plan import plan
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
    """Whether Ray was started early, each time that it could have been; any plan is long."""
    found = []

    def joined(self: EarlyStart) -> bool:
        found.append(original(self))
        return found[-1]

    original = EarlyStart.joined
    monkeypatch.setattr(EarlyStart, "joined", joined)
    monkeypatch.setattr(launch, "LONG_PLAN", 1)
    return found


def test_a_new_study_with_a_long_plan_uses_it_and_ends_it(begun: list[bool], tmp_path: Path) -> None:
    summary = study.run(study.understand(WRITTEN), storage=str(tmp_path))
    assert (begun, summary.counts) == ([True], {"completed": 3})
    assert not ray.is_initialized()
    more = WRITTEN | {"space": {"model.width": {"values": [2, 3, 4, 5]}}}
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
