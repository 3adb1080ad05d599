"""The mirror: one run a point, equal to the records, whatever the server does; never a result lost, never a run twice."""

from __future__ import annotations

import random
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
import requests

import analysis
import study
from study.records.compaction import compact
from study.records.mirror import Mirror, check_reachable, default_tracking_uri
from study.records.tracking import ClientWriter, StudyRuns, finished_runs
from study.records.tracking.other_storage import check_experiment
from study.records.writer import FragmentWriter, Provenance
from tests.study.made_up_results import result
from trainables.point.config import ConfigError

if TYPE_CHECKING:
    from mlflow import MlflowClient

STUDY = "made-up"


@pytest.fixture
def writer(tmp_path: Path) -> FragmentWriter:
    return FragmentWriter(str(tmp_path / STUDY), Provenance(STUDY, None, "0.1.0"))


@pytest.fixture
def uri(tmp_path: Path, fresh_database: Path) -> str:
    (tmp_path / "mlflow.db").write_bytes(fresh_database.read_bytes())
    return f"sqlite:///{tmp_path}/mlflow.db"


def copied(writer: FragmentWriter, uri: str) -> Mirror:
    """A mirror that has caught up, as a new process would."""
    mirror = Mirror(uri, STUDY, writer.root)
    mirror.finish()
    return mirror


