"""The plain data of an interactive figure: traces of lines and of single runs, and plots of them, as plotly.js takes them.

Colours are not in the data: a trace says which line it belongs to, and the page colours it for light, dark or paper.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from math import isfinite
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from analysis.figures.drawing.canvas import ends_of, rows_apart
from analysis.figures.drawing.lines import Line
from analysis.figures.training import RUNS, TRAINING
from analysis.statistics.aggregate import ERRORS
from analysis.statistics.selection import varying_fields
from analysis.words import words

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


@dataclass(frozen=True)
class InteractiveFigure:
    """One or more plots that share their lines, under a title.

    Attributes:
        name: identifies it on the page.
        title: stands above.
        note: how to read it.
        legend: what the colours stand for; empty for none.
        lines: the values of the lines, for their colours.
        plots: what plotly.js takes, ``{"data": [...], "layout": {...}}``.
        linked: whether the plots have one horizontal axis, along which a zoom in one is a zoom in all.
    """

    name: str
    title: str
    note: str
    legend: str
    lines: list[Any]
    plots: list[dict[str, Any]]
    linked: bool = False


def plot(
    traces: list[dict[str, Any]], x: str, y: str, *, across: dict[str, Any] | None = None, up: dict[str, Any] | None = None
) -> dict[str, Any]:
    """A plot with titled axes; ``across`` has further settings of the horizontal axis, ``up`` of the vertical one."""
    titles = [{"title": {"text": escape(title.replace("$", ""))}} for title in (x, y)]
    return {"data": traces, "layout": {"xaxis": titles[0] | (across or {}), "yaxis": titles[1] | (up or {})}}


def error_plot(traces: list[dict[str, Any]], x: str, y: str, *, logarithmic: bool = False) -> dict[str, Any]:
    """A plot whose vertical axis holds the means and the runs: intervals of two or three seeds may lie far outside."""
    return plot(traces, x, y, across=_log_axis(traces) if logarithmic else {}, up=_error_axis(traces))


def _log_axis(traces: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A logarithmic horizontal axis, with ticks between the powers of ten where the values lie near each other."""
    values = [x for trace in traces for x in trace["x"] if x]
    return {"type": "log", "dtick": 1 if max(values) >= 20 * min(values) else "D2"}


