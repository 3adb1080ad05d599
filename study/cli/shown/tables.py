"""Arrow tables as tables of the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from study.cli.terminal.printing import say

if TYPE_CHECKING:
    import pyarrow as pa
    from rich.table import Table

RANKED = ["measure", "points", "tau", "psi", "information", "sign_error_mean", "sign_error_p90", "sign_error_max", "environments"]
"""Columns of the ranked table that are shown."""


def show_table(table: pa.Table, title: str, columns: list[str] | None = None) -> None:
    """A table on the terminal."""
    say(as_rich(table, title, columns))


def as_rich(table: pa.Table, title: str, columns: list[str] | None = None) -> Table:
    """A table for the terminal; a value with an interval as value ± half."""
    from rich.table import Table

    columns = columns or [name for name in table.column_names if not name.endswith((".low", ".high"))]
    drawn = Table(*columns, title=title)
    for row in table.to_pylist():
        drawn.add_row(*(_cell(row, name) for name in columns))
    return drawn


def _cell(row: dict[str, Any], name: str) -> str:
    value, low, high = row[name], row.get(f"{name}.low"), row.get(f"{name}.high")
    if not isinstance(value, float):
        return "" if value is None else str(value)
    if value != value:  # not a number: not known
        return ""
    return f"{value:.3g}" + (f" ± {(high - low) / 2:.2g}" if low is not None and high is not None else "")
