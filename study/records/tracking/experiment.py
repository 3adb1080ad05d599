"""The experiment of a study in MLflow and the run in it that stands for the study: found, restored, mended or made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from study.records.tracking.finished_runs import SHARED_TAGS
from study.records.tracking.storage_id import StorageId
from trainables.point.config import field_types

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

STORAGE_TAG, PLACE_TAG = "gaplab.storage", "gaplab.place"
OTHER_STORAGE = (
    "the experiment of this name holds the points of another storage, and the two are not mixed: "
    "rename the study or that experiment, or give another --tracking-uri"
)
_PAGE = 1000


class OtherStorageError(Exception):
    """The experiment holds the points of another storage; the message is one sentence."""


def find_experiment(client: MlflowClient, name: str, artifacts: str | None) -> str:
    """The id of the experiment of this name: made if there is none, restored if somebody deleted it.

    Args:
        artifacts: where a new one keeps its artifacts; its server chooses if None.
    """
    found = client.get_experiment_by_name(name)
    if found is None:
        return str(client.create_experiment(name, artifact_location=artifacts))
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return str(found.experiment_id)


def find_parent(client: MlflowClient, experiment_id: str, storage: StorageId) -> Run | None:
    """The study's run, active and ended; None if there is none. Others, made by requests that were sent twice, are deleted.

    Raises:
        OtherStorageError: it is of another storage.
    """
    found = _study_runs(client, experiment_id)
    if not found:
        return None
    for run in found:
        tags = run.data.tags
        if not storage.is_same(tags.get(STORAGE_TAG), tags.get(PLACE_TAG)):
            raise OtherStorageError(OTHER_STORAGE)
    parent, *others = sorted(found, key=_rank, reverse=True)
    identifier = parent.info.run_id
    if parent.info.lifecycle_stage == "deleted":
        client.restore_run(identifier)
    if parent.info.status == "RUNNING":
        client.set_terminated(identifier)
    for name, value in ((STORAGE_TAG, storage.identifier), (PLACE_TAG, storage.place)):
        if parent.data.tags.get(name) != value:
            client.set_tag(identifier, name, value)
    for run in others:
        if run.info.lifecycle_stage != "deleted":
            client.delete_run(run.info.run_id)
    return parent


def _study_runs(client: MlflowClient, experiment_id: str) -> list[Run]:
    from mlflow.entities import ViewType

    token, found = None, []
    while True:
        page = client.search_runs([experiment_id], "tags.`gaplab.kind` = 'study'", ViewType.ALL, max_results=_PAGE, page_token=token)
        found += list(page)
        token = page.token
        if not token:
            return found


def _rank(run: Run) -> tuple[bool, int, int, str]:
    """The greatest is kept: what is not deleted, says most, and came first."""
    return run.info.lifecycle_stage != "deleted", len(run.data.params), -run.info.start_time, run.info.run_id


def make_parent(client: MlflowClient, experiment_id: str, name: str, storage: StorageId, common: Mapping[str, str]) -> str:
    """A study's run that states what its points share; returns its id."""
    tags = {"gaplab.kind": "study", STORAGE_TAG: storage.identifier, PLACE_TAG: storage.place}
    tags |= {f"gaplab.{column}": text for column, text in common.items() if column in SHARED_TAGS}
    made = str(client.create_run(experiment_id, run_name=name, tags=tags).info.run_id)
    state_fields(client, made, common)
    client.set_terminated(made)
    return made


def state_fields(client: MlflowClient, parent: str, common: Mapping[str, str]) -> None:
    """State the fields that the points share on the study's run."""
    from mlflow.entities import Param

    client.log_batch(parent, params=[Param(name, text) for name, text in common.items() if name in field_types()])


def stated(parent: Run) -> dict[str, str]:
    """What the study's run states for its points, by column."""
    fields = {name: text for name, text in parent.data.params.items() if name in field_types()}
    tags = {name: parent.data.tags[f"gaplab.{name}"] for name in SHARED_TAGS if f"gaplab.{name}" in parent.data.tags}
    return fields | tags


def shared_by_points(
    client: MlflowClient, experiment_id: str, name: str, storage: StorageId, common: Callable[[], Mapping[str, str]], empty: bool
) -> tuple[str, dict[str, str]]:
    """The id of the study's run, found or made, and what it states.

    Args:
        name: the study's.
        common: what a run that says nothing yet is to state.
        empty: whether the experiment has no point: what one lacks, its readers take from the study's run, so that may not change later.
    """
    parent = find_parent(client, experiment_id, storage)
    if parent is None:
        said = dict(common())
        return make_parent(client, experiment_id, name, storage, said), said
    if parent.data.params or not empty:
        return str(parent.info.run_id), stated(parent)
    said = {column: text for column, text in common().items() if column in field_types()}
    state_fields(client, parent.info.run_id, said)
    return str(parent.info.run_id), stated(parent) | said
