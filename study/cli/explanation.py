"""The command ``gaplab explain``: which regularizer, and which of the knobs, explains the gap?"""

from __future__ import annotations

from typing import Annotated

import typer

from study.cli.analysis import Mapping, Source, Sql, Tracking, loaded
from study.cli.options import AllRecorded, Where
from study.cli.shown.chosen import chosen
from study.cli.shown.tables import show_table
from study.cli.terminal.printing import say

SHOWN = ["term", "share", "freedom", "p", "p.holm"]
"""Columns of the table that are shown."""


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(explain)


def explain(
    source: Source,
    value: Annotated[str, typer.Option(help="What is to be explained.")] = "generalization_gap",
    factors: Annotated[
        list[str] | None, typer.Option("--factor", metavar="FIELD", help="A field that may explain it; all that vary by default.")
    ] = None,
    where: Where = None,
    main_effects: Annotated[bool, typer.Option("--main-effects", help="Leave out interactions of two fields.")] = False,
    any_fit: Annotated[bool, typer.Option("--any-fit", help="Count runs too that did not reach their train target.")] = False,
    all_recorded: AllRecorded = False,
    tracking_uri: Tracking = None,
    mapping: Mapping = None,
    sql: Sql = False,
) -> None:
    """Which knob explains the gap: shares of its variance by fields and their pairs, with intervals, among runs that fit."""
    import analysis
    from analysis.statistics.selection import completed
    from analysis.statistics.tasks import own

    table = chosen(loaded(source, tracking_uri, mapping, sql, all_recorded=all_recorded), where)
    value = own(completed(table), value)
    found = analysis.decomposition_table(table, value=value, factors=factors, pairs=not main_effects, equal_fit=not any_fit)
    show_table(found, f"{source}: shares of the variance of {value}", SHOWN)
    for sentence in analysis.explained(found, value, equal_fit=not any_fit):
        say(sentence)
