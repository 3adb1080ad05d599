"""The report's interactive pictures, as the plain data that plotly.js draws.

Colours are not in the data: a trace says which line it belongs to, and the page colours it for light, dark or paper.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from math import isfinite
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from analysis.errors import NothingToShow
from analysis.figures.canvas import FIT_NOTE, note, single_runs_note
from analysis.figures.corruption import grid_of, relative_to_true_labels
from analysis.figures.lines import Line, only_shown, split, title_of
from analysis.figures.runs import evenly
from analysis.figures.training import over_training
from analysis.statistics.aggregate import ERRORS, averaged_over, completed, completed_lines, over_seeds, varying_fields
from analysis.words import words

MOST_MARKS = 3000
"""Runs that are drawn one by one."""
_DRAWN = (
    *("key", "status", "seed", "corruption.kind", "corruption.level", "parameters", "parameters_per_sample"),
    *("interpolated", "fit_epoch", "wrong_label_rate", *ERRORS),
)
_SYMBOLS = {
    "o": "circle",
    "s": "square",
    "^": "triangle-up",
    "D": "diamond",
    "<": "triangle-left",
    ">": "triangle-right",
    "h": "hexagon",
    "p": "pentagon",
}
_MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Picture:
    """One or more plots that share their lines, under a title.

    Attributes:
        name: identifies it on the page.
        title: stands above.
        note: how to read it.
        legend: what the colours stand for; empty for none.
        lines: the values of the lines, for their colours.
        plots: what plotly.js takes, ``{"data": [...], "layout": {...}}``.
    """

    name: str
    title: str
    note: str
    legend: str
    lines: list[Any]
    plots: list[dict[str, Any]]


def pictures(table: pa.Table, curves: Callable[[pa.Table], pa.Table]) -> Iterator[Picture | str]:
    """Every picture that these records have something for; where they have nothing, the sentence that says so.

    Args:
        table: records.
        curves: loads the curves of some records.
    """
    table = table.select(list(dict.fromkeys([*_DRAWN, *varying_fields(table)])))  # filtering all columns of many runs takes long
    drawers = (_gap, _map, _error_vs_corruption, _time_to_fit, _train_vs_test)
    for draw in drawers:
        try:
            yield draw(table)
        except NothingToShow as error:
            yield str(error)
    try:
        largest = _of_largest(table)
        yield from _training(largest, curves(largest))
    except NothingToShow as error:
        yield str(error)


def _gap(table: pa.Table) -> Picture:
    runs, by = completed_lines(table, None)
    shown, of = only_shown(runs, by)
    cells = over_seeds(shown, [*by, "parameters_per_sample", "interpolated"], ERRORS)
    cells = cells.filter(pc.and_(pc.is_valid(cells["generalization_gap"]), pc.greater(cells["parameters_per_sample"], 0)))
    if not cells.num_rows:
        raise NothingToShow("no completed record has a generalization gap and parameters per sample")
    lines, marks = split(cells, by)[0], evenly(shown, MOST_MARKS)
    plots = []
    for value in ERRORS:
        traces = _run_traces(marks, lines, "parameters_per_sample", value)
        traces += [trace for line in lines for trace in _mean_traces(line, "parameters_per_sample", value)]
        title = f"{words(value)} (test error {_MINUS} train error)" if value == ERRORS[0] else words(value)
        plots.append(_plot(traces, "parameters per sample p/n", title, logarithmic=True))
    averaged, also = averaged_over(shown, [*by, "parameters_per_sample"]), [FIT_NOTE, "Small marks: single runs."]
    said = note(table, cells, interval="t", lines=(len(lines), of), averaged=averaged, also=also)
    return Picture("gap", "Generalization gap against capacity", said, title_of(by, runs), [line.values for line in lines], plots)


def _map(table: pa.Table) -> Picture:
    runs = completed(table)
    by = ["corruption.level", "parameters_per_sample"]
    cells = over_seeds(runs, by, ["generalization_gap"])
    columns, levels, grid = grid_of(cells, "parameters_per_sample", "generalization_gap")
    if len(levels) < 2 or len(columns) < 2:
        raise NothingToShow("a map of capacity against corruption needs at least two of each")
    heat = {
        "type": "heatmap",
        "x": [f"{value:.3g}" for value in columns],
        "y": [f"{value:.3g}" for value in levels],
        "z": [[None if np.isnan(one) else one for one in row] for row in grid.tolist()],
        "colorscale": "Cividis",
        "colorbar": {"title": {"text": "gap"}, "outlinewidth": 0},
        "hovertemplate": "p/n %{x}, level %{y}: gap %{z:.4f}<extra></extra>",
    }
    plot = _plot([heat], "parameters per sample p/n", title_of(["corruption.level"], runs))
    plot["layout"]["xaxis"] |= {"type": "category"}
    plot["layout"]["yaxis"] |= {"type": "category"}
    said = note(table, cells, interval=None, averaged=averaged_over(runs, by))
    return Picture("map", "Gap over capacity and corruption", said, "", [], [plot])


def _error_vs_corruption(table: pa.Table) -> Picture:
    runs, by = _by_settings(table)
    shown, of = only_shown(runs, by)
    cells = over_seeds(shown, [*by, "corruption.level", "interpolated"], ["test_error"]).filter(pc.is_valid(pc.field("test_error")))
    cells = _several(cells, "corruption.level", "test error against corruption needs at least two levels")
    lines = split(cells, by)[0]
    traces = [trace for line in lines for trace in _mean_traces(line, "corruption.level", "test_error")]
    rates = over_seeds(shown, ["corruption.level"], ["wrong_label_rate"])
    traces.append(_reference(rates["corruption.level"].to_pylist(), rates["wrong_label_rate"].to_pylist(), "wrong-label rate"))
    plot = _plot(traces, title_of(["corruption.level"], runs), words("test_error"))
    also = [FIT_NOTE, "Dotted: the fraction of training labels that are wrong."]
    said = note(table, cells, interval="t", lines=(len(lines), of), averaged=averaged_over(shown, [*by, "corruption.level"]), also=also)
    return Picture("error", "Test error against corruption", said, title_of(by, runs), [line.values for line in lines], [plot])


def _time_to_fit(table: pa.Table) -> Picture:
    runs, by = _by_settings(table)
    shown, of = only_shown(runs, by)
    cells = over_seeds(shown, [*by, "corruption.level"], ["fit_epoch"]).filter(pc.is_valid(pc.field("fit_epoch")))
    cells = _several(relative_to_true_labels(cells, by), "corruption.level", "time to fit against corruption needs at least two levels")
    lines = split(cells, by)[0]
    traces = [trace for line in lines for trace in _mean_traces(line, "corruption.level", "fit_epoch", fit=False)]
    plot = _plot(traces, title_of(["corruption.level"], runs), "epochs to fit, relative to true labels")
    averaged, also = averaged_over(shown, [*by, "corruption.level"]), ["Over the runs that fit."]
    said = note(table, cells, interval="t", lines=(len(lines), of), averaged=averaged, also=also)
    return Picture("time", "Time to fit against corruption", said, title_of(by, runs), [line.values for line in lines], [plot])


def _train_vs_test(table: pa.Table) -> Picture:
    runs, by = completed_lines(table, None)
    runs = runs.filter(pc.and_(pc.is_finite(runs["train_error"]), pc.is_finite(runs["test_error"])))
    if not runs.num_rows:
        raise NothingToShow("no completed record has a train and a test error")
    shown, of = only_shown(runs, by)
    marks = evenly(shown, MOST_MARKS)
    lines = split(marks, by)[0]
    traces = _run_traces(marks, lines, "train_error", "test_error", size=6)
    top = max(pc.max(marks[name]).as_py() for name in ("train_error", "test_error"))
    traces.append(
        {"x": [0, top], "y": [0, top], "name": "gap = 0", "mode": "lines", "line": {"dash": "dot"}, "meta": {"role": "reference"}}
    )
    said = single_runs_note(table, marks.num_rows, shown.num_rows, lines=(len(lines), of), also=[FIT_NOTE])
    plot = _plot(traces, words("train_error"), words("test_error"))
    return Picture("scatter", "Train error and test error of every run", said, title_of(by, runs), [line.values for line in lines], [plot])


def _training(table: pa.Table, curves: pa.Table) -> Iterator[Picture]:
    runs, by = completed_lines(table, None)
    size = pc.max(runs["parameters"]).as_py()
    for name, title, values in (
        ("learning", "Learning curves", ("train_loss", "test_error")),
        ("memorisation", "Memorisation: samples with a true and with a wrong label", ("clean_train_error", "wrong_train_error")),
        ("loss-gap", "Loss on samples with a true and with a wrong label", ("clean_train_loss", "wrong_train_loss")),
    ):
        cells = over_training(table, curves, values)
        for value in values:
            cells = cells.filter(pc.is_valid(pc.field(value)))
        if not cells.num_rows:
            continue
        lines, of = split(cells, by)
        plots = []
        for value in values:
            traces = [trace for line in lines for trace in _mean_traces(line, "epoch", value, fit=False, markers=False)]
            plots.append(_plot(traces, "epoch", words(value)))
        also = [f"The largest model, {size:,} parameters." if size else "", "Each line ends where the first of its runs does."]
        said = note(table, cells, interval="t", lines=(len(lines), of), averaged=averaged_over(runs, by), also=also)
        yield Picture(name, title, said, title_of(by, runs), [line.values for line in lines], plots)


def _of_largest(table: pa.Table) -> pa.Table:
    """The completed records of the largest model."""
    runs = completed(table)
    largest = pc.max(runs["parameters"])
    return runs.filter(pc.equal(runs["parameters"], largest)) if largest.is_valid else runs


def _several(cells: pa.Table, column: str, otherwise: str) -> pa.Table:
    if pc.count_distinct(cells[column]).as_py() < 2:
        raise NothingToShow(otherwise)
    return cells.sort_by(column)


def _by_settings(table: pa.Table) -> tuple[pa.Table, list[str]]:
    """The completed records, and the settings that tell lines apart where corruption is the horizontal axis."""
    runs = completed(table)
    return runs, [name for name in varying_fields(runs) if not name.startswith("corruption.")]


def _reference(x: list[Any], y: list[Any], name: str) -> dict[str, Any]:
    return {"x": x, "y": y, "name": name, "mode": "lines", "line": {"dash": "dot"}, "meta": {"role": "reference"}}


def _mean_traces(line: Line, x: str, y: str, *, fit: bool = True, markers: bool = True) -> Iterator[dict[str, Any]]:
    """Bands and means of a line; seeds that fit and those that did not apart."""
    rows = line.rows.sort_by(x)
    if not fit:
        yield from _mean_trace(line, rows, x, y, markers=markers)
        return
    reached = pc.fill_null(rows["interpolated"], False)
    fitted, unfitted = rows.filter(reached), rows.filter(pc.invert(reached))
    if fitted.num_rows:
        yield from _mean_trace(line, fitted, x, y)
    if unfitted.num_rows:
        joined = fitted.num_rows and unfitted[x][-1].as_py() < fitted[x][0].as_py()
        yield from _mean_trace(line, unfitted, x, y, filled=False, then=fitted.slice(0, 1) if joined else None)


def _mean_trace(
    line: Line, rows: pa.Table, x: str, y: str, *, filled: bool = True, markers: bool = True, then: pa.Table | None = None
) -> Iterator[dict[str, Any]]:
    """The band and the means; ``then`` is where the line goes on to as another trace."""
    shared = {"legendgroup": escape(line.label), "showlegend": False}
    banded = rows.filter(pc.is_valid(rows[f"{y}.low"]))
    if banded.num_rows:
        xs, low, high = (banded[name].to_pylist() for name in (x, f"{y}.low", f"{y}.high"))
        outline = {"x": xs + xs[::-1], "y": high + low[::-1], "fill": "toself", "mode": "lines", "line": {"width": 0}, "hoverinfo": "skip"}
        yield outline | shared | {"meta": {"role": "band", "line": line.values}}
    means = rows if then is None else pa.concat_tables([rows, then])
    yield shared | {
        "x": means[x].to_pylist(),
        "y": means[y].to_pylist(),
        "mode": "lines+markers" if markers else "lines",
        "line": {"dash": "solid" if filled else "dash", "width": 2},
        "marker": {
            "symbol": _SYMBOLS[line.marker] + ("" if filled else "-open"),
            "size": [8] * rows.num_rows + [0],
            "line": {"width": 0 if filled else 1.5},
        },
        "name": escape(line.label) or "mean",
        "text": [_mean_text(row, line, x, y) for row in means.to_pylist()],
        "hovertemplate": "%{text}<extra></extra>",
        "meta": {"role": "mean", "line": line.values},
    }


def _mean_text(row: dict[str, Any], line: Line, x: str, y: str) -> str:
    head = f"<b>{escape(line.label)}</b><br>" if line.label else ""
    low, high = row[f"{y}.low"], row[f"{y}.high"]
    interval = "" if low is None else f" (95 %: {low:.4g} to {high:.4g})"
    seeds = f"{row['seeds']:,} seed{'s' if row['seeds'] > 1 else ''}"
    return f"{head}{_plain(x)} {row[x]:.4g}<br>mean {_plain(y)} {row[y]:.4g}{interval}<br>{seeds}"


def _run_traces(marks: pa.Table, lines: Sequence[Line], x: str, y: str, *, size: int = 4) -> list[dict[str, Any]]:
    """One mark a run; hovering over it tells its key and what it was."""
    traces = []
    told = [name for name in (*varying_fields(marks), "seed") if name in marks.column_names]
    for line in lines:
        some = line.among(marks)
        rows = some.select(list(dict.fromkeys(["key", *told, "interpolated", x, y, *ERRORS]))).to_pylist()
        symbols = [_SYMBOLS[line.marker] + ("" if row["interpolated"] else "-open") for row in rows]
        traces.append(
            {
                "x": [row[x] for row in rows],
                "y": [row[y] for row in rows],
                "mode": "markers",
                "marker": {"symbol": symbols, "size": size},
                "name": escape(line.label) or "runs",
                "legendgroup": escape(line.label),
                "showlegend": False,
                "text": [_run_text(row, told) for row in rows],
                "hovertemplate": "%{text}<extra></extra>",
                "meta": {"role": "run", "line": line.values},
            }
        )
    return traces


def _run_text(row: dict[str, Any], told: Sequence[str]) -> str:
    """What hovering over a run shows; plotly.js reads it as HTML."""
    settings = "<br>".join(escape(f"{name} {_number(row[name])}") for name in told)
    errors = ", ".join(f"{_plain(name)} {_number(row[name])}" for name in ERRORS)
    fit = f"{'reached' if row['interpolated'] else 'did not reach'} the train target"
    return f"<b>{escape(str(row['key']))}</b><br>{settings}<br>{errors}<br>{fit}"


def _number(value: Any) -> str:
    return "none" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _plain(column: str) -> str:
    return escape(words(column).replace("$", ""))


def _plot(traces: list[dict[str, Any]], x: str, y: str, *, logarithmic: bool = False) -> dict[str, Any]:
    """A plot whose vertical axis holds the means and the runs: intervals of two or three seeds may lie far outside."""
    across: dict[str, Any] = {"title": {"text": escape(x.replace("$", ""))}}
    if logarithmic:
        places = [x for trace in traces for x in trace["x"] if x]
        across |= {"type": "log", "dtick": 1 if max(places) >= 20 * min(places) else "D2"}
    up: dict[str, Any] = {"title": {"text": escape(y.replace("$", ""))}}
    heights = [one for trace in traces if trace.get("meta", {}).get("role") in ("mean", "run") for one in trace["y"] if one is not None]
    heights = [one for one in heights if isfinite(one)]
    if heights:
        low, high = min(0.0, *heights), max(0.02, *heights)
        up["range"] = [low - 0.03 * (high - low), high + 0.06 * (high - low)]
    return {"data": traces, "layout": {"xaxis": across, "yaxis": up}}
