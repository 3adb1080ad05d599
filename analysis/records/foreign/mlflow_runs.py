"""Runs that anything wrote into MLflow, through its API or straight from its database."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.errors import AnalysisError, NothingToShow
from analysis.records.foreign.runs import UNFINISHED, ForeignRuns, History
from analysis.records.mlflow import sql as mlflow_sql
from analysis.records.mlflow.client import reading_client
from analysis.records.mlflow.layout import converted

if TYPE_CHECKING:
    from mlflow import MlflowClient

_STATUSES = {"FINISHED": "completed", "FAILED": "failed", "KILLED": "pruned"}
_PARENT = "mlflow.parentRunId"
_PAGE = 5000
_STEPS = 2**32


def mlflow_runs(experiment: str, tracking_uri: str | None, sql: bool) -> ForeignRuns:
    """The runs of an experiment that are not deleted, the oldest first."""
    runs = ForeignRuns(f"experiment {experiment!r}", experiment)
    if sql:
        if tracking_uri is None or "://" not in tracking_uri or tracking_uri.startswith("http"):
            raise AnalysisError(f"sql needs the URL of a database as tracking URI, such as sqlite:///mlflow.db; it is {tracking_uri}")
        _from_database(runs, experiment, tracking_uri)
    else:
        _from_client(runs, experiment, tracking_uri)
    for name in [name for name in runs.columns if name.startswith("metrics.")]:
        runs.columns[name] = _as_logged(runs.columns[name])
    return runs


def _as_logged(values: list[float | None]) -> list[float | None]:
    """A metric's values, an infinity as one."""
    numbers = converted("", np.array([np.nan if value is None else value for value in values], float)).tolist()
    return [None if value is None else number for value, number in zip(values, numbers, strict=True)]


def _from_client(runs: ForeignRuns, experiment: str, tracking_uri: str | None) -> None:
    client = reading_client(tracking_uri)
    found = client.get_experiment_by_name(experiment)
    if found is None:
        raise NothingToShow(f"there is no MLflow experiment {experiment!r} at {client.tracking_uri}")
    token, rows = None, []
    while True:
        order = ["attributes.start_time ASC", "attributes.run_id ASC"]
        page = client.search_runs([found.experiment_id], max_results=_PAGE, order_by=order, page_token=token)
        rows += [(run.info, run.data) for run in page]
        token = page.token
        if not token:
            break
    for info, data in rows:
        _add(runs, info.run_id, info.status, info.end_time, data.tags.get(_PARENT))
    for kind in ("metrics", "params", "tags"):
        runs.add(kind, [getattr(data, kind) for _, data in rows])
    runs.history = _client_history(client)


def _add(runs: ForeignRuns, run_id: str, status: str, ended: int | None, parent: str | None) -> None:
    runs.ids.append(run_id)
    runs.status.append(_STATUSES.get(status, UNFINISHED))
    runs.ended.append(ended)
    runs.parents.append(parent)


def _client_history(client: MlflowClient) -> Callable[[str, Sequence[str]], History]:
    def history(name: str, ids: Sequence[str]) -> History:
        points = []
        for index, run_id in enumerate(ids):
            logged = sorted(client.get_metric_history(run_id, name), key=lambda point: point.timestamp)
            points += [(index, point.step, point.value) for point in logged]
        indices, steps, values = zip(*points, strict=True) if points else ((), (), ())
        return np.array(indices, np.int64), np.array(steps, np.int64), converted("", np.array(values, float))

    return history


def _from_database(runs: ForeignRuns, experiment: str, database: str) -> None:
    with mlflow_sql._open(database) as connection:
        here = mlflow_sql._here(connection, experiment, database)
        found = mlflow_sql._runs(connection, experiment, here)
        ended = _ends(connection, here)
    parents: list[Any] = found.tags.get(_PARENT) or [None] * len(found.ids)
    for index, run_id in enumerate(found.ids):
        _add(runs, run_id, found.status[index], ended.get(run_id), parents[index])
    for kind, columns in (("metrics", found.metrics), ("params", found.params), ("tags", found.tags)):
        runs.columns |= {f"{kind}.{name}": list(column) for name, column in columns.items()}
    runs.quick = True

    def history(name: str, ids: Sequence[str]) -> History:
        with mlflow_sql._open(database) as connection:
            codes, values = mlflow_sql._history(connection, name, {run_id: index for index, run_id in enumerate(ids)}, here)
        return codes // _STEPS, codes % _STEPS, values

    runs.history = history


def _ends(connection: Any, here: Sequence[Any]) -> dict[str, int | None]:
    from sqlalchemy import literal_column, select

    query = select(mlflow_sql._table("runs").c.run_uuid, literal_column("end_time")).where(*here)
    return dict(connection.execute(query).all())
