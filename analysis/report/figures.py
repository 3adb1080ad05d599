"""The report's interactive figures of a study's errors: the gap, corruption, time to fit, single runs, training."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from analysis.errors import NothingToShow
from analysis.figures.corruption import TIME, of_labels, times_note, times_of, wrong_label_rates
from analysis.figures.drawing.canvas import FIT_NOTE, THRESHOLD_NOTE, note, single_runs_note
from analysis.figures.drawing.lines import only_shown, split, title_of
from analysis.figures.maps import MOST_NUMBERS, colour_ends, maps_of, threshold_line
from analysis.figures.runs import evenly
from analysis.figures.training import ENDS, over_training, runs_over_training
from analysis.report.traces import InteractiveFigure, error_plot, mean_traces, reference, run_traces, threshold_marks, with_thresholds
from analysis.statistics.aggregate import ERRORS, seed_means
from analysis.statistics.interpolation import line_thresholds
from analysis.statistics.intervals import DEFAULT
from analysis.statistics.selection import SEEDS, codes, completed, completed_lines, groups, largest_model, lines_over, varying_fields
from analysis.statistics.tasks import TASK, all_own, named, own
from analysis.words import words

MOST_MARKS = 3000
"""The most runs that are drawn one by one."""
MOST_TIMED = 1000
"""The most lines whose times to fit are averaged: survival curves of 100,000 take minutes."""
_DRAWN = (
    *("key", "status", *SEEDS, "corruption.kind", "corruption.level", "parameters", "parameters_per_sample"),
    *("interpolated", "fit_epoch", "epochs", "wrong_label_rate", *ERRORS, TASK, *named(ERRORS, regression=True)),
)
_MINUS = "\N{MINUS SIGN}"


def interactive_figures(table: pa.Table, curves: Callable[[pa.Table], pa.Table]) -> Iterator[InteractiveFigure | str]:
    """Every figure that these records have something for; where they have nothing, the sentence that says so.

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
        largest = largest_model(completed(table))
        yield from _training(table, curves(largest))
    except NothingToShow as error:
        yield str(error)


def _gap(table: pa.Table) -> InteractiveFigure:
    runs, by = lines_over(table, "parameters_per_sample")
    shown, of = only_shown(runs, by)
    errors = all_own(runs, ERRORS)
    cells = seed_means(shown, [*by, "parameters_per_sample", "interpolated"], errors)
    cells = cells.filter(pc.and_(pc.is_valid(cells[errors[0]]), pc.greater(cells["parameters_per_sample"], 0)))
    if not cells.num_rows:
        raise NothingToShow("no completed record has a generalization gap and parameters per sample")
    lines, marks = split(cells, by)[0], evenly(shown, MOST_MARKS)
    thresholds = threshold_marks(lines, line_thresholds(shown, by, "parameters_per_sample"))
    plots = []
    for value in errors:
        traces = run_traces(marks, lines, "parameters_per_sample", value)
        traces += [trace for line in lines for trace in mean_traces(line, "parameters_per_sample", value)]
        title = f"{words(value)} (test error {_MINUS} train error)" if value == errors[0] else words(value)
        panel = error_plot(traces, "parameters per sample p/n", title, logarithmic=True)
        plots.append(with_thresholds(panel, thresholds))
    also = [FIT_NOTE, *([THRESHOLD_NOTE] if thresholds else []), "Small marks: single runs."]
    text = note(table, cells, errors, interval=DEFAULT, lines=(len(lines), of), also=also)
    values = [line.values for line in lines]
    return InteractiveFigure("gap", "Generalization gap against capacity", text, title_of(by, runs), values, plots, linked=True)


def _map(table: pa.Table) -> InteractiveFigure:
    gap = own(completed(table), "generalization_gap")
    maps, of = maps_of(table, "parameters_per_sample", gap)
    maps = [one for one in maps if len(one.levels) > 1 and len(one.columns) > 1]
    if not maps:
        raise NothingToShow("a map of capacity against corruption needs at least two of each")
    grids = [(one, name, grid) for one in maps for name, grid in (("reached", one.reached), ("missed", one.missed))]
    grids = [(one, name, grid) for one, name, grid in grids if np.isfinite(grid).any()]
    ends = colour_ends(maps, gap)
    panels = []
    for one, name, grid in grids:
        seeds = one.reached_seeds if name == "reached" else one.missed_seeds
        heat = {
            "type": "heatmap",
            "z": [[None if np.isnan(cell) else cell for cell in row] for row in grid.tolist()],
            "x": (np.arange(len(one.columns)) + 0.5).tolist(),
            "y": (np.arange(len(one.levels)) + 0.5).tolist(),
            "zmin": ends[0],
            "zmax": ends[1],
            "customdata": [
                [f"p/n {size:.3g}, level {level:.3g}; {cell:.0f} seeds" for size, cell in zip(one.columns, row, strict=True)]
                for level, row in zip(one.levels, seeds, strict=True)
            ],
            "colorscale": "RdBu",
            "colorbar": {"title": {"text": "gap"}, "outlinewidth": 0},
            "hovertemplate": "%{customdata}: gap %{z:.4f}<extra></extra>",
        }
        if grid.size <= MOST_NUMBERS:
            heat |= {"text": [[f"n {cell:.0f}" if cell else "" for cell in row] for row in seeds], "texttemplate": "%{text}"}
        xs, ys = threshold_line(one)
        fit = "reached the train target" if name == "reached" else "did not reach it"
        title = f"p/n, seeds that {fit}" + (f"; {one.label}" if one.label else "")
        panel = error_plot([heat, reference(xs.tolist(), ys.tolist(), "interpolation threshold")], title, "label corruption")
        for axis, values in (("xaxis", one.columns), ("yaxis", one.levels)):
            ticks = {"tickvals": (np.arange(len(values)) + 0.5).tolist(), "ticktext": [f"{value:.3g}" for value in values]}
            panel["layout"][axis] |= ticks | {"range": [0, len(values)]}
        panels.append(panel)
    also = ["Dotted: interpolation threshold.", *([f"{len(maps)} of {of:,} settings are shown."] if of > len(maps) else [])]
    text = note(table, pa.concat_tables(one.cells for one in maps), [gap], interval=None, also=also)
    return InteractiveFigure("map", "Gap over capacity and corruption", text, "", [], panels)


