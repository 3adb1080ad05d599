"""Faults of what a study leans on: tracking servers that fail or crawl, a database with too many writers, storage, memory, cores, clock."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, tzinfo
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import ray
from ray.exceptions import OutOfMemoryError

import study
from analysis.records.fragments import statuses
from study.launch import training
from study.launch.progress import Progress
from study.records.mirror import Mirror
from study.records.writer import FragmentWriter, Provenance
from tests.forked_processes import CONTEXT
from tests.study.disturbances import after_first_report, rows
from tests.study.in_this_process import rows_without_ray
from tests.study.made_up_results import result

pytestmark = [pytest.mark.xdist_group("faults"), pytest.mark.usefixtures("one_ray")]

WRITTEN: dict[str, Any] = {
    "study": "leans",
    "trial": {
        "data": {"name": "synthetic", "dimension": 8, "classes": 3, "train_size": 500},
        "optimizer": {"learning_rate": 0.1},
        "budget": {"epochs": 150, "stop_at_train_error": None},
    },
    "space": {"model.width": {"values": [3, 5, 8]}, "corruption.level": {"values": [0.0, 1.0]}, "seed": {"range": 4}},
    "resources": {"workers": 1},
    "tracking": {"mlflow": False},
}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return rows_without_ray(study.understand(WRITTEN), tmp_path_factory.mktemp("undisturbed"))


# tracking


class Failing(BaseHTTPRequestHandler):
    """A tracking server that says it is well, and answers everything else with 500, or after a minute."""

    slow = False

    def do_GET(self) -> None:
        well = self.path == "/health"
        if self.slow and not well:
            time.sleep(60)
        self.send_response(200 if well else 500)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_POST = do_GET  # noqa: N815

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


class Crawling(Failing):
    slow = True


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), request.param)
    server.daemon_threads = True
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("server", [Failing, Crawling], indirect=True)
def test_a_tracking_server_that_fails_or_crawls_costs_nothing(
    server: str, undisturbed: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "4")
    ended: list[float] = []
    spec = study.understand(WRITTEN | {"tracking": {"mlflow": True}})
    progress = Progress(advanced=lambda statuses, seconds: ended.append(time.monotonic()))
    summary = study.run(spec, storage=str(tmp_path), tracking_uri=server, progress=progress)
    assert time.monotonic() - ended[-1] < 60, "the end waits for a few answers at most"
    assert summary.mirror is not None
    assert summary.mirror.error
    assert rows(summary.root) == undisturbed
    mirror = study.sync(spec, storage=str(tmp_path))
    assert mirror is not None
    assert mirror.error is None
    assert rows("mlflow:leans", tracking_uri=mirror.tracking_uri) == undisturbed


WRITERS, EACH = 8, 6


def mirror_all(uri: str, folder: str, number: int) -> None:
    """Record some points as a study of its own, and mirror them while seven others do."""
    writer = FragmentWriter(f"{folder}/study-{number}", Provenance(f"study-{number}", None, "0"))
    mirror = Mirror(uri, f"study-{number}", writer.root)
    mirror.start()
    for seed in range(EACH):
        writer([result(seed=seed)], "cpu")
    deadline = time.monotonic() + 200
    mirror.finish()
    while mirror.error and time.monotonic() < deadline:  # as gaplab sync does
        mirror.finish()


def test_eight_writers_and_a_locked_database_lose_nothing(tmp_path: Path, fresh_database: Path) -> None:
    database = tmp_path / "mlflow.db"
    shutil.copy(fresh_database, database)
    uri = f"sqlite:///{database}"
    writers = [CONTEXT.Process(target=mirror_all, args=(uri, str(tmp_path), number), daemon=True) for number in range(WRITERS)]
    with sqlite3.connect(database, isolation_level=None) as locker:
        locker.execute("BEGIN EXCLUSIVE")
        for writer in writers:
            writer.start()
        time.sleep(8)  # SQLite gives up after 5 s: database is locked
        locker.execute("COMMIT")
    for writer in writers:
        writer.join(240)
    assert [writer.exitcode for writer in writers] == [0] * WRITERS
    for number in range(WRITERS):
        there = rows(f"mlflow:study-{number}", tracking_uri=uri)
        assert there == rows(f"{tmp_path}/study-{number}")
        assert len(there) == EACH


# storage


def test_storage_that_turns_read_only_stops_the_study_which_goes_on_when_it_can(
    undisturbed: list[dict[str, Any]], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder = tmp_path / "leans"
    folder.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None or mount("--bind", folder, folder):
        pytest.skip("only root may mount, and not in every container")
    subprocess.run(["umount", str(folder)], check=True)

    def freeze() -> None:
        """Lay a mount of the folder over itself; the lock, which is open for writing, would forbid that of the first one."""
        assert not mount("--bind", folder, folder)
        assert not mount("-o", "remount,ro,bind", folder)

    try:
        summary = study.run(study.understand(WRITTEN), storage=str(tmp_path), progress=after_first_report(freeze))
        assert summary.halted is not None
        assert "Read-only file system" in summary.halted
        assert 0 < sum(summary.counts.values()) < len(undisturbed)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=False)
    request.getfixturevalue("without_ray")
    assert study.run(study.understand(WRITTEN), storage=str(tmp_path)).halted is None
    assert rows(summary.root) == undisturbed


def mount(*arguments: str | Path) -> int:
    """The exit code of the command."""
    return subprocess.run(["mount", *map(str, arguments)], capture_output=True, check=False).returncode


# memory

EATER = """
import os
import resource
import signal

