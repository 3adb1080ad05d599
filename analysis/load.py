"""Load a study: the same records and the same curves from Arrow and from MLflow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from analysis import parquet_source

if TYPE_CHECKING:
    import pyarrow.compute as pc

MLFLOW = "mlflow:"


def load(
    source: str,
    *,
    tracking_uri: str | None = None,
    columns: Sequence[str] | None = None,
    filter: pc.Expression | None = None,
) -> pa.Table:
    """The records of a study, one row a point, in no particular order.

    Args:
        source: ``STORAGE/STUDY``, a local path or any URI that `pyarrow.fs` knows; or ``mlflow:EXPERIMENT``.
        tracking_uri: where that experiment lives; MLflow's own default if None.
        columns: the columns to read, in this order; all of `study.records.RECORDS` and every ``measure.*`` if None.
        filter: keeps the rows for which it holds, such as ``pyarrow.compute.field("corruption.level") == 0.5``.

    Returns:
        A table with the types of `study.records.RECORDS`. A point that was written twice stands once: its latest final
        outcome, or else its latest failure. Values from MLflow equal those from Arrow, except texts longer than MLflow keeps.

    Raises:
        NothingToShow: there is no such study.
        AnalysisError: a column does not exist.

    Warns:
        UserWarning: a Parquet file cannot be read (it is named and skipped), or the experiment holds runs of other origin.
    """
    if source.startswith(MLFLOW):
        from analysis import mlflow_source

        return mlflow_source.records(source.removeprefix(MLFLOW), tracking_uri, columns, filter)
    return parquet_source.records(source, columns, filter)


def load_curves(
    source: str,
    *,
    tracking_uri: str | None = None,
    columns: Sequence[str] | None = None,
    keys: Sequence[str] | pa.StringArray | pa.ChunkedArray | None = None,
    filter: pc.Expression | None = None,
) -> pa.Table:
    """The learning curves of a study, one row a point and evaluated epoch, in no particular order.

    Args:
        source: as for `load`; so is ``tracking_uri``.
        tracking_uri: where an MLflow experiment lives.
        columns: the columns to read, in this order; all of `study.records.CURVES` if None.
        keys: the points whose curves are wanted, such as ``load(source, filter=...)["key"]``; all if None.
        filter: keeps the rows for which it holds, such as ``pyarrow.compute.field("epoch") <= 10``.

    Returns:
        A table with the types of `study.records.CURVES`, each key and epoch once.

    Raises:
        NothingToShow: there is no such study.
        AnalysisError: a column does not exist.

    Warns:
        UserWarning: as for `load`.
    """
    wanted = None if keys is None else pa.array(keys, pa.string()) if not isinstance(keys, pa.ChunkedArray) else keys.combine_chunks()
    if source.startswith(MLFLOW):
        from analysis import mlflow_source

        return mlflow_source.curves(source.removeprefix(MLFLOW), tracking_uri, columns, wanted, filter)
    return parquet_source.curves(source, columns, wanted, filter)
