"""The map of capacity against corruption, in which runs that fit and runs that did not stand beside each other, in no cell together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from analysis.errors import NothingToShow
from analysis.figures.drawing.canvas import explain, note
from analysis.figures.drawing.lines import label_of, shown_combinations, title_of
from analysis.figures.drawing.style import drawing
from analysis.statistics.aggregate import seed_means
from analysis.statistics.interpolation import line_thresholds
from analysis.statistics.selection import agreeing, checked, completed, lines_over, numeric
from analysis.statistics.tasks import own
from analysis.words import words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_SETTINGS = 4
"""The most settings of what varies beside capacity and corruption that get a map."""
MOST_NUMBERS = 160
"""The most cells of a map whose numbers are written out."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Map:
    """One setting over capacity and corruption.

    Attributes:
        label: what tells it from the others; empty for a single one.
        columns: the capacities, ascending.
        levels: of corruption, ascending.
        reached: means over the seeds that reached their train target, shape (levels, capacities), NaN where none did.
        missed: those over the seeds that did not.
        reached_seeds: how many seeds each of the first means is over, shape (levels, capacities).
        missed_seeds: how many each of the others is over.
        cells: the means as a table, as from `analysis.over_seeds`, by level, capacity and ``interpolated``.
        thresholds: the interpolation threshold of each level; 0 and infinite where all or no seeds fit everywhere, NaN without a seed.
    """

    label: str
    columns: list[Any]
    levels: list[Any]
    reached: Floats
    missed: Floats
    reached_seeds: Floats
    missed_seeds: Floats
    cells: pa.Table
    thresholds: Floats


def maps_of(table: pa.Table, capacity: str, value: str) -> tuple[list[Map], int]:
    """A map for each setting of what varies beside capacity and corruption, at most `MOST_SETTINGS`; and how many settings there are.

    Raises:
        NothingToShow: no completed record has the value.
    """
    runs, lines = lines_over(numeric(table, [capacity]), capacity)
    value = own(runs, value)
    runs = checked(runs, [value]).filter(pc.fill_null(pc.is_finite(runs[value].cast(pa.float64())), False))
    runs = runs.filter(pc.and_(pc.is_valid(runs["corruption.level"]), pc.is_valid(runs[capacity])))
    if not runs.num_rows:
        raise NothingToShow(f"no completed record has a {words(value)}: nothing can be shown")
    by = [name for name in lines if name != "corruption.level"]
    if not by:
        return [_map("", runs, capacity, value)], 1
    combinations, of = shown_combinations(runs, by, MOST_SETTINGS)
    parts = [(label_of(by, values), runs.filter(agreeing(by, values))) for values in combinations]
    return [_map(f"{title_of(by, runs)}: {label}", some, capacity, value) for label, some in parts], of


def capacity_corruption_map(
    table: pa.Table, *, capacity: str = "parameters_per_sample", value: str = "generalization_gap", title: str | None = None
) -> Figure:
    """Draw a value as a map of capacity against corruption level, with the interpolation threshold as a line.

    Above are the means over seeds that reached their train target, below those over seeds that did not: no cell averages both, and a
    colour means the same in every cell, which says over how many seeds it is. Colours diverge around 0 where values may lie on both sides
    of it, as a gap's do. What varies beside capacity and corruption has a column of maps for each setting.

    Args:
        table: records.
        capacity: the column of the horizontal axis; each of its values is one column of the map.
        value: what the colours show.
        title: stands above the figure.

    Raises:
        NothingToShow: no completed record has the value.
        AnalysisError: a column does not exist.
    """
    value = own(completed(table), value)
    maps, of = maps_of(table, capacity, value)
    both = [name for name in ("reached", "missed") if any(np.isfinite(getattr(one, name)).any() for one in maps)]
    wide = 0.3 + 0.56 * max(min(max(len(one.columns), 6), 14) for one in maps)
    high = 0.55 + 0.36 * max(min(max(len(one.levels), 4), 10) for one in maps)
    ends = colour_ends(maps, value)
    with drawing():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(1.5 + wide * len(maps), 1.3 + high * len(both)), layout="constrained")
        panels = figure.subplots(len(both), len(maps), squeeze=False, sharex="col", sharey="col")
        for name, row in zip(both, panels, strict=True):
            fit = "reached the train target" if name == "reached" else "did not reach it"
            for one, panel in zip(maps, row, strict=True):
                mesh = _draw(panel, one, getattr(one, name), ends)
                panel.set_title((f"{one.label}\n" if one.label and name == both[0] else "") + f"{words(value)}, seeds that {fit}")
                panel.set_xlabel(words(capacity) if name == both[-1] else "")
            row[0].set_ylabel(title_of(["corruption.level"], table))
        figure.colorbar(mesh, ax=panels, pad=0.015, aspect=32).outline.set_visible(False)
        text = note(table, pa.concat_tables(one.cells for one in maps), [value], interval=None, also=_also(maps, of))
        explain(figure, [], "", title, text)
    return figure


