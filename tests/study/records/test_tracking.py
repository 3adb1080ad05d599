"""Writers of finished runs: all write what MLflow's client writes, column for column, once, and beside others in the same store."""

from __future__ import annotations

import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy
from hypothesis import given
from hypothesis import strategies as st
from mlflow import MlflowClient

from study.records.tracking import (
    BulkWriter,
    ClientWriter,
    FinishedRun,
    StudyRuns,
    common_and_varying,
    finished_runs,
    open_writer,
    point_name,
)
from study.records.tracking.finished_runs import thinned
from tests.analysis.made_up_study import curve, record, records
from tests.mlflow_servers import mlflow_server
from trainables.point.config import TrialConfig, flatten

NAN, INF = float("nan"), float("inf")
ROWS = [
    record(seed=0),
    record(seed=1, status="diverged", train_loss=NAN, test_loss=INF, fit_epoch=None, interpolated=False),
    record(seed=2, status="failed", reason="no memory: 'quoted' \N{GREEK SMALL LETTER ALPHA} %s :x", epochs=0),
    record(seed=3, status="pruned", **{"measure.path_norm": 1 / 3}),
    record(seed=4, status="diverged", test_error=None, train_loss=-INF),
]
TABLES = {"params": "key", "tags": "key", "metrics": "key, step, value", "latest_metrics": "key"}


def described(rows: list[dict[str, Any]], study: StudyRuns | None = None, points: int | None = 64) -> list[FinishedRun]:
    """The runs of these rows."""
    curves = pa.Table.from_pylist([point for row in rows if row["epochs"] for point in curve(row | {"test_error": row["test_error"] or 0})])
    return list(finished_runs(records(rows), curves, study or StudyRuns("0" * 32, ("seed",)), points))


@pytest.fixture
def sqlite(tmp_path: Path, fresh_database: Path) -> str:
    (tmp_path / "mlflow.db").write_bytes(fresh_database.read_bytes())
    return f"sqlite:///{tmp_path}/mlflow.db"


def bulk_writer(uri: str, experiment: str) -> BulkWriter:
    writer = BulkWriter.open(uri, experiment, "here")
    assert isinstance(writer, BulkWriter), writer
    return writer


def rows_of(uri: str, experiment: str) -> dict[str, list[tuple[Any, ...]]]:
    """All that the tables hold of an experiment's runs, with the point's key in place of the run's id."""
    engine = sqlalchemy.create_engine(uri, poolclass=sqlalchemy.NullPool)
    found: dict[str, list[tuple[Any, ...]]] = {}
    with engine.connect() as connection:
        runs = [dict(row) for row in connection.exec_driver_sql("SELECT * FROM runs").mappings() if row["experiment_id"] == int(experiment)]
        tags = connection.exec_driver_sql("SELECT run_uuid, value FROM tags WHERE key = 'gaplab.key'").all()
        keys = {run_id: key for run_id, key in tags if run_id in {run["run_uuid"] for run in runs}}
        for run in runs:
            run["artifact_uri"] = run["artifact_uri"].replace(run["run_uuid"], "ID").replace(f"/{experiment}/", "/EXPERIMENT/")
            run["run_uuid"], run["experiment_id"] = keys[run["run_uuid"]], None
        found["runs"] = sorted(tuple(repr(item) for item in sorted(run.items())) for run in runs)
        for table in TABLES:
            rows = connection.exec_driver_sql(f"SELECT * FROM {table}").mappings()
            own = [dict(row) | {"run_uuid": keys[row["run_uuid"]]} for row in rows if row["run_uuid"] in keys]
            found[table] = sorted(tuple(repr(item) for item in sorted(row.items())) for row in own)
    return found


def same_by_both_writers(uri: str) -> None:
    client = MlflowClient(uri)
    by_client, by_bulk = client.create_experiment(f"client {time.time_ns()}"), client.create_experiment(f"bulk {time.time_ns()}")
    runs = described(ROWS, StudyRuns("0" * 32, ("seed",), {"optimizer.nesterov": "False"}, {"mlflow.user": "me"}))
    slow, fast = ClientWriter(client, by_client), bulk_writer(uri, by_bulk)
    slow.write(runs)
    ids = fast.write(runs)
    expected, written = rows_of(uri, by_client), rows_of(uri, by_bulk)
    for table, rows in expected.items():
        assert written[table] == rows, table
        assert rows
    assert slow.reconcile().keys() == fast.reconcile().keys() == {row["key"] for row in ROWS}
    assert {one.run_id for one in fast.reconcile().values()} == set(ids)
    for run_id in ids:
        assert len(client.get_run(run_id).data.metrics) > 3
    slow.close()


