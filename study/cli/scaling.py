"""The commands of ``gaplab`` about scaling: fit and predict; and what ``scale`` checks before a run and says after it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from study.cli.analysis import AllRecorded, By, Mapping, Source, Sql, Tracking, loaded, show
from trainables.point.config import ConfigError

if TYPE_CHECKING:
    import pyarrow as pa

    from analysis.scaling import StudyLaw
    from study.plan.plan import Plan

Value = Annotated[str, typer.Option(help="The column that changes with size: an error, a loss, the gap.")]
Sizes = Annotated[
    list[str] | None,
    typer.Option("--size", help="One or two columns that say how large; of parameters and data.train_size those that vary by default."),
]
OneSide = Annotated[
    Literal["fit", "unfit"] | None, typer.Option("--side", help="Of the interpolation threshold; each by itself by default.")
]
Options = dict[str, Any]
"""What `analysis.scaling_laws` takes beside records."""


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for command in (fit, predict):
        app.command()(command)


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
        print(law.sentence())
    show(analysis.threshold_location(table, by=by), "interpolation threshold (train error 0.01), parameters per sample")
    if output:
        try:
            charts = analysis.write_chart(analysis.scaling_chart(laws), output)
        except OSError as error:
            raise ConfigError(f"--output: {output} cannot be written ({error}): give a path that can") from None
        for chart in charts:
            print(f"wrote {chart}")


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

    table = loaded(source, tracking_uri, mapping, sql, all_recorded=all_recorded)
    laws = analysis.scaling_laws(table, value=value, sizes=sizes, by=by, side=side)
    if not laws:
        raise ConfigError(f"--side {side}: no setting has runs on that side alone")
    forecasts(laws, at or ["10x"])


def forecasts(laws: list[StudyLaw], at: list[str]) -> None:
    """Print what larger sizes would give; sentences, where there is no forecast or something to mind."""
    import analysis

    table = analysis.forecast_table(laws, at)
    value = laws[0].value
    intervals = [_interval(row[value], row[f"{value}.low"], row[f"{value}.high"]) for row in table.to_pylist()]
    kept = [name for name in table.column_names if not name.startswith(value) and name != "note"]
    show(table.select(kept).append_column(f"{value} (95 % of new runs)", [intervals]), "forecasts")
    lines = list(laws[0].line)
    for row in table.to_pylist():
        if row["note"]:
            where = ", ".join([f"{name} {row[name]}" for name in lines] + [row["at"]])
            print(f"{where}: {row['note']}")


def options_of(value: str, sizes: list[str] | None, by: list[str] | None, side: str | None) -> Options:
    """What a user chose, as `analysis.scaling_laws` takes it."""
    return {"value": value, "sizes": sizes, "by": by, "side": side}


def check_sizes(plan: Plan, chosen: Options) -> None:
    """Say before anything runs that a grid has too few sizes for a law.

    Raises:
        ConfigError: it is no grid, or it has.
    """
    from analysis.errors import AnalysisError, unknown_column
    from analysis.records.schema import MEASURE, RECORDS
    from analysis.scaling.choice import largest_decade
    from trainables.resolution import capacity

    if plan.search:
        raise ConfigError(
            "scale runs a grid, or drawn points, and fits laws to it: search.kind optuna chooses its points by what they give"
        )
    columns = [*RECORDS.names, *(MEASURE + name for name in plan.measures)]
    for name in (chosen["value"], *(chosen["sizes"] or ()), *(chosen["by"] or ())):
        if name not in columns:
            raise unknown_column(name, columns)
    found = [(float(capacity(point.config)), float(point.config.data.train_size or 1)) for point in plan.points]
    sizes = [row for row in zip(*found, strict=True) if len(set(row)) > 1]
    if chosen["sizes"] and not set(chosen["sizes"]) <= {"parameters", "data.train_size"}:
        return
    if not sizes:
        raise ConfigError(f"{plan.study}: neither parameters nor data.train_size varies: a scaling law needs a size that does")
    why = ""
    for row in sizes:
        try:
            largest_decade([sorted(set(row))])
            return
        except AnalysisError as error:
            why = str(error)
    raise ConfigError(f"{plan.study}: {why}")


def concluded(records: pa.Table, folder: Path, title: str, chosen: Options) -> list[Path]:
    """Print the laws of a study and what they forecast; returns the charts."""
    import analysis

    laws = analysis.scaling_laws(records, **chosen)
    if not laws:
        raise analysis.NothingToShow("no setting has runs that all fit, or runs of which none did: there is nothing to fit a law to")
    for law in laws:
        print(law.sentence())
    forecasts(laws, ["10x"])
    return analysis.write_chart(analysis.scaling_chart(laws, title=title), folder / "scaling")


def _interval(value: float | None, low: float | None, high: float | None) -> str:
    return "" if value is None else f"{value:.3g} ({low:.3g} to {high:.3g})"
