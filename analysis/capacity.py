"""The main picture: the generalization gap against capacity, one line a corruption level, train and test error beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from analysis.aggregate import LEVEL, completed_lines, outcomes, over_seeds
from analysis.errors import NothingToShow
from analysis.lines import MOST_LINES, Line, split, title_of
from analysis.style import drawing, words
from analysis.thresholds import interpolation_thresholds

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANELS = ("generalization_gap", "train_error", "test_error")


def gap_vs_capacity(
    table: pa.Table, *, capacity: str = "parameters_per_sample", by: Sequence[str] | None = None, title: str | None = None
) -> Figure:
    """Draw the generalization gap against capacity, with train and test error beside it.

    Each point is the mean over the seeds of one capacity, with a band for its 95 % Student t interval. Seeds that reached
    their train target (filled) and seeds that did not (hollow) are separate points. Ticks on the capacity axis mark each
    line's interpolation threshold: the smallest capacity at which all seeds reached it.

    Args:
        table: records, as `analysis.load` returns them; only completed ones are drawn, the note counts the others.
        capacity: the column of the horizontal, logarithmic axis; positive.
        by: what tells lines apart; corruption by default.
        title: stands above the picture.

    Raises:
        NothingToShow: no completed record has a gap.
    """
    runs, lines_by = completed_lines(table, by)
    cells = over_seeds(runs, [*lines_by, capacity, "interpolated"], PANELS)
    cells = cells.filter(pc.and_(pc.is_valid(cells["generalization_gap"]), pc.greater(cells[capacity].cast(pa.float64()), 0)))
    if not cells.num_rows:
        raise NothingToShow(f"no completed record has a generalization gap and a {words(capacity)}: nothing can be shown")
    lines, of = split(cells, lines_by)
    thresholds = interpolation_thresholds(runs, capacity=capacity, by=lines_by).to_pylist()
    marks = {tuple(one[name] for name in lines_by): one["threshold"] for one in thresholds}
    with drawing():
        figure, axes = _panels()
        for value, panel in zip(PANELS, axes, strict=True):
            for line in lines:
                draw_line(panel, line, capacity, value)
            _frame(panel, lines, capacity, value)
            _mark_thresholds(panel, [(line, marks[line.values]) for line in lines])
        _explain(figure, axes[0], lines, title_of(lines_by, runs), title, _note(table, cells, len(lines), of))
    return figure


def draw_line(panel: Axes, line: Line, x: str, y: str) -> None:
    """Draw the seeds that fit as a solid line with filled markers, those that did not as a dashed one with hollow markers."""
    fit = pc.fill_null(line.rows["interpolated"], False)
    fitted, unfitted = line.rows.filter(fit), line.rows.filter(pc.invert(fit))
    for rows, dashes, face in ((fitted, "-", line.colour), (unfitted, (0, (3, 1.5)), "white")):
        xs, ys = line.numbers(x, rows), line.numbers(y, rows)
        panel.fill_between(xs, line.numbers(f"{y}.low", rows), line.numbers(f"{y}.high", rows), color=line.colour, alpha=0.16, linewidth=0)
        panel.plot(xs, ys, linestyle=dashes, color=line.colour, marker=line.marker, markerfacecolor=face, markeredgewidth=1.3, gid="means")
    if unfitted.num_rows and fitted.num_rows and line.numbers(x, unfitted)[-1] < line.numbers(x, fitted)[0]:
        ends = [(line.numbers(column, unfitted)[-1], line.numbers(column, fitted)[0]) for column in (x, y)]
        panel.plot(*ends, linestyle=(0, (3, 1.5)), color=line.colour, zorder=1.5)


def _panels() -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.4, 5.4), layout="constrained")
    mosaic = figure.subplot_mosaic([["gap", "train"], ["gap", "test"]], width_ratios=[1.75, 1], sharex=True)
    return figure, [mosaic["gap"], mosaic["train"], mosaic["test"]]


def _frame(panel: Axes, lines: Sequence[Line], capacity: str, value: str) -> None:
    """Axes, limits and names. Limits follow the means: the intervals of two or three seeds may lie far outside."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    xs = np.concatenate([line.numbers(capacity) for line in lines])
    ys = np.concatenate([line.numbers(value) for line in lines])
    low, high = min(0.0, np.nanmin(ys, initial=0.0)), np.nanmax(ys, initial=0.02)
    panel.set_xscale("log")
    panel.set_xlim(xs.min() / 1.35, xs.max() * 1.35)
    panel.set_ylim(low - 0.03 * (high - low), high + 0.08 * (high - low))
    panel.xaxis.set_major_locator(LogLocator(numticks=12))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}" if x >= 1 else f"{x:g}"))
    panel.xaxis.set_minor_formatter(NullFormatter())
    panel.set_title(words(value))
    if value != "train_error":
        panel.set_xlabel(words(capacity))


def _mark_thresholds(panel: Axes, marks: Sequence[tuple[Line, float | None]]) -> None:
    """A triangle in the line's colour above its threshold; those at the same capacity stand above each other."""
    from matplotlib.transforms import ScaledTranslation

    beside: dict[float, int] = {}
    for line, threshold in marks:
        if threshold is None:
            continue
        place = beside[threshold] = beside.get(threshold, -1) + 1
        lower = ScaledTranslation(0, -place * 6 / 72, panel.figure.dpi_scale_trans)
        panel.axvline(threshold, color=line.colour, linewidth=0.9, linestyle=":", alpha=0.7, zorder=0.5)
        top = panel.get_xaxis_transform() + lower
        panel.plot(threshold, 1, "v", transform=top, color=line.colour, markersize=6, clip_on=False, zorder=4)


def _explain(figure: Figure, panel: Axes, lines: Sequence[Line], legend_title: str, title: str | None, note: str) -> None:
    from matplotlib.lines import Line2D

    if len(lines) > 1:
        handles = [Line2D([], [], color=line.colour, marker=line.marker, label=line.label) for line in lines]
        room = "\n" if title else ""  # the layout would put the title and an outside legend into one place
        figure.legend(
            handles=handles,
            title=room + legend_title,
            loc="outside upper left",
            ncols=6,
            alignment="left",
            handlelength=1.6,
            columnspacing=1.4,
        )
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")
    figure.supxlabel(note, x=0.01, ha="left", fontsize=8, color="#555555")


def _note(table: pa.Table, cells: pa.Table, shown: int, of: int) -> str:
    seeds = pc.min_max(cells["seeds"]).as_py()
    few, many = seeds["min"], seeds["max"]
    parts = [
        f"Means over {few if few == many else f'{few} to {many}'} seed{'s' if many > 1 else ''} a point"
        + (f"; bands: {LEVEL:.0%} Student t intervals of these means." if many > 1 else "; no interval.").replace("%", " %"),
        "Filled: reached the train target. Hollow: did not.\n"
        "Triangles: interpolation threshold, the smallest capacity at which all seeds reached the target.",
    ]
    if shown < of:
        parts.append(f"{MOST_LINES} of {of:,} lines are shown.")
    others = table.filter(pc.not_equal(table["status"], "completed"))
    if others.num_rows:
        parts.append(f"Not drawn: {outcomes(others)}.")
    return " ".join(parts)
