"""The report's part about measures, theories and memorised images, as the plain data that plotly.js draws."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from html import escape
from typing import Any

import numpy as np
import pyarrow as pa

from analysis.errors import NothingToShow
from analysis.figures.drawing.lines import Line, split, title_of
from analysis.figures.measures import counted_runs, measured_runs, relative_lines, setting_note, tau_of, wide
from analysis.figures.runs import evenly
from analysis.figures.theories import MOST_IMAGES, RADEMACHER_NOTE, STABILITY_NOTE, Group, caption, memorisation_note, most_memorised
from analysis.records.schema import MEASURE
from analysis.report.traces import InteractiveFigure, plot
from analysis.statistics.questions.ranking import GAP, TooManyRuns, rank_measures
from analysis.statistics.questions.theories import SIGNS, rademacher_table, stability_table
from analysis.words import words

FEW = 5
"""A study that computed fewer measures than this does not compare them."""
_MOST_MARKS = 1000
_ROWS = 4
_LEGEND = "measure"


def measure_figures(table: pa.Table, samples: Callable[[], pa.Table]) -> Iterator[InteractiveFigure]:
    """The figures that these records have something for.

    Args:
        table: records with all their columns.
        samples: loads what the networks of these records do on each sample.
    """
    for draw in (_counts, _measures, _rademacher):
        try:
            yield draw(table)
        except NothingToShow:
            continue
    if f"{MEASURE}forgetting_events" in table.column_names:
        for draw_samples in (_stability, _memorised):
            try:
                yield draw_samples(table, samples())
            except NothingToShow:
                continue


def ranked_rows(table: pa.Table) -> list[list[Any]]:
    """Rows of measure, runs, tau, psi and mean sign-error, each score with both ends of its interval; no rows where little was measured.

    Raises:
        TooManyRuns: of more runs than are compared pair by pair.
    """
    if sum(name.startswith(MEASURE) for name in table.column_names) < FEW:
        return []
    try:
        ranked = rank_measures(table).to_pylist()
    except TooManyRuns:
        raise
    except NothingToShow:
        return []
    rows = []
    for row in ranked:
        cells = [row["measure"], row["points"]]
        for name in ("tau", "psi", "sign_error_mean"):
            cells += [row[name], row[f"{name}.low"], row[f"{name}.high"]]
        rows.append([None if isinstance(cell, float) and np.isnan(cell) else cell for cell in (*cells, row["environments"])])
    return rows


def _counts(table: pa.Table) -> InteractiveFigure:
    runs, cells, columns = counted_runs(table)
    gap = _trace(split(cells, [])[0][0], "corruption.level", GAP, role="mean")
    low, high = (cells[f"{GAP}.{end}"].to_pylist() for end in ("low", "high"))
    if None not in (*low, *high):
        xs = cells["corruption.level"].to_pylist()
        outline = {"x": xs + xs[::-1], "y": high + low[::-1], "fill": "toself", "mode": "lines", "line": {"width": 0}, "hoverinfo": "skip"}
        gap = [outline | {"meta": {"role": "band", "line": ()}}, *gap]
    lines = relative_lines(cells, columns)
    counted = [trace for line in lines for trace in _trace(line, "corruption.level", "relative", role="mean")]
    level = title_of(["corruption.level"], runs)
    values = np.concatenate([line.numbers("relative") for line in lines])
    plots = [
        plot(gap, level, words(GAP)),
        plot(counted, level, "measures, relative to the cleanest labels", up={"type": "log"} if wide(values) else {"rangemode": "tozero"}),
    ]
    note = f"{setting_note(table, runs)} Counts of capacity are the same whatever the labels: they cannot be what explains the gap."
    return InteractiveFigure("counts", "Capacity alone does not explain the gap", note, _LEGEND, [line.values for line in lines], plots)


def _measures(table: pa.Table) -> InteractiveFigure:
    runs, names = measured_runs(table)
    if len(names) < FEW:
        raise NothingToShow("few measures were computed")
    drawn = evenly(runs, _MOST_MARKS)
    lines, _ = split(drawn, ["corruption.level"])
    plots = []
    for name in names:
        traces = [trace for line in lines for trace in _trace(line, MEASURE + name, GAP, role="run")]
        logarithmic = wide(runs[MEASURE + name].cast(pa.float64()).to_numpy())
        title = f"{words(GAP)}; Kendall's tau {tau_of(runs, MEASURE + name):.2f}"
        plots.append(plot(traces, name, title, across={"type": "log"} if logarithmic else {}))
    note = (
        f"One mark a run: {drawn.num_rows:,} of {runs.num_rows:,} that reached their train target. The best and the worst measures by tau."
    )
    title = title_of(["corruption.level"], runs)
    return InteractiveFigure("measures", "Complexity measures against the gap", note, title, [line.values for line in lines], plots)


def _rademacher(table: pa.Table) -> InteractiveFigure:
    cells = rademacher_table(table)
    sizes = cells["parameters_per_sample"].to_pylist()
    names = {"complexity": "correlation with random signs", GAP: "gap on the true classes"}
    names |= {"rademacher_bound": "Rademacher bound", "vc_bound": "VC bound"}
    lines = [(name,) for name in names.values()]

    def trace(column: str, positive: bool = False) -> dict[str, Any]:
        values = [None if value is None or (positive and value <= 0) else value for value in cells[column].to_pylist()]
        line = (names[column],)
        shared = {"mode": "lines+markers", "name": names[column], "legendgroup": names[column], "showlegend": False}
        return shared | {"x": sizes, "y": values, "meta": {"role": "mean", "line": line}}

    vacuous = {"x": [sizes[0], sizes[-1]], "y": [1, 1], "mode": "lines", "line": {"dash": "dot"}, "meta": {"role": "reference"}}
    across, size = {"type": "log", "dtick": 1}, words("parameters_per_sample")
    reached = plot([trace("complexity"), trace(GAP)], size, "correlation reached, and gap", across=across)
    bounds = [trace("vc_bound"), trace("rademacher_bound"), trace(GAP, positive=True), vacuous | {"name": "vacuous above"}]
    plots = [reached, plot(bounds, size, "bounds of the gap", across=across, up={"type": "log"})]
    return InteractiveFigure(SIGNS, "Rademacher complexity and what it bounds", RADEMACHER_NOTE, "", lines, plots)


def _stability(table: pa.Table, samples: pa.Table) -> InteractiveFigure:
    cells = stability_table(table, samples).sort_by("data.train_size")
    by = [name for name in cells.column_names[: cells.column_names.index("largest")] if name != "data.train_size"]
    lines, _ = split(cells, by)
    titles = {"largest": "largest change of the loss", "at_replaced": "mean change at the samples taken away", "mean": "mean change"}
    plots = []
    for name, title in titles.items():
        traces = [trace for line in lines for trace in _trace(line, "data.train_size", name, role="mean")]
        plots.append(plot(traces, words("data.train_size"), title, across={"type": "log"}, up={"rangemode": "tozero"}))
    return InteractiveFigure("stability", "Uniform stability", STABILITY_NOTE, title_of(by, table), [line.values for line in lines], plots)


def _memorised(table: pa.Table, samples: pa.Table) -> InteractiveFigure:
    groups = most_memorised(table, samples)
    plots = [_tiles(group) for group in groups]
    return InteractiveFigure("memorised", "The most memorised images", memorisation_note(groups), "", [], plots)


def _tiles(group: Group) -> dict[str, Any]:
    """A plot of the images side by side on white, each above its label and score."""
    title, rows, images, _ = group
    height, width = images.shape[1:3]
    margin = max(2, height // 2)
    columns = MOST_IMAGES // _ROWS
    sheet = np.full((_ROWS * (height + margin), columns * (width + margin), 3), 255, dtype=np.uint8)
    xs, ys = [], []
    for index, image in enumerate(images):
        top, left = index // columns * (height + margin), index % columns * (width + margin)
        sheet[top : top + height, left : left + width] = image
        xs.append(left + (width - 1) / 2)
        ys.append(top + height - 1 + (margin + 1) / 2)
    hidden = {"visible": False}
    tiled = {"type": "image", "z": sheet.tolist(), "hoverinfo": "skip"}
    text = [caption(row).replace(": ", "<br>") for row in rows]
    captions = {"x": xs, "y": ys, "text": text, "mode": "text", "textfont": {"size": 10, "color": "#222222"}}
    hover = [f"training image {row['index']}, forgotten {row['forgotten']:.2g} times on average" for row in rows]
    captions |= {"hovertext": hover, "hoverinfo": "text"}
    return {
        "data": [tiled, captions],
        "layout": {"xaxis": hidden | {"title": {"text": ""}}, "yaxis": hidden | {"title": {"text": title}}},
    }


def _trace(line: Line, x: str, y: str, *, role: str) -> list[dict[str, Any]]:
    """The rows of a line as marks, which are joined if they are means."""
    trace: dict[str, Any] = {
        "x": line.rows[x].to_pylist(),
        "y": line.rows[y].to_pylist(),
        "mode": "markers" if role == "run" else "lines+markers",
        "marker": {"size": 5 if role == "run" else 8},
        "name": escape(line.label),
        "legendgroup": escape(line.label),
        "showlegend": False,
        "meta": {"role": role, "line": line.values},
    }
    if role == "run":
        trace |= {"text": line.rows["key"].to_pylist(), "hovertemplate": "%{text}<br>%{x:.4g}, %{y:.4g}<extra></extra>"}
    return [trace]
