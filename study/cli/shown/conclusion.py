"""What came of a run: its table and charts as soon as the records are complete, then what is left to say."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from study.cli.shown.failures import say_failures
from study.cli.shown.tables import gap_table
from study.cli.terminal import interrupts
from study.cli.terminal.printing import fail, say

if TYPE_CHECKING:
    import pyarrow as pa

    from study.launch.summary import Summary
    from study.plan.plan import Plan
    from study.records.mirror import Mirror

_MLFLOW_UI = "http://127.0.0.1:5000"
"""Where `mlflow ui` answers by default."""


def show_results(summary: Summary, all_recorded: bool = False) -> list[Path]:
    """The table and the paths, as soon as the records are complete; returns the charts."""
    import analysis

    plan = summary.plan
    if not summary.ran:
        say(f"Nothing to run: all {summary.declared:,} points of {plan.study} are recorded.")
    try:
        shown, charts = _shown(plan, all_recorded)
        for one in shown:
            say(one)
    except analysis.NothingToShow as error:
        say(f"No chart: {error}")
        charts = []
    say(f"records  {summary.root}/records ({', '.join(f'{count:,} {name}' for name, count in summary.counts.most_common())})")
    for chart in charts:
        say(f"chart    {chart}")
    return charts


def conclude(summary: Summary) -> None:
    """What came of a run besides its results, and how to go on."""
    plan = summary.plan
    if summary.interrupted:
        recorded = f"{summary.declared - summary.missing:,} of {summary.declared:,} points"
        say(f"\nInterrupted: {recorded} are recorded in {summary.root}. The same command goes on from there.")
        raise typer.Exit(interrupts.CODE)
    if summary.copying_interrupted:
        end_copying(summary)
    if summary.mirror:
        _tell_of_mlflow(summary.mirror, plan)
    if summary.counts["failed"]:
        say_failures(summary.root, None)
    if summary.halted:
        fail(f"stopped: {summary.halted}. The same command goes on from here")
    if summary.counts["failed"]:
        raise typer.Exit(1)
    if summary.missing:
        fail(f"{summary.missing:,} points have no record that can be read: run the same command again")


def end_copying(summary: Summary) -> None:
    """Say how to go on with a copy to MLflow that the user has ended, and end with the exit code of an interrupt."""
    plan = summary.plan
    say(f"\nInterrupted: the records are complete; gaplab sync {plan.source or plan.study} copies the rest to MLflow.")
    raise typer.Exit(interrupts.CODE)


def _shown(plan: Plan, all_recorded: bool) -> tuple[list[Any], list[Path]]:
    """The tables, and sentences, to print and the charts written."""
    import analysis

    folder = charts_folder(plan)
    if plan.search:
        from study.cli.shown.search import concluded

        return concluded(plan.search, plan.root, folder)
    from analysis.records.declared import declared_rows, undeclared
    from study.cli.shown import measures

    records, others = declared_rows(analysis.load(plan.root), frozenset() if all_recorded else undeclared(plan.root))
    if others:
        say(f"{others}: --all-recorded shows them.")
    shown = [gap_table(analysis.gap_table(records), plan.study), *measures.concluded(records, plan), *_said(records)]
    return shown, analysis.write_chart(analysis.gap_vs_capacity(records, title=plan.study), folder / "gap-vs-capacity")


def _said(records: pa.Table) -> list[str]:
    """What the study found, and what it could not tell, a line each."""
    import analysis

    findings = analysis.findings(records)
    return [*(f"found    {one}" for one in findings.found), *(f"open     {one}" for one in findings.left_open)]


def _tell_of_mlflow(mirror: Mirror, plan: Plan) -> None:
    """Say where the study stands in MLflow, or that it lags."""
    if mirror.error:
        say(f"MLflow lags behind the records ({mirror.error}): gaplab sync {plan.source or plan.study} copies the rest.")
    if mirror.tracking_uri.startswith("http"):
        say(f"MLflow   {mirror.page or mirror.tracking_uri}")
    else:
        say(f"MLflow   mlflow ui --backend-store-uri {mirror.tracking_uri}")
        if mirror.page:
            say(f"         then open {_MLFLOW_UI}{mirror.page}")


def charts_folder(plan: Plan) -> Path:
    """The folder of charts: with the study, or in a folder of its name here if its storage is remote."""
    return Path(plan.study) if "://" in plan.root else Path(plan.root) / "charts"
