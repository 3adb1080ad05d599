"""Finished runs as rows of MLflow's tables, and the fastest statements for them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from study.records.tracking.finished_runs import FinishedRun

if TYPE_CHECKING:
    from sqlalchemy import Connection, Table

_LARGEST = 1.7976931348623157e308
"""MLflow keeps an infinity as the largest double, as its databases know none."""
_ROWS_AT_ONCE = 256
"""Rows of a series in one statement of SQLite."""
_METRIC = ("key", "timestamp", "run_uuid", "value", "step", "is_nan")
_TEXTS = ("key", "value", "run_uuid")
COLUMNS = {
    "runs": (
        "run_uuid",
        "name",
        "source_type",
        "source_name",
        "entry_point_name",
        "user_id",
        "status",
        "start_time",
        "end_time",
        "deleted_time",
        "source_version",
        "lifecycle_stage",
        "artifact_uri",
        "experiment_id",
    ),
    "params": _TEXTS,
    "tags": _TEXTS,
    "metrics": _METRIC,
    "latest_metrics": _METRIC,
}
"""Every column of the tables that are written, in the order in which the tables refer to each other."""
Columns = dict[str, list[Any]]
MetricSeries = tuple[str, int, str, Sequence[float], Sequence[int], Sequence[bool]]
"""A metric of a run: its name, moment and run, then values, steps and whether each is NaN."""


def columns_of(runs: Mapping[str, FinishedRun], series: Sequence[MetricSeries], experiment: int, location: str) -> dict[str, Columns]:
    """The columns of every table but that of metrics: what MLflow's own store writes for these runs, by their ids, and their series."""
    if not runs:
        return {}
    texts: dict[str, Columns] = {name: {column: [] for column in _TEXTS} for name in ("params", "tags")}
    for identifier, run in runs.items():
        for name, of_run in (("params", run.params), ("tags", {"mlflow.runName": run.name, **run.tags})):
            columns = texts[name]
            columns["key"] += of_run.keys()
            columns["value"] += of_run.values()
            columns["run_uuid"] += [identifier] * len(of_run)
    last = [(key, end, identifier, values[-1], steps[-1], nans[-1]) for key, end, identifier, values, steps, nans in series]
    latest: Columns = {name: list(column) for name, column in zip(_METRIC, zip(*last, strict=True), strict=False)}
    tables = {"runs": _run_columns(runs, experiment, location), **texts, "latest_metrics": latest}
    return {name: columns for name, columns in tables.items() if columns and columns["run_uuid"]}


def series_of(runs: Mapping[str, FinishedRun]) -> Iterator[MetricSeries]:
    """The metrics of these runs, as MLflow's databases keep them."""
    for identifier, run in runs.items():
        for key, (steps, values) in run.metrics.items():
            if math.isfinite(sum(values)):
                yield key, run.end, identifier, values, steps, [False] * len(steps)
            else:
                nans = [math.isnan(value) for value in values]
                kept = [0.0 if nan else max(-_LARGEST, min(_LARGEST, value)) for value, nan in zip(values, nans, strict=True)]
                yield key, run.end, identifier, kept, steps, nans


def _run_columns(runs: Mapping[str, FinishedRun], experiment: int, location: str) -> Columns:
    from mlflow.utils.uri import append_to_uri_path

    count, each = len(runs), runs.values()
    return {
        "run_uuid": list(runs),
        "name": [run.name for run in each],
        "source_type": ["UNKNOWN"] * count,
        "source_name": [""] * count,
        "entry_point_name": [""] * count,
        "user_id": [run.tags.get("mlflow.user", "unknown") for run in each],
        "status": [run.status for run in each],
        "start_time": [run.start for run in each],
        "end_time": [run.end for run in each],
        "deleted_time": [None] * count,
        "source_version": [""] * count,
        "lifecycle_stage": ["active"] * count,
        "artifact_uri": [append_to_uri_path(location, identifier, "artifacts") for identifier in runs],
        "experiment_id": [experiment] * count,
    }


def insert(connection: Connection, table: Table, columns: Columns) -> None:
    """Rows given as columns."""
    if connection.dialect.name == "sqlite":
        marks = ", ".join("?" * len(columns))
        connection.exec_driver_sql(
            f"INSERT INTO {_target(connection, table, columns)} VALUES ({marks})", list(zip(*columns.values(), strict=True))
        )
        return
    from sqlalchemy import text

    kinds = {name: table.c[name].type.compile(connection.dialect) for name in columns}
    arrays = ", ".join(f"CAST(:{name} AS {kind}[])" for name, kind in kinds.items())
    connection.execute(text(f"INSERT INTO {_target(connection, table, columns)} SELECT * FROM unnest({arrays})"), columns)


def insert_metrics(connection: Connection, table: Table, series: Iterable[MetricSeries]) -> None:
    """The rows of series."""
    if connection.dialect.name == "sqlite":
        _insert_whole_series(connection, table, series)
        return
    rows = (
        (key, moment, identifier, value, step, nan)
        for key, moment, identifier, values, steps, nans in series
        for value, step, nan in zip(values, steps, nans, strict=True)
    )
    cursor = connection.connection.cursor()
    if hasattr(cursor, "copy"):  # psycopg 3: a fifth of this process' time, and a little less of the server's
        with cursor.copy(f"COPY {_target(connection, table, _METRIC)} FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
    elif columns := list(zip(*rows, strict=True)):
        insert(connection, table, {name: list(column) for name, column in zip(_METRIC, columns, strict=True)})


def _insert_whole_series(connection: Connection, table: Table, series: Iterable[MetricSeries]) -> None:
    """A statement a series, which is told its name, moment and run once, and of NaN only where there is one: half the time of one a row."""
    alike: dict[tuple[int, bool], list[tuple[Any, ...]]] = {}
    for key, moment, identifier, values, steps, nans in series:
        marked = True in nans
        for start in range(0, len(steps), _ROWS_AT_ONCE):
            part = slice(start, start + _ROWS_AT_ONCE)
            some, marks = values[part], nans[part] if marked else ()
            alike.setdefault((len(some), marked), []).append((key, moment, identifier, *some, *steps[part], *marks))
    for (length, marked), parameters in alike.items():
        connection.exec_driver_sql(f"INSERT INTO {_target(connection, table, _METRIC)} {_values_of_series(length, marked)}", parameters)


@lru_cache(maxsize=2 * _ROWS_AT_ONCE)
def _values_of_series(length: int, marked: bool) -> str:
    """The rows of a series, whose parameters are its name, moment and run, then all values, all steps and, if marked, all marks of NaN."""
    marks = (f"?{4 + 2 * length + row}" if marked else "0" for row in range(length))
    rows = (f"(?1, ?2, ?3, ?{4 + row}, ?{4 + length + row}, {mark})" for row, mark in enumerate(marks))
    return f"VALUES {', '.join(rows)}"


def _target(connection: Connection, table: Table, columns: Sequence[str] | Columns) -> str:
    """A table and the columns that are written, in order."""
    preparer = connection.dialect.identifier_preparer
    return f"{preparer.format_table(table)} ({', '.join(preparer.quote(name) for name in columns)})"
