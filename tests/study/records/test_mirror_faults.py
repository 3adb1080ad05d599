"""The mirror beside a server that fails, loses answers, dies, or holds what was half written: never a result lost, never a run twice."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import analysis
from study.records.mirror import Mirror
from study.records.tracking import ClientWriter
from study.records.tracking.other_storage import check_experiment
from study.records.tracking.tracking_uri import check_reachable
from tests.mlflow_servers import Server, running_server
from tests.study.made_up_results import result
from tests.study.records.mirrored import STUDY, assert_equal_to_records, copied, experiment_of, run_ids, runs_by_key
from trainables.point.errors import ConfigError


@pytest.fixture
def flaky(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int, bool], None]:
    """Make the n-th call of a method of the client raise, before or after it has done its work."""
    from mlflow import MlflowClient

    def arrange(method: str, failing: int, done_before: bool) -> None:
        original, calls = getattr(MlflowClient, method), Counter[str]()

        def call(self, *args, **kwargs):
            calls["made"] += 1
            if calls["made"] != failing:
                return original(self, *args, **kwargs)
            if done_before:
                original(self, *args, **kwargs)
            raise ConnectionError("the server hung up")

        monkeypatch.setattr(MlflowClient, method, call)

    return arrange


@pytest.fixture
def by_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow's client writes, as to a server."""
    monkeypatch.setattr("study.records.mirror.open_writer", lambda client, experiment, origin: ClientWriter(client, experiment, at_once=1))


@pytest.mark.usefixtures("by_client")
@pytest.mark.parametrize("done_before", [False, True], ids=["refused", "answer lost"])
@pytest.mark.parametrize(
    ("method", "failing"), [("create_run", 1), ("create_run", 2), ("log_batch", 1), ("log_batch", 3), ("set_terminated", 3)]
)
def test_a_server_that_fails_anywhere_gets_the_rest_later_and_nothing_twice(writer, uri, flaky, method, failing, done_before):
    for seed in range(3):
        writer([result(seed=seed)], "cpu")
    flaky(method, failing, done_before)
    mirror = copied(writer, uri)
    assert mirror.error in (None, "the server hung up")
    mirror.finish()
    assert mirror.error is None
    assert_equal_to_records(writer, uri)
    assert len(runs_by_key(uri)) == 3


@pytest.mark.usefixtures("by_client")
def test_runs_that_vanish_while_the_server_fails_are_written_again(writer, uri, flaky):
    """As when a server comes back with an empty database."""
    from mlflow import MlflowClient

    mirror = Mirror(uri, STUDY, writer.root)
    writer([result(seed=0), result(seed=1)], "cpu")
    mirror.finish()
    client = MlflowClient(uri)
    for run in run_ids(uri):
        client.delete_run(run)
    flaky("create_run", 1, False)
    writer([result(seed=2)], "cpu")
    mirror.finish()
    mirror.finish()
    assert mirror.error is None
    assert_equal_to_records(writer, uri)


def test_ten_percent_of_answers_lost_leave_one_run_a_key_and_none_running(writer, uri, monkeypatch):
    """The server acts, and its answer is dropped; also when `gaplab sync` runs afterwards."""
    from mlflow import MlflowClient

    chance, calls = random.Random(0), Counter[str]()
    for name in ("create_experiment", "create_run", "log_batch", "set_terminated", "delete_run", "set_tag", "restore_run"):
        monkeypatch.setattr(MlflowClient, name, losing_answers(getattr(MlflowClient, name), chance, calls))
    monkeypatch.setattr("study.records.mirror.open_writer", lambda client, experiment, origin: ClientWriter(client, experiment, at_once=2))
    for seed in range(20):
        writer([result(seed=seed, status="failed" if seed % 5 == 0 else "completed")], "cpu")
    mirror = Mirror(uri, STUDY, writer.root)
    attempts = finished_at_last(mirror)
    time.sleep(0.002)
    for seed in range(0, 20, 5):
        writer([result(seed=seed)], "cpu")
    attempts += finished_at_last(mirror)
    assert attempts > 2, "answers were lost"
    monkeypatch.undo()
    for _ in range(2):
        assert_equal_to_records(writer, uri)
        client = MlflowClient(uri)
        runs = client.search_runs([experiment_of(client).experiment_id])
        assert sorted(run.data.tags["gaplab.kind"] for run in runs) == ["point"] * 20 + ["study"]
        assert {run.info.status for run in runs} == {"FINISHED"}
        assert copied(writer, uri).error is None


