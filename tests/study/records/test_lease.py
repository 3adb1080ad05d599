"""One driver at a time where there are no locks: a second refuses, and a killed one's claim is outwaited."""

from __future__ import annotations

import time
from pathlib import Path

import pyarrow.fs
import pytest

from study.records.claim import lease
from study.records.claim.lease import AlreadyLeasedError, leased

STORE = pyarrow.fs.LocalFileSystem()


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in {"RENEWAL_SECONDS": 0.1, "PATIENCE_SECONDS": 1.0, "_POLL_SECONDS": 0.05}.items():
        monkeypatch.setattr(lease, name, seconds)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / ".drivers").mkdir()  # object stores have no folders
    return tmp_path


def claims(folder: Path) -> list[str]:
    return [path.name for path in (folder / ".drivers").iterdir()]


def test_a_claim_ends_with_its_driver(folder: Path) -> None:
    with leased(STORE, str(folder)):
        assert len(claims(folder)) == 1
    assert claims(folder) == []
    with pytest.raises(KeyError), leased(STORE, str(folder)):
        raise KeyError
    assert claims(folder) == []


@pytest.mark.filterwarnings("ignore:another driver claims")
def test_a_second_driver_refuses_while_the_first_one_lives(folder: Path) -> None:
    with leased(STORE, str(folder)):
        held = claims(folder)
        for _ in range(2):
            with pytest.raises(AlreadyLeasedError), leased(STORE, str(folder)):
                pytest.fail("two drivers at work")
        assert claims(folder) == held


def test_the_claim_of_a_killed_driver_is_outwaited(folder: Path) -> None:
    (folder / ".drivers" / "killed").touch()

    def wait() -> float:
        started = time.monotonic()
        with leased(STORE, str(folder)):
            assert "killed" not in claims(folder)
            return time.monotonic() - started

    with pytest.warns(UserWarning, match="waiting up to 1 s"):
        assert wait() >= lease.PATIENCE_SECONDS
