"""Records of foreign runs by a mapping."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from analysis.errors import AnalysisError, NothingToShow
from analysis.records.foreign.casting import as_column
from analysis.records.foreign.expressions import Expression, parse
from analysis.records.foreign.mapping import ForeignMapping
from analysis.records.foreign.roles import role
from analysis.records.foreign.runs import UNFINISHED, ForeignRuns, unknown_name
from analysis.records.schema import RECORDS
from trainables.point.config import field_types

ASSIGNED = "seed_assigned"
"""The column that says whether a run's seed is no seed, but its number among the runs of its cell."""
_FRACTIONS = ("corruption.level", "wrong_label_rate", "budget.stop_at_train_error")
"""Columns in [0, 1] besides errors."""
_ROUNDING = 1e-6
"""So far outside [0, 1] a fraction may lie that was kept in single precision."""


def foreign_records(runs: ForeignRuns, mapping: ForeignMapping) -> pa.Table:
    """What the runs say, one row a finished run, its key the run's id.

    The columns are those of `analysis.records.schema.RECORDS`, the mapping's measures, what it keeps of the runs' own, and
    `ASSIGNED`. The gap, p/n and whether the train error reached its target (0 by default) follow where they can. Without a seed, or
    where the runs of a cell share one, runs that agree in all else are replicates, numbered in the order of their start. A finished
    run whose loss is no finite number has diverged, and has no errors.

    Raises:
        NothingToShow: no run is finished.
        AnalysisError: the mapping names what no run has, a value cannot be one of its column, or an error lies outside [0, 1].

    Warns:
        UserWarning: runs are left out, or runs of a cell differ in what the mapping does not name.
    """
    done = chosen_runs(runs, mapping)
    count = len(done.ids)
    columns = {column.name: pa.nulls(count, column.type) for column in RECORDS}
    columns |= {"key": pa.array(done.ids, pa.string()), "study": pa.array([done.study] * count, pa.string())}
    columns["finished"] = as_column(done.ended, RECORDS.field("finished"), done.ids)
    for name, constant in mapping.constants.items():
        columns[name] = as_column([constant] * count, _field(name), done.ids)
        fraction_of(name, columns[name].to_numpy(zero_copy_only=False), None, done.ids, done)
    for name, text in mapping.columns.items():
        columns[name] = as_column(_values(name, text, done), _field(name), done.ids)
    given = {*mapping.columns, *mapping.constants}
    columns["status"] = _status(done, columns)
    table = _derived(pa.table(columns), given)
    for name in mapping.keep:
        table = _kept(table, name, done)
    return _with_seeds(table, mapping, done)


def chosen_runs(runs: ForeignRuns, mapping: ForeignMapping) -> ForeignRuns:
    """The runs that are records: finished, and no parents if children only are wanted.

    Raises:
        NothingToShow: there is none.
    """
    parents = set(runs.parents) if mapping.children_only else set()
    wanted = [index for index, run_id in enumerate(runs.ids) if run_id not in parents]
    finished = [index for index in wanted if runs.status[index] != UNFINISHED]
    if len(finished) < len(wanted):
        many = len(wanted) - len(finished)
        warnings.warn(f"{many:,} unfinished {'runs' if many > 1 else 'run'} of {runs.source} left out", stacklevel=3)
    if not finished:
        raise NothingToShow(f"no run of {runs.source} is finished: nothing can be shown")
    return runs.among(finished)


def _field(name: str) -> pa.Field:
    return RECORDS.field(name) if name in RECORDS.names else pa.field(name, pa.float64())


def is_fraction(name: str) -> bool:
    """Whether a column lies in [0, 1]."""
    return name in _FRACTIONS or (name.endswith("_error") and not name.startswith("measure."))


def expression_of(text: str, runs: ForeignRuns) -> Expression:
    """An expression over names that the runs have.

    Raises:
        AnalysisError: it is none, or no run has such a name.
    """
    expression = parse(text, runs.known())
    for name in expression.names:
        if runs.full(name) is None:
            raise unknown_name(name, runs.names(), runs.source)
    return expression


