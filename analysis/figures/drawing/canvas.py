"""The elements that all figures share: lines with bands, axes, the legend, and the note that says how to read them."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from analysis.figures.drawing.lines import FEW_LINES, Line
from analysis.statistics.intervals import LEVEL, Method, range_of
from analysis.statistics.moments import moment_of
from analysis.statistics.selection import outcomes
from analysis.statistics.tasks import OF_REGRESSION
from analysis.words import words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_FAR = (1e-300, 1e300)
FAR_ABOVE = 20.0
"""An error of regression beyond this stands on an axis that is logarithmic beyond 1."""
_APART = 8.0
"""Points of height of a row of thresholds."""
DASHES = (0, (3, 1.5))
FIT_NOTE = "Filled: reached the train target. Hollow: did not."
_MOST_MARKERS = 16
"""The most markers of one line: more would hide it."""
THRESHOLD_NOTE = (
    "Triangles: interpolation threshold, from which on runs reach the target (geometric mean over seeds), with its 95 % interval."
)
_INTERVALS: dict[Method, str] = {
    "logit": "over seeds (Student t on the logit scale of the quantity's bounds)",
    "student": "over seeds (Student t)",
    "betting": "over seeds, for any distribution (betting)",
}
_SOME_BOUNDED = "over seeds (Student t, on the logit scale of quantities with two bounds)"


def draw_line(panel: Axes, line: Line, x: str, y: str, *, fit: bool = True, **look: Any) -> None:
    """Draw means with their bands.

    Args:
        panel: the axes to draw on.
        line: its rows have the columns ``x``, ``y``, ``y.low``, ``y.high`` and, with ``fit``, ``interpolated``; sorted by x.
        x: column of the horizontal axis.
        y: column of the vertical axis.
        fit: tell seeds that fit (solid, filled markers) from those that did not (dashed, hollow).
        look: passed on to every plot.
    """
    if not fit:
        _draw_means(panel, line, line.rows, x, y, linestyle="-", markerfacecolor=line.colour, **look)
        return
    (fitted, solid), (unfitted, dashed) = parts_of(line)
    _draw_means(panel, line, fitted, x, y, linestyle=solid, markerfacecolor=line.colour, **look)
    _draw_means(panel, line, unfitted, x, y, linestyle=dashed, markerfacecolor="white", **look)
    if unfitted.num_rows and fitted.num_rows:
        for first, then in ((unfitted, fitted), (fitted, unfitted)):
            if line.numbers(x, first)[-1] < line.numbers(x, then)[0]:
                ends = [(line.numbers(column, first)[-1], line.numbers(column, then)[0]) for column in (x, y)]
                panel.plot(*ends, linestyle=DASHES, color=line.colour, zorder=1.5)


def parts_of(line: Line) -> tuple[tuple[pa.Table, Any], tuple[pa.Table, Any]]:
    """The rows of seeds that fit and of seeds that did not, each with the style of its line."""
    reached = pc.fill_null(line.rows["interpolated"], False)
    return (line.rows.filter(reached), "-"), (line.rows.filter(pc.invert(reached)), DASHES)


def _draw_means(panel: Axes, line: Line, rows: pa.Table, x: str, y: str, **look: Any) -> None:
    xs, low, high = (line.numbers(column, rows) for column in (x, f"{y}.low", f"{y}.high"))
    panel.fill_between(xs, low, high, color=line.colour, alpha=line.band, linewidth=0, gid="bands")
    sparse = max(1, len(xs) // _MOST_MARKERS)
    look = {"color": line.colour, "marker": line.marker, "markevery": sparse, "markeredgewidth": 1.3, "gid": "means"} | look
    panel.plot(xs, line.numbers(y, rows), **look)


def log_axis(panel: Axes, xs: NDArray[np.float64]) -> None:
    """Make the horizontal axis logarithmic, around positive values; its ticks are powers of ten, or the values if they are few and near."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter

    values = np.unique(xs)
    panel.set_xscale("log")
    panel.set_xlim(values[0] / 1.35, values[-1] * 1.35)
    few = values[-1] / values[0] < 20 and len(values) <= 9
    panel.xaxis.set_major_locator(FixedLocator(values.tolist()) if few else LogLocator(numticks=12))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}" if x >= 100 else f"{x:.3g}"))
    panel.xaxis.set_minor_formatter(NullFormatter())


def mark_end(panel: Axes, line: Line, x: str, y: str) -> None:
    """Draw a line's marker at the last mean of its seeds that fit, and a hollow one at that of the others, for lines of many points."""
    for (rows, _), face in zip(parts_of(line), (line.colour, "white"), strict=True):
        ends = rows.filter(pc.is_valid(rows[y]))
        if ends.num_rows:
            panel.plot(ends[x][-1].as_py(), ends[y][-1].as_py(), line.marker, color=line.colour, markerfacecolor=face, zorder=3)


