"""Earlier rows of points that have come again: a reader of one file after the other joins them as `analysis.load` does.

A point has several rows if it ran twice, or was trained again for further measures.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs

from analysis.records.fragments import MERGED, finished_files, read_fragments
from analysis.records.store import open_store


def oldest_first(files: Iterable[pyarrow.fs.FileInfo]) -> list[str]:
    """The paths of files of records in the order in which their rows were written: merged ones hold older rows than fragments do."""
    return [info.path for info in sorted(files, key=lambda info: (not in_merged(info.path), info.mtime_ns or 0, info.path))]


def in_merged(path: str) -> bool:
    """Whether a file of records is a merged one."""
    return f"/records/{MERGED}/" in path


class EarlierRows:
    """Remembers which points each fragment has, so that few files are read for the other rows of some.

    Args:
        root: ``STORAGE/STUDY``.
    """

    def __init__(self, root: str) -> None:
        self._root = root
        self._paths: dict[str, list[str]] = {}

    def saw(self, path: str, keys: Iterable[str]) -> None:
        """Remember that a file has rows of these points. Merged files are looked through in any case."""
        if not in_merged(path):
            for key in keys:
                paths = self._paths.setdefault(key, [])
                if path not in paths:
                    paths.append(path)

    def of(self, keys: Collection[str], besides: Collection[str]) -> Iterator[tuple[str, pa.Table]]:
        """The rows of these points in other files than ``besides``, file by file; one that was merged since is left to its merged file."""
        filesystem, path = open_store(self._root)
        seen = {path for key in keys for path in self._paths.get(key, ())}
        merged = [info.path for info in finished_files(filesystem, f"{path}/records") if in_merged(info.path)]
        wanted = pa.array(sorted(keys), pa.string())
        for file in sorted((seen | set(merged)) - set(besides)):
            with suppress(FileNotFoundError):
                if in_merged(file) and not pc.any(pc.is_in(read_fragments(self._root, [file], ["key"])["key"], wanted)).as_py():
                    continue
                table = read_fragments(self._root, [file])
                yield file, table.filter(pc.is_in(table["key"], wanted))
