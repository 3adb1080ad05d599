"""Figures of complexity measures: each against the generalization gap, and counts beside the gap on one architecture."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from analysis.errors import NothingToShow, unknown_column
from analysis.figures.drawing.canvas import draw_line, error_axis, explain, note, single_runs_note
from analysis.figures.drawing.lines import Line, label_of, numbers, split, title_of
from analysis.figures.drawing.style import drawing
from analysis.figures.runs import evenly
from analysis.records.schema import MEASURE
from analysis.statistics.aggregate import seed_means
from analysis.statistics.intervals import DEFAULT
from analysis.statistics.questions.rank_scores import kendall_tau
from analysis.statistics.questions.ranking import GAP
from analysis.statistics.selection import agreeing, completed, lines_over, varying_fields
from analysis.statistics.tasks import refuse_regression
from analysis.words import words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_PANELS = 12
_MOST_RUNS = 2000
_COUNTS = ("parameters_per_sample", "measure.parameters", "measure.vc_dimension", "measure.vc_bound")
_OTHERS = ("measure.l2_distance", "measure.path_norm", "measure.pacbayes_mag_flatness", "measure.epochs_to_tenth")


def measures_vs_gap(table: pa.Table, *, measures: Sequence[str] | None = None, title: str | None = None) -> Figure:
    """Draw every run's gap against each measure, a panel a measure, with Kendall's tau over these runs.

    Args:
        table: records; completed runs that reached their train target are drawn.
        measures: their names, without prefix; by default those of `telling_measures`.
        title: stands above the figure.

    Raises:
        NothingToShow: there is no measure, or no such run.
        AnalysisError: a measure is not in the records.
    """
    runs, names = measured_runs(table, measures)
    drawn = evenly(runs, _MOST_RUNS)
    columns = min(4, len(names))
    rows = ceil(len(names) / columns)
    with drawing():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(2.9 * columns + 0.6, 2.5 * rows + 1.4), layout="constrained")
        panels = figure.subplots(rows, columns, sharey=True, squeeze=False)
        lines, of = split(drawn, ["corruption.level"])
        for index, panel in enumerate(panels.flat):
            if index < len(names):
                _scatter(panel, runs, lines, names[index])
            else:
                panel.set_axis_off()
        for panel in panels[:, 0]:
            panel.set_ylabel(words(GAP))
        text = single_runs_note(
            table, drawn.num_rows, runs.num_rows, lines=(len(lines), of), also=["Runs that reached their train target."]
        )
        explain(figure, lines, title_of(["corruption.level"], runs), title, text)
    return figure


def measured_runs(table: pa.Table, measures: Sequence[str] | None = None) -> tuple[pa.Table, list[str]]:
    """The completed runs that fit, and the measures of them that `measures_vs_gap` shows."""
    runs = completed(table)
    refuse_regression(runs, "measures are drawn against the gap of")
    runs = runs.filter(pc.and_(pc.fill_null(runs["interpolated"], False), pc.is_finite(runs[GAP])))
    for name in measures or ():
        if MEASURE + name not in table.column_names:
            raise unknown_column(MEASURE + name, table.column_names)
    names = list(measures or telling_measures(runs))
    if not names or not runs.num_rows:
        missing = "no measure" if runs.num_rows else "no completed run that reached its train target"
        raise NothingToShow(f"these records hold {missing}: a study computes the measures that its spec names under `measures`")
    return runs, names


def telling_measures(runs: pa.Table) -> list[str]:
    """At most twelve measures: those that order the runs best, by Kendall's tau, and as many that order them worst, best first."""
    taus = {name.removeprefix(MEASURE): tau_of(runs, name) for name in runs.column_names if name.startswith(MEASURE)}
    ordered = sorted((name for name in taus if np.isfinite(taus[name])), key=lambda name: -taus[name])
    half = MOST_PANELS // 2
    return ordered if len(ordered) <= MOST_PANELS else ordered[:half] + ordered[-half:]


def tau_of(runs: pa.Table, column: str) -> float:
    """Kendall's tau of a measure and the gap, over the runs that have both."""
    value, gap = numbers(runs, column), numbers(runs, GAP)
    usable = np.isfinite(value)
    return kendall_tau(value[usable], gap[usable])


def wide(values: NDArray[np.float64]) -> bool:
    """Whether positive values span so much that their axis should be logarithmic."""
    values = values[np.isfinite(values)]
    return bool(len(values) and values.min() > 0 and values.max() > 30 * values.min())


