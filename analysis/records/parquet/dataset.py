"""The Parquet files of a study as one dataset, while it runs or after.

Files may appear, and be merged into larger ones (`study.records.compaction`), while they are read: a listing that went stale is made anew.
Damaged files are named in a warning and skipped.
"""

from __future__ import annotations

import warnings
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.fs
import pyarrow.parquet as pq

from analysis.errors import AnalysisError, NothingToShow
from analysis.records.fragments import finished_files, pairs, recorded_rows
from analysis.records.schema import MEASURE
from analysis.records.soundness import SMALL, UNREADABLE, Pair, Soundness, read_whole, reason, soundness_of
from analysis.records.store import open_store

_LOOKED_THROUGH = 100
"""The most files whose statistics are looked through for columns that vary."""
_PARQUET = ds.ParquetFileFormat(default_fragment_scan_options=ds.ParquetFragmentScanOptions(page_checksum_verification=True))
_SMALL = SMALL
_AT_ONCE = 256
"""So many small files are put together before the next are read: a table of one row takes 50 KB. A dataset would keep the footer of each,
which is larger than a few rows are."""


@dataclass(frozen=True)
class _Footer:
    """What the footer of a file says: its schema and, if asked for, the least and largest key of each row group (None: unknown)."""

    schema: pa.Schema
    keys: tuple[tuple[str, str] | None, ...] = ()


def read_dataset(
    source: str, folder: str, schema: pa.Schema, read: Callable[[ds.Dataset], pa.Table], keys: Sequence[str] | None = None
) -> pa.Table:
    """The table that ``read`` makes of the files of ``source/folder``, whose schema also has the measures that some file holds.

    Args:
        source: ``STORAGE/STUDY``.
        folder: ``records`` or ``curves``.
        schema: of the folder's files, measures apart.
        read: may be called again, with another dataset, when files vanish or turn out to be damaged.
        keys: the only ones wanted; row groups that cannot hold one of them are left out.

    Raises:
        NothingToShow: there is no such study.
        AnalysisError: ``read`` fails, and no file is to blame.
    """
    filesystem, root = open_store(source)
    damaged: set[str] = set()
    while True:
        footers: dict[str, _Footer] = {}
        try:
            if folder == "records":
                rows, large = _recorded(source, filesystem, root, schema, keys)
            else:
                files = [info for info in _files(filesystem, root, folder, source) if info.path not in damaged]
                rows = _rows_of_small(filesystem, [info.path for info in files if info.size <= _SMALL], schema, keys)
                large = [info.path for info in files if info.size > _SMALL]
            footers = _footers(filesystem, [path for path in large if path not in damaged], keys is not None)
            whole = _with_measures(schema, [rows.schema, *(footer.schema for footer in footers.values())])
            dataset: ds.Dataset = ds.FileSystemDataset(list(_fragments(filesystem, footers, keys)), whole, _PARQUET, filesystem)
            if rows.num_rows:
                rows = pa.concat_tables([whole.empty_table(), rows], promote_options="default")
                dataset = ds.UnionDataset(whole, [ds.InMemoryDataset(rows), dataset])
            return read(dataset)
        except FileNotFoundError:
            continue  # merged since they were listed
        except (OSError, pa.ArrowException) as error:
            found = _damaged(filesystem, footers)
            if not found:
                raise AnalysisError(f"{source} cannot be read as asked: {reason(error)}") from None
            damaged |= found


def varying(source: str, names: Iterable[str]) -> list[str]:
    """The columns that have more than one value among the records under ``source``; null counts as a value.

    The statistics in the files' footers say so, and no row is read. A column counts as varying where they do not tell, and all
    columns do where there are too many files to look through.
    """
    filesystem, root = open_store(source)
    if len(_files(filesystem, root, "records", source)) > _LOOKED_THROUGH:
        return list(names)
    files = [pair.path for pair in pairs(filesystem, root) if soundness_of(filesystem, pair).damage is None]
    seen: dict[str, set[Any]] = {name: set() for name in names}
    for path in _footers(filesystem, files, keys=False):
        metadata = pq.read_metadata(path, filesystem=filesystem)
        index_of = {metadata.schema.column(index).path: index for index in range(metadata.num_columns)}
        for group in (metadata.row_group(number) for number in range(metadata.num_row_groups)):
            for name, values in seen.items():
                values |= _ends(group.column(index_of[name]).statistics, group.num_rows) if name in index_of else {None}
    return [name for name, values in seen.items() if len(values) > 1]


