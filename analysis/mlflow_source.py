"""Records and curves from an MLflow experiment that gaplab's mirror wrote, through MLflow's public API."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from sys import float_info
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from analysis.errors import NothingToShow
from analysis.parquet_source import MEASURE, one_row_a_key, wanted_columns
from study.records import CURVES, RECORDS

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_PAGE = 1000
_TAG = "gaplab."
_CURVE_METRICS = tuple(name for name in CURVES.names if name not in ("key", "epoch"))


def records(experiment: str, tracking_uri: str | None, columns: Sequence[str] | None, filter: pc.Expression | None) -> pa.Table:
    """The records that the runs of an experiment hold, each key once: see `analysis.load`."""
    _, runs = _open(experiment, tracking_uri)
    rows = [_row(run, experiment) for run in runs]
    measures = sorted({name for row in rows for name in row if name.startswith(MEASURE)})
    schema = pa.schema([*RECORDS, *(pa.field(name, pa.float64()) for name in measures)])
    table = pa.Table.from_pylist(rows, schema)
    names = wanted_columns(columns, schema)
    table = table.take(one_row_a_key(table))
    return (table if filter is None else table.filter(filter)).select(names)


def curves(
    experiment: str, tracking_uri: str | None, columns: Sequence[str] | None, keys: pa.StringArray | None, filter: pc.Expression | None
) -> pa.Table:
    """The curves that the runs of an experiment hold, each key once: see `analysis.load_curves`."""
    names = wanted_columns(columns, CURVES)
    client, runs = _open(experiment, tracking_uri)
    wanted = None if keys is None else set(keys.to_pylist())
    by_key = {key: run for run in runs if (key := run.data.tags[_TAG + "key"]) and (wanted is None or key in wanted)}
    rows = [row for key, run in by_key.items() for row in _curve(client, run, key)]
    table = pa.Table.from_pylist(rows, CURVES)
    return (table if filter is None else table.filter(filter)).select(names)


def _open(experiment: str, tracking_uri: str | None) -> tuple[MlflowClient, list[Run]]:
    """A client, and the runs of points in the experiment; runs of any other origin are counted in a warning."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri)
    found = client.get_experiment_by_name(experiment)
    if found is None:
        raise NothingToShow(f"there is no MLflow experiment {experiment!r} at {client.tracking_uri}")
    runs, foreign = [], 0
    for run in _pages(client, found.experiment_id):
        kind = run.data.tags.get(_TAG + "kind")
        if kind == "point" and _TAG + "key" in run.data.tags:
            runs.append(run)
        elif kind is None:
            foreign += 1
    if foreign:
        warnings.warn(f"{foreign} runs of experiment {experiment!r} were not written by gaplab and were skipped", stacklevel=2)
    return client, runs


def _pages(client: MlflowClient, experiment_id: str) -> Iterator[Run]:
    token = None
    while True:
        page = client.search_runs([experiment_id], max_results=_PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _row(run: Run, experiment: str) -> dict[str, Any]:
    """A run as a record. What it lacks is null."""
    tags, params, metrics = run.data.tags, run.data.params, run.data.metrics
    row: dict[str, Any] = {name: number(value) for name, value in metrics.items() if name.startswith(MEASURE)}
    for field in RECORDS:
        value = _value(field, tags, params, metrics)
        if value is not None:
            row[field.name] = value
    return row | {"study": experiment}


def _value(field: pa.Field, tags: Mapping[str, str], params: Mapping[str, str], metrics: Mapping[str, float]) -> Any:
    text = params.get(field.name, tags.get(_TAG + field.name))
    if text is not None:
        return parse(text, field.type)
    value = metrics.get(field.name)
    if value is None:
        return None
    return number(value) if pa.types.is_floating(field.type) else bool(value) if pa.types.is_boolean(field.type) else round(value)


def parse(text: str, kind: pa.DataType) -> Any:
    """A parameter or tag of MLflow, which are texts, as a value of the column's type."""
    if pa.types.is_boolean(kind):
        return text == "True"
    if pa.types.is_integer(kind):
        return int(text)
    if pa.types.is_floating(kind):
        return float(text)
    if pa.types.is_timestamp(kind):
        moment = datetime.fromisoformat(text)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return text


def number(value: float) -> float:
    """A metric as it was logged: MLflow's databases keep an infinity as the largest double."""
    return math.copysign(math.inf, value) if abs(value) == float_info.max else value


def _curve(client: MlflowClient, run: Run, key: str) -> list[dict[str, Any]]:
    rows: dict[int, dict[str, Any]] = {}
    for name in _CURVE_METRICS:
        if name in run.data.metrics:
            for point in client.get_metric_history(run.info.run_id, name):
                rows.setdefault(point.step, {"key": key, "epoch": point.step})[name] = number(point.value)
    return list(rows.values())