def runs_by_key(uri: str) -> Counter[str]:
    """How many runs each key has."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(STUDY)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    return Counter(run.data.tags["gaplab.key"] for run in runs if run.data.tags["gaplab.kind"] == "point")


def assert_equal_to_records(writer: FragmentWriter, uri: str) -> None:
    """MLflow says what the records say, each point once."""
    for load in (analysis.load, analysis.load_curves):
        here, there = in_order(load(writer.root)), in_order(load(f"mlflow:{STUDY}", tracking_uri=uri))
        assert there.equals(here), [name for name in here.column_names if not there[name].equals(here[name])]
    assert set(runs_by_key(uri).values()) <= {1}


def in_order(table: pa.Table) -> pa.Table:
    return table.sort_by([(name, "ascending") for name in ("key", "epoch") if name in table.column_names]).combine_chunks()


def test_mlflow_equals_arrow_for_every_status(writer, uri):
    writer([result(seed=0), result(seed=1, status="diverged", reason="the train loss is nan after epoch 4")], "cpu")
    writer([result(seed=2, status="failed", reason="RuntimeError: no luck"), result(seed=3, status="pruned")], "cpu")
    mirror = copied(writer, uri)
    assert mirror.error is None
    assert_equal_to_records(writer, uri)
    assert len(runs_by_key(uri)) == 4


def test_measures_are_mirrored(writer, uri):
    measured = result(seed=0)
    writer([replace(measured, outcome=measured.outcome | {"measure.path_norm": 1 / 3})], "cpu")
    copied(writer, uri)
    assert_equal_to_records(writer, uri)


@pytest.mark.parametrize("at_once", [True, False], ids=["by a new process", "while it follows"])
def test_measures_of_a_point_that_was_trained_again_are_joined(writer, uri, at_once):
    """In whatever order its files are met, merged or not; a network that came out otherwise lends nothing."""
    mirror = Mirror(uri, STUDY, writer.root)
    for name in ("l2_norm", "path_norm", "frobenius_norm"):
        for seed in range(3):
            one = result(seed=seed)
            loss = one.outcome["test_loss"] + 1e-15 * (name == "path_norm" and seed == 2)
            writer([replace(one, outcome=one.outcome | {f"measure.{name}": seed + 1 / 3, "test_loss": loss})], "cpu")
            time.sleep(0.002)  # fragments carry milliseconds
        if not at_once:
            mirror.finish()
        if name == "path_norm":
            compact(writer.root)
    mirror.finish()
    assert mirror.error is None
    assert_equal_to_records(writer, uri)
    there = analysis.load(f"mlflow:{STUDY}", tracking_uri=uri)
    assert [there[f"measure.{name}"].null_count for name in ("l2_norm", "path_norm", "frobenius_norm")] == [0, 1, 0]
    ids = run_ids(uri)
    copied(writer, uri)
    assert run_ids(uri) == ids, "and that is not done again"


def test_a_run_is_nested_named_and_ended(writer, uri):
    from mlflow import MlflowClient

    writer([result(seed=0), result(seed=1, status="failed"), result(seed=2, status="pruned")], "cpu")
    copied(writer, uri)
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(STUDY)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = (run for run in runs if run.data.tags["gaplab.kind"] == "study")
    points = {run.data.params["seed"]: run for run in runs if run.data.tags["gaplab.kind"] == "point"}
    assert {seed: run.info.status for seed, run in points.items()} == {"0": "FINISHED", "1": "FAILED", "2": "KILLED"}
    assert {run.data.tags["mlflow.parentRunId"] for run in points.values()} == {parent.info.run_id}
    assert {run.info.run_name for run in points.values()} == {"seed 0", "seed 1", "seed 2"}
    assert "optimizer.name" in parent.data.params
    assert "optimizer.name" not in points["0"].data.params, "a constant stands on the study's run alone"
    assert points["0"].info.end_time - points["0"].info.start_time == 250, "milliseconds: the result took 0.25 s"
    history = client.get_metric_history(points["0"].info.run_id, "train_error")
    assert [(point.step, point.value) for point in history] == [(row["epoch"], row["train_error"]) for row in result(seed=0).curve]


def test_copying_again_changes_nothing(writer, uri):
    writer([result(seed=0), result(seed=1, status="failed")], "cpu")
    copied(writer, uri)
    before = analysis.load(f"mlflow:{STUDY}", tracking_uri=uri)
    ids = run_ids(uri)
    for _ in range(2):
        copied(writer, uri)
    assert analysis.load(f"mlflow:{STUDY}", tracking_uri=uri).equals(before)
    assert run_ids(uri) == ids, "not even made anew"


def run_ids(uri: str) -> set[str]:
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(STUDY)
    assert experiment is not None
    return {run.info.run_id for run in client.search_runs([experiment.experiment_id])}


def test_a_failed_point_that_ran_again_has_the_run_of_its_outcome(writer, uri):
    writer([result(seed=0, status="failed", reason="RuntimeError: first")], "cpu")
    copied(writer, uri)
    time.sleep(0.002)  # fragments carry milliseconds
    writer([result(seed=0, status="failed", reason="RuntimeError: second")], "cpu")
    copied(writer, uri)
    assert analysis.load(f"mlflow:{STUDY}", tracking_uri=uri)["reason"].to_pylist() == ["RuntimeError: second"]
    writer([result(seed=0)], "cpu")
    copied(writer, uri)
    assert_equal_to_records(writer, uri)


def test_points_that_ran_twice_have_one_run(writer, uri):
    """In whatever order the fragments are met, as everything else that reads records."""
    for outcome in ("completed", "failed", "completed"):
        writer([result(seed=0, status=outcome), result(seed=1)], "cpu")
        time.sleep(0.002)
    copied(writer, uri)
    assert_equal_to_records(writer, uri)


def test_long_texts_do_not_stop_the_mirror(writer, uri):
    writer([result(seed=0, status="failed", reason="x" * 100_000), result(seed=1)], "cpu")
    mirror = copied(writer, uri)
    assert mirror.error is None
    reasons = analysis.load(f"mlflow:{STUDY}", tracking_uri=uri)["reason"].to_pylist()
    assert sorted(len(reason) for reason in reasons) == [len(result(seed=1).reason), 5000]


def test_long_curves_are_thinned(writer, uri):
    writer([result(seed=0, epochs=700)], "cpu")
    copied(writer, uri)
    assert analysis.load(f"mlflow:{STUDY}", tracking_uri=uri).equals(analysis.load(writer.root))
    epochs = analysis.load_curves(f"mlflow:{STUDY}", tracking_uri=uri)["epoch"].to_pylist()
    assert len(epochs) == 64
    assert max(epochs) == 700


def test_a_damaged_fragment_does_not_stop_the_mirror(writer, uri):
    writer([result(seed=0)], "cpu")
    Path(writer.root, "records", "cut.parquet").write_bytes(b"PAR1")
    with pytest.warns(UserWarning, match=r"cut\.parquet is no complete"):
        mirror = copied(writer, uri)
    assert mirror.error is None
    assert sum(runs_by_key(uri).values()) == 1


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


def experiment_of(client: MlflowClient) -> Any:
    experiment = client.get_experiment_by_name(STUDY)
    assert experiment is not None
    return experiment


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


def test_two_storages_of_one_study_name_are_not_mixed(writer, uri, tmp_path):
    writer([result(seed=0)], "cpu")
    copied(writer, uri)
    other = FragmentWriter(str(tmp_path / "elsewhere" / STUDY), Provenance(STUDY, None, "0.1.0"))
    other([result(seed=1)], "cpu")
    mirror = copied(other, uri)
    assert mirror.error is not None
    assert "holds the points of another storage" in mirror.error
    assert_equal_to_records(writer, uri)
    Path(writer.root, ".storage-id").unlink()
    assert copied(writer, uri).error is None, "the folder was made anew: the same place"
    moved = Path(writer.root).rename(tmp_path / "moved")
    assert copied(FragmentWriter(str(moved), Provenance(STUDY, None, "0.1.0")), uri).error is None, "a storage keeps its id when it moves"


def test_the_experiment_of_another_storage_is_refused_before_anything_is_trained(writer, uri, tmp_path):
    writer([result(seed=0)], "cpu")
    copied(writer, uri)
    written = {"study": STUDY, "trial": {"data": {"name": "synthetic", "dimension": 4, "classes": 3, "train_size": 60}}, "space": {}}
    with pytest.raises(ConfigError, match="--tracking-uri: the experiment of this name holds the points of another storage"):
        study.run(study.understand(written), storage=str(tmp_path / "elsewhere"), tracking_uri=uri)
    assert not (tmp_path / "elsewhere").exists(), "nothing was started"
    check_experiment(uri, STUDY, writer.root)
    moved = Path(writer.root).rename(tmp_path / "moved")
    check_experiment(uri, STUDY, str(moved))
    check_experiment(uri, "another", str(tmp_path / "elsewhere"))


def test_an_experiment_whose_runs_state_everything_goes_on_as_it_is(writer, uri):
    """As earlier versions wrote it: nothing on the study's run but its kind."""
    from mlflow import MlflowClient

    writer([result(seed=0)], "cpu")
    client = MlflowClient(uri)
    experiment = client.create_experiment(STUDY, artifact_location=f"{writer.root}/mlflow-artifacts")
    parent = client.create_run(experiment, tags={"gaplab.kind": "study"}).info.run_id
    client.set_terminated(parent)
    old = ClientWriter(client, experiment, at_once=1)
    before = old.write(list(finished_runs(analysis.load(writer.root), analysis.load_curves(writer.root), StudyRuns(parent))))
    old.close()
    assert_equal_to_records(writer, uri)
    writer([result(seed=1)], "cpu")
    assert copied(writer, uri).error is None
    assert_equal_to_records(writer, uri)
    assert not client.get_run(parent).data.params, "old runs lack nothing that it might state"
    assert {parent, *before} < run_ids(uri), "and stay as they are"


