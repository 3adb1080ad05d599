"""What is said of scaling laws: before a run, that a grid can have none; after it, the laws, their forecasts and the chart."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from study.cli.shown.tables import show_table
from study.cli.terminal.printing import say
from trainables.point.errors import ConfigError

if TYPE_CHECKING:
    import pyarrow as pa

    from analysis.scaling import StudyLaw
    from study.plan.plan import Plan

Options = dict[str, Any]
"""What `analysis.scaling_laws` takes beside records."""


def forecasts(laws: list[StudyLaw], at: list[str]) -> None:
    """Print what larger sizes would give; sentences, where there is no forecast or something to mind."""
    import analysis

    laws = [law for law in laws if law.scaling.law is not None]
    if not laws:
        return
    table = analysis.forecast_table(laws, at)
    value = laws[0].value
    intervals = [_interval(row[value], row[f"{value}.low"], row[f"{value}.high"]) for row in table.to_pylist()]
    kept = [name for name in table.column_names if not name.startswith(value) and name != "note"]
    show_table(table.select(kept).append_column(f"{value} (95 % of new runs)", [intervals]), "forecasts")
    lines = list(laws[0].line)
    for row in table.to_pylist():
        if row["note"]:
            where = ", ".join([f"{name} {row[name]}" for name in lines] + [row["at"]])
            say(f"{where}: {row['note']}")


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
        say(law.sentence())
    forecasts(laws, ["10x"])
    charts = analysis.write_chart(analysis.scaling_chart(laws, title=title), folder / "scaling")
    for chart in charts:
        say(f"chart    {chart}")
    return charts


def _interval(value: float | None, low: float | None, high: float | None) -> str:
    return "" if value is None else f"{value:.3g} ({low:.3g} to {high:.3g})"
