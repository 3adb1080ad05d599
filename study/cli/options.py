"""The arguments and options that several commands share.

A command of typer's has each of its options as a parameter of its function, so that commands may have more of them than the seven that any
other function takes. They hand them on at once: to `study.cli.terminal.progress.run_drawn`, to a reader, to what shows a result.
"""

from __future__ import annotations

from typing import Annotated

import typer

SpecName = Annotated[str, typer.Argument(metavar="SPEC|PRESET", help="A YAML file, or a preset's name.")]
Changes = Annotated[list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Change a field of the spec; repeatable.")]
Scale = Annotated[str | None, typer.Option(help="Of a preset that has scales: smoke, cpu (the default) or paper.")]
Storage = Annotated[str, typer.Option(help="Folder or URI under which every study has its folder.")]
TrackingUri = Annotated[str | None, typer.Option(help="MLflow's; an SQLite database beside the results by default.")]
AllowMixed = Annotated[bool, typer.Option("--allow-mixed", help="Also on nodes with other versions than here.")]
Address = Annotated[str | None, typer.Option(help="Of a Ray cluster; this machine by default.")]
AllRecorded = Annotated[bool, typer.Option("--all-recorded", help="Show recorded points too that the study's spec does not declare.")]
Where = Annotated[
    list[str] | None, typer.Option("--where", metavar="FIELD=VALUE", help="Only records with that value of a column; repeatable.")
]
