"""Figures over corruption: time to fit and test error against its level, and the map of width against corruption."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from analysis.errors import NothingToShow
from analysis.figures.drawing.canvas import FIT_NOTE, bare_figure, draw_line, error_axis, explain, note
from analysis.figures.drawing.lines import split, title_of
from analysis.figures.drawing.style import drawing
from analysis.statistics.aggregate import Interval, over_seeds
from analysis.statistics.selection import averaged_over, completed, varying_fields
from analysis.words import words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_NUMBERS = 160
"""The most cells of a map whose numbers are written out."""


def time_to_fit(
    table: pa.Table, *, by: Sequence[str] | None = None, relative: bool = True, interval: Interval = "t", title: str | None = None
) -> Figure:
    """Draw how long runs take to fit against the corruption level (Zhang et al. 2017, figure 1b).

    Args:
        table: records.
        by: what tells lines apart; by default every setting that varies, corruption apart.
        relative: in units of the mean epochs to fit without corruption (level 0), where that was run.
        interval: as for `over_seeds`; the uncertainty of the unit itself is not part of it.
        title: stands above the figure.

    Raises:
        NothingToShow: no completed record fit its training set.
    """
    runs, by = _runs(table, by)
    cells = over_seeds(runs, [*by, "corruption.level"], ["fit_epoch"], interval=interval)
    share = over_seeds(runs.append_column("fit", pc.is_valid(runs["fit_epoch"]).cast(pa.int8())), [*by, "corruption.level"], ["fit"])
    cells = cells.append_column("interpolated", pc.equal(share["fit"], 1.0))
    cells = cells.filter(pc.is_valid(cells["fit_epoch"]))
    if not cells.num_rows:
        raise NothingToShow("no completed record reached its train target: there is no time to fit to show")
    if relative:
        cells = relative_to_true_labels(cells, by)
    with drawing():
        figure, panel = bare_figure(7.4, 4.6)
        lines, of = split(cells, by)
        for line in lines:
            draw_line(panel, line, "corruption.level", "fit_epoch")
        error_axis(panel, lines[0].numbers("fit_epoch", cells))
        panel.set_xlabel(title_of(["corruption.level"], runs))
        panel.set_title("epochs to fit, relative to true labels" if relative else "epochs to fit")
        also = ["Hollow: some seeds did not fit in their epochs, and the mean is over those that did (too low)."]
        averaged = averaged_over(runs, [*by, "corruption.level"])
        text = note(table, cells, interval=interval, lines=(len(lines), of), averaged=averaged, also=also)
        explain(figure, lines, title_of(by, runs), title, text)
    return figure


def error_vs_corruption(
    table: pa.Table, *, value: str = "test_error", by: Sequence[str] | None = None, interval: Interval = "t", title: str | None = None
) -> Figure:
    """Draw the test error against the corruption level (Zhang et al. 2017, figure 1c), above the wrong-label rate.

    Args:
        table: records.
        value: the column of the vertical axis.
        by: what tells lines apart; by default every setting that varies, corruption apart.
        interval: as for `over_seeds`.
        title: stands above the figure.

    Raises:
        NothingToShow: no completed record has the value.
    """
    runs, by = _runs(table, by)
    cells = over_seeds(runs, [*by, "corruption.level", "interpolated"], [value], interval=interval).sort_by("corruption.level")
    cells = cells.filter(pc.is_valid(cells[value]))
    if not cells.num_rows:
        raise NothingToShow(f"no completed record has a {words(value)}: nothing can be shown")
    rates = over_seeds(runs, ["corruption.level"], ["wrong_label_rate"])
    with drawing():
        figure, panel = bare_figure(7.4, 4.6)
        lines, of = split(cells, by)
        panel.plot(*(rates[name].to_numpy() for name in ("corruption.level", "wrong_label_rate")), ":", color="#777777", gid="rate")
        for line in lines:
            draw_line(panel, line, "corruption.level", value)
        error_axis(panel, np.append(lines[0].numbers(value, cells), rates["wrong_label_rate"].to_numpy()))
        panel.set_xlabel(title_of(["corruption.level"], runs))
        panel.set_title(words(value))
        averaged = averaged_over(runs, [*by, "corruption.level"])
        also = [FIT_NOTE, "Dotted: the fraction of training labels that are wrong."]
        text = note(table, cells, interval=interval, lines=(len(lines), of), averaged=averaged, also=also)
        explain(figure, lines, title_of(by, runs), title, text)
    return figure


def capacity_corruption_map(
    table: pa.Table, *, capacity: str = "parameters_per_sample", value: str = "generalization_gap", title: str | None = None
) -> Figure:
    """Draw a value as a map of capacity against corruption level, with the interpolation threshold as a line.

    Args:
        table: records.
        capacity: the column of the horizontal axis; each of its values is one column of the map.
        value: what the colours show.
        title: stands above the figure.

    Raises:
        NothingToShow: no completed record has the value.
    """
    runs = completed(table)
    cells = over_seeds(runs.append_column("fit", runs["interpolated"].cast(pa.float64())), ["corruption.level", capacity], [value, "fit"])
    cells = cells.filter(pc.is_valid(cells[value]))
    if not cells.num_rows:
        raise NothingToShow(f"no completed record has a {words(value)}: nothing can be shown")
    columns, levels, grid = grid_of(cells, capacity, value)
    fit = grid_of(cells, capacity, "fit")[2]
    with drawing():
        figure, panel = bare_figure(1.8 + 0.62 * min(max(len(columns), 6), 14), 1.9 + 0.42 * min(max(len(levels), 4), 10))
        mesh = panel.pcolormesh(np.ma.masked_invalid(grid), cmap="cividis", rasterized=grid.size > 5000)
        panel.set_facecolor("#dddddd")
        panel.grid(visible=False)
        if grid.size <= _MOST_NUMBERS:
            _write_numbers(panel, grid, mesh)
        _draw_threshold(panel, fit)
        _ticks(panel.set_xticks, columns)
        _ticks(panel.set_yticks, levels)
        panel.set_xlabel(words(capacity))
        panel.set_ylabel(title_of(["corruption.level"], runs))
        panel.set_title(words(value))
        figure.colorbar(mesh, ax=panel, pad=0.015).outline.set_visible(False)
        averaged = averaged_over(runs, ["corruption.level", capacity])
        also = ["White line: interpolation threshold; right of it all seeds reached the train target."]
        also += ["Grey: not run."] if np.isnan(grid).any() else []
        explain(figure, [], "", title, note(table, cells, interval=None, averaged=averaged, also=also))
    return figure


def _runs(table: pa.Table, by: Sequence[str] | None) -> tuple[pa.Table, list[str]]:
    """The completed records, and what tells their lines apart: by default every setting that varies, corruption apart."""
    runs = completed(table)
    return runs, [name for name in varying_fields(runs) if not name.startswith("corruption.")] if by is None else list(by)


def relative_to_true_labels(cells: pa.Table, by: Sequence[str]) -> pa.Table:
    """Epochs to fit, divided by those of the same line at level 0; lines that did not fit there are left out."""
    rows = cells.to_pylist()
    units = {tuple(row[name] for name in by): row["fit_epoch"] for row in rows if row["corruption.level"] == 0}
    kept = [row for row in rows if units.get(tuple(row[name] for name in by))]
    if not kept:
        raise NothingToShow("no line fit without corruption (level 0): there is nothing that times to fit could be relative to")
    for row in kept:
        unit = units[tuple(row[name] for name in by)]
        for name in ("fit_epoch", "fit_epoch.low", "fit_epoch.high"):
            row[name] = None if row[name] is None else row[name] / unit
    return pa.Table.from_pylist(kept, cells.schema)


def grid_of(cells: pa.Table, capacity: str, value: str) -> tuple[list[Any], list[Any], NDArray[np.float64]]:
    """The distinct capacities and levels, ascending, and the values as an array (levels, capacities), NaN where not run."""
    columns, levels = (sorted(set(cells[name].drop_null().to_pylist())) for name in (capacity, "corruption.level"))
    grid = np.full((len(levels), len(columns)), np.nan)
    row_of = {level: row for row, level in enumerate(levels)}
    column_of = {one: column for column, one in enumerate(columns)}
    for level, one, number in zip(*(cells[name].to_pylist() for name in ("corruption.level", capacity, value)), strict=True):
        if level is not None and one is not None and number is not None:
            grid[row_of[level], column_of[one]] = number
    return columns, levels, grid


def _write_numbers(panel: Axes, grid: NDArray[np.float64], mesh: Any) -> None:
    for (row, column), number in np.ndenumerate(grid):
        if np.isfinite(number):
            dark = np.dot(mesh.cmap(mesh.norm(number))[:3], (0.299, 0.587, 0.114)) < 0.5
            panel.text(column + 0.5, row + 0.5, f"{number:.2f}", ha="center", va="center", fontsize=7.5, color="white" if dark else "black")


def _draw_threshold(panel: Axes, fit: NDArray[np.float64]) -> None:
    """Draw a step line that lies, row by row, left of the first column in which all seeds fit."""
    reached = fit >= 1
    first = np.where(reached.any(axis=1), reached.argmax(axis=1), fit.shape[1]).astype(float)
    xs, ys = np.repeat(first, 2), np.repeat(np.arange(len(first) + 1.0), 2)[1:-1]
    for width, colour in ((4.0, "black"), (2.2, "white")):
        panel.plot(xs, ys, color=colour, linewidth=width, gid="threshold", solid_joinstyle="miter")


def _ticks(set_ticks: Any, values: Sequence[Any]) -> None:
    """Set ticks in the middle of at most 14 rows or columns."""
    step = -(-len(values) // 14)
    some = range(0, len(values), step)
    texts = [f"{values[index]:,}" if isinstance(values[index], int) else f"{values[index]:.3g}" for index in some]
    set_ticks([index + 0.5 for index in some], texts)