def _error_vs_corruption(table: pa.Table) -> InteractiveFigure:
    runs, by = lines_over(table, "corruption.level")
    shown, of = only_shown(runs, by)
    error = own(runs, "test_error")
    cells = seed_means(shown, [*by, "corruption.level", "interpolated"], [error]).filter(pc.is_valid(pc.field(error)))
    cells = _several(cells, "test error against corruption needs at least two levels")
    lines = split(cells, by)[0]
    traces = [trace for line in lines for trace in mean_traces(line, "corruption.level", error)]
    told = of_labels(by)
    for where, rates in groups(wrong_label_rates(shown, told), told):
        name = " ".join(["wrong-label rate", *map(str, where.values())])
        traces.append(reference(rates["corruption.level"].to_pylist(), rates["wrong_label_rate"].to_pylist(), name))
    panel = error_plot(traces, title_of(["corruption.level"], runs), words(error))
    also = [FIT_NOTE, "Dotted: the fraction of training labels that are wrong."]
    text = note(table, cells, [error], interval=DEFAULT, lines=(len(lines), of), also=also)
    return InteractiveFigure("error", "Test error against corruption", text, title_of(by, runs), [line.values for line in lines], [panel])


def _time_to_fit(table: pa.Table) -> InteractiveFigure:
    runs, by = lines_over(table, "corruption.level", diverged=True)
    if (of := int(codes(runs, by).max(initial=0)) + 1) > MOST_TIMED:
        raise NothingToShow(f"the time to fit against corruption has {of:,} lines, of which {MOST_TIMED:,} are the most that are averaged")
    cells, left_out = times_of(runs, by, relative=True)
    cells = _several(cells, "time to fit against corruption needs at least two levels")
    for name in (TIME, "fit_share"):
        cells = cells.append_column(f"{name}.seeds", cells["runs"])
    lines, of = split(cells, by)
    plots = []
    for value, title in ((TIME, "epochs to fit, relative to true labels"), ("fit_share", "share of runs that fit")):
        traces = [trace for line in lines for trace in mean_traces(line, "corruption.level", value, fit=value == TIME)]
        plots.append(error_plot(traces, title_of(["corruption.level"], runs), title))
    text = times_note(table, cells, (len(lines), of), left_out, relative=True)
    values = [line.values for line in lines]
    return InteractiveFigure("time", "Time to fit against corruption", text, title_of(by, runs), values, plots, linked=True)


def _train_vs_test(table: pa.Table) -> InteractiveFigure:
    runs, by = completed_lines(table, None)
    train, test = all_own(runs, ("train_error", "test_error"))
    runs = runs.filter(pc.and_(pc.is_finite(runs[train]), pc.is_finite(runs[test])))
    if not runs.num_rows:
        raise NothingToShow("no completed record has a train and a test error")
    shown, of = only_shown(runs, by)
    marks = evenly(shown, MOST_MARKS)
    lines = split(marks, by)[0]
    traces = run_traces(marks, lines, train, test, size=6)
    top = max(pc.max(marks[name]).as_py() for name in (train, test))
    traces.append(reference([0, top], [0, top], "gap = 0"))
    text = single_runs_note(table, marks.num_rows, shown.num_rows, lines=(len(lines), of), also=[FIT_NOTE])
    panel = error_plot(traces, words(train), words(test))
    return InteractiveFigure(
        "scatter", "Train error and test error of every run", text, title_of(by, runs), [line.values for line in lines], [panel]
    )


def _training(table: pa.Table, curves: pa.Table) -> Iterator[InteractiveFigure]:
    runs, by, said = runs_over_training(table)
    for name, title, values in (
        ("learning", "Learning curves", ("train_loss", own(runs, "test_error"))),
        ("memorisation", "Memorisation: samples with a true and with a wrong label", ("clean_train_error", "wrong_train_error")),
        ("loss-gap", "Loss on samples with a true and with a wrong label", ("clean_train_loss", "wrong_train_loss")),
    ):
        cells = over_training(runs, curves, values, by)
        for value in values:
            cells = cells.filter(pc.is_valid(pc.field(value)))
        if not cells.num_rows:
            continue
        lines, of = split(cells, by)
        plots = []
        for value in values:
            traces = [trace for line in lines for trace in mean_traces(line, "epoch", value, markers=False)]
            plots.append(error_plot(traces, "epoch", words(value)))
        also = [*([said] if said else []), ENDS]
        text = note(table, cells, values, interval=DEFAULT, lines=(len(lines), of), also=also)
        yield InteractiveFigure(name, title, text, title_of(by, runs), [line.values for line in lines], plots, linked=True)


def _several(cells: pa.Table, otherwise: str) -> pa.Table:
    if pc.count_distinct(cells["corruption.level"]).as_py() < 2:
        raise NothingToShow(otherwise)
    return cells.sort_by("corruption.level")
