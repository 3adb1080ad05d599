"""Arrow tables as tables of the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from study.cli.terminal.printing import say

if TYPE_CHECKING:
    import pyarrow as pa
    from rich.table import Table

RANKED = ["measure", "points", "tau", "psi", "information", "sign_error_mean", "sign_error_p90", "sign_error_max", "environments"]
"""Columns of the ranked table that are shown."""
MOST_COLUMNS = 12
"""The most lines of a printed table of gaps."""


def gap_table(table: pa.Table, title: str) -> Table:
    """Capacity down, lines across: mean gap and its interval, from `analysis.gap_table`."""
    from rich.table import Table

    from analysis.figures.drawing.lines import label_of, title_of
    from analysis.statistics.tasks import gap_among
    from analysis.words import words

    rows = table.to_pylist()
    lines = table.column_names[: table.column_names.index("parameters_per_sample")]
    heads = list(dict.fromkeys(tuple(row[name] for name in lines) for row in rows))
    shown = heads[:MOST_COLUMNS]
    gap = gap_among(table.column_names)
    counts = {row[f"{gap}.seeds"] for row in rows if row[gap] is not None}
    said = f"{title}: {words(gap)}, mean over seeds and 95 % interval"
    drawn = Table("p/n", *(label_of(lines, head) for head in shown), title=said)
    cells: dict[float, dict[tuple[Any, ...], list[str]]] = {}
    for row in rows:
        if row[gap] is not None:
            low, high = row[f"{gap}.low"], row[f"{gap}.high"]
            text = with_interval(row[gap], low, high, ".3f") + ("" if row["interpolated"] else " *")
            text += f" [{row[f'{gap}.seeds']}]" if row[f"{gap}.seeds"] < max(counts) else ""
            cells.setdefault(row["parameters_per_sample"], {}).setdefault(tuple(row[name] for name in lines), []).append(text)
    for capacity, cell in sorted(cells.items()):
        drawn.add_row(f"{capacity:.3g}", *("\n".join(cell.get(head, [])) for head in shown))
    most = max(counts, default=0)
    seeds = f"over {most} seed{'' if most == 1 else 's'}" + (", or as many as stand in brackets" if len(counts) > 1 else "")
    drawn.caption = f"columns: {title_of(lines, table).replace('$', '')}; {seeds}; *: seeds that did not reach the train target"
    if len(shown) < len(heads):
        drawn.caption += f"; {len(shown)} of {len(heads):,} columns: gaplab report has them all"
    return drawn


def show_table(table: pa.Table, title: str, columns: list[str] | None = None) -> None:
    """A table on the terminal."""
    say(as_rich(table, title, columns))


def as_rich(table: pa.Table, title: str, columns: list[str] | None = None) -> Table:
    """A table for the terminal; a value with its interval as `with_interval` writes it."""
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
    return with_interval(value, low, high)


def with_interval(value: float, low: float | None, high: float | None, form: str = ".3g") -> str:
    """A number with its interval: ± half of it, or both ends where these lie at different distances.

    >>> with_interval(0.5, 0.4, 0.6), with_interval(0.02, 0.01, 0.06)
    ('0.5 ± 0.1', '0.02 (0.01 to 0.06)')
    """
    if low is None or high is None:
        return f"{value:{form}}"
    half = (high - low) / 2
    if abs(high + low - 2 * value) <= 0.1 * half:
        return f"{value:{form}} ± {half:{'.2g' if form == '.3g' else form.lstrip('+')}}"
    return f"{value:{form}} ({low:{form}} to {high:{form}})"