def counts_vs_gap(table: pa.Table, *, title: str | None = None) -> Figure:
    """Draw, for one setting, the gap against label corruption, and beside it counts of capacity relative to the cleanest labels.

    Capacity cannot be what explains the gap: it is the same for true and for random labels (Zhang et al. 2017). A few measures of what
    was learned stand beside the counts where the study computed them.

    Args:
        table: records.
        title: stands above the figure.

    Raises:
        NothingToShow: no architecture fits labels at two levels of corruption.
    """
    runs, cells, columns = counted_runs(table)
    with drawing():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9.6, 4.4), layout="constrained")
        left, right = figure.subplots(1, 2)
        (line,) = split(cells, [])[0]
        draw_line(left, line, "corruption.level", GAP)
        error_axis(left, line.numbers(GAP))
        left.set_title(words(GAP))
        lines = relative_lines(cells, columns)
        for one in lines:
            right.plot(one.numbers("corruption.level"), one.numbers("relative"), color=one.colour, marker=one.marker, gid="counts")
        values = np.concatenate([one.numbers("relative") for one in lines])
        if wide(values):
            right.set_yscale("log")
        else:
            right.set_ylim(0, 1.1 * values.max())
        right.set_title("relative to the cleanest labels")
        for panel in (left, right):
            panel.set_xlabel(title_of(["corruption.level"], runs))
        text = note(table, cells, [GAP], interval=DEFAULT, also=[setting_note(table, runs)])
        explain(figure, lines, "measure", title, text)
    return figure


def counted_runs(table: pa.Table) -> tuple[pa.Table, pa.Table, list[str]]:
    """The runs of one setting, their means by level, and the columns to show.

    It is, of the settings that fit labels at the most levels, the one of the largest network. The columns are the ones of `_COUNTS` and
    `_OTHERS` that every run has.
    """
    runs, by = lines_over(table, "corruption.level")
    refuse_regression(runs, "counts are drawn beside the gap of")
    runs = runs.filter(pc.and_(pc.fill_null(runs["interpolated"], False), pc.is_finite(runs[GAP])))
    of_labels = pc.or_(pc.equal(runs["corruption.level"], 0.0), pc.is_in(runs["corruption.kind"], pa.array(["redraw", "flip"])))
    runs = runs.filter(pc.fill_null(of_labels, False))
    found = runs.group_by(by).aggregate([("corruption.level", "count_distinct"), ("parameters", "max")])
    found = found.sort_by(
        [("corruption.level_count_distinct", "descending"), ("parameters_max", "descending"), *((name, "ascending") for name in by)]
    )
    if not found.num_rows or found["corruption.level_count_distinct"][0].as_py() < 2:
        raise NothingToShow("no architecture fits labels at two levels of corruption: counts cannot be set beside the gap")
    if by:
        runs = runs.filter(agreeing(by, [found[name][0].as_py() for name in by]))
    known = [name for name in (*_COUNTS, *_OTHERS) if name in runs.column_names and np.isfinite(numbers(runs, name)).all()]
    return runs, seed_means(runs, ["corruption.level", "interpolated"], [GAP, *known]), known


def setting_note(table: pa.Table, runs: pa.Table) -> str:
    """The sentence that says which setting is shown: these runs, of those of the table."""
    first = {name: runs[name][0].as_py() for name in ("model.name", "model.width", "model.depth", "parameters", "data.train_size")}
    size = f"{first['parameters']:,} parameters, {first['data.train_size']:,} training samples"
    depth = "" if first["model.depth"] is None else f", depth {first['model.depth']}"
    rest = [name for name in varying_fields(completed(table)) if name not in first and not name.startswith("corruption.")]
    others = "".join(f", {words(name)} {label_of([name], [runs[name][0].as_py()])}" for name in rest)
    return f"One setting: {first['model.name']}, width {first['model.width']}{depth}, {size}{others}; runs that reached their train target."


def relative_lines(cells: pa.Table, columns: Sequence[str]) -> list[Line]:
    """One line a column: its means by level, divided by the mean at the lowest level."""
    parts = []
    for name in columns:
        values = numbers(cells, name)
        labels = pa.array([words(name).replace("$", "")] * cells.num_rows)
        parts.append(pa.table({"measure": labels, "corruption.level": cells["corruption.level"], "relative": values / values[0]}))
    lines = split(pa.concat_tables(parts), ["measure"])[0]
    order = [words(name).replace("$", "") for name in columns]
    return sorted(lines, key=lambda line: order.index(line.values[0]))


def _scatter(panel: Axes, runs: pa.Table, lines: Sequence[Line], name: str) -> None:
    for line in lines:
        xs, ys = line.numbers(MEASURE + name), line.numbers(GAP)
        panel.plot(xs, ys, line.marker, color=line.colour, markersize=3.5, alpha=0.5, markeredgewidth=0, gid="runs")
    if wide(numbers(runs, MEASURE + name)):
        panel.set_xscale("log")
    panel.set_title(f"{name}\n$\\tau$ = {tau_of(runs, MEASURE + name):.2f}", fontsize=8.5)
