"""What a study says of GPUs before it starts, on machines without one."""

from __future__ import annotations

from pathlib import Path

import pytest

import study
from study.launch import cluster
from study.plan.plan import plan_study
from study.spec.sections import Resources
from trainables.point.errors import ConfigError


@pytest.mark.parametrize(
    ("there", "wanted", "line"),
    [
        ({"CPU": 8.0}, 0, None),
        ({"CPU": 8.0, "GPU": 1.0}, 1, None),
        ({"CPU": 8.0, "GPU": 1.0}, 0, "there is a GPU that this study does not use: --set resources.gpus=1 "),
        ({"CPU": 8.0, "GPU": 4.0}, 0, "there are 4 GPUs that this study does not use: --set resources.gpus=1 "),
    ],
)
def test_gpus_that_nobody_asked_for_are_pointed_out(
    monkeypatch: pytest.MonkeyPatch, there: dict[str, float], wanted: float, line: str | None
) -> None:
    monkeypatch.setattr(cluster, "_cluster_resources", lambda: there)
    found = cluster.unused_gpus(Resources(gpus=wanted))
    assert found is None if line is None else found is not None and found.startswith(line)


def test_tf32_without_a_gpu_is_refused_before_anything_starts(tmp_path: Path) -> None:
    trial = {"data": {"name": "synthetic", "train_size": 60}, "model": {"width": 4}, "precision": "tf32"}
    with pytest.raises(ConfigError, match=r"resources\.gpus is 0: set resources\.gpus, or precision float32"):
        plan_study(study.understand({"study": "rounded", "trial": trial}), str(tmp_path))
    plan_study(study.understand({"study": "rounded", "trial": trial, "resources": {"gpus": 1}}), str(tmp_path))
