"""The report's interactive figures of a study's errors: the gap, corruption, time to fit, single runs, training."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from analysis.errors import NothingToShow
from analysis.figures.corruption import grid_of, relative_to_true_labels
from analysis.figures.drawing.canvas import FIT_NOTE, note, single_runs_note
from analysis.figures.drawing.lines import only_shown, split, title_of
from analysis.figures.runs import evenly
from analysis.figures.training import over_training
from analysis.report.traces import InteractiveFigure, error_plot, mean_traces, reference, run_traces
from analysis.statistics.aggregate import ERRORS, over_seeds
from analysis.statistics.selection import averaged_over, completed, completed_lines, varying_fields
from analysis.words import words

MOST_MARKS = 3000
"""The most runs that are drawn one by one."""
_DRAWN = (
    *("key", "status", "seed", "corruption.kind", "corruption.level", "parameters", "parameters_per_sample"),
    *("interpolated", "fit_epoch", "wrong_label_rate", *ERRORS),
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
        largest = _of_largest(table)
        yield from _training(largest, curves(largest))
    except NothingToShow as error:
        yield str(error)


def _gap(table: pa.Table) -> InteractiveFigure:
    runs, by = completed_lines(table, None)
    shown, of = only_shown(runs, by)
    cells = over_seeds(shown, [*by, "parameters_per_sample", "interpolated"], ERRORS)
    cells = cells.filter(pc.and_(pc.is_valid(cells["generalization_gap"]), pc.greater(cells["parameters_per_sample"], 0)))
    if not cells.num_rows:
        raise NothingToShow("no completed record has a generalization gap and parameters per sample")
    lines, marks = split(cells, by)[0], evenly(shown, MOST_MARKS)
    plots = []
    for value in ERRORS:
        traces = run_traces(marks, lines, "parameters_per_sample", value)
        traces += [trace for line in lines for trace in mean_traces(line, "parameters_per_sample", value)]
        title = f"{words(value)} (test error {_MINUS} train error)" if value == ERRORS[0] else words(value)
        plots.append(error_plot(traces, "parameters per sample p/n", title, logarithmic=True))
    averaged, also = averaged_over(shown, [*by, "parameters_per_sample"]), [FIT_NOTE, "Small marks: single runs."]
    text = note(table, cells, interval="t", lines=(len(lines), of), averaged=averaged, also=also)
    return InteractiveFigure("gap", "Generalization gap against capacity", text, title_of(by, runs), [line.values for line in lines], plots)


def _map(table: pa.Table) -> InteractiveFigure:
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
    panel = error_plot([heat], "parameters per sample p/n", title_of(["corruption.level"], runs))
    panel["layout"]["xaxis"] |= {"type": "category"}
    panel["layout"]["yaxis"] |= {"type": "category"}
    text = note(table, cells, interval=None, averaged=averaged_over(runs, by))
    return InteractiveFigure("map", "Gap over capacity and corruption", text, "", [], [panel])


def _error_vs_corruption(table: pa.Table) -> InteractiveFigure:
    runs, by = _by_settings(table)
    shown, of = only_shown(runs, by)
    cells = over_seeds(shown, [*by, "corruption.level", "interpolated"], ["test_error"]).filter(pc.is_valid(pc.field("test_error")))
    cells = _several(cells, "corruption.level", "test error against corruption needs at least two levels")
    lines = split(cells, by)[0]
    traces = [trace for line in lines for trace in mean_traces(line, "corruption.level", "test_error")]
    rates = over_seeds(shown, ["corruption.level"], ["wrong_label_rate"])
    traces.append(reference(rates["corruption.level"].to_pylist(), rates["wrong_label_rate"].to_pylist(), "wrong-label rate"))
    panel = error_plot(traces, title_of(["corruption.level"], runs), words("test_error"))
    also = [FIT_NOTE, "Dotted: the fraction of training labels that are wrong."]
    text = note(table, cells, interval="t", lines=(len(lines), of), averaged=averaged_over(shown, [*by, "corruption.level"]), also=also)
    return InteractiveFigure("error", "Test error against corruption", text, title_of(by, runs), [line.values for line in lines], [panel])


def _time_to_fit(table: pa.Table) -> InteractiveFigure:
    runs, by = _by_settings(table)
    shown, of = only_shown(runs, by)
    cells = over_seeds(shown, [*by, "corruption.level"], ["fit_epoch"]).filter(pc.is_valid(pc.field("fit_epoch")))
    cells = _several(relative_to_true_labels(cells, by), "corruption.level", "time to fit against corruption needs at least two levels")
    lines = split(cells, by)[0]
    traces = [trace for line in lines for trace in mean_traces(line, "corruption.level", "fit_epoch", fit=False)]
    panel = error_plot(traces, title_of(["corruption.level"], runs), "epochs to fit, relative to true labels")
    averaged, also = averaged_over(shown, [*by, "corruption.level"]), ["Over the runs that fit."]
    text = note(table, cells, interval="t", lines=(len(lines), of), averaged=averaged, also=also)
    return InteractiveFigure("time", "Time to fit against corruption", text, title_of(by, runs), [line.values for line in lines], [panel])


def _train_vs_test(table: pa.Table) -> InteractiveFigure:
    runs, by = completed_lines(table, None)
    runs = runs.filter(pc.and_(pc.is_finite(runs["train_error"]), pc.is_finite(runs["test_error"])))
    if not runs.num_rows:
        raise NothingToShow("no completed record has a train and a test error")
    shown, of = only_shown(runs, by)
    marks = evenly(shown, MOST_MARKS)
    lines = split(marks, by)[0]
    traces = run_traces(marks, lines, "train_error", "test_error", size=6)
    top = max(pc.max(marks[name]).as_py() for name in ("train_error", "test_error"))
    traces.append(reference([0, top], [0, top], "gap = 0"))
    text = single_runs_note(table, marks.num_rows, shown.num_rows, lines=(len(lines), of), also=[FIT_NOTE])
    panel = error_plot(traces, words("train_error"), words("test_error"))
    return InteractiveFigure(
        "scatter", "Train error and test error of every run", text, title_of(by, runs), [line.values for line in lines], [panel]
    )


def _training(table: pa.Table, curves: pa.Table) -> Iterator[InteractiveFigure]:
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
            traces = [trace for line in lines for trace in mean_traces(line, "epoch", value, fit=False, markers=False)]
            plots.append(error_plot(traces, "epoch", words(value)))
        also = [f"The largest model, {size:,} parameters." if size else "", "Each line ends where the first of its runs does."]
        text = note(table, cells, interval="t", lines=(len(lines), of), averaged=averaged_over(runs, by), also=also)
        yield InteractiveFigure(name, title, text, title_of(by, runs), [line.values for line in lines], plots)


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
