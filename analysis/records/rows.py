"""The columns and rows that stand in a table that was read: the columns asked for, one row a key, one row a key and epoch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from analysis.errors import unknown_column
from analysis.records.schema import FINAL, MEASURE, OUTCOMES

_ASIDE = ("seconds", "multiply_adds", "training_flops")
"""Outcomes of the machine, or that older records lack and that follow from the others."""
SAME = ("status", *(name for name in OUTCOMES if name not in _ASIDE))
"""Columns in which two rows of a point must agree for one to lend the other its measures."""


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


def joined(table: pa.Table) -> pa.Table:
    """One row a key, with the measures of all its rows that agree in their outcome to the bit.

    The first final outcome stands: of the rows that agree with it, the latest is taken, and each measure from the latest that has
    it. A row that came out otherwise (a network trained again for a measure, on another kind of processor) lends nothing. Without a final
    outcome the latest failure stands.

    Args:
        table: columns ``key``, ``status``, ``finished``, outcomes and measures; of `OUTCOMES` it may lack some.
    """
    if not table.num_rows:
        return table
    final = pc.is_in(table["status"], pa.array(FINAL)).to_numpy(zero_copy_only=False)
    keys = table["key"].combine_chunks().dictionary_encode().indices.to_numpy(zero_copy_only=False)
    moment = table["finished"].cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    order = np.lexsort((moment, ~final, keys))
    table, final, keys = table.take(pa.array(order)), final[order], keys[order]
    starts = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]])
    group = np.cumsum(np.r_[False, keys[1:] != keys[:-1]])
    first = starts[group]
    agreeing = np.where(final[first], final & _agree(table, first), True)
    rows = np.arange(table.num_rows)

    def latest(chosen: np.ndarray) -> np.ndarray:
        """The index of the last row chosen of each key; -1 if there is none."""
        return np.asarray(np.maximum.reduceat(np.where(chosen, rows, -1), starts))

    one = table.take(pa.array(latest(agreeing)))
    for name in [name for name in table.column_names if name.startswith(MEASURE)]:
        there = latest(agreeing & pc.is_valid(table[name]).to_numpy(zero_copy_only=False))
        values = table[name].combine_chunks().take(pa.array(there, mask=there < 0))
        one = one.set_column(one.column_names.index(name), name, values)
    return one


def disagreeing(table: pa.Table) -> list[str]:
    """The keys of those points that have final rows which differ in their outcome; arguments as for `joined`."""
    final = table.filter(pc.is_in(table["status"], pa.array(FINAL)))
    different = final.group_by(["key", *(name for name in SAME if name in final.column_names)]).aggregate([])["key"].value_counts()
    found: list[str] = [one["values"] for one in different.to_pylist() if one["counts"] > 1]
    return sorted(found)


def _agree(table: pa.Table, first: np.ndarray) -> np.ndarray:
    """Whether each row has the outcome of the row with that index; null equals null."""
    same = np.ones(table.num_rows, bool)
    for name in SAME:
        if name in table.column_names:
            here = table[name].combine_chunks()
            there = here.take(pa.array(first))
            equal = pc.fill_null(pc.equal(here, there), False)
            both_null = pc.and_(pc.is_null(here), pc.is_null(there))
            same &= pc.or_(equal, both_null).to_numpy(zero_copy_only=False)
    return same


def one_row_an_epoch(table: pa.Table) -> pa.Table:
    """The table without rows whose ``key`` and ``epoch`` stand before."""
    numbered = table.select(["key", "epoch"]).append_column("row", pa.array(np.arange(table.num_rows)))
    firsts = numbered.group_by(["key", "epoch"]).aggregate([("row", "min")])["row_min"]
    return table if len(firsts) == table.num_rows else table.take(firsts.take(pc.sort_indices(firsts)))
