"""Records and curves straight from an MLflow database, read-only.

This is for experiments that are too large for the API. The tables are internal to MLflow (see `analysis.compat`), and a test checks
the answer against that of the API, which also reads a database whose tables are others.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from analysis.compat import MLFLOW_TABLES, missing_columns
from analysis.errors import AnalysisError, NothingToShow
from analysis.records.mlflow.layout import Runs, converted, curve_runs, metric_name, records_of
from analysis.records.rows import wanted_columns
from analysis.records.schema import CURVES

if TYPE_CHECKING:
    from sqlalchemy import Connection, Select

Series = tuple[NDArray[np.int64], NDArray[np.float64]]
_ROWS = 100_000
_STEPS = 2**32
"""A number larger than any step."""
_FEW = 500
"""At most so many runs are asked for by name; more are asked for by their experiment."""


def readable(database: str) -> bool:
    """Whether the tables are those that are read here; a warning says which columns are missing if not.

    Raises:
        AnalysisError: the database cannot be opened.
    """
    with _open(database) as connection:
        missing = missing_columns(connection)
    if missing:
        other = f"{without_password(database)} is of another version of MLflow (it has no {', '.join(missing)})"
        warnings.warn(f"{other}: it is read through MLflow's API, which takes longer", stacklevel=3)
    return not missing


def records(
    experiment: str, database: str, columns: Sequence[str] | None, filter: pc.Expression | None, mapping: Mapping[str, str] | None
) -> pa.Table:
    """The records that the runs of an experiment hold: see `analysis.load`."""
    with _open(database) as connection:
        runs = _runs(connection, experiment, _here(connection, experiment, database))
    return records_of(runs, columns, mapping, filter)


def curves(
    experiment: str,
    database: str,
    columns: Sequence[str] | None,
    keys: pa.StringArray | None,
    filter: pc.Expression | None,
    mapping: Mapping[str, str] | None,
) -> pa.Table:
    """The curves that the runs of an experiment hold: see `analysis.load_curves`."""
    names = wanted_columns(columns, CURVES)
    with _open(database) as connection:
        here = _here(connection, experiment, database)
        runs = _runs(connection, experiment, here)
        by_run, metrics = curve_runs(runs, mapping, keys)
        if filter is None:
            metrics = {name: source for name, source in metrics.items() if name in names}
        index_of = {identifier: index for index, identifier in enumerate(by_run)}
        series = {name: _history(connection, source, index_of, here) for name, source in metrics.items()}
    table = _aligned(series, list(by_run.values()))
    return (table if filter is None else table.filter(filter)).select(names)


@contextmanager
def _open(database: str) -> Iterator[Connection]:
    """A connection that cannot write.

    Raises:
        AnalysisError: the database cannot be opened, or does not have the tables that are asked for.
    """
    import sqlalchemy
    from sqlalchemy.exc import SQLAlchemyError

    try:
        url = sqlalchemy.make_url(database)
        if local := url.get_backend_name() == "sqlite":
            url = url.set(database=f"file:{url.database}", query={"mode": "ro", "uri": "true"})
        with sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool).connect() as connection:
            if not local:
                connection.exec_driver_sql("SET TRANSACTION READ ONLY")
            yield connection
    except (SQLAlchemyError, ImportError) as error:
        reason = str(error).splitlines()[0]
        text = f"{without_password(database)} cannot be read as an MLflow database: {reason}. MLflow's API reads it (without sql)"
        raise AnalysisError(text) from None


def without_password(database: str) -> str:
    """The URL of a database without its password, so that it may be shown."""
    import sqlalchemy

    try:
        return sqlalchemy.make_url(database).render_as_string(hide_password=True)
    except sqlalchemy.exc.ArgumentError:
        return database.partition("://")[0] + "://..."


def _rows(connection: Connection, query: Select[Any]) -> Iterator[Sequence[Any]]:
    """The answer to a query, in batches of plain tuples."""
    cursor = connection.execute(query).cursor
    while cursor is not None and (batch := cursor.fetchmany(_ROWS)):
        yield batch


@cache
def _table(name: str) -> Any:
    import sqlalchemy

    return sqlalchemy.table(name, *(sqlalchemy.column(column) for column in MLFLOW_TABLES[name]))


def _here(connection: Connection, experiment: str, database: str) -> tuple[Any, Any]:
    """The conditions on the table of runs: those of the experiment that are not deleted."""
    from sqlalchemy import select

    experiments, runs = _table("experiments"), _table("runs")
    query = select(experiments.c.experiment_id).where(experiments.c.name == experiment, experiments.c.lifecycle_stage == "active")
    found = connection.execute(query).first()
    if found is None:
        raise NothingToShow(f"there is no MLflow experiment {experiment!r} at {without_password(database)}")
    return runs.c.experiment_id == found[0], runs.c.lifecycle_stage == "active"


def _runs(connection: Connection, experiment: str, here: Sequence[Any]) -> Runs:
    """All runs of the experiment, oldest first."""
    from sqlalchemy import select

    runs = _table("runs")
    found = Runs(experiment)
    for batch in _rows(connection, select(runs.c.run_uuid, runs.c.status).where(*here).order_by(runs.c.start_time, runs.c.run_uuid)):
        for identifier, status in batch:
            found.ids.append(identifier)
            found.status.append(status)
    index_of = {identifier: index for index, identifier in enumerate(found.ids)}
    for name, columns in (("tags", found.tags), ("params", found.params), ("latest_metrics", found.metrics)):
        _fill(connection, name, columns, index_of, here)
    return found


def _fill(connection: Connection, name: str, columns: dict[str, list[Any]], index_of: Mapping[str, int], here: Sequence[Any]) -> None:
    """Fill one column for each key with what a table says of each run."""
    from sqlalchemy import literal, select

    table, runs = _table(name), _table("runs")
    is_nan = table.c.is_nan if name == "latest_metrics" else literal(0)
    query = select(table.c.run_uuid, table.c.key, table.c.value, is_nan)
    for batch in _rows(connection, query.join_from(table, runs, table.c.run_uuid == runs.c.run_uuid).where(*here)):
        for identifier, key, value, nan in batch:
            if key not in columns:
                columns[key] = [None] * len(index_of)
            columns[key][index_of[identifier]] = math.nan if nan else value


def _history(connection: Connection, source: str, index_of: Mapping[str, int], here: Sequence[Any]) -> Series:
    """All values that were logged of a metric, the latest last, each with a code: index of the run times `_STEPS`, plus the step."""
    from sqlalchemy import select

    metrics, runs = _table("metrics"), _table("runs")
    query = select(metrics.c.run_uuid, metrics.c.step, metrics.c.value, metrics.c.is_nan, metrics.c.timestamp)
    query = query.where(metrics.c.key == metric_name(source))
    if len(index_of) <= _FEW:
        query = query.where(metrics.c.run_uuid.in_(list(index_of)))
    else:
        query = query.where(metrics.c.run_uuid.in_(select(runs.c.run_uuid).where(*here)))
    parts: list[Series] = []
    times = []
    for batch in _rows(connection, query):
        identifiers, steps, values, nans, moments = zip(*batch, strict=True)
        index = np.fromiter((index_of.get(identifier, -1) for identifier in identifiers), np.int64, len(batch))
        value = np.where(np.array(nans, bool), np.nan, np.array(values, float))
        parts.append((index * _STEPS + np.array(steps, np.int64), value))
        times.append(np.array(moments, np.int64))
    if not parts:
        return np.array([], np.int64), np.array([])
    codes, numbers = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(np.concatenate(times), kind="stable")
    order = order[codes[order] >= 0]
    return codes[order], converted(source, numbers[order])


def _aligned(series: Mapping[str, Series], keys: Sequence[str]) -> pa.Table:
    """Curves from the series of their columns: a row for each run and step that any of them has."""
    codes = np.unique(np.concatenate([np.array([], np.int64), *(code for code, _ in series.values())]))
    columns = {"key": pa.array(keys, pa.string()).take(pa.array(codes // _STEPS)), "epoch": pa.array(codes % _STEPS, pa.int32())}
    for name, (code, value) in series.items():
        numbers, absent = np.zeros(len(codes)), np.ones(len(codes), bool)
        rows = np.searchsorted(codes, code)
        numbers[rows], absent[rows] = value, False
        columns[name] = pa.array(numbers, mask=absent)
    for column in CURVES:
        columns.setdefault(column.name, pa.nulls(len(codes), column.type))
    return pa.table(columns).select(CURVES.names).cast(CURVES)
