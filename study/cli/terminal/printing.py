"""Lines and tables on the terminal; an error of the user's as one line."""

from __future__ import annotations

import sys
from typing import Any, NoReturn

import typer


def say(text: Any) -> None:
    """Print a text or one of Rich's tables; where the output is no terminal, tables are 160 characters wide."""
    from rich.console import Console

    Console(highlight=False, markup=False, soft_wrap=True, width=None if sys.stdout.isatty() else 160).print(text)


def fail(message: str) -> NoReturn:
    """End the command with exit code 1 and one line on the error stream."""
    print(f"gaplab: {message}", file=sys.stderr)
    raise typer.Exit(1)
