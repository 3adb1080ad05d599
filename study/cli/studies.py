"""The commands of ``gaplab`` about a study as declared: presets, show, check, run, status, sync."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from study.cli.options import Address, AllowMixed, AllRecorded, Changes, Scale, SpecName, Storage, TrackingUri
from study.cli.shown.conclusion import conclude, show_results
from study.cli.shown.declared import describe
from study.cli.shown.failures import say_failures
from study.cli.terminal.printing import fail, say

if TYPE_CHECKING:
    from study.launch.summary import Summary


def register(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (run, presets, show, check, status, sync):
        app.command()(command)


def run(
    spec: SpecName,
    changes: Changes = None,
    scale: Scale = None,
    storage: Storage = "results",
    tracking_uri: TrackingUri = None,
    address: Address = None,
    allow_mixed: AllowMixed = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would run, and start nothing.")] = False,
    all_recorded: AllRecorded = False,
) -> None:
    """Run what is missing of a study, then show the gap by capacity and corruption."""
    from study.spec.reading import read_spec

    understood = read_spec(spec, tuple(changes or ()), scale)
    if dry_run:
        describe(understood, storage, address)
        return
    from study.cli.terminal.progress import run_drawn

    def concluded(summary: Summary) -> list[Path]:
        return [] if summary.interrupted else show_results(summary, all_recorded)

    summary = run_drawn(understood, concluded, storage=storage, tracking_uri=tracking_uri, address=address, allow_mixed=allow_mixed)
    conclude(summary)


def presets(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Say all of this one.")] = None,
    models: Annotated[bool, typer.Option("--models", help="List the model families instead.")] = False,
) -> None:
    """List the bundled studies and what each asks; with a NAME, what to expect of it and what it costs."""
    from rich.table import Table

    from study.cli.shown.bundled import model_families, preset_heads
    from study.spec.presets import preset_text

    if models:
        say(model_families())
    elif name:
        say("\n".join(line[1:].strip() for line in preset_text(name).splitlines() if line.startswith("#")))
    else:
        table = Table("preset", "what it asks", box=None, title="gaplab presets NAME says more of one, gaplab run NAME runs it")
        for preset, asks in preset_heads().items():
            table.add_row(preset, asks)
        say(table)


def show(spec: SpecName, changes: Changes = None, scale: Scale = None, storage: Storage = "results") -> None:
    """Say what a spec declares: its points, their capacities, what is recorded already."""
    from study.spec.reading import read_spec

    describe(read_spec(spec, tuple(changes or ()), scale), storage)


def check(spec: SpecName, changes: Changes = None, scale: Scale = None, storage: Storage = "results") -> None:
    """Try every network of a study before it runs: forward and back, a few samples by heart, the time it would take."""
    from study.cli.shown.declared import look
    from study.spec.reading import read_spec

    if problems := look(read_spec(spec, tuple(changes or ()), scale), storage):
        for problem in problems:
            print(f"gaplab: {problem}", file=sys.stderr)
        raise typer.Exit(2)


def status(spec: SpecName, changes: Changes = None, scale: Scale = None, storage: Storage = "results") -> None:
    """Say which points of a study are recorded, which are missing, and why."""
    from study.plan.missing import explained
    from study.plan.plan import plan_study
    from study.records.compaction import MANY, unsealed
    from study.records.folder import active_driver
    from study.records.networks import NETWORK
    from study.records.verify import damaged_files
    from study.spec.reading import read_spec

    plan = plan_study(read_spec(spec, tuple(changes or ()), scale), storage)
    if who := active_driver(plan.root):
        say(f"A run is active: {who}.")
    if plan.search:
        from study.cli.shown.search import progress_of

        say(progress_of(plan.search, plan.root))
        return
    plan = plan.with_records()
    keys = {point.key for point in plan.points}
    lacking = {key: "without a network" if NETWORK in names else "without a measure" for key, names in plan.unmeasured.items()}
    counts = Counter(plan.recorded.get(key, lacking.get(key, "missing")) for key in keys)
    say(f"{plan.study}: {len(plan.points):,} points declared; " + ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items())))
    if counts["failed"]:
        say_failures(plan.root, keys)
    known = {**dict.fromkeys(plan.unmeasured, "completed"), **plan.recorded}
    for line in explained(plan.points, known, plan.root, plan.varied):
        say(line)
    for line in plan.trained_again(plan.points):
        say(line.replace(" are ", " will be ", 1) + ".")
    if (slow := unsealed(plan.root)) > MANY:
        say(f"{slow:,} files are named as by an earlier version, and read slowly: gaplab compact {plan.root} merges them, as a run does.")
    if damaged := damaged_files(plan.root):
        say(f"{damaged:,} files of records or curves are damaged; gaplab verify {plan.root} names them.")
    if counts["missing"] or counts["failed"] or plan.unmeasured.keys() & keys:
        say(f"gaplab run {spec} runs what is missing or failed.")


def sync(
    spec: SpecName, changes: Changes = None, scale: Scale = None, storage: Storage = "results", tracking_uri: TrackingUri = None
) -> None:
    """Copy the records of a study that MLflow does not have yet."""
    from study.cli.terminal.progress import drawn
    from study.launch import mirroring
    from study.spec.reading import read_spec

    understood = read_spec(spec, tuple(changes or ()), scale)
    with drawn() as progress:
        mirror = mirroring.sync(understood, storage=storage, tracking_uri=tracking_uri, progress=progress)
    if mirror is None:
        say(f"{understood.study} has tracking.mlflow: false: nothing to copy to.")
        return
    if mirror.error:
        fail(f"{mirror.tracking_uri}: {mirror.error}")
    say(f"{mirror.tracking_uri} has every record of {understood.study}.")
