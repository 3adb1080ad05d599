"""Drivers that start within the same moment on one object store: one of them gets in, whatever the store can do."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
import requests
from moto.server import ThreadedMotoServer

from analysis.records.store import open_store
from study.records.claim import conditional, lease
from study.records.claim.conditional import ConditionalObject, RefusedError, conditional_object
from study.records.claim.lease import AlreadyLeasedError, leased

pytestmark = pytest.mark.filterwarnings("ignore:another driver")
RACES = 15


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in {"RENEWAL_SECONDS": 0.2, "PATIENCE_SECONDS": 3.0, "_POLL_SECONDS": 0.05}.items():
        monkeypatch.setattr(lease, name, seconds)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """HOST:PORT of an S3 server with an empty bucket named bucket."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    options: dict[str, Any] = {"aws_access_key_id": "any", "aws_secret_access_key": "any", "region_name": "us-east-1"}
    boto3.client("s3", endpoint_url=f"http://{host}:{port}", **options).create_bucket(Bucket="bucket")
    yield f"{host}:{port}"
    requests.post(f"http://{host}:{port}/moto-api/reset", timeout=10)
    server.stop()


@pytest.fixture
def store(server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The options of its URIs."""
    for name, value in {"ACCESS_KEY_ID": "any", "SECRET_ACCESS_KEY": "any", "EC2_METADATA_DISABLED": "true"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    return f"?endpoint_override={server}&scheme=http&region=us-east-1"


def winners(uris: list[str]) -> int:
    """How many of drivers, of which each claims with one of the URIs at the same moment, get in before the others have left."""
    inside: list[str] = []
    began, left = threading.Barrier(len(uris)), threading.Semaphore(0)

    def drive(uri: str) -> None:
        filesystem, path = open_store(uri.removeprefix("lists:"))
        began.wait()
        try:
            with leased(filesystem, path, uri):
                inside.append(uri)
                for _ in uris[1:]:
                    left.acquire(timeout=10)
        except AlreadyLeasedError:
            pass
        left.release()

    drivers = [threading.Thread(target=drive, args=(uri,)) for uri in uris]
    for driver in drivers:
        driver.start()
    for driver in drivers:
        driver.join()
    return len(inside)


@pytest.mark.parametrize("kinds", [("", ""), ("lists:", "lists:"), ("", "lists:")], ids=["conditional", "lists", "mixed"])
def test_of_two_drivers_at_the_same_moment_one_gets_in(store: str, kinds: tuple[str, str]) -> None:
    name = "-".join(kind.rstrip(":") or "conditional" for kind in kinds)
    for number in range(RACES):
        assert winners([f"{kind}s3://bucket/{name}-{number}{store}" for kind in kinds]) == 1, number


def test_of_five_one_gets_in(store: str) -> None:
    assert winners([f"s3://bucket/five{store}"] * 5) == 1
    assert winners([f"lists:s3://bucket/five-lists{store}"] * 5) == 1


def test_the_claim_of_a_killed_driver_is_taken_over_by_one(store: str) -> None:
    uri = f"s3://bucket/killed{store}"
    killed = conditional_object(uri, "bucket/killed/.drivers/driver")
    assert killed is not None
    killed.make()
    assert winners([uri] * 2) == 1
    filesystem, path = open_store(uri)
    with leased(filesystem, path, uri), pytest.raises(RefusedError):
        killed.renew()  # it was frozen, and goes on: it is told


def test_a_store_that_heeds_no_condition_or_no_boto3_means_lists(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = f"s3://bucket/heedless{store}"
    assert conditional_object("gs://bucket/heedless", "bucket/heedless") is None
    with monkeypatch.context() as heedless:
        put = ConditionalObject._put
        heedless.setattr(ConditionalObject, "_put", lambda self, **condition: put(self))
        assert conditional_object(uri, "bucket/heedless") is None
    with monkeypatch.context() as missing:
        missing.setitem(__import__("sys").modules, "boto3", None)
        assert conditional_object(uri, "bucket/heedless") is None
    assert conditional.conditional_object(uri, "bucket/heedless") is not None
