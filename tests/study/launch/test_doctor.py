"""The doctor: good on a machine that runs these tests, and a remedy for everything that is not."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from study.launch import doctor
from study.launch.doctor import Check, checks


def findings(storage: str, tracking_uri: str | None = None) -> dict[str, Check]:
    return {check.name: check for check in checks(storage, tracking_uri)}


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what takes seconds."""
    monkeypatch.setattr(doctor, "_ray", lambda: (True, ""))


@pytest.mark.xdist_group("ray")
def test_this_machine_is_good_and_nothing_is_left_behind(tmp_path, one_ray):
    found = findings(str(tmp_path / "new" / "results"))
    assert [check for check in found.values() if not check.good] == []
    assert list(found) == ["python", "packages", "gpu", "bits", "ray", "storage", "disk", "tracking", "data"]
    assert f"torch {version('torch')}" in found["packages"].found
    assert "runs a task" in found["ray"].found
    assert "digits" in found["data"].found
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("no_ray")
@pytest.mark.parametrize("storage", ["file", "file/below", "/proc/gaplab", "nonsense://x"])
def test_storage_that_cannot_be_written(tmp_path, monkeypatch, storage):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    check = findings(storage)["storage"]
    assert not check.good
    assert "--storage" in check.remedy


@pytest.mark.usefixtures("no_ray")
@pytest.mark.parametrize("uri", ["http://127.0.0.1:9", "sqlite:////no/folder/mlflow.db", "mlruns"])
def test_tracking_that_does_not_answer(tmp_path, uri):
    check = findings(str(tmp_path), uri)["tracking"]
    assert not check.good
    assert "--tracking-uri" in check.remedy


@pytest.mark.usefixtures("no_ray")
def test_a_damaged_tracking_database(tmp_path):
    (tmp_path / "mlflow.db").write_text("no database" * 100)
    assert not findings(str(tmp_path))["tracking"].good


@pytest.mark.usefixtures("no_ray")
def test_packages_that_are_old_or_missing(tmp_path, monkeypatch):
    def pretended(name: str) -> str:
        if name == "mlflow":
            raise PackageNotFoundError(name)
        return "1.0" if name == "optuna" else version(name)

    monkeypatch.setattr(doctor, "version", pretended)
    check = findings(str(tmp_path))["packages"]
    assert not check.good
    assert "optuna is 1.0, not >=5.0" in check.found
    assert "mlflow is missing" in check.found
    assert "pip install" in check.remedy


@pytest.mark.usefixtures("no_ray")
def test_a_full_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "LEAST_FREE_GIB", 1e9)
    check = findings(str(tmp_path))["disk"]
    assert not check.good
    assert "GiB free in" in check.found


@pytest.mark.usefixtures("no_ray")
def test_an_old_python(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor.platform, "python_version_tuple", lambda: ("3", "10", "1"))
    assert not findings(str(tmp_path))["python"].good


@pytest.mark.usefixtures("no_ray")
def test_data_that_lies_on_this_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("GAPLAB_DATA", str(tmp_path))
    (tmp_path / "cifar10.npz").touch()
    found = findings(str(tmp_path))["data"].found
    assert f"cifar10 in {tmp_path}" in found
    assert "mnist, fashion_mnist, cifar100, svhn would be downloaded" in found


def test_a_check_that_breaks_is_a_line_with_a_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "_ray", lambda: 1 / 0)
    check = findings(str(tmp_path))["ray"]
    assert (check.good, check.found) == (False, "ZeroDivisionError: division by zero")
    assert check.remedy


@pytest.mark.usefixtures("no_ray")
def test_the_command_ends_with_1_if_something_is_not_good(tmp_path, gaplab):
    assert gaplab("doctor", "--storage", str(tmp_path)).code == 0
    bad = gaplab("doctor", "--storage", str(tmp_path), "--tracking-uri", "mlruns")
    assert bad.code == 1
    assert "no tracking" in bad.out
    assert "ok storage" in bad.out