def _values(name: str, text: str, runs: ForeignRuns) -> Sequence[Any]:
    """What an expression says of each run, None where a run lacks what it reads."""
    try:
        expression = expression_of(text, runs)
    except AnalysisError as error:
        constant = (
            "" if pa.types.is_floating(_field(name).type) else f"; a text that is the same for all goes under constants: {name}: {text}"
        )
        raise AnalysisError(f"{name}: {error}{constant}") from None
    if expression.is_name and not is_fraction(name):
        return runs.column(expression.names[0])
    values = expression.value(runs.numbers, len(runs.ids))
    absent = np.zeros(len(runs.ids), bool)
    for read in expression.names:
        absent |= np.array([value is None for value in runs.column(read)], bool)
    if is_fraction(name):
        values = fraction_of(name, values, expression, runs.ids, runs)
        if name.endswith("_error") and _is_accuracy(expression):
            warnings.warn(f"{name}: {expression.text} is an accuracy by its name: is the error 1 - {expression.text}?", stacklevel=4)
        absent |= ~np.isfinite(values)
    return [None if gone else value for gone, value in zip(absent.tolist(), values.tolist(), strict=True)]


def fraction_of(
    name: str, values: NDArray[np.float64], expression: Expression | None, ids: Sequence[str], runs: ForeignRuns
) -> NDArray[np.float64]:
    """The values of a column in [0, 1], rounding taken off; ``ids`` are the runs that they are of.

    Raises:
        AnalysisError: some lie elsewhere; with the unit that would be right, if one is.
    """
    if not is_fraction(name):
        return values
    numbers = values.astype(float)
    finite = np.where(np.isfinite(numbers), numbers, 0.0)
    outside = (finite < -_ROUNDING) | (finite > 1 + _ROUNDING)
    if not outside.any():
        return np.where(np.isfinite(numbers), np.clip(numbers, 0.0, 1.0), numbers)
    worst = int(np.argmax(np.abs(finite - 0.5)))
    low, high = finite[np.isfinite(numbers)].min(), finite[np.isfinite(numbers)].max()
    said = f"{name} must be a fraction in [0, 1]"
    if expression is None:
        raise AnalysisError(f"{said}; the constant is {high:g}")
    found = f"{expression.text!r} gives {low:g} to {high:g} (run {ids[worst]}: {finite[worst]:g})"
    raise AnalysisError(f"{said}: {found}; {_advice(name, expression, runs)}")


def _advice(name: str, expression: Expression, runs: ForeignRuns) -> str:
    """The unit in which the same columns would give fractions."""
    candidates = [expression.in_percent()]
    if expression.is_name:
        complements = [f"1 - {expression.text}", f"1 - {expression.in_percent()}"]
        candidates = complements + candidates if _is_accuracy(expression) else candidates + complements
    for text in candidates:
        values = parse(text, runs.known()).value(runs.numbers, len(runs.ids))
        values = values[np.isfinite(values)]
        if len(values) and values.min() >= -_ROUNDING and values.max() <= 1 + _ROUNDING:
            return f"in percent it would be right: {name}: {text}" if "/ 100" in text else f"try {name}: {text}"
    return "is it a loss, or a count? An error is a share of the samples"


def _is_accuracy(expression: Expression) -> bool:
    """Whether an expression is an accuracy as it stands, by its name."""
    found = role(expression.names[0]) if expression.is_name else None
    return found is not None and found.kind == "accuracy"


def _status(runs: ForeignRuns, columns: dict[str, pa.Array]) -> pa.Array:
    """The outcomes; a finished run without a finite loss has diverged, and the columns lose its errors."""
    diverged = np.zeros(len(runs.ids), bool)
    for name in ("train_loss", "test_loss"):
        values, there = columns[name].to_numpy(zero_copy_only=False), columns[name].is_valid().to_numpy(zero_copy_only=False)
        diverged |= there & ~np.isfinite(values.astype(float))
    diverged &= np.array(runs.status) == "completed"
    for name in ("train_error", "validation_error", "test_error"):
        columns[name] = pc.if_else(pa.array(diverged), pa.scalar(None, pa.float64()), columns[name])
    return pa.array(np.where(diverged, "diverged", runs.status).tolist(), pa.string())


