"""Soundness of what is stored: whether a file of records and the curves beside it can be read whole. This defines what "recorded" means.

A point is recorded if its row lies in a file of records that can be read whole, checksums included, and the curve of a final outcome can
be too, be it beside that row or (while fragments are being merged) elsewhere. A failed point has no curve; one that diverged has none
before its first evaluation. Every reader comes by here: planner, `analysis.load`, compaction, status, mirror, search and simulation.

A file that was looked at is remembered by name, size and time of its last change, as long as the process lives.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs
import pyarrow.parquet as pq

from analysis.records.checksums import checksum, seals
from analysis.records.schema import CURVES, FINAL, MEASURE, RECORDS

SMALL = 2**16
"""A file of at most so many bytes is read at once."""
UNREADABLE = (pa.ArrowException, OSError, ValueError, KeyError)
"""What reading a damaged file raises."""
_GROUPS_AT_ONCE = 64
_FEW = 10_000
"""Fewer rows than this are looked up in a set, which is faster than a join, and read on one thread."""
_MOST_REMEMBERED = 2**18
_NOTHING = RECORDS.empty_table()
_RECORD_TYPES = {one.name: one.type for one in RECORDS}
_CURVE_TYPES = {one.name: one.type for one in CURVES}
_NO_EPOCHS = pa.table({"key": pa.array([], pa.string()), "epoch": pa.array([], pa.int32())})
_NEEDED = ["key", "status", "epochs", "budget.evaluate_every"]
"""What says which curve a record must have."""


@dataclass(frozen=True)
class Pair:
    """A file of records, and the file of the same name with their curves, if there is one."""

    records: pyarrow.fs.FileInfo
    curves: pyarrow.fs.FileInfo | None

    @property
    def path(self) -> str:
        return str(self.records.path)

    @property
    def state(self) -> tuple[int | None, ...]:
        """Changes when one of the files does."""
        curves = self.curves
        return self.records.size, self.records.mtime_ns, *((curves.size, curves.mtime_ns) if curves else (None, None))


@dataclass(frozen=True)
class Soundness:
    """What is wrong with a pair, if anything is.

    Attributes:
        damage: why it cannot be read whole.
        lacking: the keys of those of its final records whose curves do not lie beside them.
    """

    damage: str | None = None
    lacking: frozenset[str] = field(default_factory=frozenset)


_remembered: dict[tuple[str, str], tuple[tuple[int | None, ...], Soundness]] = {}


def soundness_of(filesystem: pyarrow.fs.FileSystem, pair: Pair) -> Soundness:
    """Whether a pair can be read whole; remembered.

    Raises:
        FileNotFoundError: its records are gone.
    """
    return _judged(filesystem, pair)[0]


def read_sound(filesystem: pyarrow.fs.FileSystem, pair: Pair, columns: Sequence[str] | None = None) -> tuple[pa.Table, Soundness]:
    """The records of a pair, of those columns that the file has, and its soundness, without damage.

    Raises:
        FileNotFoundError: its records are gone.
        pa.ArrowInvalid: it is damaged; the message says how.
    """
    soundness, data = _judged(filesystem, pair)
    if soundness.damage is not None:
        raise pa.ArrowInvalid(soundness.damage)
    if isinstance(data, pa.Table):
        return data if columns is None else data.select([name for name in data.column_names if name in columns]), soundness
    if data is None and pair.records.size <= SMALL:
        data = _bytes(filesystem, pair.path)
    if data is None:
        return with_right_types(read_whole(filesystem, pair.path, columns)), soundness
    with pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True) as file:
        return with_right_types(file.read(columns=columns, use_threads=False)), soundness


def read_whole(filesystem: pyarrow.fs.FileSystem, path: str, columns: Sequence[str] | None = None) -> pa.Table:
    """The table of a Parquet file whose checksums were verified, read on one thread, which is fastest for a small file."""
    with pq.ParquetFile(path, filesystem=filesystem, page_checksum_verification=True) as file:
        return file.read(columns=columns, use_threads=False)


def forget() -> None:
    """Look at every file again."""
    _remembered.clear()


def damage_of_curves(filesystem: pyarrow.fs.FileSystem, path: str) -> str | None:
    """Why a file of curves cannot be read whole, if it cannot.

    Raises:
        FileNotFoundError: it is gone.
    """
    try:
        if sealed := seals(path):
            return None if checksum(filesystem, path) == sealed[1] else "its bytes are not those that its name has the checksum of"
        _keys_and_epochs(filesystem, path)
    except FileNotFoundError:
        raise
    except UNREADABLE as error:
        return reason(error)
    return None


def checked_records(table: pa.Table) -> pa.Table:
    """The same table with the types of records, if it is one of them: a footer has no checksum, and may say anything.

    Raises:
        pa.ArrowInvalid: it is no table of records; the message says why.
    """
    table.validate(full=True)
    return with_right_types(table)


def with_right_types(table: pa.Table) -> pa.Table:
    """The same table with the types of records.

    Raises:
        pa.ArrowInvalid: it is no table of records; the message says why.
    """
    if table.schema.equals(RECORDS):
        return table
    if "key" not in table.schema.names:
        raise pa.ArrowInvalid("it has no column key")
    for index, one in enumerate(table.schema):  # an older version's, or with measures
        name, found = one.name, one.type
        right = _RECORD_TYPES.get(name) or (pa.float64() if name.startswith(MEASURE) else found)
        if found != right:
            if not _is_like(found, right):
                raise pa.ArrowInvalid(f"its column {name} is {found}, not {right}")
            table = table.set_column(index, name, table[name].cast(right))
    return table


def _is_like(found: pa.DataType, right: pa.DataType) -> bool:
    """Whether a column of one type may stand for one of another: a number for a number, a moment for a moment, nulls for anything."""
    kinds = (lambda one: pa.types.is_integer(one) or pa.types.is_floating(one), pa.types.is_timestamp, pa.types.is_null)
    return pa.types.is_null(found) or any(kind(found) and kind(right) for kind in kinds)


def lacking_curves(records: pa.Table, keys: pa.Array | pa.ChunkedArray, epochs: pa.Array | pa.ChunkedArray) -> frozenset[str]:
    """The keys of those final records whose curve is not among the rows with these keys and epochs.

    A point that completed or was pruned was evaluated at its last epoch; one that diverged, at those before that were due.
    """
    if "epochs" not in records.column_names:
        return frozenset()
    wanted = records.select([name for name in _NEEDED if name in records.column_names])
    if len(keys) + records.num_rows < _FEW:
        return _lacking_of_few(wanted.to_pylist(), list(zip(keys.to_pylist(), epochs.to_pylist(), strict=True)))
    ended = wanted.filter(pc.is_in(wanted["status"], pa.array([status for status in FINAL if status != "diverged"])))
    rows = pa.table({"key": keys, "epochs": pc.cast(epochs, pa.int32())})
    found = ended.select(["key", "epochs"]).join(rows, ["key", "epochs"], join_type="left anti")["key"].to_pylist()
    if "budget.evaluate_every" in wanted.column_names:
        diverged = wanted.filter(pc.fill_null(pc.greater(wanted["epochs"], wanted["budget.evaluate_every"]), False))
        diverged = diverged.filter(pc.equal(diverged["status"], "diverged"))
        if diverged.num_rows:
            found += diverged.filter(pc.invert(pc.is_in(diverged["key"], keys.unique())))["key"].to_pylist()
    return frozenset(found)


def _lacking_of_few(records: list[dict[str, Any]], rows: list[tuple[str, int]]) -> frozenset[str]:
    """The same of few rows, which are looked up faster than joined."""
    there, keys = set(rows), {key for key, _ in rows}

    def lacks(row: dict[str, Any]) -> bool:
        if row["status"] != "diverged":
            return row["status"] in FINAL and (row["key"], row["epochs"]) not in there
        due = row.get("budget.evaluate_every")
        return due is not None and row["epochs"] is not None and row["epochs"] > due and row["key"] not in keys

    return frozenset(row["key"] for row in records if lacks(row))


def reason(error: Exception) -> str:
    """The first line of an error."""
    return (str(error).splitlines() or [type(error).__name__])[0][:300]


def names_agree(file: pq.ParquetFile) -> bool:
    """Whether a footer names its columns twice alike, as Parquet's schema and as Arrow's: it has no checksum of its own."""
    metadata = file.metadata
    stored = (metadata.metadata or {}).get(b"ARROW:schema")
    return stored is None or _names_in(stored) == metadata.schema.names


@lru_cache(maxsize=64)
def _names_in(stored: bytes) -> list[str]:
    """The names in Arrow's schema as a footer has it; most files of a study have the same one."""
    names: list[str] = pa.ipc.read_schema(pa.BufferReader(base64.b64decode(stored))).names
    return names


def _judged(filesystem: pyarrow.fs.FileSystem, pair: Pair) -> tuple[Soundness, pa.Table | pa.Buffer | None]:
    """The soundness, and the records, as table or bytes, if they are few and were read for it."""
    name = (filesystem.type_name, pair.path)
    state, soundness = _remembered.get(name, (None, None))
    if soundness is not None and state == pair.state:
        return soundness, None
    data = None
    try:
        soundness, data = _looked_at(filesystem, pair)
    except FileNotFoundError:
        raise
    except UNREADABLE as error:
        soundness = Soundness(reason(error))
    if len(_remembered) >= _MOST_REMEMBERED:
        _remembered.clear()
    _remembered[name] = (pair.state, soundness)
    return soundness, data


def _looked_at(filesystem: pyarrow.fs.FileSystem, pair: Pair) -> tuple[Soundness, pa.Table | pa.Buffer | None]:
    data = _bytes(filesystem, pair.path) if pair.records.size <= SMALL else None
    sealed = seals(pair.path)
    if sealed is None:
        soundness, table = _decoded(filesystem, pair, data)
        return soundness, data if table is None else table
    if (zlib.crc32(data) if data is not None else checksum(filesystem, pair.path)) != sealed[0]:
        return Soundness("its bytes are not those that its name has the checksum of"), None
    if sealed[1] is not None:
        try:
            curves = None if pair.curves is None else checksum(filesystem, pair.curves.path)
        except FileNotFoundError:  # merged a moment ago
            curves = None
        if curves is None:
            return Soundness(lacking=_final_keys(read_whole(filesystem, pair.path, ["key", "status"]))), data
        if curves != sealed[1]:
            return Soundness("the bytes of its curves are not those that its name has the checksum of"), None
    return Soundness(), data


def _decoded(filesystem: pyarrow.fs.FileSystem, pair: Pair, data: pa.Buffer | None) -> tuple[Soundness, pa.Table | None]:
    """The soundness of files whose names carry no checksums: every page is decoded. The records too, if they are few."""
    whole = None
    source, system = (pa.BufferReader(data), None) if data is not None else (pair.path, filesystem)
    with pq.ParquetFile(source, filesystem=system, page_checksum_verification=True) as file:
        if not names_agree(file):
            raise pa.ArrowInvalid("its footer names a column in two ways")
        threads = _threads(file)
        if file.num_row_groups == 1 and data is not None:
            records = whole = checked_records(file.read(use_threads=threads))
        else:
            there = set(file.schema_arrow.names)
            needed = [name for name in _NEEDED if name in there]
            groups = (checked_records(file.read_row_group(number, use_threads=threads)) for number in range(file.num_row_groups))
            parts = [group.select(needed) for group in groups]
            records = pa.concat_tables([_NOTHING.select(needed), *parts], promote_options="default")
        if records.num_rows != file.metadata.num_rows:
            raise pa.ArrowInvalid("its footer counts other rows than it has")
    keys, epochs = pa.chunked_array([], pa.string()), pa.chunked_array([], pa.int32())
    if pair.curves is not None:
        try:
            keys, epochs = _keys_and_epochs(filesystem, pair.curves.path, pair.curves.size)
        except FileNotFoundError:
            pass  # merged a moment ago
        except UNREADABLE as error:
            return Soundness(f"its curves cannot be read: {reason(error)}"), None
    return Soundness(lacking=lacking_curves(records, keys, epochs)), whole


def _keys_and_epochs(filesystem: pyarrow.fs.FileSystem, path: str, size: int | None = None) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """Two columns of a file of curves, all of whose pages were decoded.

    Raises:
        UNREADABLE: one of them cannot be, or it is no file of curves.
    """
    data = _bytes(filesystem, path) if size is not None and size <= SMALL else None
    source, system = (pa.BufferReader(data), None) if data is not None else (path, filesystem)
    with pq.ParquetFile(source, filesystem=system, page_checksum_verification=True) as file:
        found = file.schema_arrow
        wrong = [one.name for one in found if one.name in _CURVE_TYPES and one.type != _CURVE_TYPES[one.name]]
        if wrong or not {"key", "epoch"} <= set(found.names) or not names_agree(file):
            raise pa.ArrowInvalid("it has not the columns of curves")
        parts, threads = [], _threads(file)
        for start in range(0, file.num_row_groups, _GROUPS_AT_ONCE):
            table = file.read_row_groups(list(range(start, min(start + _GROUPS_AT_ONCE, file.num_row_groups))), use_threads=threads)
            table.validate(full=True)
            parts.append(table.select(["key", "epoch"]))
            _check_ends(file, start, parts[-1])
        whole = pa.concat_tables([_NO_EPOCHS, *parts])
        return whole["key"], whole["epoch"]


def _threads(file: pq.ParquetFile) -> bool:
    """Whether threads speed up its reading: a small file's columns are read faster than they are handed out."""
    return bool(file.metadata.num_rows > _FEW)


def _check_ends(file: pq.ParquetFile, start: int, table: pa.Table) -> None:
    """Raise if the footer gives other ends of the keys of a row group than it has: readers leave out groups by them."""
    index, row = file.metadata.schema.names.index("key"), 0
    for number in range(start, min(start + _GROUPS_AT_ONCE, file.num_row_groups)):
        group = file.metadata.row_group(number)
        said = group.column(index).statistics
        if said is not None and said.has_min_max and group.num_rows:
            ends = pc.min_max(table["key"].slice(row, group.num_rows)).as_py()
            if (said.min, said.max) != (ends["min"], ends["max"]):
                raise pa.ArrowInvalid("its footer gives other ends of its keys than they have")
        row += group.num_rows


def _final_keys(records: pa.Table) -> frozenset[str]:
    return frozenset(records.filter(pc.is_in(records["status"], pa.array(FINAL)))["key"].to_pylist())


def _bytes(filesystem: pyarrow.fs.FileSystem, path: str) -> pa.Buffer:
    with filesystem.open_input_file(path) as file:
        return file.read_buffer()


def without(records: pa.Table, keys: Iterable[str]) -> pa.Table:
    """The rows of other keys, and failures, which have no curve."""
    final = pc.is_in(records["status"], pa.array(FINAL))
    return records.filter(pc.invert(pc.and_(final, pc.is_in(records["key"], pa.array(sorted(keys), pa.string())))))
