"""The commands of ``gaplab`` about scaling laws: scale runs a study and fits them, fit and predict read one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from study.cli.analysis import By, Mapping, Source, Sql, Tracking, loaded
from study.cli.options import Address, AllowMixed, AllRecorded, Changes, Scale, SpecName, Storage, TrackingUri
from study.cli.shown.conclusion import charts_folder, conclude
from study.cli.shown.figures import write_figure
from study.cli.shown.laws import check_sizes, concluded, forecasts
from study.cli.shown.tables import show_table
from study.cli.terminal.printing import say
from trainables.point.errors import ConfigError

if TYPE_CHECKING:
    from study.launch.summary import Summary

Value = Annotated[str, typer.Option(help="The column that changes with size: an error, a loss, the gap.")]
Sizes = Annotated[
    list[str] | None,
    typer.Option("--size", help="One or two columns that say how large; of parameters and data.train_size those that vary by default."),
]
OneSide = Annotated[
    Literal["fit", "unfit"] | None, typer.Option("--side", help="Of the interpolation threshold; each by itself by default.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for command in (scale, fit, predict):
        app.command()(command)


def scale(
    spec: SpecName,
    changes: Changes = None,
    scale: Scale = None,
    value: Value = "test_error",
    sizes: Sizes = None,
    by: By = None,
    side: OneSide = None,
    storage: Storage = "results",
    tracking_uri: TrackingUri = None,
    address: Address = None,
    allow_mixed: AllowMixed = False,
) -> None:
    """Run or resume a study over sizes, then fit scaling laws and forecast ten times the size."""
    import analysis
    from analysis.records.declared import declared_rows, undeclared
    from study.cli.terminal.progress import run_drawn
    from study.plan.plan import plan_study
    from study.spec.reading import read_spec

    understood = read_spec(spec, tuple(changes or ()), scale)
    chosen = {"value": value, "sizes": sizes, "by": by, "side": side}
    check_sizes(plan_study(understood, storage), chosen)

    def shown(summary: Summary) -> list[Path]:
        if summary.interrupted:
            return []
        if not summary.ran:
            say(f"Nothing to run: all {summary.declared:,} points of {understood.study} are recorded.")
        records, _ = declared_rows(analysis.load(summary.root), undeclared(summary.root))
        return concluded(records, charts_folder(summary.plan), understood.study, chosen)

    summary = run_drawn(understood, shown, storage=storage, tracking_uri=tracking_uri, address=address, allow_mixed=allow_mixed)
    conclude(summary)


def fit(
    source: Source,
    value: Value = "test_error",
    sizes: Sizes = None,
    by: By = None,
    side: OneSide = None,
    output: Annotated[Path | None, typer.Option(help="Draw the laws, or IsoFLOP panels, too: where, without suffix.")] = None,
    all_recorded: AllRecorded = False,
    tracking_uri: Tracking = None,
    mapping: Mapping = None,
    sql: Sql = False,
) -> None:
    """Fit a scaling law to each line on each side of the interpolation threshold, and locate the threshold."""
    import analysis

    table = loaded(source, tracking_uri, mapping, sql, all_recorded=all_recorded)
    laws = analysis.scaling_laws(table, value=value, sizes=sizes, by=by, side=side)
    for law in laws:
        say(law.sentence())
    show_table(analysis.threshold_table(table, by=by), "interpolation threshold, parameters per sample")
    if output:
        write_figure(analysis.scaling_chart(laws), output)


def predict(
    source: Source,
    at: Annotated[
        list[str] | None,
        typer.Option(
            "--at",
            metavar="10x|SIZE=10x|SIZE=NUMBER",
            help="10x: ten times each size, and the compute. SIZE is parameters, data or compute; the others stay at their largest.",
        ),
    ] = None,
    value: Value = "test_error",
    sizes: Sizes = None,
    by: By = None,
    side: OneSide = None,
    all_recorded: AllRecorded = False,
    tracking_uri: Tracking = None,
    mapping: Mapping = None,
    sql: Sql = False,
) -> None:
    """Forecast larger sizes by the scaling laws of a study, with 95 % prediction intervals for one run."""
    import analysis
    from analysis.scaling.forecasts import check_places

    check_places(at or [])
    table = loaded(source, tracking_uri, mapping, sql, all_recorded=all_recorded)
    laws = analysis.scaling_laws(table, value=value, sizes=sizes, by=by, side=side)
    if not laws:
        raise ConfigError(f"--side {side}: no setting has runs on that side alone")
    for law in laws:
        if law.scaling.law is None:
            say(law.sentence())
    forecasts(laws, at or ["10x"])