def _derived(table: pa.Table, given: set[str]) -> pa.Table:
    """The table with the gap, whether a run reached its train target, and p/n, where they follow and were not given."""
    target = pc.coalesce(table["budget.stop_at_train_error"], pa.scalar(0.0))
    follow = {
        "generalization_gap": pc.subtract(table["test_error"], table["train_error"]),
        "interpolated": pc.less_equal(table["train_error"], target),
        "parameters_per_sample": pc.divide(table["parameters"].cast(pa.float64()), table["data.train_size"].cast(pa.float64())),
    }
    for name, values in follow.items():
        if name not in given:
            table = table.set_column(table.column_names.index(name), RECORDS.field(name), values)
    return table


def _kept(table: pa.Table, name: str, runs: ForeignRuns) -> pa.Table:
    """The table with a column of the runs' own: numbers if all are, else texts.

    Raises:
        AnalysisError: no run has it, or the name is a record's.
    """
    if name in table.column_names:
        raise AnalysisError(f"keep: {name} is a column of every record already: map it, or leave it out")
    values = runs.column(name)
    try:
        column = as_column(values, pa.field(name, pa.float64()), runs.ids)
    except AnalysisError:
        column = as_column(values, pa.field(name, pa.string()), runs.ids)
    return table.append_column(name, column)


def _with_seeds(table: pa.Table, mapping: ForeignMapping, runs: ForeignRuns) -> pa.Table:
    """The table in which no two rows agree in their cell and seed."""
    known = [name for name in field_types() if name != "seed" and (name in mapping.columns or name in mapping.constants)]
    cell = [*known, *(["parameters"] if "parameters" in mapping.columns else []), *mapping.keep]
    cells = list(zip(*(table[name].to_pylist() for name in cell), strict=True)) if cell else [()] * table.num_rows
    seeds = table["seed"].to_pylist()
    named = "seed" in mapping.columns and None not in seeds
    if named and len(set(zip(cells, seeds, strict=True))) == len(seeds):
        return table.append_column(ASSIGNED, pa.array([False] * len(seeds)))
    if named:
        warnings.warn(f"runs of {runs.source} share a cell and a seed: they count as replicates in the order of their start", stacklevel=3)
    _warn_of_differences(cells, mapping, runs)
    counts: dict[tuple[Any, ...], int] = {}
    numbers = []
    for one in cells:  # the oldest run comes first
        numbers.append(counts.get(one, 0))
        counts[one] = numbers[-1] + 1
    index = table.column_names.index("seed")
    table = table.set_column(index, RECORDS.field("seed"), pa.array(numbers, RECORDS.field("seed").type))
    return table.append_column(ASSIGNED, pa.array([True] * len(numbers)))


def _warn_of_differences(cells: Sequence[tuple[Any, ...]], mapping: ForeignMapping, runs: ForeignRuns) -> None:
    """Params in which the runs of a cell differ, and that nobody mapped or kept: such runs are hardly replicates."""
    read = {runs.full(name) for name in mapping.keep}
    for text in mapping.columns.values():
        read |= {runs.full(name) for name in parse(text, runs.known()).names}
    first: dict[tuple[Any, ...], int] = {}
    firsts = [first.setdefault(one, index) for index, one in enumerate(cells)]
    differing = []
    for name in runs.names("params"):
        column = runs.column(name)
        if runs.full(name) not in read and any(column[index] != column[other] for index, other in enumerate(firsts)):
            differing.append(name)
    if differing:
        many = ", ".join(differing[:6]) + (", ..." if len(differing) > 6 else "")
        warnings.warn(f"runs of {runs.source} that count as replicates differ in {many}: map or keep what matters", stacklevel=4)
