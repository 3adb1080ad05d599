"""Finished runs into MLflow: into SQLite and PostgreSQL databases and over HTTP, with curves of 30 epochs.

A run has the seven metrics an epoch that a point without label noise has; 12 are as many as there can be.

    python -m tests.benchmarks tracking

One core is kept busy meanwhile, as training would. Goals: 500 runs a second into a database, 60 over HTTP.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from analysis.records.schema import CURVES, RECORDS
from study.records.tracking import ClientWriter, StudyRuns, Writer, common_and_varying, finished_runs, open_writer
from study.records.tracking.finished_runs import DRAWN
from tests.mlflow_servers import mlflow_server, postgres_server, programs
from trainables.point.config import TrialConfig, flatten

EPOCHS = 30
ALL_METRICS = [*(name for name in CURVES.names if name not in ("key", "epoch")), "another_loss", "another_error"]
METRICS = ["learning_rate", "train_loss", "train_error", "test_loss", "test_error", "clean_train_error", "clean_train_loss"]
BULK_RUNS, HTTP_RUNS, CLIENT_RUNS = 10_000, 600, 100
CHUNK = 500
"""Points whose records and curves a mirror holds as Python objects at once."""


def points(count: int, metrics: Sequence[str]) -> tuple[pa.Table, pa.Table]:
    """Records of a study of capacity, noise and seed, and their curves."""
    draw = np.random.default_rng(0)
    rows, keys = [], [hashlib.sha256(b"%d" % place).hexdigest()[:32] for place in range(count)]
    begun = datetime(2026, 3, 1, 12, tzinfo=UTC)
    for place, key in enumerate(keys):
        fields = {"model.width": 8 + place % 12, "model.parameters_per_sample": 10 ** (place % 12 / 6 - 1), "seed": place}
        outcome = dict.fromkeys(("train_error", "train_loss", "test_error", "test_loss", "wrong_label_rate", "generalization_gap"), 0.25)
        more = {"parameters": 500, "parameters_per_sample": 0.5, "epochs": EPOCHS, "fit_epoch": 12, "interpolated": True, "seconds": 0.5}
        told = {
            "key": key,
            "study": "bench",
            "status": "completed",
            "finished": begun + timedelta(milliseconds=9 * place),
            "key_version": 1,
        }
        told |= {"key_version": 1, "corruption.level": place % 5 / 4, "torch_version": "2.15.0", "device": "cpu", "host": "here"}
        rows.append(flatten(TrialConfig()) | fields | outcome | more | told)
    columns: dict[str, Any] = {"key": np.repeat(keys, EPOCHS), "epoch": np.tile(np.arange(1, EPOCHS + 1, dtype=np.int32), count)}
    columns |= {name: draw.random(count * EPOCHS) for name in metrics}
    return pa.Table.from_pylist(rows, RECORDS), pa.table(columns)


def write(writer: Writer, tables: tuple[pa.Table, pa.Table], parent: str, drawn: int) -> tuple[float, float]:
    """Seconds, and CPU seconds of this process, for describing and writing every point."""
    records, curves = tables
    common, varying = common_and_varying(records.select(list(flatten(TrialConfig()))).slice(0, 100).to_pylist())
    study = StudyRuns(parent, varying, common | {"torch_version": "2.15.0", "device": "cpu", "host": "here", "key_version": "1"})
    start, begun = time.perf_counter(), time.process_time()
    for first in range(0, records.num_rows, CHUNK):
        some = curves.slice(first * EPOCHS, CHUNK * EPOCHS)
        writer.write(list(finished_runs(records.slice(first, CHUNK), some, study, drawn)))
    return time.perf_counter() - start, time.process_time() - begun


def into(uri: str, count: int, *, bulk: bool = True, drawn: int = DRAWN, metrics: Sequence[str] = METRICS) -> dict[str, float]:
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.create_experiment(f"bench {time.time_ns()}")
    parent = client.create_run(experiment).info.run_id
    before = _bytes(uri)
    writer = open_writer(client, experiment, "bench") if bulk else ClientWriter(client, experiment, 1)
    seconds, cpu = write(writer, points(count, metrics), parent, drawn)
    writer.close()
    kb = (_bytes(uri) - before) / count / 1e3
    assert len(client.search_runs([experiment], max_results=1000)) == min(count + 1, 1000)
    return {
        "runs": count,
        "runs_per_second": count / seconds,
        "cpu_ms_per_run": 1e3 * cpu / count,
        "kb_per_run": kb,
    }


def _bytes(uri: str) -> float:
    """What a database takes on its disk; nothing is known of a server's."""
    if uri.startswith("sqlite"):
        return Path(uri.removeprefix("sqlite:///")).stat().st_size
    if not uri.startswith("postgresql"):
        return float("nan")
    import sqlalchemy

    with sqlalchemy.create_engine(uri, poolclass=sqlalchemy.NullPool).connect() as connection:
        return float(connection.exec_driver_sql("SELECT pg_database_size(current_database())").scalar() or 0)


def _spin() -> None:
    while True:
        pass


@contextmanager
def _busy_core() -> Iterator[None]:
    """A process that computes without end, at the priority of training."""
    process = multiprocessing.get_context("spawn").Process(target=_spin, daemon=True)
    process.start()
    yield
    process.kill()
    process.join()


def measure() -> dict[str, Any]:
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    measured: dict[str, Any] = {}
    print("| into | runs | runs/s | CPU ms a run here | kB a run |\n|---|---|---|---|---|")

    def note(name: str, numbers: dict[str, float]) -> None:
        measured[name] = numbers
        runs, speed, cpu, kb = numbers.values()
        print(f"| {name} | {runs:,} | {speed:,.0f} | {cpu:.2f} | {kb:.1f} |", flush=True)

    with tempfile.TemporaryDirectory() as folder, _busy_core(), postgres_server() if programs() else nullcontext() as postgres:
        sqlite = f"sqlite:///{folder}/mlflow.db"
        for name, uri in (("SQLite", sqlite), ("PostgreSQL", postgres)):
            if uri:
                note(f"{name}, MlflowClient alone", into(uri, CLIENT_RUNS, bulk=False))
                note(name, into(uri, BULK_RUNS))
                note(f"{name}, 12 metrics", into(uri, BULK_RUNS, metrics=ALL_METRICS))
                with mlflow_server(uri) as server:
                    note(f"HTTP, server on {name}", into(server, HTTP_RUNS))
                    note(f"HTTP, server on {name}, 8 points a metric", into(server, HTTP_RUNS, drawn=8))
    return measured
