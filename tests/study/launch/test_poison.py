"""A process that CUDA has spoilt leaves, and its points are trained in another: a simulated sticky error, in real workers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import study
from study.launch.run import run
from tests.study.disturbances import rows

pytestmark = pytest.mark.xdist_group("faults")

DATA = {"name": "synthetic", "dimension": 8, "classes": 3, "train_size": 200}
POISONING = """
import os
import pathlib
import torch
from torch import nn
from trainables.models import model_family

FOLDER = pathlib.Path({folder!r})
poisoned = []

class Poisoning(nn.Module):
    def __init__(self, inputs, width, classes):
        super().__init__()
        self.width, self.layers = width, nn.Sequential(nn.Flatten(), nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, classes))

    def forward(self, x):
        if x.device.type != "meta":
            self.touch()
        return self.layers(x)

    def touch(self):
        if poisoned or self.poisons():
            poisoned.append(True)
            raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered\\nCompile with `TORCH_USE_CUDA_DSA`.\\n")
        (FOLDER / f"trained-{{os.getpid()}}").touch()

    def poisons(self):
        if self.width == 7:
            (FOLDER / f"poisoned-{{os.getpid()}}").touch()
            return True
        once = FOLDER / "once"
        if self.width == 5 and not once.exists():
            once.touch()
            (FOLDER / f"poisoned-{{os.getpid()}}").touch()
            return True
        return False

@model_family("poisoning", default_width=4)
def poisoning(model, dropout, image_shape, classes):
    return Poisoning(image_shape[0] * image_shape[1] * image_shape[2], model.width, classes)
"""
"""Poisons its process at width 5 once, at width 7 each time; whatever that process trains later raises alike."""


def written(widths: list[int], folder: Path) -> study.Spec:
    (folder / "poisoning.py").write_text(POISONING.format(folder=str(folder)))
    spec: dict[str, Any] = {
        "study": "poisoned",
        "trial": {
            "data": DATA,
            "model": {"name": "poisoning"},
            "optimizer": {"learning_rate": 0.1},
            "budget": {"epochs": 3, "stop_at_train_error": None},
        },
        "space": {"model.width": {"values": widths}, "seed": {"range": 2}},
        "imports": ["poisoning.py"],
        "resources": {"workers": 1},
        "tracking": {"mlflow": False},
    }
    return study.understand(spec, source=folder / "spec.yaml")


def processes(folder: Path, what: str) -> set[str]:
    return {path.name.partition("-")[2] for path in folder.glob(f"{what}-*")}


@pytest.mark.usefixtures("untried")
def test_a_poisoned_worker_leaves_and_its_points_are_trained_in_a_new_process(one_ray: None, tmp_path: Path) -> None:
    summary = run(written([3, 5, 9], tmp_path), storage=str(tmp_path / "results"))
    assert summary.counts == {"completed": 6}
    assert len(processes(tmp_path, "poisoned")) == 1
    assert len(processes(tmp_path, "trained") - processes(tmp_path, "poisoned")) == 1, "one new process trains all that is left"
    again = run(written([3, 5, 9], tmp_path), storage=str(tmp_path / "undisturbed"))
    assert rows(again.root) == rows(summary.root)


@pytest.mark.usefixtures("untried")
def test_a_point_that_poisons_every_process_fails_with_its_reason_and_no_other_does(
    one_ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("study.launch.tuner.MOST_WORKER_LOSSES", 1)
    summary = run(written([3, 7], tmp_path), storage=str(tmp_path / "results"))
    assert summary.counts == {"completed": 2, "failed": 2}
    failed = {row["reason"] for row in rows(summary.root) if row["status"] == "failed"}
    assert len(failed) == 1
    assert failed.pop().endswith("PoisonedError: AcceleratorError: CUDA error: an illegal memory access was encountered")
