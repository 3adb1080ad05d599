"""The analysis at scale: a million records with fifty million curve rows, and ten thousand MLflow runs against MLflow's own way.

And a hundred thousand fragments of one point each, before and after they are merged.

Goals: gap against capacity with its bands from a cold start in less than 3 s and 2 GiB, the learning curves of one cell in
less than 1 s; of 10,000 MLflow runs the records 10 times and the curves 100 times as fast by SQL as by `mlflow.search_runs`
and `get_metric_history`, and no slower by the API. Files are in the page cache: they were written just before.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from analysis.records.schema import CURVES, RECORDS
from trainables.point.config import TrialConfig, flatten

CAPACITIES, LEVELS, SEEDS, EPOCHS = 200, 50, 100, 50
"""A million records: every capacity at every level with every seed; 50 million curve rows."""
FILES = 20
RUNS, STEPS = 10_000, 20
METRICS = [name for name in CURVES.names if name not in ("key", "epoch")]
SOME_RUNS = 25
"""Runs whose histories are asked for one by one; the time for all runs follows from theirs."""

FRAGMENTS, POINTS = 100_000, 20
"""Fragments of one record, each with a curve of 20 epochs."""

CHART = """
start = time.perf_counter()
import analysis
table = analysis.load(sys.argv[1], columns=analysis.gap_columns(sys.argv[1]))
loaded = time.perf_counter()
figure = analysis.gap_vs_capacity(table)
drawn = time.perf_counter()
analysis.write_chart(figure, sys.argv[1] + "/gap")
times = {"import_and_load": loaded - start, "draw": drawn - loaded, "write": time.perf_counter() - drawn}
"""
CURVES_OF_A_CELL = """
import pyarrow.compute as pc
start = time.perf_counter()
import analysis
cell = (pc.field("corruption.level") == 1.0) & (pc.field("model.width") == 10_000)
columns = ["key", "status", "model.width", "corruption.kind", "corruption.level", "seed"]
table = analysis.load(sys.argv[1], columns=columns, filter=cell)
loaded = time.perf_counter()
curves = analysis.load_curves(sys.argv[1], keys=table["key"], columns=["key", "epoch", "train_loss"])
read = time.perf_counter()
analysis.learning_curves(table, curves)
assert curves.num_rows == 100 * 50
times = {"import_and_records": loaded - start, "curves": read - loaded, "draw": time.perf_counter() - read}
"""
LOAD = """
import analysis
start = time.perf_counter()
assert analysis.load(sys.argv[1]).num_rows == 100_000
loaded = time.perf_counter()
assert analysis.load_curves(sys.argv[1]).num_rows == 2_000_000
times = {"records": loaded - start, "curves": time.perf_counter() - loaded}
"""
COMPACT = """
from study.records.compaction import compact
start = time.perf_counter()
assert compact(sys.argv[1]) == 100_000
times = {"compact": time.perf_counter() - start}
"""
_HEAD = "import json, resource, sys, time"
_TAIL = """
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps(times | {"cpu": used.ru_utime + used.ru_stime, "peak_mib": used.ru_maxrss / 1024}))
"""


def measure() -> dict[str, Any]:
    measured: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        print("writing a million records and their curves ...")
        write_study(Path(folder) / "large")
        measured["gap_vs_capacity"] = cold(CHART, f"{folder}/large")
        measured["learning_curves_of_a_cell"] = cold(CURVES_OF_A_CELL, f"{folder}/large")
    with tempfile.TemporaryDirectory() as folder:
        measured["compaction"] = compaction(f"{folder}/small")
    with tempfile.TemporaryDirectory() as folder:
        print("writing ten thousand MLflow runs ...")
        measured |= mlflow_ways(folder)
    print(json.dumps(measured, indent=1))
    return measured


def cold(script: str, study: str) -> dict[str, float]:
    """What a fresh interpreter says that the script took, and how long it lived; in seconds, but for the memory."""
    start = time.perf_counter()
    command = [sys.executable, "-c", _HEAD + script + _TAIL, study]
    answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return json.loads(answer) | {"all": time.perf_counter() - start}


def write_study(root: Path) -> None:
    """Records and curves as compaction leaves them: a few files, curves sorted by key in small row groups."""
    draw = np.random.default_rng(0)
    capacity, level, seed = (axis.ravel() for axis in np.meshgrid(range(CAPACITIES), range(LEVELS), range(SEEDS), indexing="ij"))
    order = draw.permutation(len(seed))
    keys = np.sort(draw.integers(0, 2**62, len(seed)))
    for kind in ("records", "curves"):
        (root / kind).mkdir(parents=True)
    for file, some in enumerate(np.array_split(np.arange(len(seed)), FILES)):
        names = pa.array([f"{key:016x}{key ^ 0x5555:016x}" for key in keys[some].tolist()])
        table = _records(draw, capacity[order[some]], level[order[some]], seed[order[some]], names)
        pq.write_table(table, root / "records" / f"{file}.parquet", compression="zstd")
        _write_curves(draw, names, root / "curves" / f"{file}.parquet")


def _records(draw: np.random.Generator, capacity: Any, level: Any, seed: Any, names: pa.Array) -> pa.Table:
    count, samples = len(seed), 1000
    p = np.geomspace(100, 100_000, CAPACITIES).astype(np.int64)[capacity]
    rate = 0.9 * level / (LEVELS - 1)
    train = np.round(np.maximum(rate * (1 - p / 4000), 0), 3)
    test = np.round(0.05 + 0.9 * rate + draw.normal(0, 0.01, count), 4)
    columns: dict[str, Any] = {name: pa.array([value] * count) for name, value in flatten(TrialConfig()).items()}
    columns |= {"key": names, "study": ["large"] * count, "status": ["completed"] * count, "reason": [None] * count}
    columns |= {"corruption.level": level / (LEVELS - 1), "seed": seed, "model.width": p // 10, "parameters": p}
    columns |= {"parameters_per_sample": p / samples, "wrong_label_rate": rate, "train_error": train, "test_error": test}
    columns |= {
        "generalization_gap": test - train,
        "interpolated": train == 0,
        "train_loss": draw.random(count),
        "test_loss": draw.random(count),
    }
    columns |= {"epochs": np.full(count, EPOCHS), "seconds": draw.random(count), "finished": [datetime(2026, 1, 1, tzinfo=UTC)] * count}
    return pa.table([pa.array(columns.get(field.name, [None] * count)).cast(field.type) for field in RECORDS], RECORDS)


def _write_curves(draw: np.random.Generator, names: pa.Array, path: Path) -> None:
    rows = len(names) * EPOCHS
    errors = [pa.array(np.round(draw.random(rows), 3)) for _ in range(2)]
    losses = [pa.array(draw.random(rows)) for _ in range(2)]
    epochs = np.tile(np.arange(1, EPOCHS + 1, dtype=np.int32), len(names))
    columns = {"key": names.take(pa.array(np.repeat(np.arange(len(names)), EPOCHS))), "epoch": epochs, "learning_rate": 0.1 * 0.95**epochs}
    columns |= {"train_loss": losses[0], "train_error": errors[0], "test_loss": losses[1], "test_error": errors[1]}
    table = pa.table([pa.array(columns.get(field.name, pa.nulls(rows, field.type))) for field in CURVES], CURVES)
    pq.write_table(table, path, compression="zstd", row_group_size=10_000)


def compaction(study: str) -> dict[str, float]:
    """Seconds to merge the fragments, and to load their records and all their curves before and after; memory in MiB."""
    print("writing a hundred thousand fragments ...")
    write_fragments(study)
    seconds = {f"{name}_before": value for name, value in cold(LOAD, study).items()}
    seconds |= cold(COMPACT, study)
    return seconds | {f"{name}_after": value for name, value in cold(LOAD, study).items() if name in ("records", "curves")}


def write_fragments(study: str) -> None:
    """As workers leave them, but that nothing is forced to the disk."""
    draw = np.random.default_rng(0)
    names = pa.array([f"{key:016x}{key ^ 0x5555:016x}" for key in draw.integers(0, 2**62, FRAGMENTS).tolist()])
    place = np.arange(FRAGMENTS)
    table = _records(draw, place % CAPACITIES, place // CAPACITIES % LEVELS, place, names)
    errors = np.linspace(1, 0, POINTS)
    own = dict.fromkeys(("learning_rate", "train_loss", "train_error", "test_loss", "test_error"), errors)
    for kind in ("records", "curves"):
        (Path(study) / kind).mkdir(parents=True)
    for row, name in enumerate(names.to_pylist()):
        columns = own | {"key": [name] * POINTS, "epoch": np.arange(1, POINTS + 1)}
        curve = pa.table([pa.array(columns.get(field.name, [None] * POINTS)).cast(field.type) for field in CURVES], CURVES)
        for kind, part in (("curves", curve), ("records", table.slice(row, 1))):
            pq.write_table(part, f"{study}/{kind}/{name}.parquet", compression="none", use_dictionary=False, write_page_checksum=True)


def mlflow_ways(folder: str) -> dict[str, Any]:
    """Seconds by MLflow's fluent API, by gaplab's way through the client API and by SQL, for records and for curves."""
    import mlflow

    import analysis

    uri = f"sqlite:///{folder}/mlflow.db"
    fill_database(uri, Path(folder) / "mlflow.db")
    mlflow.set_tracking_uri(uri)
    client = mlflow.MlflowClient(uri)
    seconds: dict[str, float] = {}
    with timed(seconds, "records_search_runs"):
        frame = mlflow.search_runs(experiment_names=["bench"])
    with timed(seconds, "records_api"):
        by_api = analysis.load("mlflow:bench", tracking_uri=uri)
    with timed(seconds, "records_sql"):
        by_sql = analysis.load("mlflow:bench", tracking_uri=uri, sql=True)
    assert len(frame) == RUNS
    assert by_api.sort_by("key").equals(by_sql.sort_by("key"))
    few = frame.iloc[:: RUNS // SOME_RUNS]
    with timed(seconds, "histories_of_some_runs"):
        pairs = list(zip(few["tags.gaplab.key"], few["run_id"], strict=True))
        histories = {(key, name): client.get_metric_history(run, name) for key, run in pairs for name in METRICS}
    with timed(seconds, "curves_sql"):
        curves = analysis.load_curves("mlflow:bench", tracking_uri=uri, sql=True)
    assert curves.num_rows == RUNS * STEPS
    for (key, name), history in histories.items():
        own = curves.filter(pc.field("key") == key).sort_by("epoch")[name].to_pylist()
        assert own == [point.value for point in sorted(history, key=lambda point: point.step)]
    everything = seconds["histories_of_some_runs"] * RUNS / len(few)
    return {
        "mlflow_seconds": seconds,
        "histories_of_all_runs_seconds_extrapolated": everything,
        "ratio_records_sql": seconds["records_search_runs"] / seconds["records_sql"],
        "ratio_records_api": seconds["records_search_runs"] / seconds["records_api"],
        "ratio_curves_sql": everything / seconds["curves_sql"],
    }


@contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - start


def fill_database(uri: str, path: Path) -> None:
    """Runs as gaplab's mirror leaves them, put into the tables at once: by the API this would take many minutes."""
    from mlflow import MlflowClient

    experiment = int(MlflowClient(uri).create_experiment("bench"))
    draw = np.random.default_rng(0)
    params = {name: str(value) for name, value in flatten(TrialConfig()).items() if value is not None}
    outcomes = {
        "parameters": 5000.0,
        "parameters_per_sample": 5.0,
        "epochs": STEPS,
        "interpolated": 1.0,
        "seconds": 1.5,
        "generalization_gap": 0.1,
    }
    with sqlite3.connect(path) as connection:
        for run in range(RUNS):
            identifier, key = f"{run:032x}", f"{RUNS - run:032x}"
            tags = {"gaplab.kind": "point", "gaplab.key": key, "gaplab.status": "completed", "gaplab.torch_version": "2.15.0"}
            tags |= {"gaplab.finished": "2026-03-01T12:00:00.123000+00:00", "mlflow.runName": key[:8]}
            row = (identifier, key[:8], "UNKNOWN", "", "", "me", "FINISHED", run, run, "", "active", "", experiment)
            connection.execute(f"INSERT INTO runs VALUES ({','.join('?' * 13)}, NULL)", row)
            connection.executemany("INSERT INTO tags VALUES (?,?,?)", ((name, text, identifier) for name, text in tags.items()))
            own = params | {"model.width": str(run), "seed": str(run % 5)}
            connection.executemany("INSERT INTO params VALUES (?,?,?)", ((name, text, identifier) for name, text in own.items()))
            values = draw.random((STEPS, len(METRICS))).tolist()
            history = [
                (name, value, 0, identifier, step, 0) for step, some in enumerate(values) for name, value in zip(METRICS, some, strict=True)
            ]
            connection.executemany("INSERT INTO metrics VALUES (?,?,?,?,?,?)", history)
            latest = history[-len(METRICS) :] + [(name, value, 0, identifier, 0, 0) for name, value in outcomes.items()]
            connection.executemany(
                "INSERT INTO latest_metrics VALUES (?,?,?,?,?,?)",
                ((name, value, when, step, nan, identifier) for name, value, when, identifier, step, nan in latest),
            )
