"""The command ``gaplab data``: a look at a data set before a study trains on it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from study.cli.terminal.printing import say


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(data)


def data(
    name: Annotated[str, typer.Argument(metavar="FILE|NAME", help="An .npz, .csv or .parquet file, or what a spec calls data.name.")],
    label: Annotated[str | None, typer.Option(help="Of a table: the column of labels, as data.label.")] = None,
    task: Annotated[Literal["classification", "regression"] | None, typer.Option(help="What labels are, as data.task.")] = None,
) -> None:
    """Say what a data set holds, what its test set can tell apart, and what looks wrong."""
    from rich.table import Table

    from trainables.data.sets.inspection import inspect
    from trainables.data.sets.sources import load
    from trainables.point.config import Data

    found = inspect(load(Data(name=f"npz:{name}" if Path(name).suffix == ".npz" and ":" not in name else name, label=label, task=task)))
    table = Table("", "", title=name, show_header=False, box=None)
    for row in found.facts:
        table.add_row(*row)
    say(table)
    for warning in found.warnings:
        say(f"warning: {warning}.")