def _error_axis(traces: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A vertical axis from 0 (or below) to the largest mean or run."""
    heights = [one for trace in traces if trace.get("meta", {}).get("role") in ("mean", "run") for one in trace["y"] if one is not None]
    heights = [one for one in heights if isfinite(one)]
    if not heights:
        return {}
    low, high = min(0.0, *heights), max(0.02, *heights)
    return {"range": [low - 0.03 * (high - low), high + 0.06 * (high - low)]}


def mean_traces(line: Line, x: str, y: str, *, fit: bool = True, markers: bool = True) -> Iterator[dict[str, Any]]:
    """The bands and means of a line; seeds that fit and seeds that did not are separate traces."""
    rows = line.rows.sort_by(x)
    if not fit:
        yield from _mean_trace(line, rows, x, y, markers=markers)
        return
    reached = pc.fill_null(rows["interpolated"], False)
    fitted, unfitted = rows.filter(reached), rows.filter(pc.invert(reached))
    if fitted.num_rows:
        yield from _mean_trace(line, fitted, x, y, markers=markers)
    if unfitted.num_rows:
        joined = fitted.num_rows and unfitted[x][-1].as_py() < fitted[x][0].as_py()
        yield from _mean_trace(line, unfitted, x, y, filled=False, markers=markers, then=fitted.slice(0, 1) if joined else None)


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
    count = row[f"{y}.seeds"]
    seeds = f"{count:,} seed{'s' if count > 1 else ''}"
    if row.get(TRAINING, 0) < row.get(RUNS, 0):
        seeds += f", {row[TRAINING]:,} of them still training"
    return f"{head}{_plain(x)} {row[x]:.4g}<br>mean {_plain(y)} {row[y]:.4g}{interval}<br>{seeds}"


def threshold_marks(lines: Sequence[Line], located: pa.Table) -> list[tuple[Line, dict[str, Any]]]:
    """Each line with its row of `analysis.statistics.interpolation.line_thresholds`, of those whose threshold is located."""
    rows = {tuple(row[name] for name in lines[0].by): row for row in located.to_pylist()} if lines else {}
    return [(line, rows[line.values]) for line in lines if rows.get(line.values, {}).get("threshold") is not None]


def with_thresholds(panel: dict[str, Any], marks: Sequence[tuple[Line, dict[str, Any]]]) -> dict[str, Any]:
    """An error plot with a triangle and a dotted line at each line's threshold, and a bar for its interval, above all data."""
    if not marks or "range" not in panel["layout"]["yaxis"]:
        return panel
    ranks = rows_apart([row["threshold"] for _, row in marks], [ends_of(row) for _, row in marks])
    low, high = panel["layout"]["yaxis"]["range"]
    apart = 0.035 * (high - low)
    top = high + apart * (1 + max(ranks))
    xs = [x for trace in panel["data"] for x in trace["x"] if x]
    traces = []
    for (line, row), rank in zip(marks, ranks, strict=True):
        place, height = row["threshold"], top - apart * (rank + 0.5)
        left, right = (min(max(end, min(xs)), max(xs)) for end in ends_of(row))
        bar = [left, place, right] if row["seeds"] > 1 else [place] * 3
        text = f"<b>{escape(line.label)}</b><br>interpolation threshold {place:.4g}{_interval(row)}<br>{row['seeds']:,} seeds"
        shared = {"name": escape(line.label), "legendgroup": escape(line.label), "showlegend": False}
        shared |= {"meta": {"role": "threshold", "line": line.values}}
        stem = {"x": [place] * 2, "y": [low, height], "mode": "lines", "line": {"width": 1, "dash": "dot"}, "hoverinfo": "skip"}
        mark = {"x": bar, "y": [height] * 3, "mode": "lines+markers", "marker": {"symbol": "triangle-down", "size": [0, 9, 0]}}
        traces += [stem | shared, mark | shared | {"line": {"width": 1.5}, "text": [text] * 3, "hovertemplate": "%{text}<extra></extra>"}]
    layout = panel["layout"] | {"yaxis": panel["layout"]["yaxis"] | {"range": [low, top]}}
    return {"data": [*panel["data"], *traces], "layout": layout}


def _interval(row: dict[str, Any]) -> str:
    """The interval of a threshold, as far as the capacities that were run bound it."""
    low, high = row["threshold.low"], row["threshold.high"]
    if low is None and high is None:
        return ""
    return f" (95 %: {'below the smallest' if low is None else f'{low:.4g}'} to {'above the largest' if high is None else f'{high:.4g}'})"


def run_traces(marks: pa.Table, lines: Sequence[Line], x: str, y: str, *, size: int = 4) -> list[dict[str, Any]]:
    """One mark a run; hovering over it shows its key and settings."""
    traces = []
    named = [name for name in (*varying_fields(marks), "seed") if name in marks.column_names]
    for line in lines:
        some = line.among(marks)
        rows = some.select(list(dict.fromkeys(["key", *named, "interpolated", x, y, *ERRORS]))).to_pylist()
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
                "text": [_run_text(row, named) for row in rows],
                "hovertemplate": "%{text}<extra></extra>",
                "meta": {"role": "run", "line": line.values},
            }
        )
    return traces


def _run_text(row: dict[str, Any], named: Sequence[str]) -> str:
    """The text that hovering over a run shows; plotly.js reads it as HTML."""
    settings = "<br>".join(escape(f"{name} {_number(row[name])}") for name in named)
    errors = ", ".join(f"{_plain(name)} {_number(row[name])}" for name in ERRORS)
    fit = f"{'reached' if row['interpolated'] else 'did not reach'} the train target"
    return f"<b>{escape(str(row['key']))}</b><br>{settings}<br>{errors}<br>{fit}"


def reference(x: list[Any], y: list[Any], name: str) -> dict[str, Any]:
    """A dotted line to compare with, which belongs to no line of the legend."""
    return {"x": x, "y": y, "name": name, "mode": "lines", "line": {"dash": "dot"}, "meta": {"role": "reference"}}


def _number(value: Any) -> str:
    return "none" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _plain(column: str) -> str:
    return escape(words(column).replace("$", ""))
