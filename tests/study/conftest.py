"""What tests of studies share: one Ray, an empty MLflow database, the command line in this process."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path

import pytest

from study.cli import app as cli
from study.launch.cluster import connected
from study.spec.sections import Resources
from tests.study.made_up_searches import Trained
from tests.study.worker_processes import MARK

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # tests started in the background: programs that they start would not hear it either
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ[MARK] = f"tests of {os.getpid()}"


class SharedRay:
    """Ray with two workers, from one test that asks for it to the next that does not: to start it takes as long as a small study."""

    def __init__(self) -> None:
        self._started = ExitStack()
        self._runs = False

    def start(self) -> None:
        if not self._runs:
            self._started.enter_context(connected(Resources(workers=2), None))
            self._runs = True

    def stop(self) -> None:
        self._runs = False
        self._started.close()


@pytest.fixture(scope="session")
def shared_ray() -> Iterator[SharedRay]:
    shared = SharedRay()
    yield shared
    shared.stop()


@pytest.fixture(scope="module")
def one_ray(shared_ray: SharedRay) -> None:
    """A Ray that runs: a study joins it, because its process is connected to it."""
    shared_ray.start()


@pytest.fixture(autouse=True)
def ray_where_it_is_asked_for(request: pytest.FixtureRequest, shared_ray: SharedRay) -> None:
    """A test that does not ask for Ray finds none, whatever ran before it."""
    if "one_ray" in request.fixturenames:
        shared_ray.start()
    else:
        shared_ray.stop()


@pytest.fixture(scope="session")
def fresh_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database: making one takes seconds, copying it none."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def trained(tmp_path: Path) -> Trained:
    return Trained(tmp_path)


@pytest.fixture
def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a study lacks is trained in this process, for tests of everything else that a run does: a worker takes seconds to start."""
    from tests.study import in_this_process

    monkeypatch.setattr("study.launch.training.connected", lambda *arguments: nullcontext(1))
    monkeypatch.setattr("study.launch.training.unused_gpus", lambda resources: None)
    monkeypatch.setattr("study.launch.tuner.fit_packs", in_this_process.fit_packs)


@pytest.fixture
def untried(monkeypatch: pytest.MonkeyPatch) -> None:
    """No look at one's own networks before they train, for tests of what becomes of them there."""
    monkeypatch.setattr("study.launch.run.tried_before_training", lambda plan: [])


@dataclass
class Answer:
    """What a command printed and returned."""

    code: int
    out: str
    err: str


@pytest.fixture
def gaplab(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """The command `gaplab` as its entry point runs it, in this process."""

    def run(*arguments: str) -> Answer:
        monkeypatch.setattr("sys.argv", ["gaplab", *arguments])
        monkeypatch.setattr("warnings.showwarning", warnings.showwarning)  # main replaces it for its process
        monkeypatch.setattr("sys.unraisablehook", sys.unraisablehook)
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGALRM, signal.SIGTERM)}
        capfd.readouterr()
        try:
            with pytest.raises(SystemExit) as ended:
                cli.main()
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        out, err = capfd.readouterr()
        return Answer(int(ended.value.code or 0), out, err)

    return run
