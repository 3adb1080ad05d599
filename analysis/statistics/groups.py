"""Groups of records that agree in some columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import reduce
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from analysis.statistics.aggregate import sorted_by


def groups(table: pa.Table, by: Sequence[str]) -> Iterator[tuple[dict[str, Any], pa.Table]]:
    """Each combination of the values in ``by``, in ascending order, with its rows; the whole table for no columns."""
    if not by:
        yield {}, table
        return
    for combination in sorted_by(table.group_by(list(by)).aggregate([]), by).to_pylist():
        yield {name: combination[name] for name in by}, table.filter(agreeing(by, [combination[name] for name in by]))


def agreeing(by: Sequence[str], values: Sequence[Any]) -> pc.Expression:
    tests = [pc.field(name).is_null() if value is None else pc.field(name) == value for name, value in zip(by, values, strict=True)]
    return reduce(lambda left, right: left & right, tests)