def test_sqlite_holds_what_the_client_would_write(sqlite: str) -> None:
    same_by_both_writers(sqlite)


def test_postgresql_holds_what_the_client_would_write(postgres: str) -> None:
    same_by_both_writers(postgres)


def test_postgresql_keeps_a_repeated_batch_once(postgres: str) -> None:
    repeated_batches_are_written_once(postgres)


def test_sqlite_keeps_a_repeated_batch_once(sqlite: str) -> None:
    repeated_batches_are_written_once(sqlite)


def repeated_batches_are_written_once(uri: str) -> None:
    """Also by two processes at the same time, and in batches that are cut otherwise."""
    experiment = MlflowClient(uri).create_experiment(f"repeated {time.time_ns()}")
    runs = described([record(seed=seed) for seed in range(40)])
    parts = (runs, runs[10:], runs[::-1])
    with ThreadPoolExecutor(len(parts)) as pool:
        assert [len(ids) for ids in pool.map(lambda part: bulk_writer(uri, experiment).write(part), parts)] == [40, 30, 40]
    bulk_writer(uri, experiment).write(runs)
    found = rows_of(uri, experiment)
    assert len(found["runs"]) == 40
    assert len(found["metrics"]) == sum(len(steps) for run in runs for steps, _ in run.metrics.values())


def test_a_replaced_run_is_hidden_and_one_deleted_by_hand_is_known(sqlite: str) -> None:
    client = MlflowClient(sqlite)
    experiment = client.create_experiment("replaced")
    writer = bulk_writer(sqlite, experiment)
    (failed,) = described([record(seed=0, status="failed")])
    (old,) = writer.write([failed])
    assert not writer.reconcile()[failed.key].final
    completed = replace(failed, status="FINISHED", end=failed.end + 1)
    (new,) = writer.write([completed], {failed.key: old})
    assert [run.info.run_id for run in client.search_runs([experiment])] == [new]
    client.delete_run(new)
    assert writer.reconcile()[failed.key].deleted
    assert writer.write([completed]) == [new], "written again because somebody wants it: it is shown again"
    assert [run.info.run_id for run in client.search_runs([experiment])] == [new]


@pytest.mark.parametrize("bulk", [True, False])
def test_what_an_interrupted_write_left_is_deleted(sqlite: str, bulk: bool) -> None:
    client = MlflowClient(sqlite)
    experiment = client.create_experiment("interrupted")
    run = described([record(seed=0)])[0]
    client.create_run(experiment, tags={"gaplab.kind": "point", "gaplab.key": run.key})
    writer = bulk_writer(sqlite, experiment) if bulk else ClientWriter(client, experiment)
    assert writer.reconcile() == {}
    earlier, later = writer.write([run]), writer.write([replace(run, end=run.end + 5)])
    assert writer.reconcile()[run.key].run_id == later[0] != earlier[0], "two runs of a point: the later stays"
    assert [found.info.run_id for found in client.search_runs([experiment])] == later
    writer.close()


def test_another_schema_is_left_to_the_client(sqlite: str) -> None:
    client = MlflowClient(sqlite)
    assert isinstance(open_writer(client, "0", "here"), BulkWriter)
    with sqlite3.connect(sqlite.removeprefix("sqlite:///")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
    assert "its schema is ffffffffffff" in str(BulkWriter.open(sqlite, "0", "here"))
    assert isinstance(open_writer(client, "0", "here"), ClientWriter)
    for uri in ("http://127.0.0.1:1", "sqlite://", "mlruns", "mysql://somewhere/db", f"{sqlite}.missing"):
        assert isinstance(BulkWriter.open(uri, "0", "here"), str), uri
    assert not Path(f"{sqlite.removeprefix('sqlite:///')}.missing").exists()


def test_others_read_and_write_meanwhile(sqlite: str) -> None:
    """The database's journal mode is its owner's, and nobody waits longer than a few transactions."""
    client = MlflowClient(sqlite)
    experiment, other = client.create_experiment("bulk"), client.create_experiment("other")
    longest, failures, done = [0.0], [], threading.Event()

    def other_work() -> None:
        while not done.is_set():
            start = time.monotonic()
            try:
                client.set_terminated(client.create_run(other).info.run_id)
                client.search_runs([other], max_results=5)
            except Exception as error:
                failures.append(error)
            longest[0] = max(longest[0], time.monotonic() - start)

    thread = threading.Thread(target=other_work)
    thread.start()
    runs = described([record(seed=seed, epochs=30) for seed in range(1500)])
    bulk_writer(sqlite, experiment).write(runs)
    done.set()
    thread.join()
    assert not failures
    assert longest[0] < 20
    assert len(client.search_runs([other], max_results=1000)) > 0
    with sqlite3.connect(sqlite.removeprefix("sqlite:///")) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)


