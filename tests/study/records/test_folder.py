"""A study's folder: nothing but what was made here, and is empty, is ever removed; who is at work in it is known."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import study
from analysis.errors import AnalysisError
from analysis.records.declared import undeclared
from analysis.records.store import open_store
from study.launch import mirroring, training
from study.launch.training import _forget_tune
from study.records.declared import write_undeclared
from study.records.folder import _failures_said, active_driver, claimed, write_spec
from study.records.writer import FragmentWriter, Provenance
from study.search.ablation import write as write_ablation
from tests.study.conftest import Answer
from tests.study.made_up_results import result
from trainables.point.errors import ConfigError

WRITTEN: dict[str, Any] = {
    "study": "tiny",
    "trial": {
        "data": {"name": "synthetic", "dimension": 4, "classes": 3, "train_size": 60},
        "model": {"width": 4},
        "optimizer": {"learning_rate": 0.1},
        "budget": {"epochs": 2},
    },
    "space": {"seed": {"range": 2}},
}


def record(root: Path) -> Path:
    """Another study's results, put there."""
    FragmentWriter(str(root), Provenance(root.name, None, ""))([result(seed=0)], None)
    (path,) = (root / "records").iterdir()
    return path


def test_results_that_were_put_beside_a_study_which_cannot_start_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waited for a slow tracking server meanwhile."""
    storage = tmp_path / "new" / "results"
    others: list[Path] = []

    def refuse(uri: str) -> None:
        others.append(record(storage / "another"))
        raise ConfigError("--tracking-uri: no MLflow server answers")

    monkeypatch.setattr(mirroring, "check_reachable", refuse)
    with pytest.raises(ConfigError, match="no MLflow server answers"):
        study.run(study.understand(WRITTEN), storage=str(storage), tracking_uri="http://127.0.0.1:1")
    assert others[0].is_file()
    assert not (storage / "tiny").exists()


@pytest.mark.parametrize("folder", ["records", "curves"])
def test_a_folder_that_takes_no_results_is_said_before_anything_is_trained(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The study's own can be written: somebody else has made the one below it."""

    def never(*arguments: Any) -> None:
        raise AssertionError("Ray was started")

    monkeypatch.setattr(training, "connected", never)
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / folder).symlink_to("/proc/sys")  # where also root can write nothing
    with pytest.raises(ConfigError, match=f"--storage: {tmp_path}/tiny cannot be written"):
        study.run(study.understand(WRITTEN | {"tracking": {"mlflow": False}}), storage=str(tmp_path))


def test_a_storage_that_fails_on_the_way_is_a_sentence(tmp_path: Path) -> None:
    root = str(tmp_path / "tiny")
    for fail in (lambda: Path(root, "no", "such").touch(), lambda: open_store(root)[0].open_output_stream(f"{root}/no/such")):
        with pytest.raises(ConfigError, match=r"^--storage: .*/tiny failed .*the same command goes on from there$"), claimed(root):
            fail()
    with pytest.raises(OSError, match="somewhere else"), claimed(root):
        raise OSError("somewhere else")
    far = _failures_said("s3://bucket/results/tiny", "bucket/results/tiny")
    with pytest.raises(ConfigError, match="--storage: s3://bucket/results/tiny failed"), far:
        raise OSError("When uploading part for key 'results/tiny/.nodes-1' in bucket 'bucket': AWS Error SERVICE_UNAVAILABLE")


def test_what_lies_in_the_folder_itself_stays(tmp_path: Path) -> None:
    kept = []

    def fail_late() -> None:
        with claimed(str(tmp_path / "results" / "mine")):
            kept.append(record(tmp_path / "results" / "mine"))
            raise ConfigError("late")

    with pytest.raises(ConfigError, match="late"):
        fail_late()
    assert kept[0].is_file()


@pytest.mark.parametrize("raised", [ConfigError("no"), KeyboardInterrupt()])
def test_of_a_study_that_never_started_nothing_is_left(raised: BaseException, tmp_path: Path) -> None:
    with pytest.raises(type(raised)), claimed(str(tmp_path / "a" / "b" / "c")):
        raise raised
    assert not list(tmp_path.iterdir())


