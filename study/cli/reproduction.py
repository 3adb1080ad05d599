"""The command ``gaplab reproduce``: a preset of the paper is run, and what was measured stands beside what was published."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from study.cli.options import Address, AllowMixed, Changes, Scale, Storage, TrackingUri
from study.cli.shown.conclusion import conclude, end_copying, show_results
from study.cli.terminal.printing import say

if TYPE_CHECKING:
    from study.cli.shown.reproduction import Compared
    from study.launch.summary import Summary
    from study.spec.reading import Spec


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(reproduce)


def reproduce(
    target: Annotated[str | None, typer.Argument(metavar="PRESET", help="A preset with published numbers.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every preset with published numbers, in one report.")] = False,
    scale: Scale = None,
    recorded: Annotated[bool, typer.Option("--recorded", help="Run nothing: compare what is recorded.")] = False,
    output: Annotated[
        Path | None, typer.Option(help="The report; reproduction.md in the study's folder, or with --all in STORAGE.")
    ] = None,
    changes: Changes = None,
    storage: Storage = "results",
    tracking_uri: TrackingUri = None,
    address: Address = None,
    allow_mixed: AllowMixed = False,
) -> None:
    """Run or resume a preset of the paper, then set what was measured beside what was published."""
    from analysis.records.store import study_root
    from analysis.whole_files import whole_file
    from study.cli.shown.reproduction import compared, report, reproducible
    from study.cli.terminal.progress import run_drawn
    from study.spec.reading import read_spec
    from trainables.point.errors import ConfigError

    if (target is None) == (not everything):
        raise ConfigError("reproduce takes one preset, or --all")
    specs = [read_spec(name, tuple(changes or ()), scale) for name in ([target] if target else reproducible())]
    comparisons: list[Compared] = []

    def compare(spec: Spec) -> list[Path]:
        """Show what was measured, and write the report of all so far; returns the charts."""
        root = study_root(storage, spec.study)
        comparison = compared(root, spec)
        for line in comparison.shown:
            say(line)
        comparisons.append(comparison)
        path = output or (Path() if "://" in storage else Path(storage if everything else root)) / "reproduction.md"
        try:
            with whole_file(path) as unfinished:
                unfinished.write_text(report(comparisons, scale, Path(storage).name))
        except OSError as error:
            raise ConfigError(f"the report cannot be written to {path} ({error.strerror or error}): --output gives another file") from None
        say(f"wrote {path}")
        return comparison.charts

    for spec in specs:
        if spec.published is None:
            raise ConfigError(f"{spec.study} has no published numbers: use gaplab run")
        if recorded:
            compare(spec)
            continue

        def concluded(summary: Summary, spec: Spec = spec) -> list[Path]:
            if summary.interrupted:
                return []
            return show_results(summary) if summary.halted else compare(spec)

        summary = run_drawn(spec, concluded, storage=storage, tracking_uri=tracking_uri, address=address, allow_mixed=allow_mixed)
        if summary.interrupted or summary.halted:
            conclude(summary)
        if summary.copying_interrupted:
            end_copying(summary)
