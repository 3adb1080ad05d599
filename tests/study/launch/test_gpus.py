"""What a study says of GPUs before it starts, on machines without one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import study
from study.launch import cluster, training
from study.launch.node_checks import gpus
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


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Has the control daemon of NVIDIA's multi-process service write a number into its folder."""
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", str(tmp_path))
    return lambda number: (tmp_path / "nvidia-cuda-mps-control.pid").write_text(number) and None


@pytest.mark.parametrize(
    ("gpus", "daemon", "line"),
    [
        (0.25, None, "4 packs share a GPU, and their kernels take turns: start NVIDIA's multi-process service before Ray"),
        (0.25, "of this process", "4 packs share a GPU, and their kernels run side by side"),
        (1 / 3, "of none", "3 packs share a GPU, and their kernels take turns"),
        (0.5, "nonsense", "2 packs share a GPU, and their kernels take turns"),
        *((gpus, None, None) for gpus in (0, 0.6, 1, 2)),
    ],
)
def test_packs_that_share_a_gpu_are_said_to_take_turns_or_not(
    service: Callable[[str], None], gpus: float, daemon: str | None, line: str | None
) -> None:
    if daemon:
        service({"of this process": f"{os.getpid()}\n", "of none": "999999999"}.get(daemon, daemon))
    found = training.shared_gpus(Resources(gpus=gpus))
    assert found is None if line is None else found is not None and found.startswith(line)


def test_doctor_says_of_a_gpu_whether_packs_on_it_take_turns(service: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, fake in {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "mem_get_info": lambda index: (70 * 2**30, 80 * 2**30),
        "get_device_name": lambda index: "Card 1",
    }.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    assert gpus() == (True, "Card 1, 70 of 80 GiB free; the multi-process service does not run")
    service(str(os.getpid()))
    assert gpus() == (True, "Card 1, 70 of 80 GiB free; the multi-process service runs")


def test_tf32_without_a_gpu_is_refused_before_anything_starts(tmp_path: Path) -> None:
    trial = {"data": {"name": "synthetic", "train_size": 60}, "model": {"width": 4}, "precision": "tf32"}
    with pytest.raises(ConfigError, match=r"resources\.gpus is 0: set resources\.gpus, or precision float32"):
        plan_study(study.understand({"study": "rounded", "trial": trial}), str(tmp_path))
    plan_study(study.understand({"study": "rounded", "trial": trial, "resources": {"gpus": 1}}), str(tmp_path))
