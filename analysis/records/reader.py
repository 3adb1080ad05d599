"""Load a study: the same records and the same curves from Arrow and from MLflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from analysis.errors import AnalysisError
from analysis.records.foreign import ForeignMapping, foreign_curves, foreign_records, open_foreign
from analysis.records.mlflow import MLFLOW
from analysis.records.mlflow.layout import RunsRead
from analysis.records.parquet import source as parquet_source
from analysis.records.rows import wanted_columns

if TYPE_CHECKING:
    import pyarrow.compute as pc


Mapped = Mapping[str, str] | ForeignMapping
"""A mapping of foreign runs: names by column, or what `analysis.records.foreign.read_mapping` reads."""


def _silent(done: int) -> None:
    """No progress is shown."""


def load(
    source: str,
    *,
    tracking_uri: str | None = None,
    columns: Sequence[str] | None = None,
    filter: pc.Expression | None = None,
    mapping: Mapped | None = None,
    sql: bool = False,
    progress: RunsRead = _silent,
) -> pa.Table:
    """The records of a study, one row a point, in no particular order.

    Args:
        source: ``STORAGE/STUDY``, a local path or any URI that `pyarrow.fs` knows; or ``mlflow:EXPERIMENT``.
        tracking_uri: where that experiment lives; MLflow's own default if None.
        columns: the columns to read, in this order; all of `analysis.records.schema.RECORDS` and every ``measure.*`` if None.
        filter: keeps the rows for which it holds, such as ``pyarrow.compute.field("corruption.level") == 0.5``.
        mapping: for an MLflow experiment that gaplab did not write: which metric, param or tag is which column, such as
            ``{"parameters": "num_params", "test_error": "1-val_acc"}``; ``1-`` takes the complement of a metric. Every
            finished run is a record then, its key the run's id; the gap, p/n and interpolation (train error 0)
            follow where they can. A `ForeignMapping`, as `analysis.records.foreign.read_mapping` reads it from YAML, says more: any
            expression, constants, columns to keep; the source may be a W&B export or a folder of Tune's results then.
        sql: read the MLflow database itself (``tracking_uri`` is its URL), read-only, instead of asking MLflow: much faster for
            many runs. The tables are internal to MLflow (known: version 3).
        progress: called with the number of runs read so far, after each page from MLflow's API.

    Returns:
        A table with the types of `analysis.records.schema.RECORDS`. A point that was written twice stands once: its latest final
        outcome, or else its latest failure. Values from MLflow equal those from Arrow, except texts longer than MLflow keeps.

    Raises:
        NothingToShow: there is no such study.
        AnalysisError: a column or what a mapping names does not exist, or a database cannot be read.

    Warns:
        UserWarning: a Parquet file cannot be read (it is named and skipped), the experiment holds runs of other origin, or the
            tables of an MLflow database are not those known, so that MLflow's API reads it.
    """
    if isinstance(mapping, ForeignMapping):
        table = foreign_records(open_foreign(source, tracking_uri=tracking_uri, sql=sql), mapping)
        names = wanted_columns(columns, table.schema)
        return (table if filter is None else table.filter(filter)).select(names)
    if not source.startswith(MLFLOW):
        return parquet_source.records(source, columns, filter)
    experiment = source.removeprefix(MLFLOW)
    if sql:
        from analysis.records.mlflow import sql as mlflow_sql

        if mlflow_sql.readable(_database(tracking_uri)):
            return mlflow_sql.records(experiment, _database(tracking_uri), columns, filter, mapping)
    from analysis.records.mlflow import api as mlflow_api

    return mlflow_api.records(experiment, tracking_uri, columns, filter, mapping, progress)


def load_curves(
    source: str,
    *,
    tracking_uri: str | None = None,
    columns: Sequence[str] | None = None,
    keys: Sequence[str] | pa.StringArray | pa.ChunkedArray | None = None,
    filter: pc.Expression | None = None,
    mapping: Mapped | None = None,
    sql: bool = False,
    progress: RunsRead = _silent,
) -> pa.Table:
    """The learning curves of a study, one row a point and evaluated epoch, in no particular order.

    Args:
        source: as for `load`; so are ``tracking_uri``, ``mapping`` and ``sql``.
        tracking_uri: where an MLflow experiment lives.
        columns: the columns to read, in this order; all of `analysis.records.schema.CURVES` if None.
        keys: the points whose curves are wanted, such as ``load(source, filter=...)["key"]``; all if None.
        filter: keeps the rows for which it holds, such as ``pyarrow.compute.field("epoch") <= 10``.
        mapping: which metric is which column, for an experiment that gaplab did not write; the step is the epoch.
        sql: read the MLflow database itself. MLflow's API answers one metric of one run at a time.
        progress: called with the number of runs whose curves were read so far from MLflow's API.

    Returns:
        A table with the types of `analysis.records.schema.CURVES`, each key and epoch once.

    Raises:
        NothingToShow: there is no such study.
        AnalysisError: as for `load`.

    Warns:
        UserWarning: as for `load`.
    """
    wanted = keys.combine_chunks() if isinstance(keys, pa.ChunkedArray) else keys if keys is None else pa.array(keys, pa.string())
    if isinstance(mapping, ForeignMapping):
        runs = open_foreign(source, tracking_uri=tracking_uri, sql=sql)
        table = foreign_curves(runs, mapping, None if wanted is None else wanted.to_pylist())
        names = wanted_columns(columns, table.schema)
        return (table if filter is None else table.filter(filter)).select(names)
    if not source.startswith(MLFLOW):
        return parquet_source.curves(source, columns, wanted, filter)
    experiment = source.removeprefix(MLFLOW)
    if sql:
        from analysis.records.mlflow import sql as mlflow_sql

        if mlflow_sql.readable(_database(tracking_uri)):
            return mlflow_sql.curves(experiment, _database(tracking_uri), columns, wanted, filter, mapping)
    from analysis.records.mlflow import api as mlflow_api

    return mlflow_api.curves(experiment, tracking_uri, columns, wanted, filter, mapping, progress)


def _database(tracking_uri: str | None) -> str:
    if tracking_uri is None or "://" not in tracking_uri or tracking_uri.startswith("http"):
        raise AnalysisError(f"sql needs the URL of a database as tracking URI, such as sqlite:///results/mlflow.db; it is {tracking_uri}")
    return tracking_uri