def label_ends(panel: Axes, lines: Sequence[Line], x: str, y: str) -> None:
    """Write the name of each line beside its last mean, clear of the others, where lines are too many to tell by their colours.

    Call it when the vertical axis has its final range.
    """
    ends = []
    for line in lines if len(lines) > FEW_LINES else ():
        rows = line.rows.filter(pc.is_valid(line.rows[y])).sort_by(x)
        if rows.num_rows:
            ends.append((line.numbers(y, rows)[-1], line))
    low, high = panel.get_ylim()
    apart = 8.5 / (panel.bbox.height * 72 / panel.figure.dpi)
    below = -np.inf
    for place, line in sorted(ends, key=lambda end: end[0]):
        below = max(below + apart, min(max((place - low) / (high - low), 0.0), 1.0))
        text, look = line.label.partition(" (")[0], {"fontsize": 7, "color": line.colour, "va": "center", "annotation_clip": False}
        panel.annotate(text, (1, below), xycoords="axes fraction", xytext=(3, 0), textcoords="offset points", gid="end", **look)


def error_axis(panel: Axes, ys: NDArray[np.float64], value: str = "") -> None:
    """Let the vertical axis run from 0 (or below) to the largest mean. Intervals of two or three seeds may lie far outside it.

    An error of regression, which `value` names, has no upper end: where it rises to a peak the axis is logarithmic beyond 1, the error of
    always saying the mean.
    """
    finite = ys[np.isfinite(ys)]
    low, high = min(0.0, finite.min(initial=0.0)), finite.max(initial=0.02)
    if value in OF_REGRESSION and high > FAR_ABOVE:
        panel.set_yscale("symlog", linthresh=1.0)
        panel.set_ylabel("logarithmic beyond 1", fontsize=8)
    _set_ends(panel, low, high, (0.03, 0.08))


def _set_ends(panel: Axes, low: float, high: float, beyond: tuple[float, float]) -> None:
    """Set the ends of the vertical axis, with room below and above them as shares of its height."""
    scale = panel.yaxis.get_transform()
    bottom, top = scale.transform(np.array([low, high], np.float64))
    ends = [bottom - beyond[0] * (top - bottom), top + beyond[1] * (top - bottom)]
    panel.set_ylim(*scale.inverted().transform(np.array(ends)))


def mark_thresholds(panel: Axes, marks: Sequence[tuple[Line, Mapping[str, Any] | None]]) -> None:
    """Draw a triangle and a dotted line at each line's threshold, in its colour, with a bar for its interval.

    They stand above all data, those that would overlap in rows below each other; call it after `error_axis`.
    ``marks`` are lines with their rows of `analysis.threshold_table`; where all seeds fit everywhere, or none did anywhere, there is
    nothing to mark.
    """
    from matplotlib.transforms import ScaledTranslation

    known = [(line, row) for line, row in marks if row is not None and row["threshold"] is not None]
    rows = rows_apart([row["threshold"] for _, row in known], [ends_of(row) for _, row in known])
    height = panel.bbox.height * 72 / panel.figure.dpi
    low, high = panel.get_ylim()
    room = 1 / max(1 - (1 + max(rows, default=-1)) * _APART / height, 0.5) - 1
    _set_ends(panel, low, high, (0.0, room))  # for them above all data
    for (line, row), rank in zip(known, rows, strict=True):
        top = panel.get_xaxis_transform() + ScaledTranslation(0, -(rank + 0.5) * _APART / 72, panel.figure.dpi_scale_trans)
        panel.axvline(row["threshold"], color=line.colour, linewidth=0.9, linestyle=":", alpha=0.7, zorder=0.5)
        if row["seeds"] > 1:
            panel.plot(
                ends_of(row), [1, 1], transform=top, color=line.colour, linewidth=1.2, solid_capstyle="butt", zorder=4, gid="interval"
            )
        panel.plot(row["threshold"], 1, "v", transform=top, color=line.colour, markersize=5, clip_on=False, zorder=4, gid="threshold")