import torch
from torch import nn
from trainables.models import model_family

class Eater(nn.Module):
    def __init__(self, inputs, width, classes):
        super().__init__()
        self.width, self.layers = width, nn.Sequential(nn.Flatten(), nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, classes))

    def forward(self, x):
        if x.device.type != "meta" and self.width == 5:
            used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
            _, most = resource.getrlimit(resource.RLIMIT_AS)
            resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, most))
            try:
                eaten = [torch.ones(2**24) for _ in range(10**6)]
            finally:
                resource.setrlimit(resource.RLIMIT_AS, (most, most))
        if x.device.type != "meta" and self.width == 7:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.layers(x)

@model_family("eater", default_width=4)
def eater(model, dropout, image_shape, classes):
    return Eater(image_shape[0] * image_shape[1] * image_shape[2], model.width, classes)
"""
"""At width 5 it takes memory until there is none; at width 7 its process is ended, as the kernel and Ray's memory monitor do it."""


@pytest.mark.usefixtures("untried")
def test_points_that_eat_the_memory_fail_with_their_reason_and_disturb_no_other(tmp_path: Path) -> None:
    (tmp_path / "eater.py").write_text(EATER)
    written = WRITTEN | {"trial": {**WRITTEN["trial"], "model": {"name": "eater"}}, "imports": ["eater.py"]}

    def declared(*widths: int) -> study.Spec:
        return study.understand(written | {"space": {"model.width": {"values": widths}}}, source=tmp_path / "spec.yaml")

    found = rows(study.run(declared(3, 5, 7, 9), storage=str(tmp_path / "disturbed")).root)
    reasons = {row["model.width"]: row["reason"] for row in found if row["status"] == "failed"}
    assert reasons[5] == "out of memory, even alone"
    assert reasons[7].startswith("its worker was lost 6 times: ")
    assert len(reasons) == 2
    assert [row for row in found if row["status"] != "failed"] == rows_without_ray(declared(3, 9), tmp_path / "undisturbed")


@pytest.mark.parametrize("cause", [OutOfMemoryError("1 worker(s) were killed"), None])
def test_a_worker_ended_for_memory_halts_the_study_with_a_sentence(
    cause: Exception | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Tune's actor manager raises it; anything else that it raises is a bug and stays one."""

    def fit(*_: Any, **__: Any) -> None:
        raise RuntimeError("Caught unexpected exception") from cause

    monkeypatch.setattr(training, "_fit", fit)
    trial = {"data": {"train_size": 10}, "optimizer": {"learning_rate": 0.1}, "budget": {"epochs": 0}}
    spec = study.understand({"study": "s", "trial": trial, "tracking": {"mlflow": False}})
    if cause is None:
        with pytest.raises(RuntimeError, match="Caught unexpected exception"):
            study.run(spec, storage=str(tmp_path))
        return
    summary = study.run(spec, storage=str(tmp_path))
    assert summary.missing == 1
    assert summary.halted
    assert summary.halted.startswith("a node ran out of memory, and Ray ended a worker")


# the cores


def test_workers_have_the_priority_that_the_study_was_started_with() -> None:
    """Of Ray alone they have 15 less, and starve beside whatever else the machine does; `nice gaplab run` stays nice."""
    niceness: int = ray.get(ray.remote(lambda: os.nice(0)).remote())
    assert niceness == os.nice(0)


# the clock


class Backwards(datetime):
    """A clock that jumps back by five hours whenever it is read."""

    hours = 0

    @classmethod
    def now(cls, zone: tzinfo | None = None) -> datetime:  # type: ignore[override]
        cls.hours += 5
        return datetime.now(zone) - timedelta(hours=cls.hours)


def test_a_clock_that_jumps_back_changes_no_outcome(tmp_path: Path, fresh_database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A point that failed and then completed, one that ran twice, one that failed only; their times say the contrary."""
    shutil.copy(fresh_database, tmp_path / "mlflow.db")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setattr("study.records.provenance.datetime", Backwards)
    writer = FragmentWriter(str(tmp_path / "leans"), Provenance("leans", None, "0"))
    mirror = Mirror(uri, "leans", writer.root)
    for first, second in (("failed", "completed"), ("completed", "completed"), ("failed", "failed")):
        seed = Backwards.hours
        for status in (first, second):
            writer([result(seed=seed, status=status)], "cpu")
            mirror.finish()
            assert mirror.error is None
    assert sorted(statuses(writer.root).values()) == ["completed", "completed", "failed"]
    there = rows(writer.root)
    assert sorted(row["status"] for row in there) == ["completed", "completed", "failed"]
    assert rows("mlflow:leans", tracking_uri=uri) == there
