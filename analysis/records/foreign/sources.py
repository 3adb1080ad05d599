"""Where foreign runs are read from."""

from __future__ import annotations

from pathlib import Path

from analysis.errors import NothingToShow
from analysis.records.foreign.exports import export_runs, is_export
from analysis.records.foreign.mlflow_runs import mlflow_runs
from analysis.records.foreign.runs import ForeignRuns
from analysis.records.foreign.tune_results import tune_runs

MLFLOW = "mlflow:"


def open_foreign(source: str, *, tracking_uri: str | None = None, sql: bool = False) -> ForeignRuns:
    """The runs of an experiment that gaplab did not write.

    Args:
        source: ``mlflow:EXPERIMENT``; a table of runs as W&B exports it, ``*.csv`` or ``*.parquet``; or a folder of Tune's results.
        tracking_uri: where an MLflow experiment lives; MLflow's own default if None.
        sql: read the MLflow database itself, whose URL the tracking URI is.

    Raises:
        NothingToShow: there is no such experiment, or it has no run.
        AnalysisError: a file or database cannot be read.
    """
    if source.startswith(MLFLOW):
        runs = mlflow_runs(source.removeprefix(MLFLOW), tracking_uri, sql)
    else:
        path = Path(source).expanduser()
        if not path.exists():
            raise NothingToShow(
                f"there is nothing at {source}: give mlflow:EXPERIMENT, a CSV or Parquet table of runs, or a folder of Tune's"
            )
        runs = export_runs(path) if is_export(path) else tune_runs(path)
    if not runs.ids:
        raise NothingToShow(f"{runs.source} has no run: nothing can be shown")
    return runs
