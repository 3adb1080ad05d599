"""The commands of ``gaplab`` about the files of a study: compact, verify."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from study.cli.shown.tables import show_table
from trainables.point.errors import ConfigError

if TYPE_CHECKING:
    import pyarrow as pa

    from study.records.verify import Damage

_MOST_KEYS = 3


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for command in (compact, verify):
        app.command()(command)


def compact(source: Annotated[str, typer.Argument(metavar="STUDY", help="A study's folder or URI.")]) -> None:
    """Merge the many small files of a study into few, also while it runs. A run does so itself, with over 100, when it starts and ends."""
    from analysis.records.fragments import fragments
    from study.records.compaction import compact as merge

    try:
        if fragments(source):
            print(f"merged {merge(source):,} fragments of {source}")
        else:
            print(_where_they_went(source))
    except OSError as error:
        raise ConfigError(f"{source} cannot be compacted, and is as it was ({str(error).splitlines()[0]})") from None


def verify(
    source: Annotated[str, typer.Argument(metavar="STUDY", help="A study's folder or URI.")],
    repair: Annotated[bool, typer.Option("--repair", help="Move what is damaged to STUDY/quarantine; a run trains what it costs.")] = False,
) -> None:
    """Look at every checksum of a study: records, curves and samples. Exit code 1 if something is damaged."""
    from analysis.records.fragments import fragments
    from study.records.folder import claimed
    from study.records.verify import kept_aside, put_damaged_aside
    from study.records.verify import verify as look

    try:
        files = len(fragments(source))
        if not files:
            print(_where_they_went(source))
            return
        if repair:
            with claimed(source), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the table says it
                found = put_damaged_aside(source, everything=True)
        else:
            found = look(source)
        aside = None if found else kept_aside(source)
    except OSError as error:
        raise ConfigError(f"{source} cannot be read or written ({str(error).splitlines()[0]})") from None
    if aside is not None:
        print(f"{source}: {files:,} files of records and their curves can be read whole" + (f"; {aside.sentence}" if aside.files else ""))
        return
    show_table(_damages(found), f"{source}: damaged{', and moved to quarantine' if repair else ''}")
    print("gaplab run trains what is lost." if repair else f"gaplab verify {source} --repair puts them aside, as the next run does.")
    raise typer.Exit(1)


def _where_they_went(source: str) -> str:
    """What is said of a study that has no records.

    Raises:
        ConfigError: it never had any.
    """
    from study.records.verify import kept_aside

    aside = kept_aside(source)
    if not aside.files:
        raise ConfigError(f"there is no study at {source}: it has no records")
    return f"{source}: no records are left; {aside.sentence}"


def _damages(found: Sequence[Damage]) -> pa.Table:
    import pyarrow as pa

    rows = [
        {
            "files": one.name,
            "damage": one.reason,
            "points": f"{len(one.keys):,}" if one.keys else "not known",
            "keys": ", ".join(one.keys[:_MOST_KEYS]) + (", ..." if len(one.keys) > _MOST_KEYS else ""),
            "saved": None if one.salvaged is None else f"{one.salvaged:,}",
        }
        for one in found
    ]
    return pa.Table.from_pylist(rows, pa.schema([(name, pa.string()) for name in rows[0]]))
