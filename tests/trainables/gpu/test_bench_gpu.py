"""The benchmark for the first minutes on a GPU, tried as small as it can be on a CPU: it must not fail where time costs most."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "bench_gpu.py"
ABSENT = ("torchvision", "ray", "mlflow", "optuna", "pydantic", "numba", "scipy", "sklearn", "pyarrow", "filelock", "typer", "rich", "timm")
"""What a bare machine with a GPU need not have."""


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    without = f"import runpy, sys; sys.modules |= dict.fromkeys({ABSENT!r}); sys.argv = sys.argv[1:]; "
    command = [sys.executable, "-c", f"{without}runpy.run_path(sys.argv[0], run_name='__main__')", str(SCRIPT)]
    return subprocess.run([*command, "--out", str(folder), *arguments], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gpu")
    done = run(folder, "--device", "cpu", "--smoke")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def lines(folder: Path) -> list[dict[str, Any]]:
    (file,) = folder.iterdir()
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_every_measurement_is_made_and_names_its_device(lines: list[dict[str, Any]]) -> None:
    parts = ["settings", "draws", "equality", "waits", "goal", "step", "sharing", "compiled"]
    assert list(dict.fromkeys(line["of"]["what"] for line in lines)) == parts
    assert {line["of"]["device"] for line in lines} == {"cpu"}
    assert len({json.dumps(line["of"], sort_keys=True) for line in lines}) == len(lines)


def test_every_figure_of_networks_says_how_many_members_are_in_slots_for_it(lines: list[dict[str, Any]]) -> None:
    of_networks = [line for line in lines if "network" in line["of"]]
    assert {line["of"]["what"] for line in of_networks} == {"equality", "waits", "goal", "step", "sharing", "compiled"}
    for line in of_networks:
        alone = line["of"].get("way", "").startswith("one at a time")
        equal = line["of"]["what"] == "equality" or line["of"].get("figure") == "equality"
        assert 1 <= line["found"]["members"] <= (1 if alone and not equal else 2), line
        assert line["found"].get("engine") or line["found"]["engines"]
    assert {line["found"]["packs"] for line in of_networks if line["of"]["what"] == "sharing"} == {2}


def test_what_can_be_checked_on_a_cpu_is_as_it_should_be(lines: list[dict[str, Any]]) -> None:
    assert not [line for line in lines if "error" in line["found"]]
    exact = [line["found"] for line in lines if line["of"]["what"] in ("equality", "draws") and line["of"].get("precision") != "bfloat16"]
    assert exact
    assert all(found["met"] for found in exact)


def test_rates_are_of_the_members_that_are_in_slots(lines: list[dict[str, Any]]) -> None:
    goals = {line["of"]["network"]: line["found"] for line in lines if line["of"]["what"] == "goal"}
    assert set(goals) == {"mlp 1x512", "cnn5 k=8"}
    for found in goals.values():
        assert 1 <= found["members"] <= found["points"] == 2
        rates = found["model_epochs_a_second"]
        assert rates["training"] == pytest.approx(found["members"] / found["seconds_an_epoch"])
        assert found["over_resident"] == pytest.approx(rates["training"] / rates["resident"])
        assert found["over_loader"] == pytest.approx(rates["training"] / rates["loader"])


def test_the_same_command_goes_on_where_time_ran_out(folder: Path, tmp_path: Path) -> None:
    (whole,) = folder.iterdir()
    begun = tmp_path / whole.name
    kept = whole.read_text().splitlines(keepends=True)[:-1]
    begun.write_text("".join(kept))
    late = run(tmp_path, "--device", "cpu", "--smoke", "--seconds", "0")
    assert late.returncode == 1
    assert "the same command goes on from here" in late.stderr
    assert begun.read_text() == "".join(kept)


def test_without_a_gpu_it_says_so(tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is one")
    done = run(tmp_path)
    assert (done.returncode, done.stderr.strip()) == (1, "no GPU here: nothing was measured")
    assert not list(tmp_path.iterdir())