def _ends(statistics: Any, rows: int) -> set[Any]:
    """The least and the largest value of a column chunk, with null if it has some; more than one where that is not known."""
    if statistics is None or not statistics.has_null_count or not (statistics.has_min_max or statistics.null_count == rows):
        return {None, ""}
    ends = {statistics.min, statistics.max} if statistics.has_min_max else set()
    return ends | ({None} if statistics.null_count else set())


def _files(filesystem: pyarrow.fs.FileSystem, root: str, folder: str, source: str) -> list[pyarrow.fs.FileInfo]:
    """The finished Parquet files of a folder, sorted."""
    found = finished_files(filesystem, f"{root}/{folder}")
    if not found and filesystem.get_file_info(f"{root}/records").type == pyarrow.fs.FileType.NotFound:
        raise NothingToShow(f"there is no study at {source}: it has no folder 'records'")
    return found


def _recorded(
    source: str, filesystem: pyarrow.fs.FileSystem, root: str, schema: pa.Schema, keys: Sequence[str] | None
) -> tuple[pa.Table, list[str]]:
    """The rows of recorded points in small files and in those that lack some curves, and the paths of the other files that are sound."""
    _files(filesystem, root, "records", source)  # there is such a study
    few, large = [], []
    for pair, verdict in _judged(filesystem, pairs(filesystem, root)):
        if pair.records.size <= _SMALL or verdict is None or verdict.lacking:
            few.append(pair)
        elif verdict.damage is None:
            large.append(pair.path)
        else:
            warnings.warn(f"{pair.path} is damaged and was skipped: {verdict.damage}", stacklevel=2)
    return _together((table for _, table in recorded_rows(source, few)), schema, keys), large


def _judged(filesystem: pyarrow.fs.FileSystem, some: Sequence[Pair]) -> list[tuple[Pair, Soundness | None]]:
    """The large pairs with the verdicts on them; small ones are judged when they are read."""
    with ThreadPoolExecutor(4) as pool:
        verdicts = pool.map(lambda pair: None if pair.records.size <= _SMALL else soundness_of(filesystem, pair), some)
        return list(zip(some, verdicts, strict=True))


def _rows_of_small(filesystem: pyarrow.fs.FileSystem, files: Sequence[str], schema: pa.Schema, keys: Sequence[str] | None) -> pa.Table:
    """The rows of small files that have one of the keys; damaged files are named in a warning."""

    def rows(path: str) -> pa.Table | None:
        try:
            table = read_whole(filesystem, path)
            return table if _agrees(table.schema, schema) else _fitted(table, schema)
        except FileNotFoundError:
            raise
        except UNREADABLE as error:
            warnings.warn(f"{path} is no complete Parquet file and was skipped: {reason(error)}", stacklevel=2)
            return None

    with ThreadPoolExecutor(4) as pool:
        chunks = (pool.map(rows, files[start : start + _AT_ONCE]) for start in range(0, len(files), _AT_ONCE))
        return _together((table for chunk in chunks for table in chunk if table is not None), schema, keys)


def _together(tables: Iterable[pa.Table], schema: pa.Schema, keys: Sequence[str] | None) -> pa.Table:
    """The rows of many small tables that have one of the keys, as one table with the columns of the schema and their measures."""
    wanted = None if keys is None else pa.array(keys, pa.string())
    sound = [schema]  # what most tables look like
    parts, some = [schema.empty_table()], []
    for table in tables:
        if not any(table.schema.equals(one) for one in sound):
            if _agrees(table.schema, schema):
                sound.append(table.schema)
            else:
                table = _fitted(table, schema)
        some.append(table if wanted is None else table.filter(pc.is_in(table["key"], wanted)))
        if len(some) == _AT_ONCE:
            parts.append(pa.concat_tables([schema.empty_table(), *some], promote_options="default").combine_chunks())
            some = []
    return pa.concat_tables([*parts, *some], promote_options="default")


