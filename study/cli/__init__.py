"""The command line: one file a group of commands, put together by `app`."""

import sys

from study.cli.terminal import interrupts
from study.packages import hidden_here


def main() -> None:
    """The entry point of the command `gaplab`; what it needs is loaded when it is called, if it is gaplab's."""
    try:
        if hidden := hidden_here():
            print(f"gaplab: {hidden}", file=sys.stderr)
            sys.exit(2)
        from study.cli.app import main as run

        run()
    except KeyboardInterrupt:  # while that was loaded: `run` itself answers what comes later
        print(interrupts.TOLD, file=sys.stderr)
        sys.exit(interrupts.CODE)
