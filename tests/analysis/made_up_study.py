"""Studies made up with known truth: the shape of real ones, no training."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from analysis.records.schema import RECORDS
from trainables.point.config import TrialConfig, flatten, with_fields

SAMPLES = 1000


def record(**changes: Any) -> dict[str, Any]:
    """One completed record; the key follows from the fields."""
    fields = {name: value for name, value in changes.items() if name in flatten(TrialConfig())}
    row = flatten(with_fields(TrialConfig(), {"model.width": 8, "corruption.level": 0.0, "data.train_size": SAMPLES} | fields))
    row |= {
        "key": hashlib.md5(repr(sorted(fields.items())).encode()).hexdigest(),
        "study": "made-up",
        "status": "completed",
        "parameters": 500,
        "wrong_label_rate": 0.0,
        "train_error": 0.0,
        "train_loss": 0.01,
        "test_error": 0.1,
        "test_loss": 0.4,
        "epochs": 12,
        "fit_epoch": 12,
        "interpolated": True,
        "seconds": 0.5,
        "key_version": 1,
        "finished": datetime(2026, 3, 1, 12, 0, 0, 123000, tzinfo=UTC),
        "torch_version": "2.15.0",
    }
    row |= changes
    row.setdefault("parameters_per_sample", row["parameters"] / SAMPLES)
    if row.get("test_error") is not None and row.get("train_error") is not None:
        row.setdefault("generalization_gap", row["test_error"] - row["train_error"])
    return row


def records(rows: Iterable[dict[str, Any]]) -> pa.Table:
    """Records as a table; names that begin with ``measure.`` become columns."""
    rows = list(rows)
    measures = sorted({name for row in rows for name in row if name.startswith("measure.")})
    return pa.Table.from_pylist(rows, pa.schema([*RECORDS, *(pa.field(name, pa.float64()) for name in measures)]))


def curve(row: dict[str, Any]) -> list[dict[str, Any]]:
    """A learning curve that ends at the record's values."""
    epochs, error = row["epochs"], "nmse" if row["data.task"] == "regression" else "error"
    return [
        {
            "key": row["key"],
            "epoch": epoch,
            "learning_rate": 0.1 * 0.95**epoch,
            "train_loss": row["train_loss"] + (epochs - epoch) / epochs,
            f"train_{error}": row[f"train_{error}"] + 0.5 * (epochs - epoch) / epochs,
            "test_loss": row["test_loss"],
            f"test_{error}": row[f"test_{error}"] + 0.25 * (epochs - epoch) / epochs,
            f"wrong_train_{'loss' if error == 'nmse' else error}": 1 - epoch / epochs if row["corruption.level"] else None,
        }
        for epoch in range(1, epochs + 1)
    ]


def gap_study(
    capacities: Iterable[float] = (0.1, 1, 10, 100), levels: Iterable[float] = (0.0, 0.5, 1.0), seeds: int = 3
) -> list[dict[str, Any]]:
    """A gap-versus-capacity study in which runs fit from 1 + 4 x level parameters per sample on."""
    noise = np.random.default_rng(0)
    rows = []
    for capacity in capacities:
        for level in levels:
            for seed in range(seeds):
                fits = capacity >= 1 + 4 * level
                train = 0.0 if fits else 0.9 * level * (1 - capacity / 6) + 0.05
                test = 0.05 + 0.85 * level + noise.normal(0, 0.01)
                config = {"corruption.level": float(level), "model.width": round(40 * capacity), "seed": seed}
                outcome = {"parameters": round(SAMPLES * capacity), "train_error": train, "test_error": test, "interpolated": fits}
                rows.append(record(**config, **outcome, fit_epoch=5 + round(20 * level) if fits else None, wrong_label_rate=0.9 * level))
    return rows


def regression_study(scale: float = 3.0) -> list[dict[str, Any]]:
    """`gap_study` with numbers as targets: errors so many times as large, in the columns of regression, and none in those of classes."""
    rows = []
    for row in gap_study():
        train, test = (scale * row[f"{split}_error"] for split in ("train", "test"))
        none = dict.fromkeys(("train_error", "test_error", "generalization_gap"))
        known = {"train_nmse": train, "test_nmse": test, "nmse_gap": test - train}
        own = {"data.name": "diabetes", "data.task": "regression", "optimizer.loss": "squared", "key": f"1{row['key'][1:]}"}
        rows.append(row | none | known | own)
    return rows


def mirror(rows: list[dict[str, Any]], uri: str, experiment: str = "made-up") -> None:
    """Write a study into MLflow as gaplab's mirror does: a parent run, a nested run a point, everything by `log_batch`."""
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param, RunTag

    client = MlflowClient(uri)
    found = client.get_experiment_by_name(experiment)
    identifier = found.experiment_id if found else client.create_experiment(experiment)
    parent = client.create_run(identifier, tags={"gaplab.kind": "study"})
    config = set(flatten(TrialConfig()))
    texts = [name for name in RECORDS.names if name not in config and not _is_metric(name) and name != "study"]
    for row in rows:
        named = {f"gaplab.{name}": str(row[name]) for name in texts if row.get(name) is not None}
        run = client.create_run(identifier, tags={"mlflow.parentRunId": parent.info.run_id, "gaplab.kind": "point"}).info.run_id
        points = curve(row)
        logged = [
            Metric(name, float(value), 0, point["epoch"])
            for point in points
            for name, value in point.items()
            if name not in ("key", "epoch") and value is not None
        ]
        last = points[-1] if points else {}
        once = {
            name: value
            for name, value in row.items()
            if (_is_metric(name) or name.startswith("measure.")) and value is not None and name not in last
        }
        metrics = [*logged, *(Metric(name, float(value), 0, row["epochs"]) for name, value in once.items())]
        params = [Param(name, str(row[name])) for name in config if row[name] is not None]
        client.log_batch(run, metrics=metrics, params=params, tags=[RunTag(name, text) for name, text in named.items()])
        client.set_terminated(run, "FINISHED" if row["status"] == "completed" else "FAILED")
    client.set_terminated(parent.info.run_id)


def _is_metric(name: str) -> bool:
    kind = RECORDS.field(name).type if name in RECORDS.names else pa.null()
    return name in _OUTCOMES and (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind))


_OUTCOMES = set(RECORDS.names[RECORDS.get_field_index("parameters") : RECORDS.get_field_index("key_version")])
