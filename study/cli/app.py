"""The command line: ``gaplab``. A user's error is one sentence and exit code 2; Ctrl-C is 130."""

from __future__ import annotations

import sys
import traceback
import warnings
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from study.cli import analysis, atlas, cluster, data, designs, files, reproduction, scaling, simulate, studies
from study.cli.terminal import interrupts
from study.cli.terminal.streams import redacting
from study.guest import hooks_kept
from trainables.reproducibility import keep_bits


class _Commands(TyperGroup):
    """Ctrl-C that no command has answered is told of: Typer ends without a word."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            print(interrupts.TOLD, file=sys.stderr)
            raise typer.Exit(interrupts.CODE) from None


app = typer.Typer(
    cls=_Commands,
    help="Why do networks that can memorise random labels generalize? Declare a study, run it once, chart the gap.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"gaplab {version('gaplab')}")
        raise typer.Exit


@app.callback()
def _everywhere(
    version: Annotated[bool, typer.Option("--version", help="Print the version, and end.", callback=_version, is_eager=True)] = False,
) -> None:
    """What stands before a command."""


for group in (studies, data, reproduction, scaling, designs, atlas, analysis, files, simulate, cluster):
    group.register(app)


def main() -> None:
    """The entry point: runs `app` and turns the user's errors into sentences; no secret is printed."""
    with redacting():
        _main()


def _main() -> None:
    keep_bits()
    try:
        with warnings.catch_warnings(), hooks_kept(), interrupts.delivered():
            warnings.showwarning = lambda message, *_: print(f"warning: {message}", file=sys.stderr)
            app()
    except KeyboardInterrupt:
        print(interrupts.TOLD, file=sys.stderr)
        sys.exit(interrupts.CODE)
    except ValueError as error:
        if not _is_the_users(error):
            _report_defect(error)
        print(f"gaplab: {' '.join(str(error).splitlines())}", file=sys.stderr)
        for line in getattr(error, "table", ()):  # of nodes (see study.launch.node_checks)
            print(f"  {line}", file=sys.stderr)
        sys.exit(2)
    except Exception as error:
        _report_defect(error)


def _report_defect(error: Exception) -> NoReturn:
    """A traceback as Python prints it, but not beside `redacting`."""
    print("".join(traceback.format_exception(error)), end="", file=sys.stderr)
    sys.exit(1)


def _is_the_users(error: ValueError) -> bool:
    from trainables.point.errors import ConfigError

    if isinstance(error, ConfigError):
        return True
    from analysis.errors import AnalysisError  # later: it brings all of analysis

    return isinstance(error, AnalysisError)
