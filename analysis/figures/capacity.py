"""The main figure: the generalization gap against capacity, one line a corruption level, train and test error beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from analysis.errors import NothingToShow
from analysis.figures.drawing.canvas import (
    draw_line,
    error_axis,
    explain,
    label_ends,
    log_axis,
    mark_thresholds,
    marks_explained,
    note,
)
from analysis.figures.drawing.lines import Line, only_shown, split, title_of
from analysis.figures.drawing.style import drawing
from analysis.records.mlflow import MLFLOW
from analysis.records.parquet.dataset import varying
from analysis.records.schema import MEASURE
from analysis.statistics.aggregate import ERRORS, seed_means
from analysis.statistics.interpolation import line_thresholds
from analysis.statistics.intervals import DEFAULT, Method
from analysis.statistics.selection import SEEDS, SETTINGS, lines_over, numeric, varying_fields
from analysis.statistics.tasks import TASK, all_own, named
from analysis.words import words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def gap_vs_capacity(
    table: pa.Table,
    *,
    capacity: str = "parameters_per_sample",
    by: Sequence[str] | None = None,
    panels: str | None = None,
    interval: Method = DEFAULT,
    points: bool = False,
    title: str | None = None,
) -> Figure:
    """Draw the generalization gap against capacity, with train and test error beside it.

    Each point is the mean over the seeds of one capacity, with a band for its 95 % interval. Seeds that reached their train
    target (filled) and seeds that did not (hollow) are separate points. Triangles mark each line's interpolation threshold
    (`analysis.threshold_table`) with its interval.

    Args:
        table: records, as `analysis.load` or `analysis.at_moment` return them; only completed ones are drawn, the note
            counts the others.
        capacity: the column of the horizontal, logarithmic axis; positive. A ``measure.*`` (a norm) differs from seed to
            seed: points then lie at its mean over the seeds of one setting, and no threshold is marked.
        by: the columns that tell lines apart; by default corruption and whatever else varies, as for `analysis.gap_table`.
        panels: a column with one column of panels for each of its values.
        interval: what the bands are, as for `over_seeds`.
        points: draw every single run too.
        title: stands above the figure.

    Raises:
        NothingToShow: no completed record has a gap and a positive capacity.
        AnalysisError: a column does not exist, or ``by`` leaves something that varies besides seeds.
    """
    beside = [panels] if panels else []
    runs, lines_by = lines_over(numeric(table, [capacity]), capacity, by, beside)
    runs, of = only_shown(runs, lines_by)
    errors = all_own(runs, ERRORS)
    apart = [*lines_by, *beside]
    cells = _cells(runs, apart, capacity, interval)
    if not cells.num_rows:
        raise NothingToShow(f"no completed record has a generalization gap and a {words(capacity)}: nothing can be shown")
    lines = split(cells, lines_by)[0]
    marks = {} if capacity.startswith(MEASURE) else _thresholds(runs, apart, capacity)
    columns = split(cells, [panels])[0] if panels else [None]
    with drawing():
        figure, axes = _axes(len(columns))
        for column, three in zip(columns, axes, strict=True):
            shown = [line.within(column) for line in lines] if column else lines
            for value, panel in zip(errors, three, strict=True):
                for line in shown:
                    draw_line(panel, line, capacity, value)
                if points:
                    _scatter(panel, runs, lines_by, shown, column, capacity, value)
                log_axis(panel, lines[0].numbers(capacity, cells))
                error_axis(panel, lines[0].numbers(value, cells), value)
                mark_thresholds(panel, [(line, marks.get((*line.values, *(column.values if column else ())))) for line in shown])
                if value == errors[0] and column is None:
                    label_ends(panel, shown, capacity, value)
                above = f"{words(column.by[0])} {column.label}\n" if column and value == errors[0] else ""
                formula = " (test error \N{MINUS SIGN} train error)" if value == errors[0] else ""
                panel.set_title(above + words(value) + formula)
            three[-1].set_xlabel(words(capacity))
            three[0].set_xlabel(words(capacity) if column is None else "")
        text = note(table, cells, errors, interval=interval, lines=(len(lines), of), also=marks_explained(marks.values()))
        explain(figure, lines, title_of(lines_by, runs), title, text)
    return figure


def gap_columns(
    source: str, *, capacity: str = "parameters_per_sample", by: Sequence[str] | None = None, panels: str | None = None
) -> list[str] | None:
    """The columns that `gap_vs_capacity` needs of a study, for ``load(source, columns=gap_columns(source))``.

    These are the ones that it draws, the seeds and the settings that vary, which tell lines apart. From a large study
    they load several times as fast as all; None, which means all, for MLflow.
    """
    if source.startswith(MLFLOW):
        return None
    errors = (*ERRORS, TASK, *named(ERRORS, regression=True))
    drawn = ["status", "interpolated", *errors, capacity, *(by or ("corruption.kind", "corruption.level")), *([panels] if panels else [])]
    return list(dict.fromkeys([*drawn, "seed", *varying(source, (*SETTINGS, *SEEDS))]))


def _cells(runs: pa.Table, apart: Sequence[str], capacity: str, interval: Method) -> pa.Table:
    """The means that are drawn, sorted by capacity."""
    by, values = list(dict.fromkeys([*apart, *_identity(runs, capacity), "interpolated"])), all_own(runs, ERRORS)
    if capacity.startswith(MEASURE):
        values.append(capacity)
    cells = seed_means(runs, by, values, interval=interval)
    drawable = pc.and_(pc.is_valid(cells[values[0]]), pc.greater(cells[capacity].cast(pa.float64()), 0))
    return cells.filter(drawable).sort_by(capacity)


def _identity(runs: pa.Table, capacity: str) -> list[str]:
    """The columns that make a cell: the capacity itself, or every setting that varies where capacity is measured."""
    return varying_fields(runs) if capacity.startswith(MEASURE) else [capacity]


def _thresholds(runs: pa.Table, apart: Sequence[str], capacity: str) -> dict[tuple[object, ...], dict[str, float | None]]:
    rows = line_thresholds(runs, apart, capacity).to_pylist()
    return {tuple(row[name] for name in apart): row for row in rows}


def _axes(columns: int) -> tuple[Figure, list[list[Axes]]]:
    """Three panels a column; those of a single column stand beside the gap."""
    from matplotlib.figure import Figure

    if columns == 1:
        figure = Figure(figsize=(10.4, 5.4), layout="constrained")
        mosaic = figure.subplot_mosaic([["gap", "train"], ["gap", "test"]], width_ratios=[1.75, 1], sharex=True)
        return figure, [[mosaic["gap"], mosaic["train"], mosaic["test"]]]
    figure = Figure(figsize=(max(7.0, 1.2 + 3.1 * columns), 8.2), layout="constrained")
    grid = figure.subplots(3, columns, sharex=True, sharey="row", height_ratios=[1.7, 1, 1])
    return figure, [list(grid[:, column]) for column in range(columns)]


def _scatter(panel: Axes, runs: pa.Table, by: Sequence[str], lines: Sequence[Line], column: Line | None, capacity: str, value: str) -> None:
    for line in lines:
        some = line.among(runs if column is None else column.among(runs))
        panel.plot(
            np.asarray(some[capacity].cast(pa.float64())),
            np.asarray(some[value]),
            linestyle="",
            marker=line.marker,
            color=line.colour,
            markersize=2.5,
            alpha=0.45,
            gid="runs",
        )
