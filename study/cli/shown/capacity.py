"""What is said of capacity: a table of settings, whether it goes with the gap, and the chart."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from study.cli.shown.tables import with_interval
from study.cli.terminal.printing import say

if TYPE_CHECKING:
    import pyarrow as pa

_EVERY = ("model.name", "model.width")
"""Columns of every table of settings."""


def concluded(records: pa.Table, folder: Path, title: str) -> list[Path]:
    """Print what each setting memorises; returns the charts."""
    from rich.table import Table

    import analysis

    found = analysis.capacity_table(records)
    fields = found.column_names[: found.column_names.index("parameters")]
    shown = [name for name in fields if name in _EVERY[:1] or len(found[name].unique()) > 1 or name in _EVERY[1:]]
    heads = ["parameters", "random labels, n", "bits a parameter", "true labels, n", "more bits", "true / random", "gap"]
    drawn = Table(*shown, *heads, title=f"{title}: samples memorised, geometric mean over seeds and 95 % interval")
    for row in found.to_pylist():
        drawn.add_row(*("" if row[name] is None else f"{row[name]}" for name in shown), *_cells(row))
    seeds = sorted(set(found["seeds"].to_pylist()))
    over = " to ".join(map(str, dict.fromkeys((seeds[0], seeds[-1])))) + (" seeds" if seeds[-1] > 1 else " seed")
    drawn.caption = (
        f"over {over}; gap: true labels, at the largest n; ≥: every n tried fit; <: not even the smallest did; *: not all runs fit there"
    )
    say(drawn)
    if said := analysis.capacity_ranks(found):
        say(said)
    charts = analysis.write_chart(analysis.capacity_chart(records, title=title), folder / "capacity")
    for chart in charts:
        say(f"chart    {chart}")
    return charts


def _cells(row: dict[str, Any]) -> list[str]:
    """The numbers of a setting as text."""
    all_fit = bool(row["true.all"]) and row["true.all"] == row["seeds"]
    gap = _text(row, "generalization_gap", "") + ("*" if row["gap.fit"] is not None and row["gap.fit"] < 1 else "")
    return [
        f"{row['parameters']:,}",
        _size(row, "random"),
        _text(row, "bits", "≥ " if row["random.all"] == row["seeds"] else ""),
        _size(row, "true"),
        _text(row, "difference", "≥ " if all_fit else ""),
        _text(row, "ratio", "≥ " if all_fit else ""),
        gap,
    ]


def _size(row: dict[str, Any], name: str) -> str:
    """An n with its interval, or the end of the sizes tried beyond which it lies."""
    if row[f"{name}.none"] == row["seeds"]:
        return f"< {row['smallest']:,}"
    if row[f"{name}.all"] == row["seeds"]:
        return f"≥ {row['largest']:,}"
    some = f" [{row[f'{name}.all']} ≥ {row['largest']:,}]" if row[f"{name}.all"] else ""
    return _text(row, name, "") + some


def _text(row: dict[str, Any], name: str, bound: str) -> str:
    """A value with its interval, or the bound that what fit gives it, if it is one."""
    if row[name] is not None:
        return with_interval(row[name], row.get(f"{name}.low"), row.get(f"{name}.high"))
    fitted = row.get(f"{name}.fitted")
    return f"{bound}{fitted:.3g}" if bound and fitted is not None else ""
