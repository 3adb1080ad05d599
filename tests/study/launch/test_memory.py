"""A node that others want too: its workers' share of the cores; and without memory, where Ray ends a worker by itself."""

import os
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.exceptions import OutOfMemoryError

import study
from study.launch import training


@pytest.mark.parametrize("cause", [OutOfMemoryError("1 worker(s) were killed"), None])
def test_a_worker_ended_for_memory_halts_the_study_with_a_sentence(
    cause: Exception | None, tmp_path: Path, one_ray: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Tune's actor manager raises it; anything else that it raises is a bug and stays one."""

    def fit(*_: Any, **__: Any) -> None:
        raise RuntimeError("Caught unexpected exception") from cause

    monkeypatch.setattr(training, "_fit", fit)
    spec = study.understand({"study": "s", "trial": {"data": {"train_size": 10}, "budget": {"epochs": 0}}, "tracking": {"mlflow": False}})
    if cause is None:
        with pytest.raises(RuntimeError, match="Caught unexpected exception"):
            study.run(spec, storage=str(tmp_path))
        return
    summary = study.run(spec, storage=str(tmp_path))
    assert summary.missing == 1
    assert summary.halted
    assert summary.halted.startswith("a node ran out of memory, and Ray ended a worker")


def test_workers_have_the_priority_that_the_study_was_started_with(one_ray: None) -> None:
    """Of Ray alone they have 15 less, and starve beside whatever else the machine does; `nice gaplab run` stays nice."""
    niceness: int = ray.get(ray.remote(lambda: os.nice(0)).remote())
    assert niceness == os.nice(0)
