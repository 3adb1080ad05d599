"""Bounds on the test error beside the test error that was measured, over corruption."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from analysis.errors import NothingToShow
from analysis.figures.drawing.canvas import FIT_NOTE, draw_line, error_axis, explain, note, parts_of
from analysis.figures.drawing.lines import split, title_of
from analysis.figures.drawing.style import drawing
from analysis.statistics.aggregate import seed_means
from analysis.statistics.intervals import DEFAULT
from analysis.statistics.selection import checked, lines_over

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BOUNDS = {"measure.compression_bound": "compression bound", "measure.pacbayes_certificate": "PAC-Bayes certificate"}
ERROR = "error_on_corrupted_labels"
"""The test error against labels that are corrupted as those trained on: what a bound from the training set is about."""
_LABELS = ("redraw", "random_labels")


def bound_vs_corruption(table: pa.Table, *, by: Sequence[str] | None = None, title: str | None = None) -> Figure:
    """Draw the measures that are bounds (`compression_bound`, `pacbayes_certificate`) and the error that they bound against corruption.

    A bound is about samples from where the training set came from, labels included. With labels redrawn uniformly over C classes with
    probability q, whatever else a sample is, a network of test error e is wrong there with probability (1 - q)e + q(C - 1)/C, of which the
    second part is the share of labels that are wrong. The shaded region is what guessing reaches.

    Args:
        table: records, with one of the measures or both: each has its panel.
        by: what tells lines apart; by default every setting that varies, corruption apart.
        title: stands above the figure.

    Raises:
        NothingToShow: no completed record has such a measure, with labels that are redrawn.
        AnalysisError: a column does not exist, or ``by`` leaves something that varies besides seeds.
    """
    runs, by = lines_over(table, "corruption.level", by)
    runs = runs.filter(pc.is_in(runs["corruption.kind"], pa.array(_LABELS)))
    bounds = [name for name in BOUNDS if name in runs.column_names and runs[name].null_count < runs.num_rows]
    if not bounds:
        names = " or ".join(name.removeprefix("measure.") for name in BOUNDS)
        raise NothingToShow(
            f"no completed record has the measure {names} and labels that are redrawn: put it under measures and run the study again"
        )
    level, error, wrong = (checked(runs, [name])[name] for name in ("corruption.level", "test_error", "wrong_label_rate"))
    runs = runs.append_column(ERROR, pc.add(pc.multiply(pc.subtract(1.0, level), error), wrong))
    cells = seed_means(runs, [*by, "corruption.level", "interpolated"], [*bounds, ERROR]).sort_by("corruption.level")
    with drawing():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7.4, 1.2 + 3.4 * len(bounds)), layout="constrained")
        panels = figure.subplots(len(bounds), 1, sharex=True, squeeze=False)[:, 0]
        lines, of = split(cells, by)
        rates = [w / q for q, w in zip(level.to_pylist(), wrong.to_pylist(), strict=True) if q and w is not None]
        chance = float(np.median(rates)) if rates else 1.0
        for bound, panel in zip(bounds, panels, strict=True):
            panel.axhspan(chance, 1.06, color="#999999", alpha=0.2, linewidth=0, gid="vacuous")
            for line in lines:
                draw_line(panel, line, "corruption.level", bound)
                for rows in (some for some, _ in parts_of(line) if some.num_rows):
                    look = {"color": line.colour, "linestyle": ":", "marker": ".", "markersize": 4}  # a single mean has no line
                    panel.plot(line.numbers("corruption.level", rows), line.numbers(ERROR, rows), gid="errors", **look)
            error_axis(panel, np.append(np.concatenate([line.numbers(bound, cells) for line in lines]), [0.0, 1.0]))
            panel.set_title(f"{BOUNDS[bound]}, and the error that it bounds")
        panels[-1].set_xlabel(title_of(["corruption.level"], runs))
        also = [FIT_NOTE, "Dotted: measured test error, labels corrupted as in training. Shaded: no better than guessing."]
        text = note(table, cells, bounds, interval=DEFAULT, lines=(len(lines), of), also=also)
        explain(figure, lines, title_of(by, runs), title, text)
    return figure
