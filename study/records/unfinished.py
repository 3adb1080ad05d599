"""Points that were not done when their run stopped: their training so far, under ``STORAGE/STUDY/unfinished``.

One file a point, written by its worker about every minute and removed when the point is recorded (see `trainables.training.unfinished`):
``KEY.BITS.CRC.pt``, where BITS is a hash of what the training's bits come from, and CRC a checksum of the file. A file that is damaged, or
comes from where bits differ, is not taken up: the point starts again.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.fs

from analysis.records.store import open_store
from study.records.writer import write_whole

FOLDER = "unfinished"
_NAME = re.compile(r"([0-9a-f]{32})\.([0-9a-f]{8})\.([0-9a-f]{8})\.pt")
_PART = re.compile(rf"\.{_NAME.pattern}\.tmp")
"""A file that `write_whole` has begun."""


@dataclass(frozen=True)
class Unfinished:
    """The shelf of a study (see `trainables.training.unfinished.Shelf`); it travels to the workers.

    Raises:
        OSError: the storage cannot be read or written.
    """

    root: str

    def put(self, key: str, bits: str, state: bytes) -> None:
        filesystem, path = open_store(self.root)
        before = self._files([key])
        name = f"{key}.{_digest(bits)}.{zlib.crc32(state):08x}.pt"
        write_whole(filesystem, f"{path}/{FOLDER}/{name}", pa.py_buffer(state))
        _delete(filesystem, [file for file in before if not file.endswith(name)])

    def get(self, key: str, bits: str) -> bytes | None:
        filesystem, _ = open_store(self.root)
        for file in self._files([key]):
            if f".{_digest(bits)}." in file and (state := _whole(filesystem, file)) is not None:
                return state
        return None

    def keys(self) -> set[str]:
        return {key for key, _ in self._found()}

    def damaged(self, keys: Collection[str]) -> list[str]:
        """Those of the keys of which every file is damaged."""
        filesystem, _ = open_store(self.root)
        whole: dict[str, bool] = {}
        for key, file in self._found():
            if key in keys:
                whole[key] = whole.get(key, False) or _whole(filesystem, file) is not None
        return sorted(key for key, one in whole.items() if not one)

    def remove(self, keys: Collection[str]) -> None:
        """Remove what is kept under these keys, what a killed worker had half written too, and the folder once nothing lies in it."""
        filesystem, path = open_store(self.root)
        _delete(filesystem, [file for key, file in self._found(_PART) if key in keys] + self._files(keys))
        if isinstance(filesystem, pyarrow.fs.LocalFileSystem):
            with suppress(OSError):  # another's file lies there, or it was not there at all
                (Path(path) / FOLDER).rmdir()

    def _files(self, keys: Collection[str]) -> list[str]:
        return [file for key, file in self._found() if key in keys]

    def _found(self, named: re.Pattern[str] = _NAME) -> Iterator[tuple[str, str]]:
        """The key and path of every file."""
        filesystem, path = open_store(self.root)
        for one in filesystem.get_file_info(pyarrow.fs.FileSelector(f"{path}/{FOLDER}", allow_not_found=True)):
            if one.is_file and (name := named.fullmatch(one.base_name)):
                yield name[1], one.path


def _digest(bits: str) -> str:
    return hashlib.sha256(bits.encode()).hexdigest()[:8]


def _whole(filesystem: pyarrow.fs.FileSystem, file: str) -> bytes | None:
    """The bytes of a file; None if its checksum says that they are not those that were written."""
    name = _NAME.fullmatch(file.rpartition("/")[2])
    with suppress(FileNotFoundError), filesystem.open_input_file(file) as stream:
        state: bytes = stream.read()
        if name and zlib.crc32(state) == int(name[3], 16):
            return state
    return None


def _delete(filesystem: pyarrow.fs.FileSystem, files: Collection[str]) -> None:
    for file in files:
        with suppress(FileNotFoundError):
            filesystem.delete_file(file)
