"""Kept networks as MLflow's logged models: each the output of its point's run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from analysis.records.networks import ENDING, FOLDER
from analysis.records.store import open_store
from study.records.networks import kept_networks

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel

_KEY = "gaplab.key"
_PAGE = 100


def log_networks(client: MlflowClient, experiment_id: str, root: str, runs: Mapping[str, str]) -> None:
    """Log the networks of a study that the experiment has no finished model of.

    Args:
        root: ``STORAGE/STUDY``.
        runs: ids by the key of the point.
    """
    keys = kept_networks(root) & runs.keys()
    if not keys:
        return
    there = {model.tags.get(_KEY): model for model in _models(client, experiment_id)}
    filesystem, path = open_store(root)
    for key in sorted(keys):
        known = there.get(key)
        if known is not None and known.source_run_id == runs[key] and known.status == "READY":
            continue
        with TemporaryDirectory() as folder, filesystem.open_input_stream(f"{path}/{FOLDER}/{key}{ENDING}") as stream:
            Path(folder, f"network{ENDING}").write_bytes(stream.read())
            _log(client, experiment_id, key, runs[key], folder)
        if known is not None:  # of a run that was replaced, or half written
            client.delete_logged_model(known.model_id)


def _log(client: MlflowClient, experiment_id: str, key: str, run_id: str, folder: str) -> None:
    from mlflow.entities import LoggedModelOutput

    made = client.create_logged_model(experiment_id, f"network-{key[:12]}", run_id, tags={_KEY: key}, model_type="torch state dict")
    client.log_model_artifacts(made.model_id, folder)
    client.log_outputs(run_id, [LoggedModelOutput(made.model_id, 0)])
    client.finalize_logged_model(made.model_id, "READY")


def _models(client: MlflowClient, experiment_id: str) -> Iterator[LoggedModel]:
    token = None
    while True:
        page = client.search_logged_models([experiment_id], max_results=_PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return
