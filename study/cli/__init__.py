"""The command line: one file a group of commands, put together by `app`."""

from study.cli.app import main

__all__ = ["main"]
