"""The meaning of the runs of an MLflow experiment: records as gaplab's mirror writes them, or foreign runs by a mapping."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from sys import float_info
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from analysis.errors import AnalysisError, NothingToShow, unknown_column
from analysis.records.rows import one_row_a_key, wanted_columns
from analysis.records.schema import CURVES, MEASURE, RECORDS

RunsRead = Callable[[int], None]
"""Called with the number of MLflow runs that have been read so far."""
CURVE_METRICS = tuple(name for name in CURVES.names if name not in ("key", "epoch"))
_TAG = "gaplab."
_NULL_TAG = "gaplab.null"
"""This tag names what the record lacks although its run would say otherwise: metrics of its curve, fields of the study's run."""
_PARENT = "mlflow.parentRunId"
_OWN = ("key", "status", "reason", "finished")
"""Columns that every run of a point states itself."""
_STATUSES = {"FINISHED": "completed", "FAILED": "failed", "KILLED": "pruned"}
_COMPLEMENT = "1-"


@dataclass
class Runs:
    """The finished runs of an experiment, as columns: each list has an entry a run, None for what the run lacks."""

    experiment: str
    ids: list[str] = field(default_factory=list)
    status: list[str] = field(default_factory=list)
    tags: dict[str, list[str | None]] = field(default_factory=dict)
    params: dict[str, list[str | None]] = field(default_factory=dict)
    metrics: dict[str, list[float | None]] = field(default_factory=dict)

    def among(self, chosen: Sequence[int]) -> Runs:
        """The runs at these indices."""

        def part(named: dict[str, list[Any]]) -> dict[str, list[Any]]:
            return {name: [column[index] for index in chosen] for name, column in named.items()}

        ids, status = ([column[index] for index in chosen] for column in (self.ids, self.status))
        return Runs(self.experiment, ids, status, part(self.tags), part(self.params), part(self.metrics))


def own_runs(runs: Runs) -> Runs:
    """The runs of points, as gaplab's mirror ended them; runs of any other origin are counted in a warning."""
    nothing: list[str | None] = [None] * len(runs.ids)
    kinds, keys = runs.tags.get(_TAG + "kind", nothing), runs.tags.get(_TAG + "key", nothing)
    foreign = sum(kind is None for kind in kinds)
    if foreign and foreign == len(kinds):
        raise NothingToShow(
            f"the runs of experiment {runs.experiment!r} were not written by gaplab, so it needs a mapping: gaplab map"
            f" 'mlflow:{runs.experiment}' > map.yaml proposes one to edit, and --map map.yaml reads it"
        )
    if foreign:
        were = "runs of experiment {!r} were" if foreign > 1 else "run of experiment {!r} was"
        warnings.warn(f"{foreign:,} {were.format(runs.experiment)} not written by gaplab and skipped", stacklevel=2)
    chosen = [index for index, kind in enumerate(kinds) if kind == "point" and keys[index] and runs.status[index] != "RUNNING"]
    return _with_shared(runs, chosen, [index for index, kind in enumerate(kinds) if kind == "study"])


def _with_shared(runs: Runs, chosen: Sequence[int], studies: Sequence[int]) -> Runs:
    """The runs of points, with what they do not state taken from the study's run in which they are nested."""
    points = runs.among(chosen)
    count = len(points.ids)
    study_of = {runs.ids[index]: index for index in studies}
    parents = [study_of.get(parent or "") for parent in points.tags.get(_PARENT, [None] * count)]
    absent = _absent(points)
    for prefix, columns, everything in (("", points.params, runs.params), (_TAG, points.tags, runs.tags)):
        for name, texts in columns.items():
            column = name.removeprefix(prefix)
            if not name.startswith(prefix) or column not in RECORDS.names or column in _OWN:
                continue
            said = everything[name]
            if any(said[index] is not None for index in studies):
                columns[name] = [
                    said[parent] if text is None and parent is not None and column not in gone else text
                    for text, parent, gone in zip(texts, parents, absent, strict=True)
                ]
    return points


def _absent(runs: Runs) -> list[set[str]]:
    """What each record lacks although its run would say otherwise."""
    nothing: list[str | None] = [None] * len(runs.ids)
    return [set((text or "").split(",")) for text in runs.tags.get(_NULL_TAG, nothing)]


def records_of(runs: Runs, columns: Sequence[str] | None, mapping: Mapping[str, str] | None, filter: pc.Expression | None) -> pa.Table:
    """The records that the runs hold, each key once: see `analysis.load`."""
    if mapping is not None:
        table = _mapped_records(runs, mapping)
    else:
        table = _own_records(own_runs(runs))
        table = table.take(one_row_a_key(table))
    names = wanted_columns(columns, table.schema)
    return (table if filter is None else table.filter(filter)).select(names)


def curve_runs(runs: Runs, mapping: Mapping[str, str] | None, keys: pa.StringArray | None) -> tuple[dict[str, str], dict[str, str]]:
    """The runs that hold the curves of these keys, all by default, as {run id: key}, and the metric of each column, {column: metric}."""
    if mapping is None:
        some = own_runs(runs)
        table = _own_records(some).select(["key", "status", "finished"])
        indices = one_row_a_key(table).to_pylist()
        found = {some.ids[index]: str(some.tags[_TAG + "key"][index]) for index in indices}
        metrics = {name: name for name in CURVE_METRICS}
    else:
        found = {identifier: identifier for identifier in runs.ids}
        metrics = {name: source for name, source in mapping.items() if name in CURVE_METRICS and metric_name(source) in runs.metrics}
    if keys is None:
        return found, metrics
    wanted = set(keys.to_pylist())
    return {identifier: key for identifier, key in found.items() if key in wanted}, metrics


