"""Studies sent to a Ray cluster as jobs, and driven from outside of one through Ray's client; mistakes are sentences."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from ray._common.utils import get_ray_address_file

from tests.mlflow_servers import end
from tests.ports import free_port
from tests.study.conftest import Answer

SPEC = """
study: sent
trial:
  data: {name: synthetic, dimension: 4, classes: 3, train_size: 60}
  model: {name: mine}
  optimizer: {learning_rate: 0.1}
  budget: {epochs: 2}
space: {seed: {range: 3}}
imports: [models/mine.py]
tracking: {mlflow: false}
"""
MINE = """
from torch import nn
from trainables.models import model_family

@model_family("mine", default_width=4)
def mine(model, dropout, image_shape, classes):
    inputs = image_shape[0] * image_shape[1] * image_shape[2]
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, model.width), nn.ReLU(), nn.Linear(model.width, classes))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the user stands."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "mine.py").write_text(MINE)
    (tmp_path / "spec.yaml").write_text(SPEC)
    return tmp_path


def in_a_process(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from study.cli.app import main; main()", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--address", "ray://head:10001", "--storage", "/shared"], "give the dashboard's address"),
        (["--address", "http://127.0.0.1:9", "--storage", "results"], "--storage: results is relative"),
        (["--address", "http://127.0.0.1:9", "--storage", "/shared"], "no Ray cluster takes jobs at http://127.0.0.1:9"),
    ],
)
def test_a_mistake_is_one_sentence(folder: Path, gaplab: Callable[..., Answer], arguments: list[str], sentence: str) -> None:
    done = gaplab("submit", "spec.yaml", *arguments)
    assert done.code == 2
    assert sentence in done.err
    assert len(done.err.splitlines()) == 1


@pytest.fixture
def start_head(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Start Ray's head as a user does, with more options; it ends with the test.

    Ray gives its workers 15 less priority, by which they come to nothing beside what else a busy machine does.
    """
    monkeypatch.setenv("RAY_worker_niceness", "0")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    heads = []

    def start(*options: str) -> None:
        fixed = ["--head", "--block", "--num-cpus=1", f"--port={free_port()}", f"--dashboard-agent-listen-port={free_port()}"]
        heads.append(subprocess.Popen([sys.executable, "-m", "ray.scripts.scripts", "start", *fixed, *options], stdout=subprocess.DEVNULL))

    yield start
    for head in heads:
        head.terminate()
        end(head)


@pytest.mark.xdist_group("ray")
def test_a_study_is_sent_followed_and_found_where_it_was_told_to_write(
    folder: Path, gaplab: Callable[..., Answer], start_head: Callable[..., None]
) -> None:
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    start_head("--include-dashboard=true", f"--dashboard-port={port}")
    until_it_answers(f"{address}/api/version")
    Path(get_ray_address_file(None)).write_text("127.0.0.1:1")  # the job does not look for one that came later, and is gone
    for _ in range(120):  # the node's agent, which starts jobs, comes later than the dashboard
        sent = gaplab("submit", "spec.yaml", "--address", address, "--storage", str(folder / "results"))
        if "No available agent" not in sent.err:
            break
        time.sleep(0.5)
    assert sent.code == 0, sent.err
    job = sent.out.split()[1]
    followed = gaplab("logs", job, "--address", address, "--follow")
    assert followed.out.rstrip().endswith(f"{job}: succeeded")
    assert list((folder / "results" / "sent" / "records").glob("*.parquet"))
    assert "had ended already" in gaplab("stop", job, "--address", address).out
    missing = gaplab("logs", "nothing", "--address", address)
    assert (missing.code, "nothing does not exist" in missing.err) == (2, True)


def test_a_job_finds_the_ray_that_has_started_it() -> None:
    """Whatever else runs on the machine: by its ancestors."""
    asking = "from study.launch.cluster import _of_this_job; print(_of_this_job())"
    starting = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]], check=True)"
    for raylet, found in ((["--gcs-address=10.1.2.3:6379"], "10.1.2.3:6379"), ([], "None")):
        done = subprocess.run([sys.executable, "-c", starting, asking, *raylet], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == found


@pytest.mark.xdist_group("ray")
def test_a_study_is_driven_from_outside_of_the_cluster(folder: Path, start_head: Callable[..., None]) -> None:
    port = free_port()
    address = f"ray://127.0.0.1:{port}"
    start_head("--include-dashboard=false", f"--ray-client-server-port={port}")
    until_it_listens(port)
    for _ in range(60):
        done = in_a_process(folder, "run", "spec.yaml", "--address", address, "--storage", str(folder / "results"))
        if "no Ray cluster answers" not in done.stderr:
            break
        time.sleep(1)
    assert done.returncode == 0, done.stderr
    assert "3 completed" in done.stdout
    again = in_a_process(folder, "run", "spec.yaml", "--address", address, "--storage", str(folder / "results"))
    assert "Nothing to run: all 3 points" in again.stdout


def until_it_listens(port: int) -> None:
    for _ in range(300):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=2).close()
            return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"nothing listens at {port}")


def until_it_answers(url: str) -> None:
    for _ in range(300):
        try:
            with urlopen(url, timeout=2):
                return
        except (URLError, OSError):
            time.sleep(0.2)
    raise AssertionError(f"nothing answers at {url}")
