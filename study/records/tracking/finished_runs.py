"""What a point's run in MLflow says, from its record and its curve; its name says what varies: ``p/n 10 · noise 0.5 · seed 2``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from analysis.records.schema import OUTCOMES, RECORDS
from trainables.point.config import field_types

Series = tuple[Sequence[int], Sequence[float]]
"""The steps of a metric, ascending, and its values."""
DRAWN = 64
"""Points a metric that MLflow's charts can tell apart."""
DESCRIBING = ("data.name", "data.train_size", "corruption.kind", "corruption.level", "model.name", "seed")
"""Fields that every point states, so that runs of several studies can be filtered and compared by them."""
NULL_TAG = "gaplab.null"
"""Names what a record lacks although the run would say otherwise: metrics that its curve has, fields that the study's run states."""
GROUP_TAG = "gaplab.group"
"""What varies but the seed: MLflow's pages group the seeds of a setting by it."""
MLFLOW_STATUS = {"completed": "FINISHED", "diverged": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}
LONGEST_NAME = 250
"""Characters of a run's name that MLflow keeps."""
_SHORT = {
    "model.parameters_per_sample": "p/n",
    "corruption.level": "noise",
    "optimizer.learning_rate": "lr",
    "data.train_size": "n",
    "budget.epochs": "epochs",
}
_SAY_THEMSELVES = ("data.name", "model.name", "optimizer.name", "corruption.kind", "optimizer.schedule", "optimizer.loss")
"""Fields whose value needs no name before it."""
_LONGEST_TEXT = 5000
"""Characters of a param or tag; MLflow refuses a batch with a longer one."""
_TAGS = ("status", "reason", *(name for name in RECORDS.names[RECORDS.names.index(OUTCOMES[-1]) + 1 :]))
_OWN = ("status", "reason", "finished")
"""What a point says itself, even where it equals the study's."""
SHARED_TAGS = tuple(name for name in _TAGS if name not in _OWN)
"""Columns of provenance, which the study's run states where its points share them."""


@dataclass(frozen=True)
class FinishedRun:
    """A run as it is to stand in MLflow; moments in milliseconds since 1970, at the last of which all its metrics were logged."""

    key: str
    status: str
    name: str
    start: int
    end: int
    params: Mapping[str, str]
    tags: Mapping[str, str]
    metrics: Mapping[str, Series]

    def identifier(self, experiment_id: str, origin: str) -> str:
        """The run's id: the same for the same outcome of the same point, so that a repeated write finds the run there.

        It begins with the moment, as databases append in order faster, and smaller, than they insert in between.
        """
        parent = self.tags.get("mlflow.parentRunId", "")  # a point takes from it what it does not state
        outcome = "\0".join((experiment_id, origin, parent, self.key, self.tags.get("gaplab.status", self.status), str(self.end)))
        return f"{self.end & 0xFFFFFFFFFFFF:012x}{blake2b(outcome.encode(), digest_size=10).hexdigest()}"


@dataclass(frozen=True)
class StudyRuns:
    """What the points of a study share in MLflow.

    Attributes:
        parent: id of the study's run.
        varying: the fields that vary, as points are named by them.
        common: texts by column name that stand on the study's run, as params (fields) and tags (provenance, with the prefix
            ``gaplab.``). A point states what differs from them: a reader takes from the study's run what a point does not say.
        tags: more tags of every point, such as ``mlflow.user``.
    """

    parent: str
    varying: Sequence[str] = ()
    common: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


def common_and_varying(points: Iterable[Mapping[str, Any]]) -> tuple[dict[str, str], list[str]]:
    """The fields that have one value at all points, as texts without those that are null, and the fields that have several."""
    points = iter(points)
    first = next(points, {})
    same = {name: first[name] for name in field_types() if name in first}
    varying: dict[str, None] = {}
    for point in points:
        for name in [name for name, value in same.items() if point[name] != value]:
            del same[name]
            varying[name] = None
    return {name: as_text(value) for name, value in same.items() if value is not None}, [name for name in field_types() if name in varying]


def finished_runs(
    records: pa.Table, curves: pa.Table | None, study: StudyRuns, points: int | None = DRAWN, only: Iterable[str] | None = None
) -> Iterator[FinishedRun]:
    """The runs of some records.

    Args:
        records: a table of the columns of `analysis.records.schema.RECORDS`, each key once.
        curves: their curves; every column but ``key`` and ``epoch`` is a metric.
        study: what they share.
        points: the most points of a metric's curve, both ends and the epoch of the fit among them; all for None.
        only: the keys that are wanted, all by default.
    """
    wanted = None if only is None else set(only)
    by_key = _curves_by_key(curves)
    for row in records.to_pylist():
        if wanted is None or row["key"] in wanted:
            yield _finished_run(row, by_key.get(row["key"], {}), study, points)


