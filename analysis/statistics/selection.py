"""Which records count, what tells their lines apart, and the rows that agree in some columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import reduce
from operator import and_
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from analysis.errors import NothingToShow
from analysis.records.schema import RECORDS

SEEDS = ("seed", "data.seed", "corruption.seed")
"""The fields that only choose streams of randomness: means are taken over them."""
_AIMS = ("model.parameters_per_sample", "model.hold")
_CONFIG = RECORDS.names[RECORDS.names.index("data.name") : RECORDS.names.index("seed")]
SETTINGS = tuple(name for name in _CONFIG if name not in (*SEEDS, *_AIMS))
"""The config fields, without the seeds and the ratio aimed at."""


def completed(table: pa.Table) -> pa.Table:
    """The completed records.

    Raises:
        NothingToShow: there are none; the message says what became of the others.
    """
    done = table.filter(pc.equal(table["status"], "completed"))
    if done.num_rows:
        return done
    if not table.num_rows:
        raise NothingToShow("there are no records yet: nothing can be shown")
    raise NothingToShow(f"no record is completed ({outcomes(table)}): nothing can be shown")


def outcomes(table: pa.Table) -> str:
    """How many records have which status, in words.

    >>> outcomes(pa.table({"status": ["diverged", "completed", "diverged"]}))
    '2 diverged, 1 completed'
    """
    counts = table["status"].value_counts().to_pylist()
    return ", ".join(f"{one['counts']:,} {one['values']}" for one in sorted(counts, key=lambda one: -one["counts"]))


def completed_lines(table: pa.Table, by: Sequence[str] | None) -> tuple[pa.Table, list[str]]:
    """The completed records, and the columns that tell lines apart: ``by``, or else the corruption.

    That is ``corruption.level``, preceded by ``corruption.kind`` if corrupted records are of several kinds; then level 0
    is of no kind (null).

    Raises:
        NothingToShow: no completed record.
    """
    runs = completed(table)
    if by is not None:
        return runs, list(by)
    corrupted = pc.fill_null(pc.greater(runs["corruption.level"], 0), True)
    kinds = pc.if_else(corrupted, runs["corruption.kind"], None)
    if pc.count_distinct(kinds).as_py() < 2:
        return runs, ["corruption.level"]
    return runs.set_column(runs.column_names.index("corruption.kind"), "corruption.kind", kinds), ["corruption.kind", "corruption.level"]


def varying_fields(runs: pa.Table) -> list[str]:
    """The config fields, seeds and the ratio aimed at apart, that have more than one value."""
    return [name for name in runs.column_names if name in SETTINGS and _varies(runs[name])]


def _varies(column: pa.ChunkedArray) -> bool:
    ends = pc.min_max(column).as_py()
    return bool(ends["min"] != ends["max"] or 0 < column.null_count < len(column))


def averaged_over(runs: pa.Table, told_apart: Sequence[str]) -> list[str]:
    """The config fields that differ between runs which agree in ``told_apart``: what a mean over such runs averages over.

    Seeds are not counted, nor the ratio aimed at.
    """
    apart = [name for name in dict.fromkeys(told_apart) if name in runs.column_names]
    cells = runs.group_by(apart).aggregate([]).num_rows
    return [name for name in varying_fields(runs) if name not in apart and runs.group_by([*apart, name]).aggregate([]).num_rows > cells]


def groups(table: pa.Table, by: Sequence[str]) -> Iterator[tuple[dict[str, Any], pa.Table]]:
    """Each combination of the values in ``by``, in ascending order, with its rows; the whole table for no columns."""
    if not by:
        yield {}, table
        return
    for combination in sorted_by(table.group_by(list(by)).aggregate([]), by).to_pylist():
        yield {name: combination[name] for name in by}, table.filter(agreeing(by, [combination[name] for name in by]))


def agreeing(by: Sequence[str], values: Sequence[Any]) -> pc.Expression:
    tests = [pc.field(name).is_null() if value is None else pc.field(name) == value for name, value in zip(by, values, strict=True)]
    return reduce(and_, tests)


def sorted_by(table: pa.Table, names: Sequence[str]) -> pa.Table:
    """The rows in ascending order of these columns, nulls last; as they are for none."""
    return table.sort_by([(name, "ascending") for name in names]) if names else table
