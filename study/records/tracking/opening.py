"""Who writes finished runs to a tracking store."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from sqlalchemy.engine import make_url

from study.records.tracking.bulk import BulkWriter
from study.records.tracking.client import ClientWriter
from study.records.tracking.finished_runs import FinishedRun
from study.records.tracking.standing import Standing

if TYPE_CHECKING:
    from mlflow import MlflowClient


class Writer(Protocol):
    """Writes the runs of an experiment; one thread uses it at a time.

    Attributes:
        batch: how many runs `write` is best given at once.
    """

    @property
    def batch(self) -> int: ...

    def reconcile(self) -> dict[str, Standing]:
        """The standing of every point of the experiment, once runs that no reader should meet are deleted.

        These are runs whose writing was interrupted, and all but the best of a point. It is asked first, and again after an error:
        a write whose answer was lost may have been done.
        """
        ...

    def write(self, runs: Sequence[FinishedRun], replaced: Mapping[str, str] | None = None) -> list[str]:
        """Write these runs, each key once, and delete those that they replace.

        Args:
            runs: what is to stand. A `BulkWriter` finds one that it wrote before, and shows it again if it was deleted.
            replaced: ids of runs by the key of the point whose new run takes their place.

        Returns:
            The runs' ids, in the same order.
        """
        ...

    def close(self) -> None:
        """Let go of threads and connections."""
        ...


def make_database(uri: str) -> None:
    """Make MLflow's SQLite database, if the URI is of one that is not there, whole or not at all.

    MLflow makes its tables in dozens of steps, and cannot go on where a process was ended between two of them.
    """
    url = make_url(uri) if uri.startswith("sqlite:") else None
    if url is None or not url.database or Path(url.database).exists():
        return
    from mlflow import MlflowClient

    path = Path(url.database)
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        MlflowClient(f"sqlite:///{unfinished.resolve()}").search_experiments(max_results=1)
        if not path.exists():
            unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def open_writer(client: MlflowClient, experiment_id: str, origin: str) -> Writer:
    """The fastest writer that the client's tracking store allows.

    Args:
        client: a client that has asked its store for something: an empty database has its tables then.
        experiment_id: where the runs go.
        origin: the id of the storage in which the records lie: part of the runs' ids.
    """
    found = BulkWriter.open(client.tracking_uri, experiment_id, origin)
    return ClientWriter(client, experiment_id) if isinstance(found, str) else found
