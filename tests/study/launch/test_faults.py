"""Faults, injected for real; what is left in the end equals an undisturbed run, row for row."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import study
from analysis.records.fragments import fragments
from study.launch.run import run
from tests.study.disturbances import after_first_report, rows
from tests.study.in_this_process import rows_without_ray
from tests.study.worker_processes import MARK, workers
from trainables.point.errors import ConfigError

pytestmark = pytest.mark.xdist_group("faults")

OWNER = os.environ[MARK]  # set by conftest, before any Ray of this process starts
DATA = {"name": "synthetic", "dimension": 8, "classes": 3, "train_size": 500}
WRITTEN: dict[str, Any] = {
    "study": "endures",
    "trial": {"data": DATA, "optimizer": {"learning_rate": 0.1}, "budget": {"epochs": 40, "stop_at_train_error": None}},
    "space": {"model.width": {"values": [3, 5, 8]}, "corruption.level": {"values": [0.0, 1.0]}, "seed": {"range": 4}},
    "resources": {"workers": 1},
    "tracking": {"mlflow": False},
}
FAULTY = """
import sys
import time
from torch import nn
from trainables.models import model_family

class Faulty(nn.Module):
    def __init__(self, inputs, width, classes):
        super().__init__()
        self.width, self.layers = width, nn.Sequential(nn.Flatten(), nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, classes))

    def forward(self, x):
        if x.device.type != "meta" and self.width == 5:
            raise ArithmeticError("five is no width")
        if x.device.type != "meta" and self.width == 6:
            sys.exit("six is no width")
        while x.device.type != "meta" and self.width == 7:
            time.sleep(0.1)
        return self.layers(x)

@model_family("faulty", default_width=4)
def faulty(model, dropout, image_shape, classes):
    return Faulty(image_shape[0] * image_shape[1] * image_shape[2], model.width, classes)
"""
"""Raises at width 5, exits at width 6, hangs at width 7."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return rows_without_ray(study.understand(WRITTEN), tmp_path_factory.mktemp("undisturbed"))


@pytest.mark.usefixtures("without_ray")
def test_a_driver_killed_in_the_middle_loses_nothing(undisturbed: list[dict[str, Any]], tmp_path: Path) -> None:
    spec = study.understand(WRITTEN)
    (tmp_path / "spec.yaml").write_text(spec.text)
    root = str(tmp_path / "results" / spec.study)
    command = [sys.executable, "-c", "from study.cli.app import main; main()", "run", "spec.yaml"]
    driver = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        waited = time.monotonic() + 300
        while not fragments(root) and time.monotonic() < waited:
            time.sleep(0.05)
        with pytest.raises(ConfigError, match="another gaplab is at work"):
            run(spec, storage=str(tmp_path / "results"))
    finally:
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()
    recorded = len(rows(root))
    assert 0 < recorded < len(undisturbed)
    summary = run(spec, storage=str(tmp_path / "results"))
    assert summary.ran <= len(undisturbed) - recorded  # fewer, if its workers outlived it a little
    assert rows(root) == undisturbed


def test_workers_killed_in_the_middle_lose_nothing(one_ray: None, undisturbed: list[dict[str, Any]], tmp_path: Path) -> None:
    killed: list[int] = []

    def kill() -> None:
        for process in workers(OWNER):
            os.kill(process, signal.SIGKILL)
            killed.append(process)

    two = study.understand(WRITTEN | {"resources": {"workers": 2}})
    summary = run(two, storage=str(tmp_path), progress=after_first_report(kill))
    assert killed
    assert rows(summary.root) == undisturbed


@pytest.mark.usefixtures("untried")
def test_points_that_raise_or_hang_fail_with_their_reason_and_disturb_no_other(one_ray: None, tmp_path: Path) -> None:
    (tmp_path / "faulty.py").write_text(FAULTY)
    written = WRITTEN | {
        "trial": {"data": DATA, "model": {"name": "faulty"}, "optimizer": {"learning_rate": 0.1}, "budget": {"epochs": 3}},
        "imports": ["faulty.py"],
        "resources": {"workers": 1, "point_seconds": 8},
    }

    def declared(*widths: int) -> study.Spec:
        one_that_hangs = [{"model.width": 7, "seed": 1}]
        space = {"model.width": {"values": widths}, "seed": {"range": 2}, "exclude": one_that_hangs}
        return study.understand(written | {"space": space}, source=tmp_path / "spec.yaml")

    found = rows(run(declared(3, 5, 6, 7, 9), storage=str(tmp_path / "disturbed")).root)
    reasons = {(row["model.width"], row["reason"]) for row in found if row["status"] == "failed"}
    assert reasons == {
        (5, "ArithmeticError: five is no width"),
        (6, "SystemExit: six is no width"),
        (7, "TimeoutError: longer than the limit of 8 seconds"),
    }
    assert [row for row in found if row["status"] != "failed"] == rows_without_ray(declared(3, 9), tmp_path / "undisturbed")


@pytest.mark.usefixtures("untried")
def test_a_study_in_which_everything_fails_stops_and_says_why(one_ray: None, tmp_path: Path) -> None:
    (tmp_path / "faulty.py").write_text(FAULTY)
    trial = {"data": DATA, "model": {"name": "faulty", "width": 5}, "optimizer": {"learning_rate": 0.1}}
    written = WRITTEN | {"trial": trial, "imports": ["faulty.py"], "space": {"seed": {"range": 600}}}
    summary = run(study.understand(written, source=tmp_path / "spec.yaml"), storage=str(tmp_path))
    assert summary.halted is not None
    assert summary.halted.endswith("points to end all failed")
    assert 20 <= summary.counts["failed"] < 600


def test_a_full_disk_stops_the_study_which_goes_on_when_there_is_room(
    one_ray: None, undisturbed: list[dict[str, Any]], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k,mode=777", "none", str(disk)]
    if os.geteuid() != 0 or shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a small disk, and not in every container")
    try:
        filled = disk / "filled"
        summary = run(study.understand(WRITTEN), storage=str(disk), progress=after_first_report(lambda: fill(filled)))
        assert summary.halted is not None
        assert "No space left on device" in summary.halted
        assert 0 < sum(summary.counts.values()) < len(undisturbed)
        filled.unlink()
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        request.getfixturevalue("without_ray")
        assert run(study.understand(WRITTEN), storage=str(disk)).halted is None
        assert rows(summary.root) == undisturbed
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(path: Path) -> None:
    """Write until nothing fits."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1024))
        except OSError:
            return
