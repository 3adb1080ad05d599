"""Runs through MLflow's public client: to a tracking server, several at once, or to any store that MLflow knows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

from study.records.tracking.finished_runs import FinishedRun
from study.records.tracking.standing import Standing, best_and_surplus

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

REQUESTS_AT_ONCE = 8
"""MLflow's client keeps ten connections."""
_ENTITIES = 1000
"""MLflow's limit of metrics, params and tags in one `log_batch`."""
_PAGE = 1000


class ClientWriter:
    """Writes finished runs by `MlflowClient`; see `Writer`. A server gives runs their ids, so `reconcile` finds them by their key."""

    batch = 64

    def __init__(self, client: MlflowClient, experiment_id: str, at_once: int = REQUESTS_AT_ONCE) -> None:
        self._client, self._experiment_id = client, experiment_id
        self._pool = ThreadPoolExecutor(at_once, "mlflow-writer")

    def reconcile(self) -> dict[str, Standing]:
        """The standing of every point of the experiment, once runs that no reader should meet are deleted."""
        best, surplus = best_and_surplus((run.data.tags["gaplab.key"], _standing(run)) for run in self._points())
        for _ in self._pool.map(self._client.delete_run, surplus):
            pass
        return best

    def write(self, runs: Sequence[FinishedRun], replaced: Mapping[str, str] | None = None) -> list[str]:
        """Write these runs and delete those that they replace, by key; returns their ids. See `Writer.write`."""
        writing = [self._pool.submit(self._write, run, (replaced or {}).get(run.key)) for run in runs]
        try:
            wait(writing, return_when=FIRST_EXCEPTION)
        finally:  # after an error, or Ctrl-C, what has not begun is left
            for run in writing:
                run.cancel()
        wait(writing)
        return [run.result() for run in sorted(writing, key=lambda run: run.cancelled())]

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()

    def _points(self) -> Iterator[Run]:
        from mlflow.entities import ViewType

        token = None
        while True:
            page = self._client.search_runs(
                [self._experiment_id], "tags.`gaplab.kind` = 'point'", ViewType.ALL, max_results=_PAGE, page_token=token
            )
            yield from (run for run in page if run.data.tags.get("gaplab.key"))
            token = page.token
            if not token:
                return

    def _write(self, run: FinishedRun, replaced: str | None) -> str:
        from mlflow.entities import Metric, Param

        if replaced is not None:
            self._client.delete_run(replaced)
        made = self._client.create_run(self._experiment_id, run.start, dict(run.tags), run.name).info.run_id
        metrics = [
            Metric(name, value, run.end, step)
            for name, (steps, values) in run.metrics.items()
            for step, value in zip(steps, values, strict=True)
        ]
        params = [Param(name, text) for name, text in run.params.items()]
        first = _ENTITIES - len(params)
        self._client.log_batch(made, metrics[:first], params)
        for start in range(first, len(metrics), _ENTITIES):
            self._client.log_batch(made, metrics[start : start + _ENTITIES])
        self._client.set_terminated(made, run.status, run.end)
        return str(made)


def _standing(run: Run) -> Standing:
    info, parent = run.info, run.data.tags.get("mlflow.parentRunId", "")
    return Standing(info.run_id, info.status, info.end_time or 0, info.lifecycle_stage == "deleted", parent)