def marks_explained(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """What filled marks are, and triangles if some row of `analysis.threshold_table` has a threshold that one can mark."""
    return [FIT_NOTE, THRESHOLD_NOTE] if any(row["threshold"] is not None for row in rows) else [FIT_NOTE]


def ends_of(row: Mapping[str, Any]) -> list[float]:
    """Both ends of a threshold's interval; far outside the figure where the grid leaves it open."""
    return [edge if row[end] is None else row[end] for end, edge in zip(("threshold.low", "threshold.high"), _FAR, strict=True)]


def rows_apart(places: Sequence[float], ends: Sequence[Sequence[float]]) -> list[int]:
    """The row, from the top, in which each mark stands clear of those before it."""
    taken: list[list[tuple[float, float]]] = []
    rows = []
    for place, (low, high) in zip(places, ends, strict=True):
        mine = min(low, place / 1.12), max(high, place * 1.12)
        free = (index for index, others in enumerate(taken) if all(mine[1] < other[0] or other[1] < mine[0] for other in others))
        rank = next(free, len(taken))
        taken[rank:] = taken[rank:] or [[]]
        taken[rank].append(mine)
        rows.append(rank)
    return rows


def explain(figure: Figure, lines: Sequence[Line], legend_title: str, title: str | None, note: str) -> None:
    """Put the title and the legend above the panels, and the note below them."""
    from matplotlib.lines import Line2D

    if len(lines) > 1:
        handles = [Line2D([], [], color=line.colour, marker=line.marker, label=line.label) for line in lines]
        blank_line = "\n" if title else ""  # the layout would put the title and an outside legend at one position
        inches = [0.55 + 0.075 * len(line.label) for line in lines]
        columns = len(lines) if sum(inches) < figure.get_figwidth() else max(1, int(figure.get_figwidth() / max(inches)))
        figure.legend(
            handles=handles,
            title=blank_line + legend_title,
            loc="outside upper left",
            ncols=columns,
            alignment="left",
            handlelength=1.6,
            columnspacing=1.4,
        )
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")
    lines_of_text = textwrap.wrap(note, int(figure.get_figwidth() * 15.5))
    figure.supxlabel("\n".join(lines_of_text), x=0.01, ha="left", fontsize=8, color="#555555")


def bare_figure(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of one panel, its sizes in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def note(
    table: pa.Table,
    cells: pa.Table,
    values: Sequence[str],
    *,
    interval: Method | None,
    lines: tuple[int, int] = (1, 1),
    also: Iterable[str] = (),
    drawn: str = "bands",
) -> str:
    """The sentences on how to read a figure of means: over how many seeds, which intervals, what is not shown.

    Args:
        table: all records.
        cells: what is drawn, as from `analysis.over_seeds`.
        values: the columns that are drawn; where their seeds differ, each has its own number.
        interval: what the bands are; None for none.
        drawn: what shows the intervals, a plural.
        lines: how many are shown, and of how many.
        also: sentences of the figure's own.
    """
    counts = {name: _seeds_of(cells, name) for name in values}
    seeds = next(iter(counts.values())) if len(set(counts.values())) == 1 else None
    said = seeds or "; ".join(f"{words(name)} {count}" for name, count in counts.items())
    many = max(pc.max(cells[f"{name}.seeds"]).as_py() or 0 for name in values) > 1
    bands = f"; {drawn}: {100 * LEVEL:.0f} % intervals {_in_words(interval, values)}" if many and interval else ", without an interval"
    return " ".join([f"Means over {said} a point{bands}.", *also, *left_out_of(table, lines)])


def _in_words(interval: Method, values: Sequence[str]) -> str:
    """How the intervals of these columns are made; those without two bounds have Student's for the logit scale."""
    bounded = [bool(np.isfinite(range_of(name)).all()) for name in values]
    if interval != "logit" or all(bounded):
        return _INTERVALS[interval]
    return _SOME_BOUNDED if any(bounded) else _INTERVALS["student"]


def _seeds_of(cells: pa.Table, value: str) -> str:
    """Over how many seeds the means of a column are, in words."""
    counts = cells[f"{value}.seeds"]
    ends = pc.min_max(counts.filter(pc.greater(counts, 0))).as_py()
    few, many = ends["min"] or 0, ends["max"] or 0
    return f"{few:,} seed{'' if many == 1 else 's'}" if few == many else f"{few:,} to {many:,} seeds"


def single_runs_note(table: pa.Table, drawn: int, of: int, *, lines: tuple[int, int] = (1, 1), also: Iterable[str] = ()) -> str:
    """The sentences on how to read a figure of single runs: how many are drawn, of how many, and what is not shown."""
    count = f"{drawn:,} run{'s' if drawn > 1 else ''}" + (f", spread evenly over {of:,}" if drawn < of else "")
    return " ".join([f"One mark a run: {count}.", *also, *left_out_of(table, lines)])


def left_out_of(table: pa.Table, lines: tuple[int, int]) -> Iterator[str]:
    """The sentences on what a figure does not show, ``lines`` being how many are drawn, and of how many."""
    if moment_of(table):
        yield f"Values {moment_of(table)}."
    if lines[0] < lines[1]:
        yield f"{lines[0]} of {lines[1]:,} lines are shown."
    others = table.filter(pc.not_equal(table["status"], "completed"))
    if others.num_rows:
        yield f"Not drawn: {outcomes(others)}."