def losing_answers(method: Callable[..., Any], chance: random.Random, calls: Counter[str]) -> Callable[..., Any]:
    def call(*args, **kwargs):
        answer = method(*args, **kwargs)
        if chance.random() < 0.1:
            raise ConnectionError("the answer was lost")
        return answer

    return call


def finished_at_last(mirror: Mirror) -> int:
    """How often it was told to finish until nothing failed."""
    for attempt in range(1, 200):
        mirror.finish()
        if mirror.error is None:
            return attempt
    raise AssertionError(mirror.error)


def test_surplus_orphans_and_half_written_runs_are_mended(writer, uri):
    from mlflow import MlflowClient

    writer([result(seed=0), result(seed=1)], "cpu")
    copied(writer, uri)
    client = MlflowClient(uri)
    experiment = experiment_of(client)
    (parent,) = client.search_runs([experiment.experiment_id], "tags.`gaplab.kind` = 'study'")
    key = result(seed=0).key
    tags = {"gaplab.kind": "point", "gaplab.key": key, "mlflow.parentRunId": parent.info.run_id}
    surplus = client.create_run(experiment.experiment_id, tags=tags)
    client.set_terminated(surplus.info.run_id, "FINISHED", end_time=1)
    client.create_run(experiment.experiment_id, tags=tags)  # stays RUNNING
    orphan = client.search_runs([experiment.experiment_id], f"tags.`gaplab.key` = '{result(seed=1).key}'")[0]
    client.set_tag(orphan.info.run_id, "mlflow.parentRunId", "0" * 32)
    assert copied(writer, uri).error is None
    assert_equal_to_records(writer, uri)
    runs = client.search_runs([experiment.experiment_id], "tags.`gaplab.kind` = 'point'")
    assert {run.data.tags["mlflow.parentRunId"] for run in runs} == {parent.info.run_id}
    assert {run.info.status for run in runs} == {"FINISHED"}


def test_a_deleted_experiment_is_restored(writer, uri):
    from mlflow import MlflowClient

    writer([result(seed=0)], "cpu")
    copied(writer, uri)
    client = MlflowClient(uri)
    client.delete_experiment(experiment_of(client).experiment_id)
    writer([result(seed=1)], "cpu")
    assert copied(writer, uri).error is None
    assert_equal_to_records(writer, uri)


@pytest.mark.usefixtures("by_client")
def test_it_follows_in_the_background_and_outlives_failures(writer, uri, flaky, monkeypatch):
    monkeypatch.setattr("study.records.mirror.POLL_SECONDS", 0.05)
    flaky("log_batch", 2, False)
    mirror = Mirror(uri, STUDY, writer.root)
    mirror.start()
    for seed in range(3):
        writer([result(seed=seed)], "cpu")
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not ended(uri, 3):
        time.sleep(0.05)
    assert ended(uri, 3), "without finish: a running study can be watched"
    mirror.finish()
    assert mirror.error is None
    assert_equal_to_records(writer, uri)


def ended(uri: str, points: int) -> bool:
    """Whether MLflow has so many ended runs of points."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(STUDY)
    if experiment is None:
        return False
    runs = client.search_runs([experiment.experiment_id], "tags.`gaplab.kind` = 'point'")
    return sum(run.info.status == "FINISHED" for run in runs) == points


@pytest.fixture
def server(tmp_path: Path, fresh_database: Path) -> Iterator[Server]:
    (tmp_path / "server.db").write_bytes(fresh_database.read_bytes())
    with running_server(f"sqlite:///{tmp_path}/server.db", artifacts=tmp_path / "artifacts") as server:
        yield server


def test_a_real_server_killed_in_the_middle_costs_nothing(writer, server, monkeypatch):
    monkeypatch.setattr("study.records.mirror.POLL_SECONDS", 0.05)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    writer([result(seed=0), result(seed=1)], "cpu")
    check_reachable(server.uri)
    mirror = Mirror(server.uri, STUDY, writer.root)
    mirror.start()
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not ended(server.uri, 2):
        time.sleep(0.1)
    check_experiment(server.uri, STUDY, writer.root)
    with pytest.raises(ConfigError, match="another storage"):
        check_experiment(server.uri, STUDY, f"{writer.root}-elsewhere")
    server.kill()
    check_experiment(server.uri, STUDY, f"{writer.root}-elsewhere")  # not known: the mirror looks again
    before = time.monotonic()
    writer([result(seed=2)], "cpu")
    assert time.monotonic() - before < 5, "a worker does not wait for the server"
    mirror.finish()
    assert mirror.error
    assert analysis.load(writer.root).num_rows == 3
    assert copied(writer, server.backend).error is None, "the server's database, without the server"
    assert_equal_to_records(writer, server.backend)