def test_only_the_folders_of_tunes_own_runs_are_forgotten(tmp_path: Path) -> None:
    (tmp_path / "tune" / "0123456789ab" / "deep").mkdir(parents=True)
    (tmp_path / "tune" / "0123456789ab" / "deep" / "state").touch()
    _forget_tune(str(tmp_path))
    assert not (tmp_path / "tune").exists()
    kept = record(tmp_path / "tune")  # a study of that name, whose storage is this study's folder
    (tmp_path / "tune" / "0123456789ab").mkdir()
    _forget_tune(str(tmp_path))
    assert kept.is_file()
    assert not (tmp_path / "tune" / "0123456789ab").exists()


def test_who_is_at_work_is_said(tmp_path: Path) -> None:
    root = str(tmp_path / "mine")
    assert active_driver(root) is None
    with claimed(root):
        assert f"process {os.getpid()} on " in (active_driver(root) or "")
        with pytest.raises(ConfigError, match=f"another gaplab is at work on .*process {os.getpid()}"), claimed(root):
            pass
        assert f"process {os.getpid()} on " in (active_driver(root) or "")
        (tmp_path / "mine" / "result").touch()
    assert active_driver(root) is None


def test_a_driver_that_was_killed_is_not_at_work(tmp_path: Path) -> None:
    root = str(tmp_path / "mine")
    code = f"import os; from study.records.folder import claimed\nwith claimed({root!r}): os._exit(9)"
    subprocess.run([sys.executable, "-c", code], check=False)
    assert (tmp_path / "mine" / ".driver").is_file()
    assert active_driver(root) is None
    with claimed(root):
        pass


@pytest.mark.parametrize("name", ["mlflow.db", "MLFLOW.DB", "mlflow.db-wal", "a.lock", "reproduction.md"])
def test_a_study_has_no_name_of_a_file_beside_it(name: str) -> None:
    with pytest.raises(ConfigError, match="beside it lie files of such names"):
        study.understand(WRITTEN | {"study": name})


def test_the_status_says_that_a_run_is_active(tmp_path: Path, gaplab: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(json.dumps(WRITTEN))
    assert "active" not in gaplab("status", "tiny.yaml").out
    with claimed(str(tmp_path / "results" / "tiny")):
        assert f"A run is active: process {os.getpid()} on " in gaplab("status", "tiny.yaml").out


def test_small_files_beside_the_records_are_there_whole_or_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that is killed while it writes one leaves the one before."""
    root = str(tmp_path / "s")
    writes: dict[str, Callable[[str], object]] = {
        "spec.yaml": lambda name: write_spec(root, f"study: {name}"),
        "undeclared.json": lambda name: write_undeclared(root, {name}, {}),
        "tuning.json": lambda name: write_ablation(root, [Named(name)]),
    }

    def killed(*_: Any) -> None:
        raise OSError("killed")

    for file, write in writes.items():
        write("before")
        assert "before" in (tmp_path / "s" / file).read_text()
        with monkeypatch.context() as cut_short:
            cut_short.setattr(Path, "replace", killed)
            with pytest.raises((OSError, ConfigError), match="killed"):
                write("after")
        assert "before" in (tmp_path / "s" / file).read_text()


class Named:
    """What a comparison says of itself."""

    def __init__(self, name: str) -> None:
        self.name = name

    def as_json(self) -> str:
        return self.name


@pytest.mark.parametrize("damage", ["", '["a', "7", "[1]", "\0"])
def test_who_does_not_know_which_points_are_declared_does_not_mix_them(damage: str, tmp_path: Path) -> None:
    root = str(tmp_path)
    write_undeclared(root, {"old", "new"}, {"new"})
    (tmp_path / "undeclared.json").write_text(damage)
    with pytest.raises(AnalysisError, match=r"undeclared\.json is damaged: the next gaplab run"):
        undeclared(root)
    write_undeclared(root, {"old", "new"}, {"new"})
    assert undeclared(root) == {"old"}
