"""What meets a reader in MLflow: the study's run with its spec, description, overview, data set and charts, and views of the experiment."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

from study.records.front.overview import Overview
from study.records.front.views import POINTS, link, views

if TYPE_CHECKING:
    from mlflow import MlflowClient

_NOTE, _OURS = "mlflow.note.content", "gaplab.note"
"""The description of a run or experiment, and the digest of the one that was written here."""
_LONGEST_NOTE = 4800
"""Characters; a tag may have 5,000."""
_METRICS_AT_ONCE = 1000


@dataclass(frozen=True)
class DataSet:
    """A data set as MLflow notes it once a study: `digest` says what is in it, `about` what describes it."""

    name: str
    digest: str
    about: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Front:
    """What the study's run carries beside what its points share.

    Attributes:
        overview: metrics and description.
        charts: files, of which the first PNG stands in the description.
        texts: other files, by name.
        datasets: what the points are trained on.
    """

    overview: Overview
    charts: Sequence[Path] = ()
    texts: Mapping[str, str] = field(default_factory=dict)
    datasets: Sequence[DataSet] = ()


def write_front(client: MlflowClient, experiment_id: str, parent: str, front: Front, files: bool = True) -> None:
    """Write all but the charts' files; what a user has written instead stays, and what stands already is not written again.

    Args:
        files: whether the run's folder of files can be reached; else the texts are left out.
    """
    for name, text in front.texts.items() if files else ():
        client.log_text(parent, text, name)
    _log_metrics(client, parent, front.overview)
    _log_datasets(client, parent, front.datasets)
    text = _described(experiment_id, parent, front)
    experiment, run = client.get_experiment(experiment_id), client.get_run(parent)
    if digest := _may_describe(experiment.tags, text):
        client.set_experiment_tag(experiment_id, _NOTE, text)
        client.set_experiment_tag(experiment_id, _OURS, digest)
    if digest := _may_describe(run.data.tags, text):
        client.set_tag(parent, _NOTE, text)
        client.set_tag(parent, _OURS, digest)
    if "mlflow.experimentKind" not in experiment.tags:  # else pages of some versions ask, or look for traces
        client.set_experiment_tag(experiment_id, "mlflow.experimentKind", "custom_model_development")
    for name, value in views(front.overview.curves(), int(1000 * time.time()), regression=front.overview.regression).items():
        if not _same_view(experiment.tags.get(name), value):
            client.set_experiment_tag(experiment_id, name, value)


def _described(experiment_id: str, parent: str, front: Front) -> str:
    """The description with the chart in it; MLflow's pages read a run's artifact from this address."""
    images = [path for path in front.charts if path.suffix == ".png"]
    parts = [front.overview.description, f"[All points, averaged over seeds]({link(experiment_id, POINTS).lstrip('/')})"]
    if images:
        parts.insert(1, f"![{images[0].stem}](get-artifact?path=charts/{images[0].name}&run_uuid={parent})")
    room = _LONGEST_NOTE - sum(len(part) for part in parts[1:])
    parts[0] = parts[0] if len(parts[0]) <= room else parts[0][: parts[0].rfind("\n", 0, room)]
    return "\n\n".join(part.strip() for part in parts)


def _may_describe(tags: Mapping[str, str], text: str) -> str | None:
    """The digest of a description that is to be written: there is none, or an older one from here."""
    there, digest = tags.get(_NOTE), _digest(text)
    return digest if there != text and (not there or tags.get(_OURS) == _digest(there)) else None


def _digest(text: str) -> str:
    return blake2b(text.encode(), digest_size=16).hexdigest()


def _same_view(there: str | None, value: str) -> bool:
    """Whether a view stands already: the moments at which it was made do not count."""
    try:
        return there is not None and json.loads(there)["state"] == json.loads(value)["state"]
    except (ValueError, KeyError, TypeError):
        return False


def _log_metrics(client: MlflowClient, parent: str, overview: Overview) -> None:
    """What is new of the metrics: a value that stands at its step is not logged again."""
    from mlflow.entities import Metric

    now, new = int(1000 * time.time()), []
    known = client.get_run(parent).data.metrics
    for name, (steps, values) in overview.metrics.items():
        there = {point.step: point.value for point in client.get_metric_history(parent, name)} if name in known else {}
        new += [Metric(name, value, now, step) for step, value in zip(steps, values, strict=True) if there.get(step) != value]
    for start in range(0, len(new), _METRICS_AT_ONCE):
        client.log_batch(parent, new[start : start + _METRICS_AT_ONCE])


def _log_datasets(client: MlflowClient, parent: str, datasets: Sequence[DataSet]) -> None:
    """Those that the run does not name yet."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    inputs = client.get_run(parent).inputs if datasets else None
    there = {one.dataset.digest for one in inputs.dataset_inputs} if inputs else set()
    new = [
        Dataset(one.name, one.digest, "gaplab", json.dumps({"name": one.name}), profile=json.dumps(dict(one.about)))
        for one in datasets
        if one.digest not in there
    ]
    if new:
        client.log_inputs(parent, datasets=[DatasetInput(one, [InputTag("mlflow.data.context", "training")]) for one in new])
