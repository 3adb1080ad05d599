"""Whether an experiment is another storage's, asked before a study trains: without MLflow's client, whose import takes seconds."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from study.records.tracking.experiment import OTHER_STORAGE, PLACE_TAG, STORAGE_TAG
from study.records.tracking.storage_id import storage_id
from trainables.point.errors import ConfigError

_SECONDS = 5
_TAGS = """
select tags.run_uuid, tags.key, tags.value from tags
join runs on runs.run_uuid = tags.run_uuid join experiments on experiments.experiment_id = runs.experiment_id
join tags kinds on kinds.run_uuid = runs.run_uuid and kinds.key = 'gaplab.kind' and kinds.value = 'study'
where experiments.name = :name and tags.key in (:storage, :place)
"""


def check_experiment(uri: str, name: str, root: str) -> None:
    """See that the experiment of a study, if there is one, holds the points of this storage.

    Where that cannot be found out so shortly, nothing is said: the mirror looks again.

    Raises:
        ConfigError: it holds those of another.
    """
    own = storage_id(root, make=False)
    for tags in _tags_of_studies(uri, name):
        if not own.is_same(tags.get(STORAGE_TAG), tags.get(PLACE_TAG)):
            raise ConfigError(f"--tracking-uri: {OTHER_STORAGE}")


def _tags_of_studies(uri: str, name: str) -> list[dict[str, str]]:
    """The tags of the runs that stand for the study, as far as they can be read."""
    with suppress(Exception):  # no such tables, no right to read, no answer
        return _from_server(uri, name) if uri.startswith(("http://", "https://")) else _from_database(uri, name)
    return []


def _from_server(uri: str, name: str) -> list[dict[str, str]]:
    import requests

    api = f"{uri.rstrip('/')}/api/2.0/mlflow"
    found = requests.get(f"{api}/experiments/get-by-name", {"experiment_name": name}, timeout=_SECONDS).json()
    wanted: dict[str, Any] = {"experiment_ids": [found["experiment"]["experiment_id"]], "run_view_type": "ALL", "max_results": 10}
    wanted["filter"] = "tags.`gaplab.kind` = 'study'"
    answer = requests.post(f"{api}/runs/search", json=wanted, timeout=_SECONDS).json()
    return [{tag["key"]: tag["value"] for tag in run["data"]["tags"]} for run in answer.get("runs", [])]


def _from_database(uri: str, name: str) -> list[dict[str, str]]:
    import sqlalchemy

    url = sqlalchemy.engine.make_url(uri)
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
        return []  # to connect would make the file
    runs: dict[str, dict[str, str]] = {}
    with sqlalchemy.create_engine(url).connect() as connection:
        for run, key, value in connection.execute(sqlalchemy.text(_TAGS), {"name": name, "storage": STORAGE_TAG, "place": PLACE_TAG}):
            runs.setdefault(run, {})[key] = value
    return list(runs.values())