def colour_ends(maps: Sequence[Map], value: str) -> tuple[float, float]:
    """The values at both ends of the colours: those of all cells, or as far below 0 as above it for a value that lies on both sides."""
    grids = [grid[np.isfinite(grid)] for one in maps for grid in (one.reached, one.missed)]
    low, high = (float(end) for end in (np.concatenate(grids).min(), np.concatenate(grids).max()))
    if not value.endswith("gap") and low >= 0:
        return low, high
    return -max(abs(low), abs(high), 1e-9), max(abs(low), abs(high), 1e-9)


def threshold_line(one: Map) -> tuple[Floats, Floats]:
    """The threshold as a step line in units of columns and rows: x at each level's threshold, between the middles of the columns."""
    middles, sizes = np.arange(len(one.columns)) + 0.5, np.log(np.asarray(one.columns, np.float64))
    with np.errstate(divide="ignore"):
        places = np.interp(np.log(one.thresholds), sizes, middles, left=0.0, right=float(len(one.columns)))
    return np.repeat(places, 2), np.repeat(np.arange(len(places) + 1.0), 2)[1:-1]


def _map(label: str, runs: pa.Table, capacity: str, value: str) -> Map:
    columns, levels = (sorted(runs[name].unique().to_pylist()) for name in (capacity, "corruption.level"))
    runs = runs.set_column(runs.column_names.index("interpolated"), "interpolated", pc.fill_null(runs["interpolated"], False))
    cells = seed_means(runs, ["corruption.level", capacity, "interpolated"], [value])
    means, seeds = np.full((2, len(levels), len(columns)), np.nan), np.zeros((2, len(levels), len(columns)))
    row_of, column_of = ({one: index for index, one in enumerate(some)} for some in (levels, columns))
    for cell in cells.to_pylist():
        where = int(cell["interpolated"]), row_of[cell["corruption.level"]], column_of[cell[capacity]]
        means[where], seeds[where] = cell[value], cell["seeds"]
    return Map(label, columns, levels, means[1], means[0], seeds[1], seeds[0], cells, _thresholds(runs, levels, capacity))


def _thresholds(runs: pa.Table, levels: Sequence[Any], capacity: str) -> Floats:
    found = {row["corruption.level"]: row for row in line_thresholds(runs, ["corruption.level"], capacity).to_pylist()}
    places = []
    for level in levels:
        row = found.get(level)
        if row is None or row["threshold"] is not None:
            places.append(np.nan if row is None else row["threshold"])
        else:
            places.append(0.0 if row["always"] else np.inf)
    return np.array(places, np.float64)


def _draw(panel: Axes, one: Map, grid: Floats, ends: tuple[float, float]) -> Any:
    """Draw the cells, their numbers and the threshold."""
    colours = "RdBu_r" if ends[0] == -ends[1] else "cividis"
    mesh = panel.pcolormesh(np.ma.masked_invalid(grid), cmap=colours, vmin=ends[0], vmax=ends[1], rasterized=grid.size > 5000)
    panel.set_facecolor("#d5d5d5")
    panel.grid(visible=False)
    if grid.size <= MOST_NUMBERS:
        _write_numbers(panel, one, grid, mesh)
    xs, ys = threshold_line(one)
    for width, colour in ((3.4, "black"), (1.8, "white")):
        panel.plot(xs, ys, color=colour, linewidth=width, gid="threshold", solid_joinstyle="miter")
    _ticks(panel.set_xticks, one.columns)
    _ticks(panel.set_yticks, one.levels)
    return mesh


def _write_numbers(panel: Axes, one: Map, grid: Floats, mesh: Any) -> None:
    """Write each mean into its cell, and below it over how many seeds it is."""
    seeds = one.reached_seeds if grid is one.reached else one.missed_seeds
    for (row, column), number in np.ndenumerate(grid):
        if not np.isfinite(number):
            continue
        text = f"{number:.2f}".replace("-0.00", "0.00") + f"\nn {seeds[row, column]:.0f}"
        colour = mesh.cmap(mesh.norm(number))
        look: dict[str, Any] = {
            "color": "white" if np.dot(colour[:3], (0.299, 0.587, 0.114)) < 0.5 else "black",
            "fontsize": 6.8,
            "linespacing": 1,
        }
        behind = {"boxstyle": "square,pad=0.1", "facecolor": colour, "edgecolor": "none"}  # over the threshold
        panel.text(column + 0.5, row + 0.5, text, ha="center", va="center", bbox=behind, zorder=4, **look)


def _also(maps: Sequence[Map], of: int) -> list[str]:
    """The sentences that are a map's own."""
    also = ["White line: interpolation threshold, between the capacities that were run. n: seeds of a cell. Grey: no such seed."]
    if of > len(maps):
        also.append(f"{len(maps)} of {of:,} settings are shown.")
    return also


def _ticks(set_ticks: Any, values: Sequence[Any]) -> None:
    """Set ticks in the middle of at most 14 rows or columns."""
    step = -(-len(values) // 14)
    some = range(0, len(values), step)
    texts = [f"{values[index]:,}" if isinstance(values[index], int) else f"{values[index]:.3g}" for index in some]
    set_ticks([index + 0.5 for index in some], texts)
