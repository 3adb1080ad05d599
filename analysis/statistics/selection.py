"""The selection of records: which count, what tells their lines apart, and which agree in some columns.

Only seeds are averaged. `lines_over` therefore splits by everything that varies beside the axis of a figure, and refuses where it is
asked for less.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import reduce
from operator import and_
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from analysis.errors import AnalysisError, NothingToShow, unknown_column
from analysis.records.schema import MEASURE, RECORDS
from analysis.statistics.tasks import is_regression

if TYPE_CHECKING:
    from trainables.point.config import Data

SEEDS = ("seed", "data.seed", "corruption.seed")
"""The fields that only choose streams of randomness: means are taken over them."""
_AIMS = ("model.parameters_per_sample", "model.hold")
_CONFIG = RECORDS.names[RECORDS.names.index("data.name") : RECORDS.names.index("seed")]
SETTINGS = tuple(name for name in _CONFIG if name not in (*SEEDS, *_AIMS))
"""The config fields, without the seeds and the ratio aimed at."""


_DATA_SET = ("name", "digest", "dimension", "classes", "separation", "side", "label", "test_fraction", "test_seed", "task")
"""The fields of `data` that say which data set it is."""
_SAID_BY = {
    **{"data.digest": "data.name", "corruption.digest": "corruption.labels", "model.digest": "model.name"},
    **dict.fromkeys(("model.depth", "model.batch_norm", "model.kernel_scale"), "model.name"),
}
"""Hashes of contents, and what a family has by default or does not read: the fields that may say as much."""
_CAPACITY = ("parameters", "parameters_per_sample", "multiply_adds")
"""Columns that follow from the size of a model."""
_SIZE = "model.width"
"""What is swept where capacity is."""


def checked(table: pa.Table, columns: Sequence[str] = ()) -> pa.Table:
    """The table, if it is one and has these columns.

    Raises:
        AnalysisError: it is no Arrow table, or a column is missing; near misses are named.
    """
    if not isinstance(table, pa.Table):
        kind = type(table).__name__
        how = "pyarrow.Table.from_pandas(frame) makes one" if kind == "DataFrame" else "analysis.load gives one"
        raise AnalysisError(f"records are an Arrow table, not a {kind}: {how}")
    for name in columns:
        if name not in table.column_names:
            raise unknown_column(name, table.column_names)
    return table


def numeric(table: pa.Table, columns: Sequence[str]) -> pa.Table:
    """The table, if it has these columns and they hold numbers, or truth values.

    Raises:
        AnalysisError: as for `checked`, or a column holds texts or moments.
    """
    for name in columns:
        kind = checked(table, [name])[name].type
        if not (_holds_numbers(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind)):
            raise AnalysisError(f"{name} holds no numbers ({kind}): choose a column that does, such as test_error or parameters")
    return table


def _holds_numbers(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def completed(table: pa.Table, *, diverged: bool = False) -> pa.Table:
    """The completed records, all of one task; with ``diverged`` those that diverged as well, for what counts them as never fitting.

    Raises:
        AnalysisError: it is no Arrow table.
        NothingToShow: there are none, and the message says what became of the others; or some are of classification, some of regression.
    """
    done = checked(table, ["status"]).filter(pc.equal(table["status"], "completed"))
    if done.num_rows:
        counted = table.filter(pc.is_in(table["status"], pa.array(["completed", "diverged"]))) if diverged else done
        is_regression(counted)  # raises where both tasks would be drawn together
        return counted
    if not table.num_rows:
        raise NothingToShow("there are no records yet: nothing can be shown")
    raise NothingToShow(f"no record is completed ({outcomes(table)}): nothing can be shown")


def data_sets(table: pa.Table) -> list[Data]:
    """The data that the records name, without what is a point's own (sizes and seeds), for `trainables.data.sets.sources.load`."""
    from trainables.point.config import Data

    names = [name for name in (f"data.{field}" for field in _DATA_SET) if name in table.column_names]
    rows = table.group_by(names).aggregate([]).select(names).to_pylist()
    return [Data(**{name.removeprefix("data."): value for name, value in row.items() if value is not None}) for row in rows]


def outcomes(table: pa.Table) -> str:
    """How many records have which status, in words.

    >>> outcomes(pa.table({"status": ["diverged", "completed", "diverged"]}))
    '2 diverged, 1 completed'
    """
    counts = table["status"].value_counts().to_pylist()
    return ", ".join(f"{one['counts']:,} {one['values']}" for one in sorted(counts, key=lambda one: -one["counts"]))


