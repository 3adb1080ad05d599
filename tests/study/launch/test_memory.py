"""A node without memory: Ray ends a worker by itself, which Tune takes for a fault of its own."""

from pathlib import Path
from typing import Any

import pytest
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
