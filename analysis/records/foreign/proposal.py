"""A mapping proposed for runs by their names, types and ranges, as YAML whose comments say why, and what is missing."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from analysis.errors import AnalysisError
from analysis.records.foreign.casting import as_column, number
from analysis.records.foreign.expressions import as_name
from analysis.records.foreign.mapping import ForeignMapping
from analysis.records.foreign.records import chosen_runs
from analysis.records.foreign.roles import FIELDS, MEASURED, joined, role
from analysis.records.foreign.runs import UNFINISHED, ForeignRuns
from analysis.records.schema import RECORDS

_PERCENT = 1.5
"""The largest value of a share that is hardly in percent."""
_WIDTH = 40
_MISSING = {
    "train_error": "without it there is no gap: log the accuracy on the training set, with the labels trained on, at the end",
    "test_error": "without it there is no gap: log the accuracy on a test set at the end",
    "parameters": "the capacity; an expression of the width serves, such as 784 * hidden + 10 * hidden",
    "data.train_size": "p/n needs the number of training samples: give it, such as 50000",
    "seed": "runs that agree in all else count as replicates, numbered in the order of their start",
}
_ONLY_FRACTIONS = ("corruption.level", "regularizers.dropout", "regularizers.label_smoothing")


@dataclass
class _Draft:
    """Lines of the proposal: column, expression and comment."""

    lines: list[tuple[str, str, str]] = field(default_factory=list)
    used: set[str] = field(default_factory=set)

    def add(self, column: str, text: str, comment: str, *names: str) -> None:
        self.lines.append((column, text, comment))
        self.used |= set(names)

    @property
    def columns(self) -> set[str]:
        return {column for column, _, _ in self.lines}


def propose(runs: ForeignRuns) -> str:
    """A mapping of these runs, as YAML for `read_mapping`: to be read, corrected and kept.

    Raises:
        NothingToShow: no run is finished.
    """
    children = any(parent in set(runs.ids) for parent in runs.parents if parent)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the head counts the unfinished
        done = chosen_runs(runs, ForeignMapping(children_only=children))
    draft = _Draft()
    _propose_scores(draft, done)
    _propose_fields(draft, done)
    parts = [_head(runs), *(_line(*line) for line in draft.lines)]
    missing = [column for column in _MISSING if column not in draft.columns]
    parts += [f"# {column}:  # missing: {_MISSING[column]}" for column in missing]
    kept, single = _varying(draft, done)
    if kept:
        parts.append(f"keep: [{', '.join(_quoted(name) for name in kept)}]  # they vary, and are no field of gaplab's")
    if single:
        parts.append(f"# keep also, if they matter (they differ in nearly every run): {', '.join(_quoted(name) for name in single)}")
    if children:
        parts.append("children_only: true  # runs in which others are nested are left out")
    return "\n".join(parts) + "\n"


def _head(runs: ForeignRuns) -> str:
    counts = {status: runs.status.count(status) for status in dict.fromkeys(runs.status)}
    said = ", ".join(f"{count:,} {status}" for status, count in counts.items())
    left = " (unfinished runs are left out)" if UNFINISHED in counts else ""
    head = [f"# What the runs of {runs.source} mean: {said}{left}.".replace("\n", " ")]
    return "\n".join([*head, "# A text is an expression over the runs' names: + - * / ( ), sqrt, log. A number is a constant."])


def _line(column: str, text: str, comment: str) -> str:
    return f"{f'{column}: {_quoted(text)}':{_WIDTH}}  # {comment}".replace("\n", " ")


def _quoted(text: str) -> str:
    """A text as YAML that reads it as this text."""
    plain = re.fullmatch(r"[A-Za-z(1][\w.()+*/ `-]*", text) and not re.fullmatch(
        r"[\d.eE+-]+|true|false|yes|no|null|on|off|y|n", text, re.I
    )
    return text if plain else "'" + text.replace("'", "''") + "'"


def _propose_scores(draft: _Draft, runs: ForeignRuns) -> None:
    """Errors and losses of each split, from the metrics that most likely are those at the end."""
    found: dict[tuple[str, str], list[tuple[int, str]]] = {}
    for name in runs.names("metrics"):
        one = role(name)
        if one is not None and _range(runs, name) is not None:
            found.setdefault((one.kind, one.split), []).append((one.doubt, name))
    best = {key: min(names)[1] for key, names in found.items()}
    comments = _said_by_siblings(best)
    for split in ("train", "test", "validation"):
        for kind in ("error", "accuracy"):
            if f"{split}_error" not in draft.columns and (kind, split) in best:
                _propose_error(draft, runs, split, kind, best[kind, split], comments.get((kind, split), ""))
        if ("loss", split) in best and split != "validation":
            name = best["loss", split]
            low, high = _range(runs, name) or (0.0, 0.0)
            draft.add(f"{split}_loss", as_name(name), _joined(f"{low:.3g} to {high:.3g}", comments.get(("loss", split), "")), name)


def _said_by_siblings(best: dict[tuple[str, str], str]) -> dict[tuple[str, str], str]:
    """Give a split to the metrics whose name says none, and those of validation to a test that there is not; returns why."""
    why: dict[tuple[str, str], str] = {}
    for kind in ("error", "accuracy", "loss"):
        if (kind, "") in best:
            beside = {split for other, split in best if other == kind and split}
            split = "train" if "train" not in beside and (beside or kind == "loss") else "test"
            if split not in beside:
                best[kind, split] = best.pop((kind, ""))
                why[kind, split] = f"its name does not say of which split: taken for {split}"
    if not any(split == "test" for _, split in best):
        for kind in ("error", "accuracy", "loss"):
            if (kind, "validation") in best:
                best[kind, "test"] = best.pop((kind, "validation"))
                why[kind, "test"] = "there is none of a test set: that of validation stands in"
    return why


def _joined(*parts: str) -> str:
    return "; ".join(part for part in parts if part)


def _propose_error(draft: _Draft, runs: ForeignRuns, split: str, kind: str, name: str, comment: str) -> None:
    limits = _range(runs, name)
    if limits is not None and limits[0] >= -1e-6 and limits[1] <= 100 + 1e-4:  # an error beyond 100 is one of a regression
        unit, share = ("percent", f"{as_name(name)} / 100") if limits[1] > _PERCENT else ("fractions", as_name(name))
        said = f"{limits[0]:.4g} to {limits[1]:.4g}, so {unit}"
        draft.add(f"{split}_error", share if kind == "error" else f"1 - {share}", _joined(said, comment), name)


def _propose_fields(draft: _Draft, runs: ForeignRuns) -> None:
    for table, kinds in ((FIELDS, ("params", "metrics")), (MEASURED, ("metrics",))):
        for column, known in table.items():
            candidates = (
                name for kind in kinds for name in runs.names(kind) if name not in draft.used and joined(_bare(name)) & set(known)
            )
            for name in sorted(candidates, key=lambda name: (kinds.index(_kind(runs, name)), len(name))):
                if (text := _as_field(column, name, runs)) is not None:
                    draft.add(column, text, _seen(runs, name), name)
                    break


def _bare(name: str) -> str:
    return name.partition(".")[2] if name.startswith(("params.", "metrics.")) else name


def _kind(runs: ForeignRuns, name: str) -> str:
    return str(runs.full(name)).partition(".")[0]


def _as_field(column: str, name: str, runs: ForeignRuns) -> str | None:
    """The expression by which a name is this column; None if its values cannot be."""
    values = runs.column(name)
    field = RECORDS.field(column)
    try:
        array = as_column(values, field, runs.ids)
    except AnalysisError:
        return None
    if array.null_count == len(array) or (column == "seed" and array.null_count):
        return None
    if field.type == "string":
        return as_name(name) if not all(_is_number(value) for value in values) else None
    limits = _range(runs, name)
    if limits is None or limits[0] < 0:
        return None
    if column in _ONLY_FRACTIONS and limits[1] > _PERCENT:
        return f"{as_name(name)} / 100" if limits[1] <= 100 and column == "corruption.level" else None
    return as_name(name)


def _is_number(value: object) -> bool:
    try:
        return number(value) is not None or value is None
    except ValueError:
        return False


def _seen(runs: ForeignRuns, name: str) -> str:
    """What the runs have of a name, in words."""
    different = list(
        dict.fromkeys(f"{value:g}" if isinstance(value, float) else str(value) for value in runs.column(name) if value is not None)
    )
    if len(different) <= 4:
        return ", ".join(text[:30] for text in different)
    limits = _range(runs, name)
    many = f"{len(different):,} different values"
    return many if limits is None else f"{many}, {limits[0]:.4g} to {limits[1]:.4g}"


def _range(runs: ForeignRuns, name: str) -> tuple[float, float] | None:
    """The least and the largest finite value; None if there is none, or a text."""
    try:
        values = runs.numbers(name)
    except AnalysisError:
        return None
    values = values[np.isfinite(values)]
    return (float(values.min()), float(values.max())) if len(values) else None


def _varying(draft: _Draft, runs: ForeignRuns) -> tuple[list[str], list[str]]:
    """Params in which runs differ and that have no column: those that several runs share, and those that hardly any does."""
    kept: list[str] = []
    single: list[str] = []
    for name in _unmapped(draft, runs):
        values = [str(value) for value in runs.column(name)]
        if len(set(values)) > 1 and name not in RECORDS.names:
            (single if len(set(values)) > max(len(values) / 2, 2) and not _all_numbers(runs.column(name)) else kept).append(name)
    return kept, single


def _unmapped(draft: _Draft, runs: ForeignRuns) -> Iterator[str]:
    yield from (name for name in runs.names("params") if name not in draft.used)


def _all_numbers(values: Sequence[object]) -> bool:
    return all(_is_number(value) for value in values)
