"""Lines and tables on the terminal; an error of the user's as one line."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from trainables.redaction import redacted

if TYPE_CHECKING:
    from rich.table import Table

    from study.launch.node_checks import Check


def say(text: Any) -> None:
    """Print a text or one of Rich's tables; where the output is no terminal, tables are 160 characters wide."""
    from rich.console import Console

    Console(highlight=False, markup=False, soft_wrap=True, width=None if sys.stdout.isatty() else 160).print(text)


def checks_table(checks: Iterable[Check]) -> Table:
    """What was looked at, what was found, and what helps where that is not good."""
    from rich.table import Table
    from rich.text import Text

    table = Table("check", "found", "remedy")
    for check in checks:
        verdict = Text("ok ", "green") if check.good else Text("no ", "red")
        table.add_row(verdict + Text(check.name), Text(redacted(check.found)), Text("" if check.good else redacted(check.remedy)))
    return table


def fail(message: str) -> NoReturn:
    """End the command with exit code 1 and one line on the error stream."""
    print(f"gaplab: {message}", file=sys.stderr)
    raise typer.Exit(1)
