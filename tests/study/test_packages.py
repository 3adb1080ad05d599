"""Files and folders of the user's that have the names of gaplab's packages."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import study
from study import compat, packages
from study.launch import cluster
from study.spec.reading import Resources
from trainables.point.errors import ConfigError

HOME = Path(study.__file__).parents[1]
COMMAND = "from study.cli import main; main()"
SPEC = """
study: tiny
trial: {data: {name: synthetic, train_size: 40}, model: {width: 4}, optimizer: {learning_rate: 0.1}, budget: {epochs: 1}}
space: {seed: {range: 2}}
resources: {workers: 1}
tracking: {mlflow: false}
"""


@pytest.fixture
def crowded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder where the user stands, with a file `study.py`, a package `trainables` and a folder `analysis`."""
    (tmp_path / "study.py").write_text("raise SystemExit('this is the user\\'s own study')\n")
    (tmp_path / "analysis").mkdir()
    (tmp_path / "trainables").mkdir()
    (tmp_path / "trainables/__init__.py").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(HOME)}
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.xdist_group("ray")
@pytest.mark.usefixtures("crowded")
def test_a_study_runs_beside_files_of_its_packages_names(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(SPEC)
    done = python("-P", "-c", COMMAND, "run", "tiny.yaml")  # as the command `gaplab`, whose folder is not the user's
    assert done.returncode == 0, done.stderr
    assert "2 completed" in done.stdout


@pytest.mark.parametrize("module", ["study", "study.cli"])
def test_a_module_is_the_command_line(module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "analysis").mkdir()
    (tmp_path / "analysis/__init__.py").touch()
    monkeypatch.chdir(tmp_path)
    done = python("-m", module, "status", "nothing.yaml")
    assert (done.returncode, done.stderr) == (2, "gaplab: nothing.yaml: there is no such spec file\n")


@pytest.mark.usefixtures("crowded")
def test_workers_of_another_ray_are_not_given_the_users_files(crowded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sentence = f"{crowded}/study.py hides gaplab's package 'study' from workers: rename it, or start in another folder"
    assert packages.hidden_from_workers() == sentence
    with pytest.raises(ConfigError, match="hides gaplab's package 'study' from workers"), cluster.joined("127.0.0.1:1"):
        pass
    monkeypatch.setattr(compat, "preloads_modules", lambda: False)
    with pytest.raises(ConfigError, match="hides gaplab's package 'study' from workers"), cluster.connected(Resources(workers=1), None):
        pass


def test_nothing_is_hidden_where_gaplab_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in (tmp_path, HOME):
        monkeypatch.chdir(folder)
        assert packages.hidden_from_workers() is packages.hidden_here() is None


def test_a_folder_that_this_process_takes_for_a_package_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "analysis.py").touch()
    (tmp_path / "mine.py").write_text("import study\nstudy.run\n")
    sentence = f"{tmp_path}/analysis.py hides gaplab's package 'analysis': rename it, or start in another folder"
    done = python(str(tmp_path / "mine.py"))
    assert done.stderr.splitlines()[-1] == f"ImportError: {sentence}"
    done = python("-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {COMMAND}", "presets")
    assert (done.returncode, done.stderr) == (2, f"gaplab: {sentence}\n")
