"""A secret marker in every place where a URI can stand: no command prints it, and no file holds it but the user's own spec."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import analysis
from study.launch import doctor, mirroring
from study.records.folder import write_spec
from study.records.mirror import Mirror
from study.records.writer import FragmentWriter, Provenance
from study.spec.reading import read_spec
from tests.analysis.report.conftest import whole
from tests.study.conftest import Answer
from tests.study.made_up_results import result
from trainables.point.errors import ConfigError
from trainables.redaction import holds_secret, redacted
from trainables.training.members import Result

SECRET = "hunter2hunter2"
DATABASE = f"postgresql://me:{SECRET}@127.0.0.1:1/none"
SERVER = f"http://me:{SECRET}@127.0.0.1:1"
WRITTEN: dict[str, Any] = {
    "study": "tiny",
    "trial": {
        "data": {"name": "synthetic", "dimension": 4, "classes": 3, "train_size": 60, "validation_size": 30},
        "budget": {"epochs": 2},
    },
    "space": {"optimizer.learning_rate": {"log_uniform": {"low": 0.001, "high": 1.0}}},
    "search": {"kind": "optuna", "trials": 2, "sampler": "random", "storage": DATABASE},
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "search.yaml").write_text(f"# at {DATABASE}\n{json.dumps(WRITTEN)}")
    named = WRITTEN["trial"] | {"optimizer": {"learning_rate": 0.1}}  # what a spec leaves open would be probed first
    grid = {"study": "tiny", "trial": named, "space": {"seed": {"range": 2}}}
    (tmp_path / "grid.yaml").write_text(json.dumps(grid))
    writer = FragmentWriter("results/tiny", Provenance("tiny", None, ""))
    point = result(seed=0)
    writer([point, Result(point.point, "f" * 32, "failed", f"OSError: nothing at {DATABASE}", {}, [])], None)
    write_spec("results/tiny", (tmp_path / "search.yaml").read_text())
    return tmp_path


def assert_no_secret(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file() and path.name != "search.yaml":
            assert SECRET.encode() not in path.read_bytes(), path


@pytest.mark.parametrize(
    "command",
    [
        f"run grid.yaml --tracking-uri {DATABASE}",
        f"run grid.yaml --tracking-uri {SERVER}",
        f"run grid.yaml --tracking-uri {SERVER}/?token={SECRET}",
        f"run grid.yaml --tracking-uri nonsense://me:{SECRET}@host",
        f"run grid.yaml --tracking-uri sqlite:///no/folder/a.db?password={SECRET}",
        f"run grid.yaml --storage s3://me:{SECRET}@bucket",
        f"run grid.yaml --storage nonsense://host?access_key={SECRET}",
        f"run grid.yaml --address ray://me:{SECRET}@127.0.0.1:1",
        f"run grid.yaml --set data.name={DATABASE}",
        f"run grid.yaml --set {DATABASE}",
        f"run grid.yaml --set study={DATABASE}",
        f"run {DATABASE}",
        "run search.yaml",
        "run search.yaml --dry-run",
        "show search.yaml",
        "status search.yaml",
        "status grid.yaml",
        f"sync grid.yaml --tracking-uri {DATABASE}",
        f"sync grid.yaml --tracking-uri {SERVER}",
        f"doctor --tracking-uri {DATABASE} --storage nonsense://me:{SECRET}@host",
        "report results/tiny",
        f"report mlflow:tiny --tracking-uri {DATABASE}",
        f"plot results/tiny --tracking-uri {SERVER}",
        f"export results/tiny all.csv --tracking-uri {SERVER}",
        f"plot s3://me:{SECRET}@bucket/tiny",
        f"compact s3://me:{SECRET}@bucket/tiny",
        f"logs id --address http://me:{SECRET}@127.0.0.1:1",
        f"submit grid.yaml --storage /tmp/x --address http://127.0.0.1:1 --tracking-uri {DATABASE}",
        f"submit grid.yaml --storage /tmp/x --address http://127.0.0.1:1 --set search.storage={DATABASE}",
        "submit search.yaml --storage /tmp/x --address http://127.0.0.1:1",
    ],
)
def test_no_command_says_a_secret(command: str, here: Path, gaplab: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_ray", lambda: (True, ""))  # it takes seconds, and no URI
    answer = gaplab(*command.split())
    assert SECRET not in answer.out + answer.err
    assert "Traceback" not in answer.err
    assert_no_secret(here)


@pytest.mark.parametrize("error", [None, f"no answer from {DATABASE}"])
def test_sync_says_none_when_it_ends(error: str | None, here: Path, gaplab: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirroring, "sync", lambda *_, **__: SimpleNamespace(tracking_uri=DATABASE, error=error))
    answer = gaplab("sync", "grid.yaml")
    assert "postgresql://me:***@127.0.0.1:1/none" in answer.out + answer.err
    assert SECRET not in answer.out + answer.err


def test_a_traceback_says_none(here: Path, gaplab: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        warnings.warn(f"slow: {DATABASE}", stacklevel=1)
        raise RuntimeError(f"defect at {DATABASE}")

    monkeypatch.setattr(mirroring, "sync", fail)
    answer = gaplab("sync", "grid.yaml")
    assert answer.code == 1
    assert "RuntimeError: defect at postgresql://me:***@" in answer.err
    assert "warning: slow: postgresql://me:***@" in answer.err
    assert SECRET not in answer.err


def test_what_is_stored_and_mirrored_holds_none(here: Path) -> None:
    assert "postgresql://me:***@127.0.0.1:1/none" in (here / "results/tiny/spec.yaml").read_text()
    assert read_spec(here / "results/tiny/spec.yaml").search.storage == "postgresql://me:***@127.0.0.1:1/none"
    mirror = Mirror(f"sqlite:///{here}/mlflow.db", "tiny", str(here / "results/tiny"))
    mirror.finish()
    assert mirror.error is None
    assert_no_secret(here)


@pytest.mark.filterwarnings("ignore:search.storage")
def test_the_report_of_an_older_study_holds_none(here: Path) -> None:
    (here / "results/tiny/spec.yaml").write_text((here / "search.yaml").read_text())
    assert SECRET not in whole(analysis.write_report("results/tiny", here / "report.html").read_text())


def test_sentences_of_the_python_interface_hold_none() -> None:
    assert SECRET not in str(ConfigError(f"at {DATABASE}"))
    assert SECRET not in str(analysis.NothingToShow(f"at {DATABASE}"))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"mysql+pymysql://me:{SECRET}@h:1/x?ssl=1", "mysql+pymysql://me:***@h:1/x?ssl=1"),
        (f"postgresql://me:a@b/c,{SECRET}@h/x", "postgresql://me:***@h/x"),
        (f"redis://:{SECRET}@h", "redis://:***@h"),
        (f"https://{SECRET}@h/x", "https://***@h/x"),
        (f"s3://b/x?access_key={SECRET}&secret_key={SECRET}&region=eu", "s3://b/x?access_key=***&secret_key=***&region=eu"),
        (f"mssql+pyodbc:///?odbc_connect=PWD%3D{SECRET}", "mssql+pyodbc:///?odbc_connect=***"),
        (f"{{storage: 'postgresql://me:{SECRET}@h/x', b: a@c}}", "{storage: 'postgresql://me:***@h/x', b: a@c}"),
    ],
)
def test_secrets_are_redacted(text: str, shown: str) -> None:
    assert redacted(text) == shown
    assert redacted(shown) == shown
    assert holds_secret(text)


@pytest.mark.parametrize(
    "text",
    [
        "http://host:8080/path",
        "postgresql://me@host/x",
        "sqlite:////home/me/a.db",
        "s3://bucket/a?region=eu",
        "a@b: 3",
        "http://h and me@h",
    ],
)
def test_all_else_stays(text: str) -> None:
    assert redacted(text) == text
