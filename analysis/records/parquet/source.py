"""Records and curves from the Parquet files of a study, each point once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import and_

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from analysis.records.parquet.dataset import read_dataset
from analysis.records.rows import joined, one_row_an_epoch, wanted_columns
from analysis.records.schema import CURVES, RECORDS

_MIX = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x27D4EB2F165667C5], np.uint64)


def records(source: str, columns: Sequence[str] | None, filter: pc.Expression | None) -> pa.Table:
    """The records under ``source``, each key once: see `analysis.load`."""

    def read(dataset: ds.Dataset) -> pa.Table:
        names = wanted_columns(columns, dataset.schema)
        table = dataset.to_table(columns=["key"] if filter is not None else list(dict.fromkeys([*names, "key"])))
        if _all_different(table["key"]):
            return table.select(names) if filter is None else dataset.to_table(columns=names, filter=filter)
        counts = table["key"].combine_chunks().value_counts()
        repeated = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
        several = joined(dataset.to_table(filter=pc.field("key").isin(repeated)))
        if filter is None:
            once = table.filter(pc.invert(pc.is_in(table["key"], repeated))).select(names)
        else:
            once = dataset.to_table(columns=names, filter=~pc.field("key").isin(repeated) & filter)
            several = several.filter(filter)
        return pa.concat_tables([once, several.select(names)])

    return read_dataset(source, "records", RECORDS, read)


def curves(source: str, columns: Sequence[str] | None, keys: pa.StringArray | None, filter: pc.Expression | None) -> pa.Table:
    """The curves under ``source``, each key and epoch once: see `analysis.load_curves`."""
    parts = [] if filter is None else [filter]
    if keys is not None:
        parts.append(pc.field("key").isin(keys))

    def read(dataset: ds.Dataset) -> pa.Table:
        names = wanted_columns(columns, dataset.schema)
        table = dataset.to_table(columns=list(dict.fromkeys([*names, "key", "epoch"])), filter=reduce(and_, parts) if parts else None)
        return one_row_an_epoch(table).select(names)

    return read_dataset(source, "curves", CURVES, read, None if keys is None else keys.to_pylist())


def _all_different(keys: pa.ChunkedArray) -> bool:
    """Whether no key repeats. Keys of 32 bytes are first compared by a mix of their four words, 20 times as fast."""
    try:
        words = np.frombuffer(keys.cast(pa.binary()).cast(pa.binary(32)).combine_chunks().buffers()[1], np.uint64).reshape(-1, 4)
    except (pa.ArrowInvalid, TypeError, AttributeError):
        words = np.empty((0, 4), np.uint64)
    mixed = np.sort(words @ _MIX)
    if len(mixed) == len(keys) and not (mixed[1:] == mixed[:-1]).any():
        return True
    return bool(pc.count_distinct(keys).as_py() == len(keys))