def _finished_run(row: Mapping[str, Any], curve: Mapping[str, Series], study: StudyRuns, points: int | None) -> FinishedRun:
    end, last = milliseconds(row["finished"]), row["epochs"] or 0
    metrics = {name: series if points is None else thinned(series, points, row["fit_epoch"]) for name, series in curve.items()}
    for name in row:
        if (name in _OUTCOMES or name.startswith("measure.")) and name not in metrics and row[name] is not None:
            metrics[name] = ([last], [float(row[name])])
    absent = [name for name in sorted(curve) if row.get(name, 0) is None]
    absent += [name for name in study.common if row[name] is None]
    params = {name: as_text(row[name]) for name in field_types() if row[name] is not None}
    params = {name: text for name, text in params.items() if name in DESCRIBING or text != study.common.get(name)}
    tags = {"gaplab.kind": "point", "gaplab.key": row["key"], "mlflow.parentRunId": study.parent, **study.tags}
    for name in _TAGS:
        if row[name] is not None and (name in _OWN or as_text(row[name]) != study.common.get(name)):
            tags[f"gaplab.{name}"] = as_text(row[name])
    if group := point_name({**row, "key": ""}, [name for name in study.varying if name != "seed"]):
        tags[GROUP_TAG] = group
    if absent:
        tags[NULL_TAG] = ",".join(absent)
    start = end - int(1000 * (row["seconds"] or 0))
    return FinishedRun(row["key"], MLFLOW_STATUS[row["status"]], point_name(row, study.varying), start, end, params, tags, metrics)


_OUTCOMES = frozenset(OUTCOMES)


def point_name(row: Mapping[str, Any], varying: Sequence[str]) -> str:
    """What varies, in this order and the seed last; the beginning of the key for a study of one point."""
    parts = [_part(label, row.get(name)) for name, label in _labels(tuple(varying))]
    return " · ".join(part for part in parts if part)[:LONGEST_NAME] or str(row["key"])[:8]


@lru_cache(maxsize=64)
def _labels(varying: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Each field with the shortest label that names no other field; none for one that says itself."""
    last = [name.rpartition(".")[2] for name in varying]
    labelled = []
    for name, inner in zip(varying, last, strict=True):
        if name in _SAY_THEMSELVES:
            label = ""
        else:
            label = _SHORT.get(name) or (inner if last.count(inner) == 1 else name).replace("_", " ").replace(".", " ")
        labelled.append((name, label))
    return tuple(sorted(labelled, key=lambda pair: pair[0] == "seed"))


def _part(label: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return label if value else f"no {label}"
    text = f"{value:.3g}" if isinstance(value, float) else str(value)
    return f"{label} {text}" if label else text


def thinned(series: Series, points: int, kept: int | None = None) -> Series:
    """At most so many points of a series, evenly spread: both ends, and the step ``kept`` if there is such a step."""
    steps, values = series
    if len(steps) <= points:
        return series
    chosen = _spread(len(steps), points, steps.index(kept) if kept in steps else None)
    return [steps[index] for index in chosen], [values[index] for index in chosen]


@lru_cache(maxsize=1024)
def _spread(count: int, points: int, kept: int | None) -> tuple[int, ...]:
    """Some of the indices below ``count``; that which is kept takes the place of its nearest neighbour, unless this is an end."""
    chosen = np.linspace(0, count - 1, max(points, 3)).round().astype(int)
    if kept is not None and kept not in chosen:
        inner = chosen[1:-1]
        inner[np.abs(inner - kept).argmin()] = kept
    return tuple(sorted(set(chosen.tolist())))


def _curves_by_key(curves: pa.Table | None) -> dict[str, dict[str, Series]]:
    """Each key's metrics as series, without nulls, each epoch once."""
    if curves is None or not curves.num_rows:
        return {}
    curves = curves.sort_by([("key", "ascending"), ("epoch", "ascending")]).combine_chunks()
    keys, epochs = curves["key"].combine_chunks().dictionary_encode(), curves["epoch"].to_numpy()
    codes = keys.indices.to_numpy()
    first = np.concatenate([[True], (codes[1:] != codes[:-1]) | (epochs[1:] != epochs[:-1])])
    texts = keys.dictionary.to_pylist()
    found: dict[str, dict[str, Series]] = {text: {} for text in texts}
    for name in curves.column_names:
        if name not in ("key", "epoch"):
            column = curves[name]
            there = first & pc.is_valid(column).to_numpy()
            starts = np.searchsorted(codes[there], np.arange(len(texts) + 1)).tolist()
            steps, values = epochs[there].tolist(), column.to_numpy()[there].tolist()
            for index, text in enumerate(texts):
                begin, end = starts[index], starts[index + 1]
                if begin < end:
                    found[text][name] = (steps[begin:end], values[begin:end])
    return found


def milliseconds(moment: datetime) -> int:
    """Since 1970."""
    return round(moment.timestamp() * 1000)


def as_text(value: Any) -> str:
    """A value as a param or tag states it."""
    return (value.isoformat() if isinstance(value, datetime) else str(value))[:_LONGEST_TEXT]
