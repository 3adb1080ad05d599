"""The command ``gaplab capacity``: how many random labels, and how many true ones, does a network memorise?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from study.cli.options import Address, AllowMixed, Changes, Scale, SpecName, Storage, TrackingUri
from study.cli.shown.conclusion import charts_folder, conclude
from study.cli.terminal.printing import say

if TYPE_CHECKING:
    from study.capacity.rounds import Concluded
    from study.launch.summary import Summary
    from study.spec.reading import Spec


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(capacity)


def capacity(
    spec: SpecName,
    changes: Changes = None,
    scale: Scale = None,
    resolution: Annotated[
        float, typer.Option(help="How finely n is bisected: the smallest that did not fit is about this share above the largest that did.")
    ] = 0.1,
    storage: Storage = "results",
    tracking_uri: TrackingUri = None,
    address: Address = None,
    allow_mixed: AllowMixed = False,
) -> None:
    """Bisect how many random labels, and true ones, each network of a spec memorises: bits a parameter, beside the gap."""
    import analysis
    from study.capacity.rounds import measure_capacity
    from study.cli.shown.capacity import concluded
    from study.cli.terminal.progress import run_drawn
    from study.spec.reading import read_spec

    def one_round(of: Spec, then: Concluded) -> Summary:
        return run_drawn(of, then, storage=storage, tracking_uri=tracking_uri, address=address, allow_mixed=allow_mixed)

    def shown(summary: Summary) -> list[Path]:
        say(f"All {summary.declared:,} points of {summary.plan.study} are recorded in {summary.root}.")
        try:
            return concluded(summary.records, charts_folder(summary.plan), summary.plan.study)
        except analysis.NothingToShow as error:
            say(f"No chart: {error}")
            return []

    understood = read_spec(spec, tuple(changes or ()), scale)
    conclude(measure_capacity(understood, resolution=resolution, storage=storage, address=address, one_round=one_round, concluded=shown))
