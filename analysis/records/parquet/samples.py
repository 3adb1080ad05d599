"""The behaviour of every network of a study on every sample, as a table, and as matrices of points by samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from operator import and_

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from numpy.typing import NDArray

from analysis.errors import NothingToShow
from analysis.records.mlflow import MLFLOW
from analysis.records.parquet.dataset import read_dataset
from analysis.records.rows import wanted_columns
from analysis.records.schema import SAMPLES

_AT_ONCE = 64
"""Points that are read together where a study is read in parts."""


def load_samples(source: str, *, columns: Sequence[str] | None = None, keys: pa.ChunkedArray | None = None) -> pa.Table:
    """The outputs of a study's networks on each sample, one row a point, in the order of ``keys`` if these are given.

    Args:
        source: ``STORAGE/STUDY``, a local path or any URI that `pyarrow.fs` knows; MLflow has no samples.
        columns: the columns to read, in this order; all of `analysis.records.schema.SAMPLES` if None.
        keys: the points wanted, such as ``load(source)["key"]``; those without samples are left out.

    Returns:
        A table with the types of `analysis.records.schema.SAMPLES`, each key once.

    Raises:
        NothingToShow: there is no such study, or it keeps no samples.
        AnalysisError: a column does not exist.
    """
    nothing = NothingToShow(f"{source} keeps no samples: a study does that names forgetting_events under `measures`")
    if source.startswith(MLFLOW):
        raise nothing
    conditions = [] if keys is None else [pc.field("key").isin(keys.combine_chunks())]

    def read(dataset: ds.Dataset) -> pa.Table:
        names = wanted_columns(columns, dataset.schema)
        table = dataset.to_table(columns=list(dict.fromkeys(["key", *names])), filter=reduce(and_, conditions) if conditions else None)
        wanted = table["key"].unique() if keys is None else keys.unique()
        rows = pc.index_in(wanted, table["key"].combine_chunks()).drop_null()
        return table.take(rows).select(names)

    found = read_dataset(source, "samples", SAMPLES, read)
    if not found.num_rows:
        raise nothing
    return found


def read_samples(samples: pa.Table | str, columns: Sequence[str], keys: pa.ChunkedArray, take: Callable[[pa.Table], None]) -> None:
    """Hand on the outputs of some networks in parts of some tens of points: no more of them than a part is held.

    Args:
        samples: a table, as `load_samples` returns it, or the study ``STORAGE/STUDY`` that keeps it.
        columns: to be read, ``key`` among them.
        keys: the points wanted; those without samples are left out.
        take: gets each part, in no particular order; where a file vanishes meanwhile, some parts once more.

    Raises:
        NothingToShow: there is no such study.
        AnalysisError: a column does not exist.
    """
    if not isinstance(samples, str):
        table = samples.select(list(columns))
        rows = pc.index_in(keys.unique(), table["key"].combine_chunks()).drop_null()
        for start in range(0, len(rows), _AT_ONCE):
            take(table.take(rows[start : start + _AT_ONCE]))
        return

    def read(dataset: ds.Dataset) -> pa.Table:
        names, wanted = wanted_columns(columns, dataset.schema), pc.field("key").isin(keys.combine_chunks())
        for batch in dataset.to_batches(columns=names, filter=wanted, batch_size=_AT_ONCE, batch_readahead=1, fragment_readahead=1):
            if batch.num_rows:
                take(pa.Table.from_batches([batch]))
        return SAMPLES.empty_table()

    read_dataset(samples, "samples", SAMPLES, read)


def matrix(samples: pa.Table, column: str) -> NDArray[np.generic]:
    """A list column as an array of shape (points, samples).

    Raises:
        NothingToShow: the points have lists of unequal lengths, as those trained on unequal data sets do.
    """
    lists = samples[column].combine_chunks()
    lengths = pc.list_value_length(lists).unique()
    if len(lengths) != 1:
        raise NothingToShow(f"the points have {column} of unequal numbers of samples: they cannot be set beside each other")
    values: NDArray[np.generic] = lists.flatten().to_numpy(zero_copy_only=False)
    return values.reshape(len(lists), -1)
