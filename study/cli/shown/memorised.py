"""What is said of what networks memorise: how many labels, and which samples and what gives them away, as tables and charts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from study.cli.shown.tables import with_interval
from study.cli.terminal.printing import say

if TYPE_CHECKING:
    import pyarrow as pa

    from analysis.attribution.left_out import LeaveOut
    from study.launch.summary import Summary

_EVERY = ("model.name", "model.width")
"""Columns of every table of capacities."""
_HEADS = ("networks", "gap", "memorised", "attack's area", "caught at 1 %", "at 0.1 %", "datamodels")


def capacities(records: pa.Table, folder: Path, title: str) -> list[Path]:
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


def attributions(summary: Summary, checks: list[LeaveOut], folder: Path) -> list[Path]:
    """Print what each setting's networks memorise and give away, and what was left out; returns the charts.

    Args:
        summary: of the study of an attribution whose points are all recorded.
        checks: what was left out.
        folder: of the charts.
    """
    import analysis
    from analysis.attribution.subsets import left_aside

    records, samples, title = summary.records, summary.root, summary.plan.study
    found = analysis.attribution_table(records, samples)
    say(_settings(found, title))
    for one in left_aside(records, samples):
        say(one)
    left_out = None
    if checks:
        try:
            left_out = analysis.left_out_table(records, samples, checks)
            say(_left_out(left_out, list(checks[0].setting)))
        except analysis.NothingToShow as error:
            say(str(error))
    charts = analysis.write_chart(
        analysis.attribution_chart(records, samples, cells=found, left_out=left_out, title=title), folder / "attribution"
    )
    try:
        charts += analysis.write_chart(analysis.influential_images(records, samples, title=title), folder / "influential-images")
    except analysis.NothingToShow as error:
        say(f"No images: {error}")
    for chart in charts:
        say(f"chart    {chart}")
    return charts


def _settings(found: pa.Table, title: str) -> Any:
    from rich.table import Table

    fields = found.column_names[: found.column_names.index("networks")]
    drawn = Table(*fields, *_HEADS, title=f"{title}: networks on random subsets, means and 95 % intervals over networks")
    for row in found.to_pylist():
        values = [_with_ends(row, name) for name in ("generalization_gap", "attack", "datamodel")]
        caught = [f"{row[f'attack.at_{rate}_percent']:.1%}" for rate in ("1", "0.1")]
        drawn.add_row(
            *(f"{row[name]}" for name in fields),
            f"{row['networks']:,}",
            values[0],
            f"{row['memorised']:.1%}",
            values[1],
            *caught,
            values[2],
        )
    drawn.caption = (
        "memorised: training samples with a memorisation score above 0.5; attack: membership from log-odds, 0.5 is a guess; caught: true "
        "positives at that false positive rate; datamodels: rank correlation of predicted and actual log-odds of test samples on networks "
        "that were held out"
    )
    return drawn


def _left_out(found: pa.Table, fields: list[str]) -> Any:
    from rich.table import Table

    heads = ("test", "left out", "which", "predicted fall", "fall when trained again", "right", "right without", "seeds")
    drawn = Table(*fields, *heads, title="log-odds of a test sample's label without some training samples, nats")
    for row in found.to_pylist():
        shares = [f"{row[name]:.0%}" for name in ("right", "right.without")]
        values = (str(row["test"]), str(row["left_out"]), row["which"], f"{row['predicted']:.2f}", _with_ends(row, "fall"))
        drawn.add_row(*(f"{row[name]}" for name in fields), *values, *shares, str(row["seeds"]))
    drawn.caption = "supporters: of the largest weights in the test sample's datamodel; random: as many of their classes; paired by seed"
    return drawn


def _with_ends(row: dict[str, Any], name: str) -> str:
    return "" if row[name] is None else with_interval(row[name], row[f"{name}.low"], row[f"{name}.high"])
