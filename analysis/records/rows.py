"""Which columns and which rows stand in a table that was read: those asked for, one row a key, one row a key and epoch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from analysis.errors import unknown_column
from analysis.records.schema import FINAL


def wanted_columns(columns: Sequence[str] | None, schema: pa.Schema) -> list[str]:
    """The columns asked for, all by default.

    Raises:
        AnalysisError: one of them does not exist.
    """
    for name in columns or ():
        if name not in schema.names:
            raise unknown_column(name, schema.names)
    return list(schema.names if columns is None else columns)


def one_row_a_key(outcomes: pa.Table) -> pa.Array:
    """The indices, ascending, of one row a key: the latest final outcome, else the latest failure.

    Args:
        outcomes: columns ``key``, ``status`` and ``finished``.
    """
    ranked = pa.table({"final": pc.is_in(outcomes["status"], pa.array(FINAL)).cast(pa.int8()), "finished": outcomes["finished"]})
    best_first = pc.sort_indices(ranked, sort_keys=[("final", "descending"), ("finished", "descending")])
    keys = pa.table({"key": outcomes["key"].take(best_first), "rank": pa.array(np.arange(outcomes.num_rows))})
    rows = best_first.take(keys.group_by("key").aggregate([("rank", "min")])["rank_min"])
    return rows.take(pc.sort_indices(rows))


def one_row_an_epoch(table: pa.Table) -> pa.Table:
    """The table without rows whose ``key`` and ``epoch`` stand before."""
    numbered = table.select(["key", "epoch"]).append_column("row", pa.array(np.arange(table.num_rows)))
    firsts = numbered.group_by(["key", "epoch"]).aggregate([("row", "min")])["row_min"]
    return table if len(firsts) == table.num_rows else table.take(firsts.take(pc.sort_indices(firsts)))
