"""Figures over corruption: time to fit and test error against its level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import exp, hypot, inf, log
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from analysis.errors import NothingToShow
from analysis.figures.drawing.canvas import FIT_NOTE, bare_figure, draw_line, error_axis, explain, left_out_of, note
from analysis.figures.drawing.lines import split, title_of
from analysis.figures.drawing.style import drawing
from analysis.statistics.aggregate import seed_means
from analysis.statistics.censored import fit_times
from analysis.statistics.intervals import DEFAULT, Method
from analysis.statistics.selection import checked, groups, lines_over
from analysis.statistics.tasks import own
from analysis.words import words

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TIME = "restricted_mean"
"""The column of times to fit."""


def time_to_fit(table: pa.Table, *, by: Sequence[str] | None = None, relative: bool = True, title: str | None = None) -> Figure:
    """Draw how long runs take to fit against the corruption level (Zhang et al. 2017, figure 1b), above the share that fit.

    Runs that did not fit were watched in vain for their epochs, which the mean counts: it is that of min(time to fit, horizon), by
    Kaplan and Meier's curve (`analysis.fit_times`), with one horizon for all. Runs that diverged count as never fitting.

    Args:
        table: records.
        by: what tells lines apart; by default every setting that varies, corruption apart. Lines of which no run fit are left out.
        relative: in units of a line's own mean without corruption (level 0), whose error is in the intervals; lines that did not all fit
            there are left out.
        title: stands above the figure.

    Raises:
        NothingToShow: no completed record fit its training set.
        AnalysisError: a column does not exist, or ``by`` leaves something that varies besides seeds.
    """
    runs, by = lines_over(table, "corruption.level", by, diverged=True)
    cells, left_out = times_of(runs, by, relative=relative)
    with drawing():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7.4, 6.2), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=[1.7, 1])
        lines, of = split(cells, by)
        for line in lines:
            draw_line(above, line, "corruption.level", TIME)
            draw_line(below, replace(line, band=line.band / 2), "corruption.level", "fit_share", fit=False)
        error_axis(above, lines[0].numbers(TIME, cells))
        below.set_ylim(-0.05, 1.08)
        below.set_xlabel(title_of(["corruption.level"], runs))
        above.set_title("epochs to fit, relative to true labels" if relative else "epochs to fit")
        below.set_title("share of runs that fit")
        explain(figure, lines, title_of(by, runs), title, times_note(table, cells, (len(lines), of), left_out, relative=relative))
    return figure


def times_of(runs: pa.Table, by: Sequence[str], *, relative: bool) -> tuple[pa.Table, int]:
    """Times to fit by line and corruption level, as from `analysis.fit_times`, and how many lines are left out.

    The column `TIME` has the restricted means, ``interpolated`` whether all runs fit. Intervals of relative means are of the ratio, by the
    recovery of variances from the limits of both logarithms (Zou and Donner 2008), as if the runs of two levels were independent.

    Args:
        runs: completed and diverged records, as from `analysis.statistics.selection.lines_over`.
        by: what tells their lines apart.
        relative: in units of the mean of a line at level 0.
    """
    cells = fit_times(runs, [*by, "corruption.level"])
    rows = cells.to_pylist()
    if not any(row["fit"] for row in rows):
        raise NothingToShow("no completed record reached its train target: there is no time to fit to show")
    line = [tuple(row[name] for name in by) for row in rows]
    fits = {one: row for one, row in zip(line, rows, strict=True) if row["fit"]}
    if relative:
        true = [(one, row) for one, row in zip(line, rows, strict=True) if row["corruption.level"] == 0]
        fits = {one: row for one, row in true if row["fit"] == row["runs"]}
    if not fits:
        raise NothingToShow("no line fit without corruption (level 0): there is nothing that times to fit could be relative to")
    kept = [row for one, row in zip(line, rows, strict=True) if one in fits]
    if relative:
        kept = [row | _over(row, fits[tuple(row[name] for name in by)]) for row in kept]
    found = pa.Table.from_pylist(kept, cells.schema).sort_by("corruption.level")
    return found.append_column("interpolated", pc.equal(found["fit"], found["runs"])), len(set(line)) - len(fits)


def _over(row: Mapping[str, Any], unit: Mapping[str, Any]) -> dict[str, float | None]:
    """A restricted mean in units of another, with the interval of the ratio; of the unit itself that is 1."""
    ends = (f"{TIME}.low", f"{TIME}.high")
    ratio = row[TIME] / unit[TIME]
    if row is unit:
        return dict.fromkeys((TIME, *ends), 1.0)
    if any(one[end] is None for one in (row, unit) for end in ends):
        return {TIME: ratio} | dict.fromkeys(ends)
    (below, above), (unit_below, unit_above) = ([_away(one[end], one[TIME]) for end in ends] for one in (row, unit))
    return {TIME: ratio, ends[0]: ratio * exp(-hypot(below, unit_above)), ends[1]: ratio * exp(hypot(above, unit_below))}


def _away(end: float, mean: float) -> float:
    """How far an end of an interval is from its mean, in logarithms."""
    return abs(log(end / mean)) if end else inf


def times_note(table: pa.Table, cells: pa.Table, lines: tuple[int, int], left_out: int, *, relative: bool) -> str:
    """How to read a figure of times to fit."""
    ends = pc.min_max(cells["runs"]).as_py()
    seeds = f"{ends['min']:,}" if ends["min"] == ends["max"] else f"{ends['min']:,} to {ends['max']:,}"
    said = f"Means of min(time to fit, {cells['horizon'][0].as_py():g} epochs) by Kaplan and Meier's curve, over {seeds} runs a point, "
    said += "those that did not fit included (hollow: some did not); bands: 95 % intervals, of shares Clopper and Pearson's."
    said += " Intervals of relative means hold the uncertainty of both." if relative else ""
    which = "that did not all fit true labels" if relative else "of which no run fit"
    also = [f"{left_out} line{'s' if left_out > 1 else ''} {which} {'are' if left_out > 1 else 'is'} not shown."]
    return " ".join([said, *(also if left_out else []), *left_out_of(table.filter(pc.not_equal(table["status"], "diverged")), lines)])


def error_vs_corruption(
    table: pa.Table,
    *,
    value: str = "test_error",
    by: Sequence[str] | None = None,
    interval: Method = DEFAULT,
    title: str | None = None,
) -> Figure:
    """Draw the test error against the corruption level (Zhang et al. 2017, figure 1c), above the wrong-label rate.

    Args:
        table: records.
        value: the column of the vertical axis; of regression `test_error` stands for `test_nmse`.
        by: what tells lines apart; by default every setting that varies, corruption apart.
        interval: as for `over_seeds`.
        title: stands above the figure.

    Raises:
        NothingToShow: no completed record has the value.
        AnalysisError: a column does not exist, or ``by`` leaves something that varies besides seeds.
    """
    runs, by = lines_over(table, "corruption.level", by)
    value = own(runs, value)
    cells = seed_means(checked(runs, [value]), [*by, "corruption.level", "interpolated"], [value], interval=interval)
    cells = cells.filter(pc.is_valid(cells[value])).sort_by("corruption.level")
    if not cells.num_rows:
        raise NothingToShow(f"no completed record has a {words(value)}: nothing can be shown")
    told = of_labels(by)
    rates = wrong_label_rates(runs, told)
    with drawing():
        figure, panel = bare_figure(7.4, 4.6)
        lines, of = split(cells, by)
        for _, some in groups(rates, told):
            panel.plot(*(some[name].to_numpy() for name in ("corruption.level", "wrong_label_rate")), ":", color="#777777", gid="rate")
        for line in lines:
            draw_line(panel, line, "corruption.level", value)
        error_axis(panel, np.append(lines[0].numbers(value, cells), rates["wrong_label_rate"].to_numpy()), value)
        panel.set_xlabel(title_of(["corruption.level"], runs))
        panel.set_title(words(value))
        also = [FIT_NOTE, "Dotted: the fraction of training labels that are wrong."]
        explain(figure, lines, title_of(by, runs), title, note(table, cells, [value], interval=interval, lines=(len(lines), of), also=also))
    return figure


def of_labels(by: Sequence[str]) -> list[str]:
    """What tells labels apart, of what tells lines apart: the data and the corruption, and nothing of what is trained on them."""
    return [name for name in by if name.startswith(("data.", "corruption."))]


def wrong_label_rates(runs: pa.Table, told: Sequence[str]) -> pa.Table:
    """The wrong-label rate of each level, by what tells labels apart: it is part of the design, whatever was trained."""
    return seed_means(runs, [*told, "corruption.level"], ["wrong_label_rate"])
