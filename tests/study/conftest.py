"""What tests of studies share: one Ray, an empty MLflow database, the command line in this process."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
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


@pytest.fixture(scope="module")
def one_ray() -> Iterator[None]:
    """Ray with two workers for the tests of a module that ask for it: a study joins a Ray that its process is connected to."""
    with connected(Resources(workers=2), None):
        yield


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