def test_a_locked_database_is_waited_for_and_then_said(sqlite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("study.records.tracking.bulk.LOCK_SECONDS", 0.5)
    writer = bulk_writer(sqlite, MlflowClient(sqlite).create_experiment("locked"))
    with sqlite3.connect(sqlite.removeprefix("sqlite:///"), isolation_level=None) as connection:
        connection.execute("BEGIN IMMEDIATE")
        start = time.monotonic()
        with pytest.raises(sqlalchemy.exc.OperationalError, match="locked"):
            writer.write(described([record(seed=0)]))
        assert time.monotonic() - start < 10
        connection.execute("ROLLBACK")
    writer.write(described([record(seed=0)]))


def test_a_server_is_written_to_by_several_requests_at_once(sqlite: str) -> None:
    with mlflow_server(sqlite) as uri:
        client = MlflowClient(uri)
        experiment = client.create_experiment("served", artifact_location="/somewhere")
        writer = open_writer(client, experiment, "here")
        assert isinstance(writer, ClientWriter)
        writer.write(described(ROWS))
        assert writer.reconcile().keys() == {row["key"] for row in ROWS}
        writer.close()
    beside = MlflowClient(sqlite).create_experiment("beside", artifact_location="/somewhere")
    bulk_writer(sqlite, beside).write(described(ROWS))
    assert rows_of(sqlite, beside) == rows_of(sqlite, experiment)


def test_only_what_varies_and_describes_stands_on_a_point() -> None:
    rows = [record(seed=seed, **{"corruption.level": level}) for seed in range(2) for level in (0.0, 0.5)]
    common, varying = common_and_varying([{name: row[name] for name in flatten(TrialConfig())} for row in rows])
    assert varying == ["corruption.level", "seed"]
    runs = described(rows, StudyRuns("0" * 32, varying, common | {"torch_version": "2.15.0", "device": "cpu"}))
    assert {tuple(run.params) for run in runs} == {
        ("data.name", "data.train_size", "corruption.kind", "corruption.level", "model.name", "seed")
    }
    assert [run.name for run in runs][:2] == ["noise 0 · seed 0", "noise 0.5 · seed 0"]
    assert "gaplab.torch_version" not in runs[0].tags
    assert "device" in runs[0].tags["gaplab.null"].split(","), "the study's run states a device, the point has none"


def test_a_point_states_what_differs_from_the_study() -> None:
    (run,) = described([record(seed=0, **{"optimizer.momentum": 0.5})], StudyRuns("0" * 32, (), {"optimizer.momentum": "0.9"}))
    assert run.params["optimizer.momentum"] == "0.5"


def test_names_say_what_varies() -> None:
    row = record(seed=2, **{"corruption.level": 0.5}) | {"model.parameters_per_sample": 10.0, "regularizers.flip": True, "data.seed": 3}
    assert point_name(row, ["seed", "model.parameters_per_sample", "corruption.level"]) == "p/n 10 · noise 0.5 · seed 2"
    assert point_name(row, ["model.name", "regularizers.flip"]) == "mlp · flip"
    assert point_name(row, ["data.seed", "seed"]) == "data seed 3 · seed 2"
    assert point_name(row, []) == row["key"][:8]
    assert point_name(row | {"model.parameters_per_sample": 12.915496}, ["model.parameters_per_sample"]) == "p/n 12.9"


@given(st.integers(1, 500), st.integers(3, 70), st.integers(0, 600))
def test_thinned_curves_keep_both_ends_and_the_fit(count: int, points: int, kept: int) -> None:
    steps = list(range(1, count + 1))
    chosen, values = thinned((steps, [2.0 * step for step in steps]), points, kept)
    assert list(values) == [2.0 * step for step in chosen]
    assert list(chosen) == sorted(set(chosen))
    assert (chosen[0], chosen[-1]) == (1, count)
    assert len(chosen) <= points or len(chosen) == count
    assert kept in chosen or kept not in steps
