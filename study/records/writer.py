"""The writer: how a worker records results.

A study's results are Parquet fragments in ``STORAGE/STUDY/records`` and ``STORAGE/STUDY/curves``. A fragment appears whole or
not at all: it is written under a temporary name and renamed (an object store's PUT is atomic by itself). Curves are
written before records, so a record never lacks its curve. The name of both carries their checksums (`analysis.records.checksums`).
"""

from __future__ import annotations

import math
import os
import uuid
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet

from analysis.records.checksums import sealed_name
from analysis.records.fragments import fragments, recorded
from analysis.records.networks import ENDING, FOLDER
from analysis.records.schema import CURVES, FINAL, RECORDS, SAMPLES
from analysis.records.store import open_store
from study.records.networks import in_safetensors
from study.records.provenance import Provenance as Provenance
from trainables.point.config import flatten
from trainables.redaction import redacted

if TYPE_CHECKING:
    from trainables.training.members import Result

CURVES_ROW_GROUP = 10_000
"""Rows read for the curve of one point."""
RECORDS_ROW_GROUP = 10_000
"""Rows that a damaged page costs at most, if the file is a merged one."""
_NOTHING = pyarrow.fs.FileType.NotFound
_FEW_ROWS = 64
"""A file of so few is read three times as fast plain as compressed, and is no larger."""


def probe_store(root: str) -> None:
    """Write about as much as a fragment wherever one goes, and take it away.

    Raises:
        OSError: that is not possible.
    """
    filesystem, path = open_store(root)
    folders = [path, *(one.path for one in filesystem.get_file_info([f"{path}/records", f"{path}/curves"]) if one.type != _NOTHING)]
    for folder in folders:
        probe = f"{folder}/.probe-{uuid.uuid4().hex[:12]}"
        try:
            with filesystem.open_output_stream(probe) as stream:
                stream.write(bytes(2**16))
        finally:
            with suppress(OSError):
                filesystem.delete_file(probe)


@dataclass(frozen=True)
class FragmentWriter:
    """Writes results under ``root`` (``STORAGE/STUDY``), a fragment a call; it travels to the workers.

    Raises:
        OSError: the storage cannot be written; no fragment has appeared then.
    """

    root: str
    provenance: Provenance

    def __call__(self, results: Sequence[Result], device: str | None) -> None:
        if not results:
            return
        filesystem, path = open_store(self.root)
        curves = pa.Table.from_pylist([_finite(row) for result in results for row in result.curve], schema=CURVES)
        for result in results:
            if result.network is not None:  # before its record, as a curve
                write_whole(filesystem, f"{path}/{FOLDER}/{result.key}{ENDING}", in_safetensors(result))
        samples = [result.samples for result in results if result.samples is not None]
        write_pair(
            filesystem,
            path,
            f"{results[0].key}-{uuid.uuid4().hex[:12]}",
            self._records(results, device),
            curves,
            pa.Table.from_pylist(samples, schema=SAMPLES) if samples else None,
        )

    def recorded(self, keys: Collection[str], measures: Sequence[str] = ()) -> set[str]:
        """Those of the keys that a pack of just these points has recorded already, with the measures; for a pack whose worker was lost.

        Only fragments that begin with one of the keys are read, which are few of a large study's.
        """
        paths = [path for path in fragments(self.root) if path.rpartition("/")[2].partition("-")[0] in keys]
        found = recorded(self.root, measures, paths).measured
        return {key for key, status in found.items() if key in keys and status in FINAL}

    def _records(self, results: Sequence[Result], device: str | None) -> pa.Table:
        provenance = self.provenance.columns(device)
        rows = [
            {"key": result.key, "status": result.status, "reason": redacted(result.reason)}
            | flatten(result.point)
            | _finite(result.outcome)
            | provenance
            | {"engine": result.engine, "slots": result.slots}
            for result in results
        ]
        measures = sorted({name for row in rows for name in row if name.startswith("measure.")})
        return pa.Table.from_pylist(rows, schema=pa.schema([*RECORDS, *(pa.field(name, pa.float64()) for name in measures)]))


def _finite(row: Mapping[str, Any]) -> dict[str, Any]:
    """Null for what is not a finite number: MLflow cannot keep an infinity, and neither is a result."""
    return {name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in row.items()}


def write_pair(
    filesystem: pyarrow.fs.FileSystem, path: str, stem: str, records: pa.Table, curves: pa.Table, samples: pa.Table | None = None
) -> str:
    """Write records with their curves and samples below ``path``, each file whole or not at all; the records come last.

    Args:
        stem: the name of the files, which checksums are added to; a folder may stand before it.
        curves: there is no file of them if there are none.

    Returns:
        The name.

    Raises:
        OSError: they cannot be written; no records have appeared then.
    """
    whole = in_parquet(records, RECORDS_ROW_GROUP)
    beside = in_parquet(curves, CURVES_ROW_GROUP) if curves.num_rows else None
    name = sealed_name(stem, whole, beside)
    if beside is not None:
        write_whole(filesystem, f"{path}/curves/{name}", beside)
    if samples is not None:
        write_whole(filesystem, f"{path}/samples/{name}", in_parquet(samples))
    write_whole(filesystem, f"{path}/records/{name}", whole)
    return name


def in_parquet(table: pa.Table, row_group_size: int | None = None) -> pa.Buffer:
    """The bytes of a Parquet file with a checksum a page."""
    buffer = pa.BufferOutputStream()
    plain = table.num_rows <= _FEW_ROWS
    pyarrow.parquet.write_table(
        table,
        buffer,
        row_group_size=row_group_size,
        compression="none" if plain else "zstd",
        use_dictionary=not plain,
        write_page_checksum=True,
    )
    return buffer.getvalue()


def write_whole(filesystem: pyarrow.fs.FileSystem, path: str, data: pa.Buffer | bytes) -> None:
    """Write a file that is there whole or not at all, and stays after a power cut.

    Raises:
        OSError: it cannot be written; nothing has appeared then.
    """
    if not isinstance(filesystem, pyarrow.fs.LocalFileSystem):
        with filesystem.open_output_stream(path) as stream:  # one PUT: it appears when the stream is closed
            stream.write(data)
        return
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.tmp")
    try:
        with unfinished.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())  # a power cut after the rename must not leave an empty fragment
        unfinished.replace(target)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise
