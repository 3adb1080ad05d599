"""Verification: every checksum of a study, and what cannot be read whole put where nobody reads it, never deleted.

What is put aside runs again. A merged file holds many points: those of its row groups that can be read whole are written anew first.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs
import pyarrow.parquet as pq

from analysis.records.fragments import curves_beside, finished_files, keys_with_curves, pairs, recorded_rows, statuses
from analysis.records.rows import SAME, disagreeing
from analysis.records.schema import CURVES
from analysis.records.soundness import (
    UNREADABLE,
    Pair,
    checked_records,
    damage_of_curves,
    forget,
    lacking_curves,
    names_agree,
    read_whole,
    reason,
    soundness_of,
    without,
)
from analysis.records.store import open_store
from study.records.compaction import QUARANTINE, alone, is_merged, put_aside, write_merged

_MOST_NAMED = 8
_FIRST_KEY = re.compile("^([0-9a-f]{32})-")
"""A fragment's name begins with the key of its first point."""


@dataclass(frozen=True)
class Damage:
    """Files of one name that cannot be read whole, or lack something.

    Attributes:
        name: of the files, below ``records``, ``curves`` and ``samples``.
        reason: what is wrong.
        keys: of the points that it costs, as far as they can be read.
        salvaged: how many points of the files were written anew; None if nothing was put aside.
    """

    name: str
    reason: str
    keys: tuple[str, ...] = ()
    salvaged: int | None = None


def verify(root: str) -> list[Damage]:
    """Look at every checksum of ``STORAGE/STUDY``; nothing is changed.

    Raises:
        OSError: the storage cannot be read.
    """
    forget()
    filesystem, path = open_store(root)
    return [damage for damage, _ in _found(filesystem, path, everything=True)]


def damaged_files(root: str) -> int:
    """How many files of records a reader leaves out, in whole or in part; what was read before is not read again."""
    filesystem, path = open_store(root)
    return sum(1 for _ in _found(filesystem, path, everything=False))


def put_damaged_aside(root: str, *, everything: bool = False) -> list[Damage]:
    """Move what cannot be read whole to ``STORAGE/STUDY/quarantine``, for whoever holds the study's lock, and say so in a warning.

    Args:
        everything: look at every checksum anew, samples and curves without records included.

    Raises:
        OSError: the storage cannot be read or written; nothing is lost.
    """
    if everything:
        forget()
    filesystem, path = open_store(root)
    with alone(filesystem, path):
        moved = []
        for damage, pair in list(_found(filesystem, path, everything)):
            salvaged, lost = _salvage(filesystem, path, pair) if pair else (0, None)
            for folder in ("samples", "curves", "records"):  # records last: a record without its curve is not recorded
                file = f"{path}/{folder}/{damage.name}"
                if filesystem.get_file_info(file).is_file:
                    put_aside(filesystem, path, file)
            moved.append(Damage(damage.name, damage.reason, damage.keys if lost is None else lost, salvaged))
    if moved:
        files = f"{len(moved):,} damaged {'files were' if len(moved) > 1 else 'file was'}"
        first = f"{moved[0].name}: {moved[0].reason}"
        kept = f"; {count:,} of their points could be read and stay" if (count := sum(one.salvaged or 0 for one in moved)) else ""
        warnings.warn(f"{files} moved to {root}/{QUARANTINE} (first {first}){kept}; what is lost runs again", stacklevel=2)
    return moved


def put_damaged_aside_or_warn(root: str) -> None:
    """The same before a run; if that is not possible, warn: readers leave out what is damaged."""
    try:
        put_damaged_aside(root)
    except (OSError, pa.ArrowException) as error:
        warnings.warn(f"what is damaged in {root} was not put aside: {reason(error)}", stacklevel=2)


@dataclass(frozen=True)
class KeptAside:
    """What lies in a study's quarantine.

    Attributes:
        root: ``STORAGE/STUDY``.
        files: names of which records, curves or both lie there.
        unknown: those of them whose points cannot be read.
        unrecorded: the keys of the others' points that are not recorded now.
    """

    root: str
    files: int
    unknown: int
    unrecorded: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """Where it lies, and what becomes of its points."""
        who = "1 damaged file was" if self.files == 1 else f"{self.files:,} damaged files were"
        if lost := len(self.unrecorded):
            least = "at least " if self.unknown else ""
            points = "1 point is" if lost == 1 else f"{lost:,} points are"
            then = f"{least}{points} not recorded since, and the next run trains {'it' if lost == 1 else 'them'} anew"
        elif self.unknown:
            then = "which points they held can no longer be read; the next run trains what is missing"
        else:
            then = "all points are recorded again"
        return f"{who} put aside in {self.root}/{QUARANTINE}: {then}"


def kept_aside(root: str) -> KeptAside:
    """What was put aside of ``STORAGE/STUDY`` and still lies there.

    Raises:
        OSError: the storage cannot be read.
    """
    filesystem, path = open_store(root)
    keys: dict[str, set[str]] = {}
    for folder in ("records", "curves"):
        kept = f"{path}/{QUARANTINE}/{folder}"
        for info in filesystem.get_file_info(pyarrow.fs.FileSelector(kept, allow_not_found=True, recursive=True)):
            if info.is_file and ".parquet" in info.base_name:
                found = keys.setdefault(info.path.removeprefix(f"{kept}/"), set(_FIRST_KEY.findall(info.base_name)))
                with suppress(*UNREADABLE):
                    found.update(read_whole(filesystem, info.path, ["key"])["key"].to_pylist())
    there = statuses(root).keys() if keys else set[str]()
    unknown = sum(not found for found in keys.values())
    return KeptAside(root, len(keys), unknown, tuple(sorted(set[str]().union(*keys.values()) - there)))


def warn_of_disagreement(root: str, keys: Collection[str]) -> None:
    """Name those of the points that were trained again, and did not come out as they are recorded: their first record stands alone."""
    if not keys:
        return
    filesystem, path = open_store(root)
    columns = ["key", *SAME]
    tables = [
        table.select([name for name in columns if name in table.column_names])
        for _, table in recorded_rows(root, pairs(filesystem, path), columns)
    ]
    table = pa.concat_tables(tables, promote_options="default")
    if found := disagreeing(table.filter(pc.is_in(table["key"], pa.array(sorted(keys), pa.string())))):
        more = f" and {len(found) - _MOST_NAMED:,} more" if len(found) > _MOST_NAMED else ""
        warnings.warn(
            f"{len(found):,} points that were trained again came out otherwise ({', '.join(found[:_MOST_NAMED])}{more}): "
            "their first records stand, without the further measures",
            stacklevel=2,
        )


def _found(filesystem: pyarrow.fs.FileSystem, path: str, everything: bool) -> Iterator[tuple[Damage, Pair | None]]:
    """What is damaged, with the pair of files if there are records."""
    some = pairs(filesystem, path)
    lacking: list[tuple[Pair, frozenset[str]]] = []
    for pair in some:
        with suppress(FileNotFoundError):
            soundness = soundness_of(filesystem, pair)
            name = pair.path.removeprefix(f"{path}/records/")
            if soundness.damage is not None:
                yield Damage(name, soundness.damage, _readable_keys(filesystem, path, pair)), pair
            elif soundness.lacking:
                lacking.append((pair, soundness.lacking))
            elif everything and (wrong := _damage_of_samples(filesystem, f"{path}/samples/{name}")):
                yield Damage(name, f"its samples cannot be read: {wrong}", _readable_keys(filesystem, path, pair)), pair
    if lacking:
        elsewhere = keys_with_curves(filesystem, path, frozenset[str]().union(*(keys for _, keys in lacking)))
        for pair, keys in lacking:
            if gone := tuple(sorted(keys - elsewhere)):
                yield Damage(pair.path.removeprefix(f"{path}/records/"), f"{len(gone):,} records lack their curves", gone), pair
    beside = {curves_beside(path, pair.path) for pair in some}
    for info in finished_files(filesystem, f"{path}/curves") if everything else ():
        if info.path not in beside:
            with suppress(FileNotFoundError):
                if wrong := damage_of_curves(filesystem, info.path):
                    yield Damage(info.path.removeprefix(f"{path}/curves/"), wrong), None


def _damage_of_samples(filesystem: pyarrow.fs.FileSystem, file: str) -> str | None:
    try:
        read_whole(filesystem, file)
    except FileNotFoundError:
        return None
    except UNREADABLE as error:
        return reason(error)
    return None


def _readable_keys(filesystem: pyarrow.fs.FileSystem, path: str, pair: Pair) -> tuple[str, ...]:
    """The keys of a damaged pair, of its records or else of its curves, as far as they can be read."""
    for file in (pair.path, curves_beside(path, pair.path)):
        with suppress(*UNREADABLE):
            return tuple(sorted(set(read_whole(filesystem, file, ["key"])["key"].to_pylist())))
    return ()


def _salvage(filesystem: pyarrow.fs.FileSystem, path: str, pair: Pair) -> tuple[int, tuple[str, ...] | None]:
    """Write those points of a damaged pair anew that can be read whole; how many they are, and the keys of the others, if known.

    The few points of a damaged fragment run again: what it seems to hold is not worth a doubt.
    """
    if not is_merged(pair.path) and soundness_of(filesystem, pair).damage is not None:
        return 0, None
    try:
        records, all_records = _sound_groups(filesystem, pair.path)
        checked_records(records)
    except UNREADABLE:
        return 0, None
    curves = CURVES.empty_table()
    if pair.curves is not None:
        with suppress(*UNREADABLE):
            found, _ = _sound_groups(filesystem, pair.curves.path)
            curves = pa.concat_tables([CURVES.empty_table(), found], promote_options="default")
    before = set(records["key"].to_pylist())
    records = without(records, lacking_curves(records, curves["key"], curves["epoch"]))
    keys = set(records["key"].to_pylist())
    if records.num_rows:
        write_merged(filesystem, path, records, curves.filter(pc.is_in(curves["key"], records["key"].unique())))
    return len(keys), tuple(sorted(before - keys)) if all_records else None


def _sound_groups(filesystem: pyarrow.fs.FileSystem, file: str) -> tuple[pa.Table, bool]:
    """The rows of those row groups of a file that can be read whole, without keys that may go on in a group that cannot; whether all can.

    Raises:
        UNREADABLE: its footer cannot be read.
    """
    parts: list[pa.Table | None] = []
    with pq.ParquetFile(file, filesystem=filesystem, page_checksum_verification=True) as opened:
        if not names_agree(opened):
            raise pa.ArrowInvalid("its footer names a column in two ways")
        for number in range(opened.num_row_groups):
            try:
                table = opened.read_row_group(number)
                table.validate(full=True)
                parts.append(table)
            except UNREADABLE:
                parts.append(None)
        empty = opened.schema_arrow.empty_table()
    sound = pa.concat_tables([empty, *(part for part in parts if part is not None)])
    if "epoch" in sound.column_names and None in [part if part is None else 0 for part in parts]:
        sound = without_keys(sound, _cut(parts))
    return sound, all(part is not None for part in parts)


def _cut(parts: Sequence[pa.Table | None]) -> list[str]:
    """The last key before, and the first after, each row group that cannot be read: their rows may not be all."""
    cut = []
    for number, part in enumerate(parts):
        if part is None:
            before, after = parts[number - 1] if number else None, parts[number + 1] if number + 1 < len(parts) else None
            cut += [before["key"][-1].as_py()] if before is not None and before.num_rows else []
            cut += [after["key"][0].as_py()] if after is not None and after.num_rows else []
    return cut


def without_keys(table: pa.Table, keys: Sequence[str]) -> pa.Table:
    """The rows of other keys."""
    return table.filter(pc.invert(pc.is_in(table["key"], pa.array(keys, pa.string()))))
