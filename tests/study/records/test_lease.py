"""One driver at a time where there are no locks: a second refuses, and a killed one's claim is outwaited."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pyarrow.fs
import pytest
from botocore.exceptions import ClientError, ConnectionClosedError, EndpointConnectionError, NoCredentialsError

from study.records.claim import lease
from study.records.claim.conditional import ConditionalObject
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


class FailingStore:
    """A client of boto3 whose store fails in one way, from the moment on that is said."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.fails = False

    def put_object(self, **_: Any) -> dict[str, str]:
        return self._answer()

    def head_object(self, **_: Any) -> dict[str, str]:
        return self._answer()

    def delete_object(self, **_: Any) -> dict[str, str]:
        return self._answer()

    def _answer(self) -> dict[str, str]:
        if self.fails:
            raise self.error
        return {"ETag": "1"}


UNAVAILABLE = {"Error": {"Code": "503", "Message": "Service Unavailable"}, "ResponseMetadata": {"HTTPStatusCode": 503}}


@pytest.mark.parametrize("operation", ["make", "renew", "tag", "remove"])
@pytest.mark.parametrize(
    "error",
    [
        ClientError(UNAVAILABLE, "PutObject"),  # type: ignore[arg-type]
        ConnectionClosedError(endpoint_url="http://127.0.0.1:1/bucket"),
        EndpointConnectionError(endpoint_url="http://127.0.0.1:1/bucket"),
        NoCredentialsError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_store_that_fails_is_an_error_of_its_files(operation: str, error: Exception) -> None:
    """As pyarrow's errors of the same store, which a run says in a sentence that names the study's folder."""
    store = FailingStore(error)
    single = ConditionalObject(store, "bucket", "results/grid/.drivers/driver")
    single.make()
    store.fails = True
    with pytest.raises(OSError, match=r"^bucket/results/grid/\.drivers/driver: "):
        getattr(single, operation)()
