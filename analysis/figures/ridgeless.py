"""Ridgeless regression: the risk measured by Monte Carlo beside its asymptotic formula (Hastie et al. 2019)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from analysis.errors import NothingToShow
from analysis.figures.drawing.canvas import DASHES, bare_figure, explain, log_axis, note
from analysis.figures.drawing.style import colours, drawing
from analysis.statistics.aggregate import over_seeds
from analysis.statistics.selection import completed
from analysis.words import words

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RISK, FORMULA = "measure.excess_risk", "measure.asymptotic_risk"


def ridgeless_risk(table: pa.Table, *, title: str | None = None) -> Figure:
    """Draw the mean excess risk over d/n with its 95 % interval, and the formula as a dashed line, broken at d/n = 1.

    Args:
        table: records of the model `ridgeless`.
        title: stands above the figure.

    Raises:
        NothingToShow: no completed record has such a risk.
    """
    runs = completed(table)
    if RISK not in runs.column_names or FORMULA not in runs.column_names:
        raise NothingToShow(f"no completed record has a {words(RISK)} and a {words(FORMULA)}: run a study of the model ridgeless")
    runs = runs.filter(pc.is_valid(runs[RISK]))
    cells = over_seeds(runs, ["parameters_per_sample"], [RISK, FORMULA]).sort_by("parameters_per_sample")
    aspect, mean, low, high, formula = (
        cells[name].cast(pa.float64()).to_numpy() for name in ("parameters_per_sample", RISK, f"{RISK}.low", f"{RISK}.high", FORMULA)
    )
    with drawing():
        figure, panel = bare_figure(7.4, 4.4)
        colour = colours([""])[0]
        panel.errorbar(aspect, mean, np.stack([mean - low, high - mean]), fmt="o", color=colour, capsize=3, label="Monte Carlo")
        for index, side in enumerate((aspect < 1, aspect > 1)):
            panel.plot(
                aspect[side], formula[side], color="#555555", linestyle=DASHES, label=None if index else "formula, d and n to infinity"
            )
        panel.axvline(1, color="#999999", linewidth=0.9, linestyle=":")
        log_axis(panel, aspect)
        panel.set_yscale("log")
        panel.set_xlabel("d / n")
        panel.set_title("excess risk of minimum-norm least squares")
        panel.legend()
        explain(figure, [], "", title, note(table, cells, interval="t"))
    return figure
