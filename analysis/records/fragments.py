"""Fragments: the files of records and curves under ``STORAGE/STUDY``, and which points are recorded in them.

A fragment appears whole or not at all (`study.records.writer`). A point that ran twice has two equal rows; readers keep one. Many
fragments are merged into few files, in ``records/merged`` and ``curves/merged`` (`study.records.compaction`): a fragment that was
listed may be gone when it is read, and its rows are in a merged file then.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from contextlib import suppress

import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet

from analysis.records.schema import FINAL, RECORDS
from analysis.records.store import open_store

MERGED = "merged"
"""The merged files lie in a folder of this name, inside the folder of the fragments."""


def finished_files(filesystem: pyarrow.fs.FileSystem, folder: str) -> list[pyarrow.fs.FileInfo]:
    """The finished Parquet files of a folder of fragments, sorted by path, the merged ones last; none if there is no folder.

    Merged files are listed after the fragments: a fragment that was removed before it was listed is in one of them.
    """
    found: list[pyarrow.fs.FileInfo] = []
    for one in (folder, f"{folder}/{MERGED}"):
        infos = filesystem.get_file_info(pyarrow.fs.FileSelector(one, allow_not_found=True))
        finished = (info for info in infos if info.is_file and info.base_name.endswith(".parquet") and not info.base_name.startswith("."))
        found += sorted(finished, key=lambda info: info.path)
    return found


def fragments(root: str) -> list[str]:
    """Paths of the finished record files of a study, merged ones included; none if there is no study yet."""
    filesystem, path = open_store(root)
    return [info.path for info in finished_files(filesystem, f"{path}/records")]


def read_fragments(root: str, paths: Iterable[str], columns: list[str] | None = None) -> pa.Table:
    """The rows of some record files, as written. A damaged file counts as absent, so its points run again.

    Raises:
        FileNotFoundError: a file is gone, for it was merged into another one, which `fragments` lists.
    """
    filesystem, _ = open_store(root)
    tables = [pa.table({name: pa.array([], RECORDS.field(name).type) for name in columns or RECORDS.names})]
    for path in paths:
        try:
            tables.append(checked_records(read_whole(filesystem, path, columns)))
        except FileNotFoundError:
            raise
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            warnings.warn(f"{path} is no complete Parquet file and was skipped: {str(error).splitlines()[0]}", stacklevel=2)
    return pa.concat_tables(tables, promote_options="default")


def read_whole(filesystem: pyarrow.fs.FileSystem, path: str, columns: list[str] | None = None) -> pa.Table:
    """The table of a Parquet file whose checksums were verified, read on one thread, which is fastest for a small file."""
    with pyarrow.parquet.ParquetFile(path, filesystem=filesystem, page_checksum_verification=True) as file:
        return file.read(columns=columns, use_threads=False)


def checked_records(table: pa.Table) -> pa.Table:
    """The same table, if it is one of records: a footer has no checksum, and may say anything.

    Raises:
        pa.ArrowInvalid: it is no table of records; the message says why.
    """
    if not table.schema.equals(RECORDS):  # an older version's, with measures, or damaged
        if "key" not in table.schema.names:
            raise pa.ArrowInvalid("it has no column key")
        for field in table.schema:
            right = RECORDS.field(field.name).type if field.name in RECORDS.names else pa.float64()
            if field.type != right:
                raise pa.ArrowInvalid(f"its column {field.name} is {field.type}, not {right}")
    table.validate(full=True)
    return table


def statuses(root: str, measures: Sequence[str] = ()) -> dict[str, str]:
    """The status of every recorded key; a final one stands before a failure.

    A completed point that was recorded without one of the `measures` counts as not recorded.
    """
    while True:
        with suppress(FileNotFoundError):  # merged since they were listed: the next listing knows
            return statuses_in(root, fragments(root), measures)


def statuses_in(root: str, paths: Sequence[str], measures: Sequence[str]) -> dict[str, str]:
    """The same as `statuses`, of some record files.

    Raises:
        FileNotFoundError: as for `read_fragments`.
    """
    found: dict[str, str] = {}
    bare = _without(root, paths, {f"measure.{name}" for name in measures}) if measures else set()
    for part, measured in (([path for path in paths if path not in bare], True), (sorted(bare), False)):
        table = read_fragments(root, part, ["key", "status"])
        for key, status in zip(table["key"].to_pylist(), table["status"].to_pylist(), strict=True):
            if (measured or status != "completed") and (status in FINAL or key not in found):
                found[key] = status
    return found


def _without(root: str, paths: Iterable[str], columns: set[str]) -> set[str]:
    """The record files that lack one of the columns."""
    filesystem, _ = open_store(root)
    lacking = set()
    for path in paths:
        try:
            names = set(pyarrow.parquet.read_schema(path, filesystem=filesystem).names)
        except FileNotFoundError:
            raise
        except (pa.ArrowException, OSError, UnicodeDecodeError):
            continue  # a damaged file is named by whoever reads it
        if not columns <= names:
            lacking.add(path)
    return lacking
