"""Figures of training: learning curves by corruption, memorisation of wrong labels, early stopping, epoch-wise double descent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from analysis.errors import NothingToShow
from analysis.figures.drawing.canvas import bare_figure, draw_line, error_axis, explain, label_ends, log_axis, mark_end, note, parts_of
from analysis.figures.drawing.lines import Line, split, title_of
from analysis.figures.drawing.style import drawing
from analysis.statistics.aggregate import seed_means
from analysis.statistics.intervals import DEFAULT, Method
from analysis.statistics.selection import SEEDS, codes, completed, largest_model, lines_over
from analysis.statistics.tasks import all_own, is_regression, own
from analysis.words import words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ENDS = "Solid: runs that reach the train target, dashed: runs that do not. A run that has stopped counts on with its last value."
TRAINING = "training"
"""The column of how many runs of a mean still trained at its epoch."""
RUNS = "of_runs"
"""The column of how many there are."""


def runs_over_training(table: pa.Table, by: Sequence[str] | None = None) -> tuple[pa.Table, list[str], str]:
    """The records whose training is shown, what tells their lines apart, and a sentence on which they are.

    By default they are those of the largest model, with a line for each corruption and whatever else varies.
    """
    if by is not None:
        return *lines_over(table, "epoch", by), ""
    runs, every = largest_model(completed(table)), completed(table)
    said = f"The largest model, {runs['parameters'][0].as_py():,} parameters." if runs.num_rows < every.num_rows else ""
    return *lines_over(runs, "epoch"), said


def over_training(runs: pa.Table, curves: pa.Table, values: Sequence[str], by: Sequence[str], *, interval: Method = DEFAULT) -> pa.Table:
    """Means over seeds at every evaluated epoch, of runs that reach their train target and of runs that do not.

    A mean over the runs that are still training would jump where one stops, for those that go on are others than those that stopped. So a
    run that has stopped counts on with its last value, which is that of its trained network, until the last run of its group stops.

    Args:
        runs: records, as from `runs_over_training`; so are ``by``.
        curves: their curves.
        values: columns of `analysis.records.schema.CURVES`.
        by: what tells lines apart.
        interval: as for `over_seeds`.

    Returns:
        As `over_seeds`, by ``by``, ``interpolated`` and ``epoch``; and the columns `TRAINING` and `RUNS`: how many of
        how many runs still trained then.

    Raises:
        NothingToShow: there is no curve that has one of the values.
    """
    fit = pc.fill_null(runs["interpolated"], False)
    runs, by = runs.set_column(runs.column_names.index("interpolated"), "interpolated", fit), [*by, "interpolated"]
    known = curves.filter(pc.is_in(curves["key"], runs["key"].combine_chunks())).select(["key", "epoch", *values])
    seeds = [name for name in SEEDS if name in runs.column_names]
    joined = known.join(runs.select(list(dict.fromkeys(["key", *by, *seeds]))), "key", join_type="inner")
    joined = _carried_on(joined, by)
    trained = joined.group_by([*by, "epoch"]).aggregate([([], "count_all"), (TRAINING, "sum")])
    cells = seed_means(joined, [*by, "epoch"], values, interval=interval)
    counts = {tuple(row[name] for name in (*by, "epoch")): row for row in _match(trained, runs, by).to_pylist()}
    here = [counts[one] for one in zip(*(cells[name].to_pylist() for name in (*by, "epoch")), strict=True)]
    for name, count in ((TRAINING, f"{TRAINING}_sum"), (RUNS, "runs")):
        cells = cells.append_column(name, pa.array([row[count] for row in here], pa.int64()))
    cells = cells.filter(pa.array([row["count_all"] == row["runs"] for row in here], pa.bool_()))
    if not sum(len(cells[value]) - cells[value].null_count for value in values):
        raise NothingToShow(f"no completed record has a curve of {', '.join(words(value) for value in values)}: nothing can be shown")
    return cells.sort_by("epoch")


def learning_curves(
    table: pa.Table,
    curves: pa.Table,
    *,
    value: str = "train_loss",
    by: Sequence[str] | None = None,
    interval: Method = DEFAULT,
    title: str | None = None,
) -> Figure:
    """Draw a value over training, one line a corruption (Zhang et al. 2017, figure 1a).

    Args:
        table: records.
        curves: their curves, as `analysis.load_curves` returns them.
        value: a column of the curves.
        by: what tells lines apart; by default the largest model is shown, a line for each corruption and whatever else varies.
        interval: as for `over_seeds`.
        title: stands above the figure.

    Raises:
        NothingToShow: no completed record has such a curve.
    """
    value = own(completed(table), value)
    drawn = _means(table, curves, [value], by, interval)
    with drawing():
        figure, panel = drawn.panel()
        for line in drawn.lines:
            draw_line(panel, line, "epoch", value, marker="")
            mark_end(panel, line, "epoch", value)
        error_axis(panel, drawn.lines[0].numbers(value, drawn.cells), value)
        label_ends(panel, drawn.lines, "epoch", value)
        panel.set_title(words(value))
        drawn.explain(figure, [value], title, interval, [ENDS])
    return figure


def memorisation(
    table: pa.Table, curves: pa.Table, *, by: Sequence[str] | None = None, interval: Method = DEFAULT, title: str | None = None
) -> Figure:
    """Draw how the clean and the corrupted part of the training set are learned, over training.

    Left, the error on samples that kept their true label; right, on those that carry a wrong one, measured against that
    wrong label: networks learn the first before they memorise the second (Arpit et al. 2017). Below, their losses, where the curves have
    them.

    Args:
        table: records; those with both kinds of sample are drawn.
        curves: their curves.
        by: what tells lines apart; by default the largest model is shown, a line for each corruption and whatever else varies.
        interval: as for `over_seeds`.
        title: stands above the figure.

    Raises:
        NothingToShow: no completed record has both curves.
    """
    values = ["clean_train_error", "wrong_train_error", "clean_train_loss", "wrong_train_loss"]
    if is_regression(completed(table)):
        values = values[2:]  # no sample of it is right or wrong
    drawn = _means(table, curves, values, by, interval)
    cells = drawn.cells.filter(pc.and_(pc.is_valid(drawn.cells[values[0]]), pc.is_valid(drawn.cells[values[1]])))
    lines, of = split(cells, drawn.by)
    drawn = replace(drawn, cells=cells, lines=lines, of=of)
    if not cells.num_rows:
        raise NothingToShow("no completed record has samples with true and with wrong labels: memorisation needs partly corrupted labels")
    with drawing():
        from matplotlib.figure import Figure

        if len(values) > 2 and cells[values[2]].null_count == cells.num_rows:
            values = values[:2]
        rows = len(values) // 2
        figure = Figure(figsize=(9.2, 0.8 + 3.6 * rows), layout="constrained")
        panels = figure.subplots(rows, 2, sharey="row", squeeze=False)
        for value, panel in zip(values, panels.flat, strict=True):
            for line in drawn.lines:
                draw_line(panel, line, "epoch", value, marker="")
                mark_end(panel, line, "epoch", value)
            panel.set_title(words(value))
            panel.set_xlabel(words("epoch"))
            if value.endswith("error"):
                panel.set_ylim(-0.03, 1.03)
        drawn.explain(
            figure,
            values,
            title,
            interval,
            [*(["Wrong labels count as learned when they are predicted."] if len(values) > 2 else []), ENDS],
        )
    return figure


def early_stopping(table: pa.Table, curves: pa.Table, *, by: Sequence[str] | None = None, title: str | None = None) -> Figure:
    """Draw the test error over training and its best so far: what stopping early could gain (Zhang et al. 2017, figure 2a).

    Args:
        table: records.
        curves: their curves.
        by: what tells lines apart; by default the largest model is shown, a line for each corruption and whatever else varies.
        title: stands above the figure.

    Raises:
        NothingToShow: no completed record has a curve of the test error.
    """
    error = own(completed(table), "test_error")
    drawn = _means(table, curves, [error], by)
    with drawing():
        figure, panel = drawn.panel()
        for line in drawn.lines:
            for rows, style in parts_of(line):
                epochs, errors = line.numbers("epoch", rows), line.numbers(error, rows)
                best = np.fmin.accumulate(errors)
                panel.fill_between(epochs, best, errors, color=line.colour, alpha=0.22, linewidth=0, gid="lost")
                panel.plot(epochs, errors, linestyle=style, color=line.colour, gid="means")
                panel.plot(epochs, best, color=line.colour, linestyle=":", linewidth=1.2, gid="best")
            mark_end(panel, line, "epoch", error)
        error_axis(panel, drawn.lines[0].numbers(error, drawn.cells), error)
        panel.set_title(words(error))
        also = ["Shaded: above the best mean so far (dotted), chosen with knowledge of the test error: a bound, not a method.", ENDS]
        drawn.explain(figure, [error], title, None, also)
    return figure


def epoch_double_descent(
    table: pa.Table, curves: pa.Table, *, by: Sequence[str] | None = None, interval: Method = DEFAULT, title: str | None = None
) -> Figure:
    """Draw test and train error over training on a logarithmic epoch axis, one line a width (Nakkiran et al. 2019, epoch-wise),
    corruption and whatever else varies.

    Args:
        table: records of runs that do not stop when they fit (``budget.stop_at_train_error: null``).
        curves: their curves.
        by: what tells lines apart; everything that varies by default.
        interval: as for `over_seeds`.
        title: stands above the figure.

    Raises:
        NothingToShow: no completed record has such curves.
    """
    values = all_own(completed(table), ("test_error", "train_error"))
    drawn = _means(table, curves, values, lines_over(table, "epoch")[1] if by is None else by, interval)
    cells = drawn.cells.filter(pc.greater(drawn.cells["epoch"], 0))
    drawn = replace(drawn, cells=cells, lines=split(cells, drawn.by)[0])
    with drawing():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7.4, 6.2), layout="constrained")
        panels = figure.subplots(2, 1, sharex=True, height_ratios=[1.5, 1])
        for value, panel in zip(values, panels, strict=True):
            for line in drawn.lines:
                draw_line(panel, line, "epoch", value, marker="")
                mark_end(panel, line, "epoch", value)
            error_axis(panel, drawn.lines[0].numbers(value, cells), value)
            log_axis(panel, drawn.lines[0].numbers("epoch", cells))
            panel.set_title(words(value))
        panels[1].set_xlabel(words("epoch"))
        drawn.explain(figure, values, title, interval, [ENDS])
    return figure


def _carried_on(curves: pa.Table, by: Sequence[str]) -> pa.Table:
    """The curves, each with its last row again at every epoch at which another of its group was evaluated later.

    The column `TRAINING` is 1 in rows of their own and 0 in those.
    """
    curves = curves.append_column(TRAINING, pa.array(np.ones(curves.num_rows, np.int64)))
    parts = [curves]
    ordered = curves.sort_by([("key", "ascending"), ("epoch", "ascending")])
    key, epoch, group = codes(ordered, ["key"]), ordered["epoch"].to_numpy(), codes(ordered, by)
    last = np.flatnonzero(np.append(np.diff(key) != 0, True)) if len(key) else np.zeros(0, np.int64)
    for one in np.unique(group):
        ends = last[group[last] == one]
        epochs = np.unique(epoch[group == one])
        rows, later = np.nonzero(epochs[None, :] > epoch[ends][:, None])
        if len(rows):
            more = ordered.take(ends[rows])
            more = more.set_column(more.column_names.index("epoch"), "epoch", pa.array(epochs[later], more["epoch"].type))
            parts.append(more.set_column(more.column_names.index(TRAINING), TRAINING, pa.array(np.zeros(len(rows), np.int64))))
    return pa.concat_tables(parts)


def _draw_training(panel: Axes, lines: Sequence[Line]) -> None:
    """Draw how many runs of each line still train."""
    from matplotlib.ticker import MaxNLocator

    for line in lines:
        for rows, style in parts_of(line):
            panel.step(
                line.numbers("epoch", rows), line.numbers(TRAINING, rows), where="post", linestyle=style, color=line.colour, gid=TRAINING
            )
    panel.set_ylim(bottom=0)
    panel.yaxis.set_major_locator(MaxNLocator(nbins=3, integer=True))
    panel.set_title("runs still training")
    panel.set_xlabel(words("epoch"))


def _match(cells: pa.Table, runs: pa.Table, by: Sequence[str]) -> pa.Table:
    """The cells with the column ``runs``, how many their line has; unlike in a join, nulls match nulls."""
    counts = runs.group_by(list(by)).aggregate([([], "count_all")]).to_pylist()
    lines = {tuple(row[name] for name in by): row["count_all"] for row in counts}
    of_cells = zip(*(cells[name].to_pylist() for name in by), strict=True) if by else iter([()] * cells.num_rows)
    return cells.append_column("runs", pa.array([lines[line] for line in of_cells], pa.int64()))


@dataclass(frozen=True)
class _Drawn:
    """What a figure of training shows: of the records ``table`` the means ``cells`` of ``runs``, as ``lines``, of how many there are."""

    table: pa.Table
    runs: pa.Table
    said: str
    cells: pa.Table
    by: list[str]
    lines: list[Line]
    of: int

    def panel(self) -> tuple[Figure, Axes]:
        """A figure of one panel over epochs, above one of how many runs still train where some stop before others."""
        if (self.cells[TRAINING].to_numpy() == self.cells[RUNS].to_numpy()).all():
            figure, panel = bare_figure(7.4, 4.6)
            panel.set_xlabel(words("epoch"))
            return figure, panel
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7.4, 5.6), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=[4.2, 1])
        _draw_training(below, self.lines)
        return figure, above

    def explain(self, figure: Figure, values: Sequence[str], title: str | None, interval: Method | None, also: Sequence[str]) -> None:
        """Put the title, the legend and the note on the figure."""
        also = [*([self.said] if self.said else []), *also]
        text = note(self.table, self.cells, values, interval=interval, lines=(len(self.lines), self.of), also=also)
        explain(figure, self.lines, title_of(self.by, self.runs), title, text)


def _means(table: pa.Table, curves: pa.Table, values: Sequence[str], by: Sequence[str] | None, interval: Method = DEFAULT) -> _Drawn:
    """The lines of a figure of training."""
    runs, lines, said = runs_over_training(table, by)
    cells = over_training(runs, curves, values, lines, interval=interval)
    return _Drawn(table, runs, said, cells, lines, *split(cells, lines))
