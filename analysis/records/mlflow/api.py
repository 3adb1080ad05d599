"""Records and curves from an MLflow experiment through MLflow's public API, in pages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from analysis.errors import NothingToShow
from analysis.records.mlflow.client import reading_client
from analysis.records.mlflow.layout import Runs, RunsRead, converted, curve_runs, metric_name, records_of
from analysis.records.rows import wanted_columns
from analysis.records.schema import CURVES
from trainables.point.gc_paused import gc_paused

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_PAGE = 5000


def records(
    experiment: str,
    tracking_uri: str | None,
    columns: Sequence[str] | None,
    filter: pc.Expression | None,
    mapping: Mapping[str, str] | None,
    progress: RunsRead,
) -> pa.Table:
    """The records that the runs of an experiment hold: see `analysis.load`."""
    _, runs = _open(experiment, tracking_uri, progress)
    return records_of(runs, columns, mapping, filter)


def curves(
    experiment: str,
    tracking_uri: str | None,
    columns: Sequence[str] | None,
    keys: pa.StringArray | None,
    filter: pc.Expression | None,
    mapping: Mapping[str, str] | None,
    progress: RunsRead,
) -> pa.Table:
    """The curves that the runs of an experiment hold: see `analysis.load_curves`."""
    names = wanted_columns(columns, CURVES)
    client, runs = _open(experiment, tracking_uri, lambda _: None)
    by_run, metrics = curve_runs(runs, mapping, keys)
    if filter is None:
        metrics = {name: source for name, source in metrics.items() if name in names}
    index_of = {identifier: index for index, identifier in enumerate(runs.ids)}
    rows: list[dict[str, Any]] = []
    for done, (identifier, key) in enumerate(by_run.items(), start=1):
        has = {name: source for name, source in metrics.items() if _has(runs, index_of[identifier], metric_name(source))}
        rows += _curve(client, identifier, key, has)
        progress(done)
    table = pa.Table.from_pylist(rows, CURVES)
    return (table if filter is None else table.filter(filter)).select(names)


def _has(runs: Runs, index: int, metric: str) -> bool:
    return metric in runs.metrics and runs.metrics[metric][index] is not None


def _curve(client: MlflowClient, identifier: str, key: str, metrics: Mapping[str, str]) -> list[dict[str, Any]]:
    rows: dict[int, dict[str, Any]] = {}
    for name, source in metrics.items():
        history = sorted(client.get_metric_history(identifier, metric_name(source)), key=lambda point: point.timestamp)
        values = converted(source, np.array([point.value for point in history])).tolist()
        for point, value in zip(history, values, strict=True):
            rows.setdefault(point.step, {"key": key, "epoch": point.step})[name] = value
    return list(rows.values())


def _open(experiment: str, tracking_uri: str | None, progress: RunsRead) -> tuple[MlflowClient, Runs]:
    """A client, and all runs of the experiment."""
    client = reading_client(tracking_uri)
    found = client.get_experiment_by_name(experiment)
    if found is None:
        raise NothingToShow(f"there is no MLflow experiment {experiment!r} at {client.tracking_uri}")
    with gc_paused():
        runs = list(_pages(client, found.experiment_id, progress))
    columns: list[dict[str, list[Any]]] = []
    for named in ([run.data.tags for run in runs], [run.data.params for run in runs], [run.data.metrics for run in runs]):
        names = dict.fromkeys(name for one in named for name in one)
        columns.append({name: [one.get(name) for one in named] for name in names})
    return client, Runs(experiment, [run.info.run_id for run in runs], [run.info.status for run in runs], *columns)


def _pages(client: MlflowClient, experiment_id: str, progress: RunsRead) -> Iterator[Run]:
    token, done = None, 0
    while True:
        page = client.search_runs([experiment_id], max_results=_PAGE, page_token=token)
        yield from page
        done += len(page)
        progress(done)
        token = page.token
        if not token:
            return
