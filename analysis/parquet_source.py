"""Records and curves from the Parquet files of a study, while it runs or after.

Files may appear, and be compacted into larger ones, while they are read: a listing that went stale is made anew.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from operator import and_
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.fs
import pyarrow.parquet as pq

from analysis.errors import NothingToShow, unknown_column
from study.records import CURVES, FINAL, RECORDS, open_store

if TYPE_CHECKING:
    from collections.abc import Iterable

MEASURE = "measure."
"""What the names of the float64 columns begin with that a study adds to `RECORDS`."""
_LISTINGS = 5
"""How often files may vanish between listing and reading (each compaction is one) before that is an error."""


def records(source: str, columns: Sequence[str] | None, filter: pc.Expression | None) -> pa.Table:
    """The records under ``source``, each key once: see `analysis.load`."""

    def read(dataset: ds.Dataset) -> pa.Table:
        names = wanted_columns(columns, dataset.schema)
        outcomes = dataset.to_table(columns=["key", "status", "finished"])
        if pc.count_distinct(outcomes["key"]).as_py() == outcomes.num_rows:
            return dataset.to_table(columns=names, filter=filter)
        projection = {name: ds.field(name) for name in names}
        if filter is None:
            return dataset.to_table(columns=projection).take(one_row_a_key(outcomes))
        table = dataset.to_table(columns=projection | {"": filter}).take(one_row_a_key(outcomes))
        return table.filter(table[""]).select(names)

    return _read(source, "records", RECORDS, read)


def curves(source: str, columns: Sequence[str] | None, keys: pa.StringArray | None, filter: pc.Expression | None) -> pa.Table:
    """The curves under ``source``, each key and epoch once: see `analysis.load_curves`."""
    parts = [] if filter is None else [filter]
    if keys is not None:
        parts.append(pc.field("key").isin(keys))

    def read(dataset: ds.Dataset) -> pa.Table:
        names = wanted_columns(columns, dataset.schema)
        table = dataset.to_table(columns=list(dict.fromkeys([*names, "key", "epoch"])), filter=reduce(and_, parts) if parts else None)
        return one_row_an_epoch(table).select(names)

    return _read(source, "curves", CURVES, read)


def wanted_columns(columns: Sequence[str] | None, schema: pa.Schema) -> list[str]:
    """The columns asked for, all by default.

    Raises:
        AnalysisError: one of them does not exist.
    """
    for name in columns or ():
        if name not in schema.names:
            raise unknown_column(name, schema.names)
    return list(schema.names if columns is None else columns)


def one_row_a_key(outcomes: pa.Table) -> pa.Array:
    """The indices, ascending, of one row a key: the latest final outcome, else the latest failure.

    Args:
        outcomes: columns ``key``, ``status`` and ``finished``.
    """
    ranked = pa.table({"final": pc.is_in(outcomes["status"], pa.array(FINAL)).cast(pa.int8()), "finished": outcomes["finished"]})
    best_first = pc.sort_indices(ranked, sort_keys=[("final", "descending"), ("finished", "descending")])
    keys = pa.table({"key": outcomes["key"].take(best_first), "rank": pa.array(range(outcomes.num_rows), pa.int64())})
    rows = best_first.take(keys.group_by("key").aggregate([("rank", "min")])["rank_min"])
    return rows.take(pc.sort_indices(rows))


def one_row_an_epoch(table: pa.Table) -> pa.Table:
    """The table without rows whose ``key`` and ``epoch`` stand before."""
    places = table.select(["key", "epoch"]).append_column("row", pa.array(range(table.num_rows), pa.int64()))
    firsts = places.group_by(["key", "epoch"]).aggregate([("row", "min")])["row_min"]
    return table if len(firsts) == table.num_rows else table.take(firsts.take(pc.sort_indices(firsts)))


def _read(source: str, folder: str, schema: pa.Schema, read: Callable[[ds.Dataset], pa.Table]) -> pa.Table:
    filesystem, root = open_store(source)
    for listing in range(_LISTINGS):
        try:
            files = _files(filesystem, root, folder, source)
            readable = _schemas(filesystem, files)
            return read(ds.dataset(list(readable), schema=_union(schema, readable.values()), format="parquet", filesystem=filesystem))
        except FileNotFoundError:
            if listing == _LISTINGS - 1:
                raise
    raise AssertionError


def _files(filesystem: pyarrow.fs.FileSystem, root: str, folder: str, source: str) -> list[str]:
    """The finished Parquet files of a folder, sorted; writers keep unfinished ones under names that start with a dot or end in .tmp."""
    infos = filesystem.get_file_info(pyarrow.fs.FileSelector(f"{root}/{folder}", allow_not_found=True))
    if not infos and filesystem.get_file_info(f"{root}/records").type == pyarrow.fs.FileType.NotFound:
        raise NothingToShow(f"there is no study at {source}: it has no folder 'records'")
    return sorted(
        info.path for info in infos if info.is_file and info.base_name.endswith(".parquet") and not info.base_name.startswith(".")
    )


def _schemas(filesystem: pyarrow.fs.FileSystem, files: Sequence[str]) -> dict[str, pa.Schema]:
    """The schema of each file that has one; the others are named in a warning."""

    def schema(path: str) -> pa.Schema | None:
        try:
            return pq.read_schema(path, filesystem=filesystem)
        except FileNotFoundError:
            raise
        except (OSError, pa.ArrowException) as error:
            reason = str(error).splitlines()[0]
            warnings.warn(f"{path} is no complete Parquet file and was skipped: {reason}", stacklevel=2)
            return None

    with ThreadPoolExecutor(4) as pool:
        return {path: found for path, found in zip(files, pool.map(schema, files), strict=True) if found is not None}


def _union(schema: pa.Schema, found: Iterable[pa.Schema]) -> pa.Schema:
    """The schema with every measure that some file holds."""
    measures = sorted({name for one in found for name in one.names if name.startswith(MEASURE)})
    return pa.schema([*schema, *(pa.field(name, pa.float64()) for name in measures)])