def completed_lines(table: pa.Table, by: Sequence[str] | None, *, diverged: bool = False) -> tuple[pa.Table, list[str]]:
    """The records as from `completed`, and the columns that tell single runs apart: ``by``, or else the corruption.

    That is ``corruption.level``, preceded by ``corruption.kind`` if corrupted records are of several kinds; then level 0
    is of no kind (null). Where means are taken, `lines_over` says what tells lines apart.

    Raises:
        NothingToShow: no completed record.
        AnalysisError: a column does not exist.
    """
    runs = completed(table, diverged=diverged)
    if by is not None:
        return checked(runs, by), list(by)
    named = _without_kind_at_zero(runs)
    if pc.count_distinct(named["corruption.kind"]).as_py() < 2:
        return runs, ["corruption.level"]
    return named, ["corruption.kind", "corruption.level"]


def lines_over(
    table: pa.Table, axis: str, by: Sequence[str] | None = None, apart: Sequence[str] = (), *, diverged: bool = False
) -> tuple[pa.Table, list[str]]:
    """The completed records, and the columns that tell their lines over an axis apart: within a line, only seeds are averaged.

    By default these are the corruption and every config field that varies, but for the seeds, the axis, the ratio aimed at, and numbers
    that are swept along with the axis: those that rise, or fall, with it all along every line, as width does with capacity. A
    ``measure.*`` on the axis differs from seed to seed and from setting to setting: whoever takes means tells settings apart by
    `varying_fields`.

    Args:
        table: records.
        axis: the column of the horizontal axis, or ``epoch``, which is of curves.
        by: the columns, if they are asked for.
        apart: further columns that tell cells apart, such as those of panels.
        diverged: count those that diverged too.

    Returns:
        The records, with no kind of corruption (null) at level 0 where kinds differ; the columns, corruption first. Where the level is the
        axis and kinds differ, the records of level 0 belong to every kind.

    Raises:
        NothingToShow: no completed record.
        AnalysisError: a column does not exist, or ``by`` leaves something that varies besides seeds.
    """
    runs, corruption = completed_lines(table, None, diverged=diverged)
    checked(runs, [*(by or ()), *apart, *([] if axis == "epoch" else [axis])])
    several = len(corruption) > 1
    if several and axis == "corruption.level":
        runs = _in_every_kind(runs)
    if by is not None:
        if not axis.startswith(MEASURE):
            refuse_pooled(runs, [*by, *apart, axis])
        return runs, list(by)
    given = [name for name in corruption if name not in (axis, *apart)]
    known = {axis, *apart, "corruption.kind", "corruption.level"}
    others = [name for name in varying_fields(runs) if name not in known]
    return runs, [*given, *_splitting(runs, axis, others, [*given, *apart])]


def refuse_pooled(runs: pa.Table, by: Sequence[str]) -> None:
    """Do nothing if runs that agree in ``by`` differ in their seeds alone.

    Raises:
        AnalysisError: they differ in more, which the message names.
    """
    pooled = averaged_over(runs, by)
    if pooled:
        vary = f"{', '.join(pooled)} {'varies' if len(pooled) == 1 else 'vary'} as well"
        raise AnalysisError(f"{vary}, and only seeds are averaged: tell lines apart by that too, or keep one value of it")


def varying_fields(runs: pa.Table) -> list[str]:
    """The config fields, seeds and the ratio aimed at apart, that have more than one value.

    The hash of a file's content is left out where its name says as much, and a model's depth where its family does.
    """
    varying = [name for name in runs.column_names if name in SETTINGS and _varies(runs[name])]
    return [name for name in varying if _SAID_BY.get(name) not in varying or not _is_said_by(runs, _SAID_BY[name], name)]


def _is_said_by(runs: pa.Table, name: str, other: str) -> bool:
    """Whether each value of one column goes with a single value of the other."""
    return bool(runs.group_by([name, other]).aggregate([]).num_rows == runs.group_by([name]).aggregate([]).num_rows)


def _varies(column: pa.ChunkedArray) -> bool:
    ends = pc.min_max(column).as_py()
    return bool(ends["min"] != ends["max"] or 0 < column.null_count < len(column))


def averaged_over(runs: pa.Table, by: Sequence[str]) -> list[str]:
    """The config fields that differ between runs which agree in ``by``: what a mean over such runs averages over.

    Seeds are not counted, nor the ratio aimed at, nor the kind of a corruption of level 0.
    """
    apart = [name for name in dict.fromkeys(by) if name in runs.column_names]
    varying = [name for name in varying_fields(runs) if name not in apart]
    if "corruption.kind" in varying and "corruption.level" in runs.column_names:
        runs = _without_kind_at_zero(runs)
    cells = runs.group_by(apart).aggregate([]).num_rows
    return [name for name in varying if runs.group_by([*apart, name]).aggregate([]).num_rows > cells]


def _without_kind_at_zero(runs: pa.Table) -> pa.Table:
    """The records without a kind (null) where the level is 0."""
    kinds = pc.if_else(pc.fill_null(pc.greater(runs["corruption.level"], 0), True), runs["corruption.kind"], None)
    return runs.set_column(runs.column_names.index("corruption.kind"), "corruption.kind", kinds)


