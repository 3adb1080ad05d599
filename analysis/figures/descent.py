"""Double descent: test error that rises to a peak at the interpolation threshold and falls again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from analysis.errors import NothingToShow
from analysis.figures.drawing.canvas import FIT_NOTE, draw_line, error_axis, explain, log_axis, mark_thresholds, note
from analysis.figures.drawing.lines import split, title_of
from analysis.figures.drawing.style import drawing
from analysis.statistics.aggregate import Interval, over_seeds
from analysis.statistics.selection import averaged_over, completed_lines
from analysis.statistics.thresholds import interpolation_thresholds
from analysis.words import words

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def double_descent(
    table: pa.Table,
    *,
    over: str = "model.width",
    by: Sequence[str] | None = None,
    values: Sequence[str] = ("test_error", "train_error"),
    interval: Interval = "t",
    title: str | None = None,
) -> Figure:
    """Draw test and train error over model size or over samples (Belkin et al. 2018; Nakkiran et al. 2019).

    `analysis.epoch_double_descent` draws it over epochs.

    Args:
        table: records.
        over: the column of the horizontal, logarithmic axis: ``model.width``, ``parameters``, ``parameters_per_sample`` or
            ``data.train_size``.
        by: what tells lines apart; corruption by default.
        values: one panel each, from the top.
        interval: as for `over_seeds`.
        title: stands above the figure.

    Raises:
        NothingToShow: no completed record has the first of the values.
    """
    runs, by = completed_lines(table, by)
    cells = over_seeds(runs, [*by, over, "interpolated"], values, interval=interval).sort_by(over)
    cells = cells.filter(pc.and_(pc.is_valid(cells[values[0]]), pc.greater(cells[over].cast(pa.float64()), 0)))
    if not cells.num_rows:
        raise NothingToShow(f"no completed record has a {words(values[0])} and a {words(over)}: nothing can be shown")
    thresholds = [] if over == "data.train_size" else interpolation_thresholds(runs, capacity=over, by=by).to_pylist()
    found = {tuple(row[name] for name in by): row["threshold"] for row in thresholds}
    with drawing():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7.4, 2.4 + 1.9 * len(values)), layout="constrained")
        panels = figure.subplots(len(values), 1, sharex=True, squeeze=False, height_ratios=[1.5, *[1] * (len(values) - 1)])[:, 0]
        lines, of = split(cells, by)
        for value, panel in zip(values, panels, strict=True):
            for line in lines:
                draw_line(panel, line, over, value)
            mark_thresholds(panel, [(line, found.get(line.values)) for line in lines])
            log_axis(panel, lines[0].numbers(over, cells))
            error_axis(panel, lines[0].numbers(value, cells))
            panel.set_title(words(value))
        panels[-1].set_xlabel(words(over))
        also = [FIT_NOTE, *(["Triangles: the smallest at which all seeds reached the target."] if found else [])]
        averaged = averaged_over(runs, [*by, over])
        text = note(table, cells, interval=interval, lines=(len(lines), of), averaged=averaged, also=also)
        explain(figure, lines, title_of(by, runs), title, text)
    return figure
