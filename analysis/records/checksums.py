"""Checksums of whole files, which their names carry: ``STEM.RECORDS.CURVES.parquet``, the same for a file of records and its curves.

Each is the CRC-32 of one file, eight hexadecimal digits; ``none`` stands for curves that there are none of. Parquet's own checksums guard
pages and no footer, and looking at them takes decoding every value; a file's CRC guards every byte, and takes no more than reading it.
Files of earlier versions have no such names: their pages are decoded instead (`analysis.records.soundness`).
"""

from __future__ import annotations

import re
import zlib

import pyarrow.fs

_SEALED = re.compile(r"\.([0-9a-f]{8})\.([0-9a-f]{8}|none)\.parquet$")
_NONE = "none"
_CHUNK = 2**23


def sealed_name(stem: str, records: bytes | memoryview, curves: bytes | memoryview | None) -> str:
    """The name of a file of records and of its curves."""
    return f"{stem}.{zlib.crc32(records):08x}.{_NONE if curves is None else f'{zlib.crc32(curves):08x}'}.parquet"


def seals(path: str) -> tuple[int, int | None] | None:
    """The checksums of records and of curves (None: there are none) that a name carries; None if it carries no checksums."""
    found = _SEALED.search(path)
    return None if found is None else (int(found[1], 16), None if found[2] == _NONE else int(found[2], 16))


def checksum(filesystem: pyarrow.fs.FileSystem, path: str) -> int:
    """The CRC-32 of a file.

    Raises:
        OSError: it cannot be read.
    """
    found = 0
    with filesystem.open_input_file(path) as file:
        while chunk := file.read_buffer(_CHUNK):
            found = zlib.crc32(chunk, found)
    return found