def _in_every_kind(runs: pa.Table) -> pa.Table:
    """The records, those without a kind once for each of the kinds."""
    index, column = runs.column_names.index("corruption.kind"), runs["corruption.kind"]
    without, parts = runs.filter(pc.is_null(column)), [runs.filter(pc.is_valid(column))]
    for kind in sorted(column.unique().drop_null().to_pylist()):
        parts.append(without.set_column(index, "corruption.kind", pa.array([kind] * without.num_rows, column.type)))
    return pa.concat_tables(parts)


def _splitting(runs: pa.Table, axis: str, fields: Sequence[str], given: Sequence[str]) -> list[str]:
    """Those of the fields that vary which are not swept along with the axis."""
    if axis.startswith(MEASURE):
        return []
    if axis not in runs.column_names:
        return list(fields)
    splitting = list(fields)
    for name in sorted(fields, key=lambda one: one != _SIZE):
        fewest = 2 if name == _SIZE and axis in _CAPACITY else 3
        rest = [one for one in splitting if one != name]
        if _is_swept(runs, [*given, *rest], axis, name, fewest):
            splitting = rest
    return splitting


def _is_swept(runs: pa.Table, by: Sequence[str], axis: str, name: str, fewest: int) -> bool:
    """Whether a number rises all along an axis of numbers in every line, or falls in every one, and has at least so many values."""
    if not all(_holds_numbers(runs[column].type) for column in (axis, name)) or pc.count_distinct(runs[name]).as_py() < fewest:
        return False
    cells = runs.group_by(list(dict.fromkeys([*by, axis, name]))).aggregate([])
    along, numbers = (cells[column].cast(pa.float64()).to_numpy() for column in (axis, name))
    line = codes(cells, by)
    order = np.lexsort((along, line))
    same = np.diff(line[order]) == 0
    rises, steps = np.diff(along[order])[same], np.diff(numbers[order])[same]
    return bool((rises > 0).all() and ((steps > 0).all() or (steps < 0).all()))


def codes(table: pa.Table, by: Sequence[str]) -> NDArray[np.int64]:
    """A number for each combination of the values in ``by``, shape (rows,); null is a value."""
    code = np.zeros(table.num_rows, np.int64)
    for name in by:
        column = table[name].combine_chunks().dictionary_encode(null_encoding="encode")
        column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        code = code * max(len(column.dictionary), 1) + column.indices.to_numpy(zero_copy_only=False)
        code = np.unique(code, return_inverse=True)[1] if len(by) > 1 else code
    return code


def seed_codes(table: pa.Table) -> NDArray[np.int64]:
    """A number for each seed, or combination of seeds, shape (rows,); a row that does not say its seed has a number of its own."""
    code = codes(table, [name for name in SEEDS if name in table.column_names])
    unknown = pc.is_null(table["seed"]).to_numpy() if "seed" in table.column_names else np.ones(table.num_rows, bool)
    return np.where(unknown, code.max(initial=0) + 1 + np.arange(table.num_rows), code)


def once_each(runs: pa.Table) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which rows are one point that was recorded again, as of two studies whose tables were put together.

    Returns:
        The first row of each point, shape (points,), and which point each row is of, shape (rows,). A point agrees in all that varies,
        seeds included.
    """
    seed = seed_codes(runs)
    code = codes(runs, varying_fields(runs)) * (seed.max(initial=0) + 1) + seed
    _, first, point = np.unique(code, return_index=True, return_inverse=True)
    return first, point


def groups(table: pa.Table, by: Sequence[str]) -> Iterator[tuple[dict[str, Any], pa.Table]]:
    """Each combination of the values in ``by``, in ascending order, with its rows; one group of all rows without a column."""
    if not by:
        yield {}, table
        return
    for combination in sorted_by(table.group_by(list(by)).aggregate([]), by).to_pylist():
        yield {name: combination[name] for name in by}, table.filter(agreeing(by, [combination[name] for name in by]))


def largest_model(runs: pa.Table) -> pa.Table:
    """The records of the most parameters; all of them where none is known."""
    largest = pc.max(runs["parameters"])
    return runs.filter(pc.equal(runs["parameters"], largest)) if largest.is_valid else runs


def agreeing(by: Sequence[str], values: Sequence[Any]) -> pc.Expression:
    """The condition that rows have these values in the columns ``by``; null agrees with None."""
    tests = [pc.field(name).is_null() if value is None else pc.field(name) == value for name, value in zip(by, values, strict=True)]
    return reduce(and_, tests)


def sorted_by(table: pa.Table, names: Sequence[str]) -> pa.Table:
    """The rows in ascending order of these columns, nulls last; they stay as they are without a column."""
    return table.sort_by([(name, "ascending") for name in names]) if names else table
