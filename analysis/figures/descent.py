"""Double descent: test error that rises to a peak at the interpolation threshold and falls again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from analysis.errors import NothingToShow
from analysis.figures.drawing.canvas import (
    draw_line,
    error_axis,
    explain,
    log_axis,
    mark_thresholds,
    marks_explained,
    note,
)
from analysis.figures.drawing.lines import split, title_of
from analysis.figures.drawing.style import drawing
from analysis.statistics.aggregate import seed_means
from analysis.statistics.interpolation import line_thresholds
from analysis.statistics.intervals import DEFAULT, Method
from analysis.statistics.selection import checked, lines_over, numeric
from analysis.statistics.tasks import all_own
from analysis.words import words

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def double_descent(
    table: pa.Table,
    *,
    over: str = "model.width",
    by: Sequence[str] | None = None,
    values: Sequence[str] = ("test_error", "train_error"),
    interval: Method = DEFAULT,
    title: str | None = None,
) -> Figure:
    """Draw test and train error over model size or over samples (Belkin et al. 2018; Nakkiran et al. 2019).

    `analysis.epoch_double_descent` draws it over epochs.

    Args:
        table: records.
        over: the column of the horizontal, logarithmic axis: ``model.width``, ``parameters``, ``parameters_per_sample`` or
            ``data.train_size``.
        by: what tells lines apart; by default corruption and whatever else varies.
        values: one panel each, from the top; of regression errors stand for its own.
        interval: as for `over_seeds`.
        title: stands above the figure.

    Raises:
        NothingToShow: no completed record has the first of the values.
        AnalysisError: a column does not exist, or ``by`` leaves something that varies besides seeds.
    """
    runs, by = lines_over(numeric(table, [over]), over, by)
    values = all_own(runs, values)
    cells = seed_means(checked(runs, values), [*by, over, "interpolated"], values, interval=interval).sort_by(over)
    cells = cells.filter(pc.and_(pc.is_valid(cells[values[0]]), pc.greater(cells[over].cast(pa.float64()), 0)))
    if not cells.num_rows:
        raise NothingToShow(f"no completed record has a {words(values[0])} and a {words(over)}: nothing can be shown")
    thresholds = [] if over == "data.train_size" else line_thresholds(runs, by, over).to_pylist()
    found = {tuple(row[name] for name in by): row for row in thresholds}
    with drawing():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7.4, 2.4 + 1.9 * len(values)), layout="constrained")
        panels = figure.subplots(len(values), 1, sharex=True, squeeze=False, height_ratios=[1.5, *[1] * (len(values) - 1)])[:, 0]
        lines, of = split(cells, by)
        for value, panel in zip(values, panels, strict=True):
            for line in lines:
                draw_line(panel, line, over, value)
            log_axis(panel, lines[0].numbers(over, cells))
            error_axis(panel, lines[0].numbers(value, cells), value)
            mark_thresholds(panel, [(line, found.get(line.values)) for line in lines])
            panel.set_title(words(value))
        panels[-1].set_xlabel(words(over))
        text = note(table, cells, values, interval=interval, lines=(len(lines), of), also=marks_explained(found.values()))
        explain(figure, lines, title_of(by, runs), title, text)
    return figure
