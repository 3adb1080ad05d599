"""Figures of single runs: train error against test error, and parallel coordinates over everything that varies."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from analysis.errors import AnalysisError, NothingToShow, unknown_column
from analysis.figures.drawing.canvas import FIT_NOTE, bare_figure, explain, single_runs_note
from analysis.figures.drawing.lines import only_shown, split, title_of
from analysis.figures.drawing.style import drawing
from analysis.statistics.selection import completed, completed_lines, varying_fields
from analysis.statistics.tasks import all_own, own
from analysis.words import words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_RUNS = 5000
"""The most runs that are drawn: of more, as many are taken, spread evenly over the table."""


def train_vs_test(table: pa.Table, *, by: Sequence[str] | None = None, title: str | None = None) -> Figure:
    """Draw the test error of every run against its train error; the distance from the diagonal is the generalization gap.

    Args:
        table: records; completed ones are drawn.
        by: what tells colours apart; corruption by default.
        title: stands above the figure.

    Raises:
        NothingToShow: no completed record has both errors.
    """
    runs, by = completed_lines(table, by)
    train, test = all_own(runs, ("train_error", "test_error"))
    runs = runs.filter(pc.and_(pc.is_finite(runs[train]), pc.is_finite(runs[test])))
    if not runs.num_rows:
        raise NothingToShow("no completed record has a train and a test error: nothing can be shown")
    shown, of = only_shown(runs, by)
    drawn = evenly(shown, MOST_RUNS)
    with drawing():
        figure, panel = bare_figure(6.2, 5.8)
        lines = split(drawn, by)[0]
        top = 1.06 * max(line.numbers(value, drawn).max() for line in lines for value in (train, test))
        top = max(top, 0.05)
        panel.plot([0, top], [0, top], color="#999999", linewidth=1, linestyle=":")
        for line in lines:
            fit = pc.fill_null(line.rows["interpolated"], False)
            for rows, face in ((line.rows.filter(fit), line.colour), (line.rows.filter(pc.invert(fit)), "none")):
                xs, ys = line.numbers(train, rows), line.numbers(test, rows)
                look = {"marker": line.marker, "color": line.colour, "markerfacecolor": face, "markersize": 4.5, "alpha": 0.75}
                panel.plot(xs, ys, linestyle="", gid="runs", **look)
        panel.set_xlim(-0.025 * top, top)
        panel.set_ylim(-0.025 * top, top)
        panel.set_aspect("equal")
        panel.set_xlabel(words(train))
        panel.set_ylabel(words(test))
        text = single_runs_note(table, drawn.num_rows, shown.num_rows, lines=(len(lines), of), also=[FIT_NOTE, "Dotted: no gap."])
        explain(figure, lines, title_of(by, runs), title, text)
    return figure


def parallel_coordinates(
    table: pa.Table, *, columns: Sequence[str] | None = None, colour: str = "generalization_gap", title: str | None = None
) -> Figure:
    """Draw every run as a line across parallel axes, one axis a column, coloured by an outcome.

    Args:
        table: records; completed ones are drawn.
        columns: the axes, from the left; by default every setting that varies, the train error and the colour.
        colour: a numeric column, also the last axis.
        title: stands above the figure.

    Raises:
        NothingToShow: no completed record has the colour.
        AnalysisError: a column does not exist, or fewer than two axes remain.
    """
    runs = completed(table)
    colour = own(runs, colour)
    for name in (*(columns or ()), colour):
        if name not in runs.column_names:
            raise unknown_column(name, runs.column_names)
    axes = [*(columns or [*varying_fields(runs), own(runs, "train_error")]), colour]
    axes = list(dict.fromkeys(axes))
    runs = runs.filter(pc.fill_null(pc.is_finite(runs[colour].cast(pa.float64())), False))
    if not runs.num_rows:
        raise NothingToShow(f"no completed record has a {words(colour)}: nothing can be shown")
    if len(axes) < 2:
        raise AnalysisError("parallel coordinates need at least two columns")
    drawn = evenly(runs, MOST_RUNS)
    with drawing():
        figure, panel = bare_figure(min(2.2 + 1.35 * len(axes), 16), 4.8)
        heights = np.stack([_axis(panel, position, drawn[name]) for position, name in enumerate(axes)], axis=1)
        shown = _draw_runs(panel, heights, drawn[colour].cast(pa.float64()).to_numpy())
        panel.set_xlim(-0.35, len(axes) - 0.65)
        panel.set_ylim(-0.04, 1.04)
        panel.grid(visible=False)
        for side in panel.spines.values():
            side.set_visible(False)
        panel.set_yticks([])
        panel.set_xticks(range(len(axes)), [textwrap.fill(words(name), 16) for name in axes])
        panel.tick_params(axis="x", length=0, pad=8)
        bar = figure.colorbar(shown, ax=panel, pad=0.02)
        bar.set_label(words(colour))
        bar.outline.set_visible(False)
        explain(figure, [], "", title, single_runs_note(table, drawn.num_rows, runs.num_rows))
    return figure


def evenly(table: pa.Table, most: int) -> pa.Table:
    """At most so many rows, spread evenly over the table."""
    if table.num_rows <= most:
        return table
    return table.take(pa.array(np.linspace(0, table.num_rows - 1, most).round().astype(np.int64)))


def _axis(panel: Axes, position: int, column: pa.ChunkedArray) -> NDArray[np.float64]:
    """Draw one axis with its ticks, and return where on it, in [0, 1], each run lies (NaN for null)."""
    ticks, heights = _scale(column)
    panel.axvline(position, color="#888888", linewidth=0.9, zorder=3)
    for height, text in ticks:
        box = {"boxstyle": "round,pad=0.12", "facecolor": "white", "edgecolor": "none", "alpha": 0.8}
        panel.text(position - 0.02, height, text, ha="right", va="center", fontsize=7.5, color="#333333", zorder=4, bbox=box)
    return heights


def _scale(column: pa.ChunkedArray) -> tuple[list[tuple[float, str]], NDArray[np.float64]]:
    """Ticks as (height, text), and the heights of the values: numbers by size (logarithmic over a factor of 50), names by rank."""
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        names = sorted({str(value) for value in column.to_pylist()})
        step = 1 / max(len(names) - 1, 1)
        rank = {name: index * step for index, name in enumerate(names)}
        return [(rank[name], name) for name in names[:12]], np.array([rank[str(value)] for value in column.to_pylist()])
    numbers = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    low, high = np.nanmin(numbers), np.nanmax(numbers)
    logarithmic = low > 0 and high > 50 * low
    unique = np.unique(numbers[np.isfinite(numbers)])
    shown = unique if len(unique) <= 6 else _round_ticks(low, high, logarithmic=logarithmic)

    def height(value: Any) -> Any:
        bottom, top, at = (np.log(one) if logarithmic else one for one in (low, high, value))
        return (at - bottom) / ((top - bottom) or 1)

    return [(float(height(value)), f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}") for value in shown], height(numbers)


def _round_ticks(low: float, high: float, *, logarithmic: bool) -> NDArray[np.float64]:
    from matplotlib.ticker import LogLocator, MaxNLocator

    locator: Any = LogLocator() if logarithmic else MaxNLocator(5)
    ticks = np.asarray(locator.tick_values(low, high))
    return ticks[(ticks >= low) & (ticks <= high)]


def _draw_runs(panel: Axes, heights: NDArray[np.float64], colours: NDArray[np.float64]) -> Any:
    from matplotlib.cm import ScalarMappable
    from matplotlib.collections import LineCollection

    segments = np.stack([np.broadcast_to(np.arange(heights.shape[1]), heights.shape), heights], axis=2)
    order = np.argsort(colours)
    strength = float(np.clip(60 / len(heights), 0.08, 0.8))
    runs = LineCollection(list(segments[order]), array=colours[order], cmap="viridis", linewidths=1.0, alpha=strength, gid="runs")
    panel.add_collection(runs)
    return ScalarMappable(runs.norm, runs.cmap)
