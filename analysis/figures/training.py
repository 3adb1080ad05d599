"""Figures of training: learning curves by corruption, memorisation of wrong labels, early stopping, epoch-wise double descent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from analysis.errors import NothingToShow
from analysis.figures.drawing.canvas import bare_figure, draw_line, error_axis, explain, log_axis, mark_end, note
from analysis.figures.drawing.lines import Line, split, title_of
from analysis.figures.drawing.style import drawing
from analysis.statistics.aggregate import Interval, over_seeds
from analysis.statistics.selection import averaged_over, completed_lines
from analysis.words import words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ENDS = "Each line ends where the first of its runs does."


def over_training(
    table: pa.Table, curves: pa.Table, values: Sequence[str], *, by: Sequence[str] | None = None, interval: Interval = "t"
) -> pa.Table:
    """Means over seeds at every evaluated epoch.

    A mean over the runs that are still training would jump where one stops, so each group ends with its shortest run.

    Args:
        table: records; only completed ones count.
        curves: their curves.
        values: columns of `analysis.records.schema.CURVES`.
        by: what tells lines apart; corruption by default.
        interval: as for `over_seeds`.

    Returns:
        As `over_seeds`, by ``by`` and ``epoch``.

    Raises:
        NothingToShow: no completed record, or none with a curve that has one of the values.
    """
    runs, lines = completed_lines(table, by)
    known = curves.filter(pc.is_in(curves["key"], runs["key"].combine_chunks())).select(["key", "epoch", *values])
    joined = known.join(runs.select(list(dict.fromkeys(["key", *lines]))), "key", join_type="inner")
    counts = runs.group_by(lines).aggregate([([], "count_all")]).rename_columns([*lines, "runs"])
    cells = _match(over_seeds(joined, [*lines, "epoch"], values, interval=interval), counts, lines)
    cells = cells.filter(pc.equal(cells["seeds"], cells["runs"])).drop_columns("runs")
    if not sum(len(cells[value]) - cells[value].null_count for value in values):
        raise NothingToShow(f"no completed record has a curve of {', '.join(words(value) for value in values)}: nothing can be shown")
    return cells.sort_by("epoch")


def learning_curves(
    table: pa.Table,
    curves: pa.Table,
    *,
    value: str = "train_loss",
    by: Sequence[str] | None = None,
    interval: Interval = "t",
    title: str | None = None,
) -> Figure:
    """Draw a value over training, one line a corruption (Zhang et al. 2017, figure 1a).

    Args:
        table: records of one setting under several corruptions; the note names whatever else they differ in.
        curves: their curves, as `analysis.load_curves` returns them.
        value: a column of the curves.
        by: what tells lines apart; corruption by default.
        interval: as for `over_seeds`.
        title: stands above the figure.

    Raises:
        NothingToShow: no completed record has such a curve.
    """
    cells = over_training(table, curves, [value], by=by, interval=interval)
    with drawing():
        figure, panel = bare_figure(7.4, 4.6)
        drawn = _drawn(table, cells, by)
        for line in drawn.lines:
            draw_line(panel, line, "epoch", value, fit=False, marker="")
            mark_end(panel, line, "epoch", value)
        error_axis(panel, drawn.lines[0].numbers(value, cells))
        _name(panel, "epoch", value)
        drawn.explain(figure, title, interval, [_ENDS])
    return figure


def memorisation(
    table: pa.Table, curves: pa.Table, *, by: Sequence[str] | None = None, interval: Interval = "t", title: str | None = None
) -> Figure:
    """Draw how the clean and the corrupted part of the training set are learned, over training.

    Left, the error on samples that kept their true label; right, on those that carry a wrong one, measured against that
    wrong label: networks learn the first before they memorise the second (Arpit et al. 2017). Below, their losses, where the curves have
    them.

    Args:
        table: records; those with both kinds of sample are drawn.
        curves: their curves.
        by: what tells lines apart; corruption by default.
        interval: as for `over_seeds`.
        title: stands above the figure.

    Raises:
        NothingToShow: no completed record has both curves.
    """
    values = ["clean_train_error", "wrong_train_error", "clean_train_loss", "wrong_train_loss"]
    cells = over_training(table, curves, values, by=by, interval=interval)
    cells = cells.filter(pc.and_(pc.is_valid(cells[values[0]]), pc.is_valid(cells[values[1]])))
    if not cells.num_rows:
        raise NothingToShow("no completed record has samples with true and with wrong labels: memorisation needs partly corrupted labels")
    with drawing():
        from matplotlib.figure import Figure

        if cells[values[2]].null_count == cells.num_rows:
            values = values[:2]
        rows = len(values) // 2
        figure = Figure(figsize=(9.2, 0.8 + 3.6 * rows), layout="constrained")
        panels = figure.subplots(rows, 2, sharey="row", squeeze=False)
        drawn = _drawn(table, cells, by)
        for value, panel in zip(values, panels.flat, strict=True):
            for line in drawn.lines:
                draw_line(panel, line, "epoch", value, fit=False, marker="")
                mark_end(panel, line, "epoch", value)
            panel.set_title(words(value))
            panel.set_xlabel(words("epoch"))
            if value.endswith("error"):
                panel.set_ylim(-0.03, 1.03)
        drawn.explain(figure, title, interval, ["Wrong labels count as learned when they are predicted.", _ENDS])
    return figure


def early_stopping(
    table: pa.Table, curves: pa.Table, *, by: Sequence[str] | None = None, interval: Interval = "t", title: str | None = None
) -> Figure:
    """Draw the test error over training and its best so far: what stopping early could gain (Zhang et al. 2017, figure 2a).

    Args:
        table: records.
        curves: their curves.
        by: what tells lines apart; corruption by default.
        interval: as for `over_seeds`.
        title: stands above the figure.

    Raises:
        NothingToShow: no completed record has a curve of the test error.
    """
    cells = over_training(table, curves, ["test_error"], by=by, interval=interval)
    with drawing():
        figure, panel = bare_figure(7.4, 4.6)
        drawn = _drawn(table, cells, by)
        for line in drawn.lines:
            epochs, errors = line.numbers("epoch"), line.numbers("test_error")
            best = np.fmin.accumulate(errors)
            panel.fill_between(epochs, best, errors, color=line.colour, alpha=0.22, linewidth=0, gid="lost")
            panel.plot(epochs, errors, color=line.colour, gid="means")
            panel.plot(epochs, best, color=line.colour, linestyle=":", linewidth=1.2, gid="best")
            mark_end(panel, line, "epoch", "test_error")
        error_axis(panel, drawn.lines[0].numbers("test_error", cells))
        _name(panel, "epoch", "test_error")
        also = ["Shaded: above the best mean so far (dotted), chosen with knowledge of the test error: a bound, not a method.", _ENDS]
        drawn.explain(figure, title, None, also)
    return figure


def epoch_double_descent(
    table: pa.Table, curves: pa.Table, *, by: Sequence[str] = ("model.width",), interval: Interval = "t", title: str | None = None
) -> Figure:
    """Draw test and train error over training on a logarithmic epoch axis, one line a width (Nakkiran et al. 2019, epoch-wise).

    Args:
        table: records of runs that do not stop when they fit (``budget.stop_at_train_error: null``).
        curves: their curves.
        by: what tells lines apart.
        interval: as for `over_seeds`.
        title: stands above the figure.

    Raises:
        NothingToShow: no completed record has such curves.
    """
    values = ["test_error", "train_error"]
    cells = over_training(table, curves, values, by=by, interval=interval)
    cells = cells.filter(pc.greater(cells["epoch"], 0))
    with drawing():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7.4, 6.2), layout="constrained")
        panels = figure.subplots(2, 1, sharex=True, height_ratios=[1.5, 1])
        drawn = _drawn(table, cells, by)
        for value, panel in zip(values, panels, strict=True):
            for line in drawn.lines:
                draw_line(panel, line, "epoch", value, fit=False, marker="")
                mark_end(panel, line, "epoch", value)
            error_axis(panel, drawn.lines[0].numbers(value, cells))
            log_axis(panel, drawn.lines[0].numbers("epoch", cells))
            panel.set_title(words(value))
        panels[1].set_xlabel(words("epoch"))
        drawn.explain(figure, title, interval, [_ENDS])
    return figure


def _match(cells: pa.Table, counts: pa.Table, by: Sequence[str]) -> pa.Table:
    """The cells with the column ``runs``; unlike in a join, nulls match nulls."""
    groups = {tuple(row[name] for name in by): row["runs"] for row in counts.to_pylist()}
    of_cells = zip(*(cells[name].to_pylist() for name in by), strict=True) if by else iter([()] * cells.num_rows)
    return cells.append_column("runs", pa.array([groups[group] for group in of_cells], pa.int64()))


@dataclass(frozen=True)
class _Drawn:
    """What a figure of training shows: the means ``cells`` of the records ``table``, as ``lines``, of how many there are."""

    table: pa.Table
    cells: pa.Table
    by: list[str]
    lines: list[Line]
    of: int

    def explain(self, figure: Figure, title: str | None, interval: Interval | None, also: Sequence[str]) -> None:
        """Put the title, the legend and the note on the figure."""
        runs = completed_lines(self.table, self.by)[0]
        averaged = averaged_over(runs, self.by)
        text = note(self.table, self.cells, interval=interval, lines=(len(self.lines), self.of), averaged=averaged, also=also)
        explain(figure, self.lines, title_of(self.by, runs), title, text)


def _drawn(table: pa.Table, cells: pa.Table, by: Sequence[str] | None) -> _Drawn:
    by = completed_lines(table, by)[1]
    return _Drawn(table, cells, by, *split(cells, by))


def _name(panel: Axes, x: str, y: str) -> None:
    panel.set_xlabel(words(x))
    panel.set_title(words(y))
