"""Compaction: the many small fragments of a study merged into few files, safely while it runs and killed at any moment.

The order is what makes it safe. Merged curves are written, then merged records, each whole or not at all; only then are the
fragments that they hold removed, curves first. Whoever reads at any moment finds every row at least once, and readers keep one
row a point. What a kill leaves behind, the next compaction clears away.
"""

from __future__ import annotations

import os
import uuid
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs
from filelock import FileLock

from study.records import MERGED, checked_records, finished_files, open_store, read_fragments, read_whole, write_whole

MANY = 100
"""A study with more fragments than this is compacted when a run of it starts or ends: each costs a reader about 2 ms."""
_MOST_ROWS = 2**22
"""About as many curve rows as one merged file holds (a record, with nine times the columns, counts as 16): 0.5 GB of memory."""
_CURVE_ROW_GROUP = 10_000
"""Rows read for the curve of one point."""
_AT_ONCE = 256
"""Fragments read ahead."""
_OUTCOME = ["key", "status", "finished"]
"""What tells one row of a record from another."""


@dataclass(frozen=True)
class _Fragment:
    """A fragment as read: the paths of its files, and what is in them; no curves of points that all failed."""

    records_path: str
    curves_path: str
    records: pa.Table
    curves: pa.Table | None


def compact(root: str, *, least: int = 2) -> int:
    """Merge the fragments of ``STORAGE/STUDY``, which stays readable and may be written to meanwhile.

    Args:
        root: ``STORAGE/STUDY``.
        least: does nothing if there are fewer fragments than this.

    Returns:
        How many fragments were merged. Damaged ones are left as they are.

    Raises:
        OSError: the storage cannot be read or written; nothing is lost.
    """
    filesystem, path = open_store(root)
    with _alone(filesystem, path):
        found = [info.path for info in finished_files(filesystem, f"{path}/records")]
        large = [one for one in found if one.startswith(f"{path}/records/{MERGED}/")]
        small = found[: len(found) - len(large)]
        if len(small) < least:
            return 0
        merged = read_fragments(root, large, _OUTCOME)
        done = 0
        for batch in _batches(_read_all(filesystem, path, small)):
            _merge(filesystem, path, batch, merged)
            done += len(batch)
        return done


def merge_if_many(root: str) -> None:
    """Compact a study that has many fragments; if that is not possible, warn: it can be read as it is."""
    try:
        compact(root, least=MANY + 1)
    except (OSError, pa.ArrowException) as error:
        warnings.warn(f"the fragments in {root} were not merged: {str(error).splitlines()[0]}", stacklevel=2)


@contextmanager
def _alone(filesystem: pyarrow.fs.FileSystem, path: str) -> Iterator[None]:
    """Wait for another compaction on this machine or file system, and clear what one left that was killed.

    An object store has no locks: there two at once are possible and do no harm, but a row may be merged twice.
    """
    folder = Path(path)
    if not isinstance(filesystem, pyarrow.fs.LocalFileSystem) or not folder.is_dir():
        yield
        return
    with FileLock(folder / ".compacting"):
        whole = {file.name for file in (folder / "records" / MERGED).glob("*.parquet")}
        for file in [*folder.glob(f"*/{MERGED}/.*.tmp"), *(folder / "curves" / MERGED).glob("*.parquet")]:
            if file.name not in whole:
                file.unlink()
        yield


def _read_all(filesystem: pyarrow.fs.FileSystem, path: str, files: Sequence[str]) -> Iterator[_Fragment]:
    """The fragments that can be read, in order. One-point fragments are named by their key: they follow each other by key."""
    with ThreadPoolExecutor(4) as pool:
        paths = iter(files)
        while some := list(islice(paths, _AT_ONCE)):
            for one in pool.map(lambda file: _read(filesystem, path, file), some):
                if one is not None:
                    yield one


def _read(filesystem: pyarrow.fs.FileSystem, path: str, file: str) -> _Fragment | None:
    beside = f"{path}/curves/{file.rpartition('/')[2]}"
    try:
        records = checked_records(read_whole(filesystem, file))
    except (OSError, pa.ArrowException, UnicodeDecodeError):
        return None
    try:
        return _Fragment(file, beside, records, read_whole(filesystem, beside))
    except FileNotFoundError:
        return _Fragment(file, beside, records, None)
    except (OSError, pa.ArrowException, UnicodeDecodeError):
        return None


def _batches(read: Iterator[_Fragment]) -> Iterator[list[_Fragment]]:
    """As many fragments as fit one merged file, all with the same columns: a missing measure must not become a null one."""
    open_batches: dict[tuple[str, ...], list[_Fragment]] = {}
    rows: dict[tuple[str, ...], int] = {}
    for one in read:
        columns = tuple(one.records.column_names)
        open_batches.setdefault(columns, []).append(one)
        rows[columns] = rows.get(columns, 0) + 16 * one.records.num_rows + (one.curves.num_rows if one.curves else 0)
        if rows[columns] >= _MOST_ROWS:
            rows[columns] = 0
            yield open_batches.pop(columns)
    yield from open_batches.values()


def _merge(filesystem: pyarrow.fs.FileSystem, path: str, batch: Sequence[_Fragment], merged: pa.Table) -> None:
    """Write what the batch holds beyond the merged rows, then remove its files."""
    held = _rows(merged.filter(pc.is_in(merged["key"], pa.chunked_array([one.records["key"].combine_chunks() for one in batch]))))
    new = [one for one in batch if not _rows(one.records.select(_OUTCOME)) <= held]
    if new:
        name = f"{MERGED}/{uuid.uuid4().hex}.parquet"
        curves = [one.curves for one in new if one.curves is not None]
        if curves:
            in_order = pa.concat_tables(curves, promote_options="default").sort_by([("key", "ascending"), ("epoch", "ascending")])
            write_whole(filesystem, f"{path}/curves/{name}", in_order, _CURVE_ROW_GROUP)
        write_whole(filesystem, f"{path}/records/{name}", pa.concat_tables([one.records for one in new]).sort_by("key"))
        _settle(filesystem, f"{path}/curves/{MERGED}", f"{path}/records/{MERGED}")
    _remove(filesystem, [one.curves_path for one in batch if one.curves is not None])
    _remove(filesystem, [one.records_path for one in batch])  # last: what is left without its curves is known to be merged


def _rows(table: pa.Table) -> set[tuple[object, ...]]:
    """The rows of a few: a fragment's, or those merged ones that a killed compaction left in fragments too."""
    return {tuple(row.values()) for row in table.to_pylist()}


def _settle(filesystem: pyarrow.fs.FileSystem, *folders: str) -> None:
    """The names of new files reach the disk before others are removed."""
    if not isinstance(filesystem, pyarrow.fs.LocalFileSystem):
        return
    for folder in folders:
        with suppress(FileNotFoundError):
            handle = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def _remove(filesystem: pyarrow.fs.FileSystem, files: Sequence[str]) -> None:
    """Take files away, side by side: an object store answers each after many milliseconds."""
    with ThreadPoolExecutor(8) as pool:
        for _ in pool.map(lambda file: _remove_one(filesystem, file), files):
            pass


def _remove_one(filesystem: pyarrow.fs.FileSystem, file: str) -> None:
    with suppress(FileNotFoundError):
        filesystem.delete_file(file)
