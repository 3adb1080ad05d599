"""Learning curves of foreign runs by a mapping."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from analysis.errors import AnalysisError
from analysis.records.foreign.expressions import Expression, Numbers, parse
from analysis.records.foreign.mapping import ForeignMapping
from analysis.records.foreign.records import chosen_runs, fraction_of, is_fraction
from analysis.records.foreign.runs import ForeignRuns
from analysis.records.schema import CURVES

_STEPS = 2**32
"""Larger than any step."""
STEP = "step"
_COLUMNS = tuple(name for name in CURVES.names if name not in ("key", "epoch"))
Points = dict[str, tuple[NDArray[np.int64], Numbers]]
"""By column: index of the run and step as one number, ascending, and the value."""


def foreign_curves(runs: ForeignRuns, mapping: ForeignMapping, keys: Iterable[str] | None = None) -> pa.Table:
    """The curves that the runs logged, each key and epoch once, in the columns of `analysis.records.schema.CURVES`.

    A column is computed by its line under ``curves``, or else by that of the record if all that it reads has a history. The epoch is
    the step, or what the line ``epoch`` makes of ``step``: of the steps of an epoch the last stands.

    Args:
        runs: all of them.
        mapping: what they mean.
        keys: the runs whose curves are wanted, all by default.

    Raises:
        AnalysisError: as `foreign_records`.
    """
    done = chosen_runs(runs, mapping)
    wanted = set(done.ids if keys is None else keys)
    done = done.among([index for index, run_id in enumerate(done.ids) if run_id in wanted])
    points: Points = {}
    if done.history is not None:
        for name in _COLUMNS:
            text = mapping.curves.get(name) or mapping.columns.get(name)
            expression = text and parse(text, {*done.known(), STEP})
            if expression and expression.names and all(_has_history(one, done) for one in expression.names):
                points[name] = _points(name, expression, done)
            elif name in mapping.curves:
                raise AnalysisError(f"curves: {name}: {text!r} reads what was not logged by step")
    return _table(points, mapping.curves.get("epoch"), done)


def _has_history(name: str, runs: ForeignRuns) -> bool:
    return name == STEP or (runs.full(name) or "").startswith("metrics.")


def _points(name: str, expression: Expression, runs: ForeignRuns) -> tuple[NDArray[np.int64], Numbers]:
    """An expression at every step at which all that it reads was logged."""
    assert runs.history is not None
    logged = {}
    for read in expression.names:
        if read != STEP:
            indices, steps, values = runs.history((runs.full(read) or "").removeprefix("metrics."), runs.ids)
            right = (steps >= 0) & (steps < _STEPS)
            codes = indices[right] * _STEPS + steps[right]
            once, first = np.unique(codes[::-1], return_index=True)  # of a step that was logged twice the later stands
            logged[read] = (once, values[right][::-1][first])
    shared = None
    for codes, _ in logged.values():
        shared = codes if shared is None else np.intersect1d(shared, codes, assume_unique=True)
    if shared is None:
        raise AnalysisError(f"curves: {name}: {expression.text!r} reads no metric")
    columns = {read: values[np.searchsorted(codes, shared)] for read, (codes, values) in logged.items()}
    values = expression.value((columns | {STEP: (shared % _STEPS).astype(float)}).__getitem__, len(shared))
    if is_fraction(name):
        values = fraction_of(name, values, expression, [runs.ids[index] for index in shared // _STEPS], runs)
    return shared, values


def _table(points: Points, epoch: str | None, runs: ForeignRuns) -> pa.Table:
    codes = np.unique(np.concatenate([np.array([], np.int64), *(one for one, _ in points.values())]))
    indices, epochs = codes // _STEPS, codes % _STEPS
    if epoch is not None:
        epochs = np.ceil(parse(epoch, {STEP}).value({STEP: epochs.astype(float)}.__getitem__, len(codes)) - 1e-9).astype(np.int64)
    columns = {"key": pa.array(runs.ids, pa.string()).take(pa.array(indices)), "epoch": pa.array(epochs.astype(np.int32))}
    for name, (where, values) in points.items():
        numbers, absent = np.zeros(len(codes)), np.ones(len(codes), bool)
        rows = np.searchsorted(codes, where)
        numbers[rows], absent[rows] = values, False
        columns[name] = pa.array(numbers, mask=absent)
    table = pa.table({column.name: columns.get(column.name, pa.nulls(len(codes), column.type)) for column in CURVES}, CURVES)
    last = np.ones(len(codes), bool)
    last[:-1] = (indices[1:] != indices[:-1]) | (epochs[1:] != epochs[:-1])
    return table.filter(pa.array(last))
