"""The commands of ``gaplab`` that make a study of their own out of a spec: capacity bisects it, attribute trains it on random subsets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from study.cli.options import Address, AllowMixed, Changes, Scale, SpecName, Storage, TrackingUri
from study.cli.shown.conclusion import charts_folder, conclude
from study.cli.terminal.printing import say

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from analysis.attribution.left_out import LeaveOut
    from study.launch.summary import Summary
    from study.spec.reading import Spec


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for command in (capacity, attribute):
        app.command()(command)


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
    from study.cli.shown.memorised import capacities
    from study.cli.terminal.progress import run_drawn
    from study.spec.reading import read_spec

    def one_round(of: Spec, then: Callable[[Summary], Sequence[Path]]) -> Summary:
        return run_drawn(of, then, storage=storage, tracking_uri=tracking_uri, address=address, allow_mixed=allow_mixed)

    def shown(summary: Summary) -> list[Path]:
        say(f"All {summary.declared:,} points of {summary.plan.study} are recorded in {summary.root}.")
        try:
            return capacities(summary.records, charts_folder(summary.plan), summary.plan.study)
        except analysis.NothingToShow as error:
            say(f"No chart: {error}")
            return []

    understood = read_spec(spec, tuple(changes or ()), scale)
    conclude(measure_capacity(understood, resolution=resolution, storage=storage, address=address, one_round=one_round, concluded=shown))


def attribute(
    spec: SpecName,
    changes: Changes = None,
    scale: Scale = None,
    networks: Annotated[int, typer.Option(min=8, help="Trained on random subsets, of each setting.")] = 1000,
    share: Annotated[float, typer.Option(help="Of the training samples that each of them is trained on.")] = 0.5,
    checks: Annotated[int, typer.Option(min=0, help="Test samples whose strongest supporters are left out, of each setting.")] = 3,
    group: Annotated[int, typer.Option(min=1, help="Training samples left out at once.")] = 10,
    seeds: Annotated[int, typer.Option(min=2, help="Networks trained with and without each group.")] = 20,
    storage: Storage = "results",
    tracking_uri: TrackingUri = None,
    address: Address = None,
    allow_mixed: AllowMixed = False,
) -> None:
    """Train networks on random subsets: influences, datamodels, memorisation, a membership attack, and samples left out, by setting."""
    import analysis
    from study.attribution.rounds import Effort, attribute_study
    from study.cli.shown.memorised import attributions
    from study.cli.terminal.progress import run_drawn
    from study.spec.reading import read_spec

    def one_round(of: Spec, then: Callable[[Summary], Sequence[Path]]) -> Summary:
        return run_drawn(of, then, storage=storage, tracking_uri=tracking_uri, address=address, allow_mixed=allow_mixed)

    def shown(summary: Summary, found: list[LeaveOut]) -> list[Path]:
        say(f"All {summary.declared:,} points of {summary.plan.study} are recorded in {summary.root}.")
        try:
            return attributions(summary, found, charts_folder(summary.plan))
        except analysis.NothingToShow as error:
            say(f"No chart: {error}")
            return []

    understood = read_spec(spec, tuple(changes or ()), scale)
    asked = Effort(networks, share, checks, group, seeds)
    conclude(attribute_study(understood, asked, storage=storage, address=address, one_round=one_round, concluded=shown).summary)
