"""Fragments: the files of records and curves under ``STORAGE/STUDY``, and which points are recorded in them.

A fragment appears whole or not at all (`study.records.writer`). A point that ran twice has two rows; readers make one of them
(`analysis.records.rows`). Many fragments are merged into few files, in ``records/merged`` and ``curves/merged``
(`study.records.compaction`): a fragment that was listed may be gone when it is read, and its rows are in a merged file then.

What is recorded is said by `analysis.records.soundness`. `recorded` tells of all points at once, `read_fragments` gives their rows.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs
import pyarrow.parquet

from analysis.records.schema import FINAL, MEASURE, RECORDS
from analysis.records.soundness import UNREADABLE, Pair, Soundness, read_sound, read_whole, reason, without
from analysis.records.store import open_store

MERGED = "merged"
"""The merged files lie in a folder of this name, inside the folder of the fragments."""
_AT_ONCE = 256
"""So many small files are read, and put together, before the next: a table of one row takes 50 KB."""


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


def pairs(filesystem: pyarrow.fs.FileSystem, path: str) -> list[Pair]:
    """The files of records of a study, each with the curves beside it.

    Curves are listed after records: they are written before.
    """
    records = finished_files(filesystem, f"{path}/records")
    curves = {info.path: info for info in finished_files(filesystem, f"{path}/curves")} if records else {}
    return [Pair(info, curves.get(curves_beside(path, info.path))) for info in records]


def curves_beside(path: str, file: str) -> str:
    """Where the curves of a file of records lie, below the path of its study."""
    return f"{path}/curves/{file.removeprefix(f'{path}/records/')}"


def read_fragments(root: str, paths: Iterable[str], columns: list[str] | None = None) -> pa.Table:
    """The rows of recorded points in some record files, as written. What is damaged is named in a warning and counts as absent.

    Raises:
        FileNotFoundError: a file is gone, for it was merged into another one, which `fragments` lists.
    """
    filesystem, path = open_store(root)
    files = list(paths)
    infos = filesystem.get_file_info(files + [curves_beside(path, file) for file in files]) if files else []
    half = len(files)
    if gone := [info.path for info in infos[:half] if not info.is_file]:
        raise FileNotFoundError(gone[0])
    some = [Pair(one, other if other.is_file else None) for one, other in zip(infos[:half], infos[half:], strict=True)]
    parts = [pa.table({name: pa.array([], RECORDS.field(name).type) for name in columns or RECORDS.names})]
    names = None if columns is None else list(dict.fromkeys([*columns, "key", "status"]))
    batch: list[pa.Table] = []
    for _, table in recorded_rows(root, some, names):
        batch.append(table if columns is None else table.select([name for name in columns if name in table.column_names]))
        if len(batch) == _AT_ONCE:
            parts.append(pa.concat_tables(batch, promote_options="default").combine_chunks())
            batch = []
    return pa.concat_tables([*parts, *batch], promote_options="default")


def recorded_rows(root: str, some: Sequence[Pair], columns: list[str] | None = None) -> Iterator[tuple[Pair, pa.Table]]:
    """The rows of recorded points, pair by pair; what is damaged is named in a warning and left out.

    Args:
        columns: with ``key`` and ``status`` among them; a file may lack some.

    Raises:
        FileNotFoundError: a file is gone.
    """
    filesystem, path = open_store(root)

    def read(pair: Pair) -> tuple[pa.Table, Soundness] | None:
        try:
            return read_sound(filesystem, pair, columns)
        except FileNotFoundError:
            raise
        except UNREADABLE as error:
            warnings.warn(f"{pair.path} is no complete Parquet file and was skipped: {reason(error)}", stacklevel=2)
            return None

    waiting: list[tuple[Pair, pa.Table, Soundness]] = []
    with ThreadPoolExecutor(4) as pool:
        for start in range(0, len(some), _AT_ONCE):
            batch = some[start : start + _AT_ONCE]
            for pair, found in zip(batch, pool.map(read, batch), strict=True):
                if found is None:
                    continue
                if found[1].lacking:
                    waiting.append((pair, *found))
                else:
                    yield pair, found[0]
    if waiting:
        elsewhere = keys_with_curves(filesystem, path, frozenset[str]().union(*(verdict.lacking for *_, verdict in waiting)))
        for pair, table, verdict in waiting:
            if gone := verdict.lacking - elsewhere:
                warnings.warn(f"{pair.path} has {len(gone):,} records without their curves, which were skipped", stacklevel=2)
                table = without(table, gone)
            yield pair, table


def keys_with_curves(filesystem: pyarrow.fs.FileSystem, path: str, keys: frozenset[str]) -> set[str]:
    """Those of the keys that have a curve in some file that can be read: fragments that are being merged lose theirs first."""
    found: set[str] = set()
    wanted = pa.array(sorted(keys), pa.string())
    for info in reversed(finished_files(filesystem, f"{path}/curves")):  # merged ones first
        if keys <= found:
            break
        with suppress(*UNREADABLE):
            there = read_whole(filesystem, info.path, ["key"])["key"].unique()
            found.update(there.filter(pc.is_in(there, wanted)).to_pylist())
    return found


@dataclass(frozen=True)
class Recorded:
    """Which points are recorded.

    Attributes:
        statuses: key -> status, of every recorded point; a final one stands before a failure, and of two final ones the first.
        unmeasured: key -> those of the measures asked for that a completed point was recorded without.
    """

    statuses: dict[str, str] = field(default_factory=dict)
    unmeasured: dict[str, frozenset[str]] = field(default_factory=dict)

    @property
    def measured(self) -> dict[str, str]:
        """The statuses without the completed points that lack a measure."""
        return {key: status for key, status in self.statuses.items() if key not in self.unmeasured}


def recorded(root: str, measures: Sequence[str] = (), only: Sequence[str] | None = None) -> Recorded:
    """Which points are recorded under ``STORAGE/STUDY``, and which of the measures they lack.

    Args:
        only: the record files to look at; all by default.
    """
    filesystem, path = open_store(root)
    while True:
        with suppress(FileNotFoundError):  # merged since they were listed: the next listing knows
            some = pairs(filesystem, path)
            return _recorded(root, some if only is None else [pair for pair in some if pair.path in set(only)], measures)


def statuses(root: str, measures: Sequence[str] = ()) -> dict[str, str]:
    """The status of every recorded key; a completed point that was recorded without one of the `measures` counts as not recorded."""
    return recorded(root, measures).measured


def _recorded(root: str, some: Sequence[Pair], measures: Sequence[str]) -> Recorded:
    standing: dict[str, tuple[bool, Any, str]] = {}
    had: dict[str, set[str]] = {}
    wanted = {f"{MEASURE}{name}": name for name in measures}
    for _, table in recorded_rows(root, some, ["key", "status", "finished", *wanted]):
        there = {name for column, name in wanted.items() if column in table.column_names}
        finished = table["finished"].to_pylist() if "finished" in table.column_names else [None] * table.num_rows
        for key, status, when in zip(table["key"].to_pylist(), table["status"].to_pylist(), finished, strict=True):
            before = standing.get(key)
            if before is None or (status in FINAL and (not before[0] or earlier(when, before[1]))):
                standing[key] = (status in FINAL, when, status)
            if there and status in FINAL:
                had.setdefault(key, set()).update(there)
    found = {key: status for key, (_, _, status) in standing.items()}
    asked = set(measures)
    lacking = {key: frozenset(asked - had.get(key, set())) for key, status in found.items() if status == "completed"} if asked else {}
    return Recorded(found, {key: names for key, names in lacking.items() if names})


def earlier(one: datetime | None, other: datetime | None) -> bool:
    """Whether a record is known to have been finished before another; a null says nothing."""
    return one is not None and other is not None and one < other
