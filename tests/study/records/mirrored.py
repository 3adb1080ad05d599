"""A mirror that has caught up, and what MLflow holds then."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pyarrow as pa

import analysis
from study.records.mirror import Mirror
from study.records.writer import FragmentWriter

if TYPE_CHECKING:
    from mlflow import MlflowClient

STUDY = "made-up"


def copied(writer: FragmentWriter, uri: str) -> Mirror:
    """A mirror that has caught up, as a new process would."""
    mirror = Mirror(uri, STUDY, writer.root)
    mirror.finish()
    return mirror


def runs_by_key(uri: str) -> Counter[str]:
    """How many runs each key has."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(STUDY)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    return Counter(run.data.tags["gaplab.key"] for run in runs if run.data.tags["gaplab.kind"] == "point")


def assert_equal_to_records(writer: FragmentWriter, uri: str) -> None:
    """MLflow says what the records say, each point once."""
    for load in (analysis.load, analysis.load_curves):
        here, there = in_order(load(writer.root)), in_order(load(f"mlflow:{STUDY}", tracking_uri=uri))
        assert there.equals(here), [name for name in here.column_names if not there[name].equals(here[name])]
    assert set(runs_by_key(uri).values()) <= {1}


def in_order(table: pa.Table) -> pa.Table:
    return table.sort_by([(name, "ascending") for name in ("key", "epoch") if name in table.column_names]).combine_chunks()


def run_ids(uri: str) -> set[str]:
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(STUDY)
    assert experiment is not None
    return {run.info.run_id for run in client.search_runs([experiment.experiment_id])}


def experiment_of(client: MlflowClient) -> Any:
    experiment = client.get_experiment_by_name(STUDY)
    assert experiment is not None
    return experiment
