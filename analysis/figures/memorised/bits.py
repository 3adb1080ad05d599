"""The figure of capacity in bits: how many labels networks of a size memorise, and the gap beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from analysis.errors import NothingToShow
from analysis.figures.drawing.canvas import DASHES, error_axis, explain, log_axis
from analysis.figures.drawing.lines import Line, numbers, split, title_of
from analysis.figures.drawing.style import drawing
from analysis.statistics.questions.capacity import GAP, capacity_table
from analysis.words import words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NOTE = (
    "Left: training samples memorised (train error 0 within the budget), geometric mean over seeds with its 95 % interval. Filled: random "
    "labels. Hollow: true labels. Arrows: all seeds fit every n tried. Right: means on true labels at the largest n tried, with 95 % "
    "intervals over seeds; arrows: true labels of every n tried fit, so that the ratio is at least that. Theorem 1: n = (p - d)/2, for "
    "which Zhang et al. 2017 construct a network of p parameters. Bars may go on beyond a panel."
)


def capacity_chart(table: pa.Table, *, title: str | None = None) -> Figure:
    """Draw how many random and true labels networks memorise against their parameters, and the gap against the ratio of the two.

    Args:
        table: records, as for `analysis.capacity_table`.
        title: stands above the figure.

    Raises:
        NothingToShow: as for `analysis.capacity_table`; or no setting fit any n.
    """
    cells = capacity_table(table)
    if not np.isfinite(np.concatenate([numbers(cells, f"{name}.fitted") for name in ("random", "true")])).any():
        raise NothingToShow("no setting has a number of samples that all seeds fit: there is nothing to draw")
    by = [name for name in cells.column_names[: cells.column_names.index("parameters")] if name not in ("model.width", "model.name")]
    models = ["model.name"] if len(cells["model.name"].unique()) > 1 else []
    cells = cells.sort_by("parameters")
    lines, _ = split(cells, [*models, *by])
    with drawing():
        from matplotlib.figure import Figure
        from matplotlib.ticker import LogLocator

        figure = Figure(figsize=(10.4, 4.8), layout="constrained")
        left, right = figure.subplots(1, 2)
        for panel, xs in ((left, numbers(cells, "parameters")), (right, numbers(cells, "ratio.fitted"))):
            log_axis(panel, xs[np.isfinite(xs)] if np.isfinite(xs).any() else np.array([1.0]))
            panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        left.set_yscale("log")
        left.set_ylim(_reach(cells))
        for line in lines:
            _draw_sizes(left, line)
            _draw_gap(right, line)
        error_axis(right, numbers(cells, GAP))
        _draw_guides(left, cells)
        left.set_xlabel(words("parameters"))
        left.set_title("training samples $n$ memorised")
        left.legend(loc="lower right")
        right.set_xlabel("largest $n$ fitted, true over random labels")
        right.set_title("generalization gap, true labels")
        explain(figure, lines, title_of([*models, *by], table), title, _NOTE)
    return figure


def _reach(cells: pa.Table) -> tuple[float, float]:
    """Both ends of the axis of n: around all values. Intervals of two or three seeds may lie far outside it."""
    found = np.concatenate([numbers(cells, name + part) for name in ("random", "true") for part in ("", ".fitted")])
    return float(np.nanmin(found)) / 1.6, float(np.nanmax(found)) * 2.2


def _draw_sizes(panel: Axes, line: Line) -> None:
    """The n memorised of each kind of labels; where all seeds fit every n, an arrow from the largest."""
    sizes = line.numbers("parameters")
    for name, face, style in (("random", line.colour, "-"), ("true", "white", DASHES)):
        found, fitted = line.numbers(name), line.numbers(f"{name}.fitted")
        shown = np.where(np.isfinite(found), found, fitted)
        look = {"color": line.colour, "marker": line.marker, "markerfacecolor": face, "linestyle": style, "markeredgewidth": 1.3}
        panel.plot(sizes, shown, gid=name, **look)
        panel.vlines(sizes, line.numbers(f"{name}.low"), line.numbers(f"{name}.high"), color=line.colour, linewidth=1.1)
        _arrows(panel, sizes, np.where(np.isfinite(found), np.nan, fitted), line, (0, 16))


def _draw_gap(panel: Axes, line: Line) -> None:
    """The gap against how many times more true labels fit than random ones."""
    ratios, gaps = line.numbers("ratio.fitted"), line.numbers(GAP)
    panel.plot(ratios, gaps, line.marker, color=line.colour, markeredgewidth=1.3, gid="gap")
    panel.vlines(ratios, line.numbers(f"{GAP}.low"), line.numbers(f"{GAP}.high"), color=line.colour, linewidth=1.1)
    _arrows(panel, np.where(line.numbers("true.all") > 0, ratios, np.nan), gaps, line, (16, 0))


def _arrows(panel: Axes, xs: np.ndarray, ys: np.ndarray, line: Line, towards: tuple[int, int]) -> None:
    """An arrow from each point, in points of the page: the value is at least that."""
    look = {"arrowstyle": "->", "color": line.colour, "linewidth": 1.1}
    for x, y in zip(xs, ys, strict=True):
        if np.isfinite(x) and np.isfinite(y):
            panel.annotate("", (x, y), xytext=towards, textcoords="offset points", arrowprops={**look, "arrowstyle": "<-"})


def _draw_guides(panel: Axes, cells: pa.Table) -> None:
    """Where a parameter holds one bit, and what Theorem 1 constructs, for each task of the cells."""
    sizes = np.geomspace(numbers(cells, "parameters").min() / 1.3, numbers(cells, "parameters").max() * 1.3, 200)
    tasks = sorted(set(zip(cells["classes"].to_pylist(), cells["inputs"].to_pylist(), strict=True)))
    for number, (classes, inputs) in enumerate(tasks):
        built = (sizes - inputs) / 2
        guides: Sequence[tuple[str, np.ndarray, str]] = (
            ("1 bit a parameter", sizes / np.log2(classes), ":"),
            ("Theorem 1", np.where(built >= 1, built, np.nan), "-."),
        )
        for label, values, style in guides:
            panel.plot(sizes, values, color="#777777", linewidth=1, linestyle=style, label=None if number else label, zorder=0.5)