def _agrees(found: pa.Schema, schema: pa.Schema) -> bool:
    """Whether every column of a file is one of the schema, or a measure, with its type; the file may be older and lack some."""
    types = {field.name: field.type for field in schema}
    return all(field.type == types.get(field.name, pa.float64() if field.name.startswith(MEASURE) else None) for field in found)


def _fitted(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The columns of the schema, cast to their types, null where the file lacks one, and its measures."""
    whole = _with_measures(schema, [table.schema])
    columns = [table[name] if name in table.column_names else pa.nulls(table.num_rows, whole.field(name).type) for name in whole.names]
    return pa.table(columns, names=whole.names).cast(whole)


def _footers(filesystem: pyarrow.fs.FileSystem, files: Sequence[str], keys: bool) -> dict[str, _Footer]:
    """The footer of each file that has one; the others are named in a warning."""

    def footer(path: str) -> _Footer | None:
        try:
            metadata = pq.read_metadata(path, filesystem=filesystem)
            return _Footer(metadata.schema.to_arrow_schema(), _key_ranges(metadata) if keys else ())
        except FileNotFoundError:
            raise
        except (OSError, pa.ArrowException) as error:
            warnings.warn(f"{path} is no complete Parquet file and was skipped: {reason(error)}", stacklevel=2)
            return None

    with ThreadPoolExecutor(4) as pool:
        return {path: found for path, found in zip(files, pool.map(footer, files), strict=True) if found is not None}


def _key_ranges(metadata: pq.FileMetaData) -> tuple[tuple[str, str] | None, ...]:
    """The least and the largest key of each row group, None where the file does not say."""
    index, groups = metadata.schema.to_arrow_schema().get_field_index("key"), range(metadata.num_row_groups)
    if index < 0:
        return tuple(None for _ in groups)
    statistics = (metadata.row_group(number).column(index).statistics for number in groups)
    return tuple((one.min, one.max) if one is not None and one.has_min_max else None for one in statistics)


def _fragments(filesystem: pyarrow.fs.FileSystem, footers: dict[str, _Footer], keys: Sequence[str] | None) -> Iterable[ds.Fragment]:
    """The files, or those row groups of them that may hold one of the keys."""
    wanted = None if keys is None else sorted(keys)
    for path, footer in footers.items():
        if wanted is None:
            yield _PARQUET.make_fragment(path, filesystem)
        elif groups := [number for number, ends in enumerate(footer.keys) if ends is None or _any_within(wanted, ends)]:
            yield _PARQUET.make_fragment(path, filesystem, row_groups=groups)


def _any_within(wanted: Sequence[str], ends: tuple[str, str]) -> bool:
    """Whether one of the sorted texts lies between these two, ends included."""
    index = bisect_left(wanted, ends[0])
    return index < len(wanted) and wanted[index] <= ends[1]


def _with_measures(schema: pa.Schema, found: Iterable[pa.Schema]) -> pa.Schema:
    """The schema with every measure that some file holds."""
    measures = sorted({name for one in found for name in one.names if name.startswith(MEASURE)})
    return pa.schema([*schema, *(pa.field(name, pa.float64()) for name in measures)])


def _damaged(filesystem: pyarrow.fs.FileSystem, footers: Iterable[str]) -> set[str]:
    """The files whose footer is whole and whose data cannot be read, named in a warning."""
    found = set()
    for path in footers:
        try:
            pq.read_table(path, filesystem=filesystem, partitioning=None, page_checksum_verification=True)
        except FileNotFoundError:
            continue
        except (OSError, pa.ArrowException) as error:
            warnings.warn(f"{path} is damaged and was skipped: {reason(error)}", stacklevel=2)
            found.add(path)
    return found
