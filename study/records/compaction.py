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
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs
from filelock import FileLock

from analysis.records.checksums import seals
from analysis.records.fragments import MERGED, curves_beside, fragments, pairs, read_fragments
from analysis.records.schema import CURVES
from analysis.records.soundness import UNREADABLE, Pair, read_sound, read_whole
from analysis.records.store import open_store
from study.records.writer import write_pair

MANY = 100
"""A study with more fragments than this is compacted when a run of it starts or ends: each costs a reader about 2 ms."""
COMPACTING = ".compacting"
"""The file that a compaction locks."""
_MOST_ROWS = 2**22
"""About as many curve rows as one merged file holds (a record, with nine times the columns, counts as 16): 0.5 GB of memory."""
_AT_ONCE = 256
"""Fragments read before their rows are put together: a table of one row takes 50 KB."""
_OUTCOME = ["key", "status", "finished"]
"""What tells one row of a record from another."""
_Rows = set[tuple[object, ...]]
QUARANTINE = "quarantine"
"""What cannot be read whole is kept in a folder of this name, with the paths that it had in the study's."""


@dataclass(frozen=True)
class _Part:
    """Some fragments with the same columns: the paths of their files, and what is in them all."""

    paths: list[str]
    curve_paths: list[str]
    records: pa.Table
    curves: pa.Table


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
    with alone(filesystem, path):
        found = pairs(filesystem, path)
        large = [pair.path for pair in found if is_merged(pair.path)]
        small = found[: len(found) - len(large)]
        if len(small) < least:
            return 0
        merged = set(_rows(read_fragments(root, large, _OUTCOME)))
        done = 0
        for batch in _batches(_read_all(filesystem, path, small, merged)):
            _merge(filesystem, path, batch, merged)
            done += sum(len(part.paths) for part in batch)
        return done


def unsealed(root: str) -> int:
    """How many fragments have the names of earlier versions, without checksums: every reader's process decodes each of them whole.

    Raises:
        OSError: the storage cannot be read.
    """
    return sum(1 for path in fragments(root) if not is_merged(path) and seals(path) is None)


def merge_if_many(root: str) -> None:
    """Compact a study that has many fragments; if that is not possible, warn: it can be read as it is."""
    try:
        compact(root, least=MANY + 1)
    except (OSError, pa.ArrowException) as error:
        warnings.warn(f"the fragments in {root} were not merged: {str(error).splitlines()[0]}", stacklevel=2)


def is_merged(file: str) -> bool:
    """Whether a file is a merged one."""
    return file.rpartition("/")[0].endswith(f"/{MERGED}")


@contextmanager
def alone(filesystem: pyarrow.fs.FileSystem, path: str) -> Iterator[None]:
    """Wait for another compaction on this machine or file system, and clear what one left that was killed.

    Merged curves without records are what a killed one leaves, or what remains where records got lost: they are put aside, not removed.

    An object store has no locks: there two at once are possible and do no harm, but a row may be merged twice.
    """
    folder = Path(path)
    if not isinstance(filesystem, pyarrow.fs.LocalFileSystem) or not folder.is_dir():
        yield
        return
    with FileLock(folder / COMPACTING):
        for file in folder.glob(f"*/{MERGED}/.*.parquet.tmp"):
            file.unlink()
        whole = {file.name for file in (folder / "records" / MERGED).glob("*.parquet")}
        for file in (folder / "curves" / MERGED).glob("*.parquet"):
            if file.name not in whole:
                put_aside(filesystem, path, str(file))
        yield


def put_aside(filesystem: pyarrow.fs.FileSystem, path: str, file: str) -> str:
    """Move a file of a study to where it is kept and no longer read; where it lies now.

    Raises:
        OSError: the storage cannot be written.
    """
    kept = f"{path}/{QUARANTINE}/{file.removeprefix(f'{path}/')}"
    if filesystem.get_file_info(kept).type != pyarrow.fs.FileType.NotFound:
        kept += f".{uuid.uuid4().hex[:12]}"
    if isinstance(filesystem, pyarrow.fs.LocalFileSystem):
        filesystem.create_dir(kept.rpartition("/")[0], recursive=True)
    filesystem.move(file, kept)
    return kept