def metric_name(source: str) -> str:
    """The metric of a mapping's right side, without the ``1-`` of a complement."""
    return source.removeprefix(_COMPLEMENT)


def converted(source: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The values of a column: those of its metric, or their complement. MLflow's databases keep an infinity as the largest double."""
    values = np.where(np.abs(values) == float_info.max, np.copysign(np.inf, values), values)
    return 1 - values if source.startswith(_COMPLEMENT) else values


def _own_records(runs: Runs) -> pa.Table:
    count = len(runs.ids)
    nothing: list[Any] = [None] * count
    absent = _absent(runs)
    columns: dict[str, pa.Array] = {}
    for column in RECORDS:
        texts = runs.params.get(column.name) or runs.tags.get(_TAG + column.name)
        if texts is not None:
            columns[column.name] = parsed(texts, column, runs)
        else:
            numbers = runs.metrics.get(column.name, nothing)
            columns[column.name] = _numbers(_without(numbers, absent, column.name), column.type)
    columns["study"] = pa.array([runs.experiment] * count, pa.string())
    for name in sorted(name for name in runs.metrics if name.startswith(MEASURE)):
        columns[name] = _numbers(_without(runs.metrics[name], absent, name), pa.float64())
    return pa.table(columns)


def _without(numbers: Sequence[float | None], absent: Sequence[set[str]], name: str) -> list[float | None]:
    return [None if name in names else number for number, names in zip(numbers, absent, strict=True)]


def _mapped_records(runs: Runs, mapping: Mapping[str, str]) -> pa.Table:
    """The records that foreign runs hold: what the mapping names, and what follows from it. A warning counts unfinished runs."""
    done = runs.among([index for index, status in enumerate(runs.status) if status in _STATUSES])
    if len(done.ids) < len(runs.ids):
        warnings.warn(f"{len(runs.ids) - len(done.ids):,} unfinished runs of experiment {runs.experiment!r} were skipped", stacklevel=2)
    if not done.ids:
        raise NothingToShow(f"no run of experiment {runs.experiment!r} is finished: nothing can be shown")
    count = len(done.ids)
    columns = {column.name: pa.nulls(count, column.type) for column in RECORDS}
    columns |= {"key": pa.array(done.ids), "study": pa.array([runs.experiment] * count, pa.string())}
    columns["status"] = pa.array([_STATUSES[status] for status in done.status])
    for name, source in mapping.items():
        columns[name] = _mapped(done, name, source)
    table = pa.table(columns)
    return _derived(table, set(mapping))


def _mapped(runs: Runs, name: str, source: str) -> pa.Array:
    if name not in RECORDS.names and not name.startswith(MEASURE):
        raise unknown_column(name, RECORDS.names)
    kind = RECORDS.field(name) if name in RECORDS.names else pa.field(name, pa.float64())
    if metric_name(source) in runs.metrics:
        return _numbers(runs.metrics[metric_name(source)], kind.type, source)
    texts = runs.params.get(source) or runs.tags.get(source)
    if texts is None:
        raise unknown_source(source, [*runs.metrics, *runs.params], runs.experiment)
    return parsed(texts, kind, runs)


def unknown_source(source: str, known: Iterable[str], experiment: str) -> AnalysisError:
    """The error for a mapping to something that no run has."""
    return AnalysisError(
        f"no run of experiment {experiment!r} has a metric, param or tag {source!r} (metrics and params: {', '.join(sorted(known))})"
    )


def _derived(table: pa.Table, given: set[str]) -> pa.Table:
    """The table with the gap, whether a run interpolated (train error 0) and p/n, where these follow and were not given."""

    def follows(name: str, value: Callable[[], pa.ChunkedArray]) -> None:
        nonlocal table
        if name not in given:
            table = table.set_column(table.column_names.index(name), name, value())

    follows("generalization_gap", lambda: pc.subtract(table["test_error"], table["train_error"]))
    follows("interpolated", lambda: pc.less_equal(table["train_error"], 0.0))
    samples = table["data.train_size"].cast(pa.float64())
    follows("parameters_per_sample", lambda: pc.divide(table["parameters"].cast(pa.float64()), samples))
    return table


def _numbers(values: Sequence[float | None], kind: pa.DataType, source: str = "") -> pa.Array:
    absent = np.array([value is None for value in values], bool)
    numbers = converted(source, np.array([0.0 if value is None else value for value in values], float))
    if pa.types.is_boolean(kind):
        return pa.array(numbers != 0, mask=absent)
    return pa.array(numbers, mask=absent).cast(kind)


def parsed(texts: Sequence[str | None], column: pa.Field, runs: Runs) -> pa.Array:
    """Params or tags of MLflow, which are texts, as values of the column's type.

    Raises:
        AnalysisError: a text that is no such value; the message names its run.
    """
    parse = _parser(column.type)
    values = []
    for index, text in enumerate(texts):
        try:
            values.append(None if text is None else parse(text))
        except ValueError:
            where = f"run {runs.ids[index]} of experiment {runs.experiment!r}"
            raise AnalysisError(f"{where} has {text!r} where {column.name} must be a {column.type}") from None
    return pa.array(values, column.type)


def _parser(kind: pa.DataType) -> Callable[[str], Any]:
    if pa.types.is_boolean(kind):
        return lambda text: text.lower() in ("true", "1")
    if pa.types.is_integer(kind):
        return lambda text: int(text) if text.lstrip("-").isdigit() else _whole(float(text))
    if pa.types.is_floating(kind):
        return float
    return _moment if pa.types.is_timestamp(kind) else str


def _whole(value: float) -> int:
    if not value.is_integer():
        raise ValueError(value)
    return int(value)


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