def test_a_study_that_grows_keeps_what_its_run_states(writer, uri):
    """What was constant varies now: old runs still take it from the study's run, new ones state theirs."""
    writer([result(seed=0), result(seed=1)], "cpu")
    copied(writer, uri)
    writer([result(seed=0, **{"optimizer.momentum": 0.25})], "cpu")
    copied(writer, uri)
    assert_equal_to_records(writer, uri)


@pytest.mark.usefixtures("by_client")
def test_it_follows_in_the_background_and_outlives_failures(writer, uri, flaky, monkeypatch):
    monkeypatch.setattr("study.records.mirror.POLL_SECONDS", 0.05)
    flaky("log_batch", 2, False)
    mirror = Mirror(uri, STUDY, writer.root)
    mirror.start()
    for seed in range(3):
        writer([result(seed=seed)], "cpu")
    deadline = time.monotonic() + 30
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


class Server:
    """A real `mlflow server` on loopback, which can die."""

    def __init__(self, folder: Path) -> None:
        self._artifacts = folder / "artifacts"
        self.database = f"sqlite:///{folder}/server.db"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self._port), "--workers", "1"]
        command += ["--backend-store-uri", self.database, "--artifacts-destination", str(self._artifacts)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            try:
                if requests.get(f"{self.uri}/health", timeout=2).ok:
                    return
            except requests.RequestException:
                time.sleep(0.2)
        raise TimeoutError("the MLflow server did not start")

    def kill(self) -> None:
        import os
        import signal

        if self._process:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


@pytest.fixture
def server(tmp_path: Path, fresh_database: Path) -> Iterator[Server]:
    (tmp_path / "server.db").write_bytes(fresh_database.read_bytes())
    server = Server(tmp_path)
    server.start()
    yield server
    server.kill()


def test_a_real_server_killed_in_the_middle_costs_nothing(writer, server, monkeypatch):
    monkeypatch.setattr("study.records.mirror.POLL_SECONDS", 0.05)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    writer([result(seed=0), result(seed=1)], "cpu")
    check_reachable(server.uri)
    mirror = Mirror(server.uri, STUDY, writer.root)
    mirror.start()
    deadline = time.monotonic() + 60
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
    assert copied(writer, server.database).error is None, "the server's database, without the server"
    assert_equal_to_records(writer, server.database)


def results_of_a_chart(folder: Path) -> list[Path]:
    chart = folder / "chart.svg"
    chart.write_text("<svg/>")
    return [chart]


def test_the_chart_is_with_the_parent_run(writer, uri, tmp_path):
    from mlflow import MlflowClient

    writer([result(seed=0)], "cpu")
    mirror = copied(writer, uri)
    mirror.log_artifacts(results_of_a_chart(tmp_path))
    assert mirror.error is None
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(STUDY)
    assert experiment is not None
    (parent,) = client.search_runs([experiment.experiment_id], "tags.`gaplab.kind` = 'study'")
    assert [artifact.path for artifact in client.list_artifacts(parent.info.run_id)] == ["chart.svg"]


def test_charts_of_results_that_were_moved_lie_where_they_are_now(tmp_path):
    storage = tmp_path / "before"
    FragmentWriter(str(storage / STUDY), Provenance(STUDY, None, ""))([result(seed=0)], "cpu")
    first = Mirror(f"sqlite:///{storage}/mlflow.db", STUDY, str(storage / STUDY))
    first.finish()
    assert first.error is None
    now = tmp_path / "now"
    storage.rename(now)
    mirror = Mirror(f"sqlite:///{now}/mlflow.db", STUDY, str(now / STUDY))
    with pytest.warns(UserWarning, match="the results were moved"):
        mirror.log_artifacts(results_of_a_chart(tmp_path))
    assert mirror.error is None
    assert not storage.exists()
    assert list((now / STUDY / "mlflow-artifacts").glob("*/artifacts/chart.svg"))


def test_the_default_database_lies_in_local_storage(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert default_tracking_uri("results") == f"sqlite:///{tmp_path}/results/mlflow.db"
    assert default_tracking_uri("s3://bucket/results") is None


@pytest.mark.parametrize(
    ("uri", "sentence"),
    [
        ("http://127.0.0.1:9", "no MLflow server answers at http://127.0.0.1:9"),
        ("sqlite:////no/such/folder/mlflow.db", "there is no folder /no/such/folder"),
        ("postgresql+nothing://me:secret@127.0.0.1:9/mlflow", r"cannot open .*me:\*\*\*@"),
        ("mlruns", "'mlruns' is no server or database"),
        ("", "'' is no server or database"),
        ("nonsense://", "cannot open nonsense://"),
    ],
)
def test_an_unreachable_server_is_a_sentence_without_its_password(uri, sentence):
    with pytest.raises(ConfigError, match=sentence) as caught:
        check_reachable(uri)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_database_is_a_sentence(tmp_path):
    (tmp_path / "mlflow.db").write_text("not a database at all, but long enough to have a header" * 10)
    with pytest.raises(ConfigError, match="cannot open"):
        check_reachable(f"sqlite:///{tmp_path}/mlflow.db")


def test_asking_makes_nothing(tmp_path):
    check_reachable(f"sqlite:///{tmp_path}/mlflow.db")
    assert list(tmp_path.iterdir()) == []
