"""A client of MLflow for reading: what is not there is not made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from analysis.errors import NothingToShow

if TYPE_CHECKING:
    from mlflow import MlflowClient


def reading_client(tracking_uri: str | None) -> MlflowClient:
    """A client; of MLflow's own default if the URI is None.

    Raises:
        NothingToShow: the URI is of an SQLite file that is not there, which MLflow would make.
    """
    import mlflow

    uri = tracking_uri or mlflow.get_tracking_uri()
    if uri.startswith("sqlite:"):
        import sqlalchemy

        file = sqlalchemy.engine.make_url(uri).database
        if file and file != ":memory:" and not Path(file).exists():
            raise NothingToShow(
                f"there is no MLflow database at {uri}: --tracking-uri says where it is (beside results, sqlite:///results/mlflow.db)"
            )
    return mlflow.MlflowClient(tracking_uri)
