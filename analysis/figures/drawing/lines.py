"""The lines of a figure: the rows, the name and the look of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from analysis.figures.drawing.style import MARKERS, colours
from analysis.statistics.selection import agreeing, sorted_by
from analysis.words import words

FEW_LINES = 6
MOST_LINES = 12
"""More lines than this cannot be distinguished: a figure shows so many, spread evenly over all, and says so."""

FEW_FIELDS = 3
"""In the name of a line that more fields than these tell apart, numbers stand with their field, and regularizers where they are used."""

_LEVEL_TITLES = {
    "redraw": "labels redrawn with probability",
    "random_labels": "labels redrawn with probability",
    "flip": "labels flipped with probability",
    "class_conditional": "labels passed through a transition matrix with probability",
    "instance": "mean rate of labels made wrong by features",
    "shuffled_pixels": "fraction of pixels shuffled",
    "random_pixels": "fraction of pixels shuffled per image",
    "gaussian": "fraction of pixels replaced by noise",
}


@dataclass(frozen=True)
class Line:
    """One line of a figure: the rows that agree in some columns."""

    by: tuple[str, ...]
    values: tuple[Any, ...]
    label: str
    colour: Any
    marker: str
    rows: pa.Table
    band: float = 0.16
    """The opacity of its band: bands are fainter where many lie over each other."""

    def among(self, table: pa.Table) -> pa.Table:
        """The rows of a table that belong to this line."""
        return table.filter(agreeing(self.by, self.values)) if self.by else table

    def within(self, other: Line) -> Line:
        """The part of this line that belongs to another one too."""
        return replace(self, rows=other.among(self.rows))

    def numbers(self, column: str, rows: pa.Table | None = None) -> NDArray[np.float64]:
        """A column as float64, NaN for null."""
        return numbers(self.rows if rows is None else rows, column)


def numbers(table: pa.Table, column: str) -> NDArray[np.float64]:
    """A column as float64, NaN for null."""
    values: NDArray[np.float64] = table[column].cast(pa.float64()).to_numpy()
    return values


def split(table: pa.Table, by: Sequence[str]) -> tuple[list[Line], int]:
    """One line for each combination of the values in ``by``, in order, and how many lines there would be without the limit."""
    if not by:
        return [Line((), (), "", colours([""])[0], MARKERS[0], table)], 1
    combinations, of = shown_combinations(table, by)
    looks = colours([values[0] if len(by) == 1 else str(values) for values in combinations])
    band = 0.16 if len(combinations) <= FEW_LINES else 0.06
    lines = []
    for index, (values, colour) in enumerate(zip(combinations, looks, strict=True)):
        rows = table.filter(agreeing(by, values))
        lines.append(Line(tuple(by), values, label_of(by, values), colour, MARKERS[index % len(MARKERS)], rows, band))
    return lines, of


def shown_combinations(table: pa.Table, by: Sequence[str], most: int = MOST_LINES) -> tuple[list[tuple[Any, ...]], int]:
    """The combinations of the values in ``by`` that get a line, in order, and how many there are."""
    found = sorted_by(table.group_by(list(by)).aggregate([]), by).to_pylist()
    indices = np.unique(np.linspace(0, len(found) - 1, min(len(found), most)).round().astype(int))
    return [tuple(found[index][name] for name in by) for index in indices], len(found)


def only_shown(table: pa.Table, by: Sequence[str]) -> tuple[pa.Table, int]:
    """The rows that some line shows, and how many lines there are in all: what is not drawn need not be averaged."""
    if not by:
        return table, 1
    combinations, of = shown_combinations(table, by)
    if len(combinations) == of:
        return table, of
    columns = zip(by, zip(*combinations, strict=True), strict=True)
    shown = pa.table({name: pa.array(values, table.schema.field(name).type) for name, values in columns})
    code, wanted = (np.zeros(rows.num_rows, np.int64) for rows in (table, shown))
    for name in by:
        values = shown[name].unique()
        for codes, rows in ((code, table), (wanted, shown)):
            codes *= len(values) + 1
            codes += pc.fill_null(pc.index_in(rows[name], value_set=values), len(values)).to_numpy()
    return table.filter(pa.array(np.isin(code, wanted))), of


def label_of(by: Sequence[str], values: Sequence[Any]) -> str:
    """The name of a line in the legend.

    >>> label_of(["corruption.kind", "corruption.level"], ["redraw", 0.5])
    'redraw 0.5'
    >>> label_of(["data.name", "model.depth", "regularizers.dropout", "regularizers.weight_decay"], ["mnist", 2, 0.0, 0.01])
    'mnist, depth 2, weight decay 0.01'
    """
    parts = [_text(name, value) for name, value in zip(by, values, strict=True)]
    if len(by) > FEW_FIELDS:
        parts = [_named(name, value) for name, value in zip(by, values, strict=True)]
    if list(by[:2]) == ["corruption.kind", "corruption.level"]:
        parts[:2] = [f"{values[0]} {_text(by[1], values[1])}" if values[1] else "none (true data)"]
    return ", ".join(part for part in parts if part) or "none"


def title_of(by: Sequence[str], table: pa.Table) -> str:
    """The title of a legend of lines by these columns; for a corruption level it says what is corrupted."""
    if list(by) == ["corruption.level"] and "corruption.kind" in table.column_names:
        kinds = table.filter(pc.greater(table["corruption.level"], 0))["corruption.kind"].unique().to_pylist()
        if len({_LEVEL_TITLES.get(kind) for kind in kinds}) == 1:
            return _LEVEL_TITLES.get(kinds[0], words("corruption.level"))
    return ", ".join(dict.fromkeys(words("corruption.kind" if name == "corruption.level" and len(by) > 1 else name) for name in by))


def _named(name: str, value: Any) -> str:
    """A value with its field where it does not speak for itself; empty where nothing is there."""
    if value is None or (name.startswith("regularizers.") and not value):
        return ""
    plain = isinstance(value, str) or (name == "corruption.level" and not value)
    return _text(name, value) if plain else f"{words(name).replace('$', '')} {_text(name, value)}"


def _text(name: str, value: Any) -> str:
    if name == "corruption.level" and value == 0:
        return "0 (true labels)"
    return "none" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)