def _read_all(filesystem: pyarrow.fs.FileSystem, path: str, files: Sequence[Pair], merged: _Rows) -> Iterator[_Part]:
    """The fragments that can be read, in order, some at a time. Those of one point are named by its key: they follow each other by key.

    Only fragments with the same columns come together: the measure that one lacks must not become a null one.
    """
    with ThreadPoolExecutor(4) as pool:
        for start in range(0, len(files), _AT_ONCE):
            alike: dict[tuple[str, ...], list[tuple[str, pa.Table, pa.Table | None]]] = {}
            for one in pool.map(lambda pair: _read(filesystem, path, pair, merged), files[start : start + _AT_ONCE]):
                if one is not None:
                    alike.setdefault(tuple(one[1].column_names), []).append(one)
            for some in alike.values():
                curves = {curves_beside(path, file): table for file, _, table in some if table is not None}
                yield _Part(
                    [file for file, _, _ in some],
                    list(curves),
                    pa.concat_tables([table for _, table, _ in some]).combine_chunks(),
                    pa.concat_tables([CURVES.empty_table(), *curves.values()], promote_options="default").combine_chunks(),
                )


def _read(filesystem: pyarrow.fs.FileSystem, path: str, pair: Pair, merged: _Rows) -> tuple[str, pa.Table, pa.Table | None] | None:
    """Path, records and curves of a fragment; no curves if it has none, nothing at all if it is not sound.

    One that has lost its curves to a compaction which was killed is sound if all its rows are merged.
    """
    try:
        records, verdict = read_sound(filesystem, pair)
        if verdict.lacking:
            done = pair.curves is None and set(_rows(records.select(_OUTCOME))) <= merged
            return (pair.path, records, None) if done else None
        return pair.path, records, read_whole(filesystem, curves_beside(path, pair.path)) if pair.curves else None
    except UNREADABLE:
        return None


def _batches(read: Iterator[_Part]) -> Iterator[list[_Part]]:
    """Batches of as many fragments as make one merged file."""
    unfinished: dict[tuple[str, ...], list[_Part]] = {}
    for part in read:
        columns = tuple(part.records.column_names)
        batch = unfinished.setdefault(columns, [])
        batch.append(part)
        if sum(16 * one.records.num_rows + one.curves.num_rows for one in batch) >= _MOST_ROWS:
            yield unfinished.pop(columns)
    yield from unfinished.values()


def _merge(filesystem: pyarrow.fs.FileSystem, path: str, batch: Sequence[_Part], merged: _Rows) -> None:
    """Write what the batch holds beyond the merged rows, then remove its files."""
    records = pa.concat_tables([part.records for part in batch])
    curves = pa.concat_tables([part.curves for part in batch], promote_options="default")
    if merged:  # a compaction may have been killed before it had removed these
        held = pa.array([row in merged for row in _rows(records.select(_OUTCOME))], pa.bool_())
        if pc.any(held).as_py():
            records = records.filter(pc.invert(held))
            curves = curves.filter(pc.is_in(curves["key"], records["key"]))
    if records.num_rows:
        write_merged(filesystem, path, records, curves)
        _settle(filesystem, f"{path}/curves/{MERGED}", f"{path}/records/{MERGED}")
    _remove(filesystem, [file for part in batch for file in part.curve_paths])
    _remove(filesystem, [file for part in batch for file in part.paths])  # last: what is left without its curves is known to be merged


def write_merged(filesystem: pyarrow.fs.FileSystem, path: str, records: pa.Table, curves: pa.Table) -> str:
    """Write a merged file of records, and one of their curves, in the order of keys; their name."""
    in_order = curves.sort_by([("key", "ascending"), ("epoch", "ascending")])
    return write_pair(filesystem, path, f"{MERGED}/{uuid.uuid4().hex}", records.sort_by("key"), in_order)


def _rows(table: pa.Table) -> list[tuple[object, ...]]:
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))


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
