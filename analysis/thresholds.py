"""The interpolation threshold: the smallest capacity at which runs reach their train target."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from analysis.aggregate import completed_lines, sorted_by


def interpolation_thresholds(
    table: pa.Table, *, capacity: str = "parameters_per_sample", by: Sequence[str] | None = None, share: float = 1.0
) -> pa.Table:
    """The smallest capacity, of those that were run, at which at least a share of the seeds interpolated.

    Args:
        table: records; only completed ones count.
        capacity: the column that says how large a model is.
        by: what tells lines apart; corruption by default, as in `gap_table`.
        share: 1 asks that all seeds fit, 0.5 that half of them do.

    Returns:
        The columns ``by`` and ``threshold`` (null where no capacity reaches the share), sorted by ``by``.
    """
    runs, lines = completed_lines(table, by)
    runs = runs.select(list(dict.fromkeys([*lines, capacity, "interpolated"])))
    runs = runs.append_column("fit", runs["interpolated"].cast(pa.float64()))
    cells = runs.group_by([*lines, capacity]).aggregate([("fit", "mean")])
    reached = pc.if_else(pc.greater_equal(cells["fit_mean"], share), cells[capacity], None)
    found = cells.append_column("reached", reached).group_by(lines).aggregate([("reached", "min")])
    return sorted_by(found.rename_columns([*lines, "threshold"]), lines)
