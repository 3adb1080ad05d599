"""The command line: one file a group of commands, put together by `app`."""


def main() -> None:
    """The entry point of the command `gaplab`; what it needs is loaded when it is called."""
    from study.cli.app import main as run

    run()
