"""Scaling laws with their forecasts, and IsoFLOP panels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from analysis.errors import AnalysisError, NothingToShow
from analysis.figures.drawing.canvas import DASHES, explain, log_axis
from analysis.figures.drawing.lines import MOST_LINES, Line, label_of, title_of
from analysis.figures.drawing.style import MARKERS, colours, drawing
from analysis.scaling.forecasts import flops_per_product
from analysis.scaling.isoflop import IsoFlop, isoflop
from analysis.scaling.laws import Cells, cells_of, compute_optimal, optimal_exponent
from analysis.scaling.studies import StudyLaw
from analysis.words import words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BEYOND = 10.0
"""How far laws are drawn, in the largest size."""
_STEPS = 60


def scaling_chart(laws: Sequence[StudyLaw], *, title: str | None = None) -> Figure:
    """Draw the laws of a study over one size, with their forecasts up to ten times the largest; over two, `isoflop_panels`.

    Args:
        laws: as from `scaling_laws`, at least one.
        title: stands above the figure.

    Raises:
        NothingToShow: no setting has runs on one side of the threshold, or the two sizes are others than parameters and samples.
        AnalysisError: as for `isoflop`.
    """
    if not laws:
        raise NothingToShow("no setting has runs on one side of the threshold alone: there is no law to draw")
    if len(laws[0].sizes) > 1:
        return isoflop_panels(laws, title=title)
    shown = laws[:MOST_LINES]
    names = list(dict.fromkeys(tuple(law.line.values()) for law in shown))
    looks = dict(zip(names, colours([one[0] if len(one) == 1 else str(one) for one in names]), strict=True))
    size, by = shown[0].sizes[0], list(shown[0].line)
    lines = [Line(tuple(by), one, label_of(by, one) if by else "", looks[one], MARKERS[0], shown[0].runs) for one in names]
    with drawing():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7.6, 4.8), layout="constrained")
        panel = figure.subplots()
        extents = [_draw_law(panel, law, looks[tuple(law.line.values())]) for law in shown]
        sizes = np.concatenate([extent for extent in extents if len(extent)])
        log_axis(panel, sizes)
        _error_scale(panel, [law for law in shown if law.scaling.law is not None])
        panel.set_xlabel(words(size))
        panel.set_ylabel(words(shown[0].value))
        explain(figure, lines, title_of(by, shown[0].runs) if by else "", title, _note(shown, len(laws)))
    return figure


def isoflop_panels(laws: Sequence[StudyLaw], *, title: str | None = None) -> Figure:
    """Draw, for each line over parameters and samples, the profiles of equal compute, and the best size over compute.

    Left: what runs of every model size came to at a few compute budgets, interpolated between runs (Hoffmann et al. 2022, approach 2), and
    the law of both sizes at these budgets (approach 3). Right: the best sizes, by the parabolas through the profiles and by the law.

    Args:
        laws: as from `scaling_laws`, over ``parameters`` and ``data.train_size``.
        title: stands above the figure.

    Raises:
        NothingToShow: there is no line over these two sizes.
        AnalysisError: as for `isoflop`.
    """
    shown = [law for law in laws if law.sizes == ("parameters", "data.train_size")][:4]
    if not shown:
        raise NothingToShow("there is no line over parameters and data.train_size: let both vary")
    with drawing():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(10.4, 1.1 + 3.6 * len(shown)), layout="constrained")
        grid = figure.subplots(len(shown), 2, squeeze=False, width_ratios=[1.35, 1])
        for (left, right), law in zip(grid, shown, strict=True):
            profiles = isoflop(law.runs, value=law.value)
            _draw_profiles(left, law, profiles)
            _draw_best(right, law, profiles)
            left.set_title(law.label)
        text = (
            "Left: means over seeds at equal compute, interpolated between runs of one model size, with standard errors; lines: the law of "
            "both sizes. Right: vertices of parabolas through the profiles, with 95 % intervals, and the law's best size."
        )
        explain(figure, [], "", title, text)
    return figure


def _draw_law(panel: Axes, law: StudyLaw, colour: Any) -> NDArray[np.float64]:
    """Means with standard errors, the law and its forecast; the sizes that it covers."""
    hollow = law.side == "unfit"
    size = law.sizes[0]
    try:
        cells = _cells(law)
    except AnalysisError:
        return np.array([])
    x = cells.sizes[0]
    style: dict[str, Any] = {"color": colour, "linestyle": "", "capsize": 0, "elinewidth": 1.0}
    errors = np.nan_to_num(cells.errors)
    panel.errorbar(x, cells.means, errors, marker=MARKERS[0], markerfacecolor="white" if hollow else colour, gid="means", **style)
    if law.scaling.law is None:
        return np.asarray(x)
    panel.axvspan(x.max() / 10, x.max(), color="#000000", alpha=0.025, linewidth=0, zorder=0)
    within, beyond = np.geomspace(x.min(), x.max(), _STEPS), np.geomspace(x.max(), _BEYOND * law.largest(size), _STEPS // 3)
    panel.plot(within, law.scaling.law.predict(within), color=colour, linewidth=1.5)
    drawn = []
    for place in beyond:
        try:
            found = law.scaling.predict(float(place))
        except AnalysisError:  # beyond what is possible
            break
        drawn.append((place, found.value, found.low, found.high))
    if drawn:
        at, value, low, high = np.array(drawn).T
        panel.plot(at, value, color=colour, linestyle=DASHES, linewidth=1.5, gid="forecast")
        panel.fill_between(at, low, high, color=colour, alpha=0.16, linewidth=0)
        return np.asarray([*x, at[-1]])
    return np.asarray(x)


def _cells(law: StudyLaw) -> Cells:
    sizes = np.stack([law.runs[size].to_numpy().astype(float) for size in law.sizes])
    return cells_of(sizes, law.runs[law.value].to_numpy(zero_copy_only=False).astype(float))


def _error_scale(panel: Axes, laws: Sequence[StudyLaw]) -> None:
    """A logarithmic axis where values span more than a factor of three and stand clear of 0; else a linear one."""
    means = np.concatenate([law.scaling.law.cells.means for law in laws if law.scaling.law is not None] or [np.array([0.0])])
    if means.min() <= 0 or means.max() < 3 * means.min():
        low, high = panel.get_ylim()
        panel.set_ylim(min(low, 0.0) if means.min() >= 0 else low, high)
        return
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    panel.set_yscale("log")
    panel.set_ylim(means.min() / 2.5, means.max() * 1.4)
    panel.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:.3g}"))
    panel.yaxis.set_minor_formatter(NullFormatter())


def _note(laws: Sequence[StudyLaw], of: int) -> str:
    none = [law.label for law in laws if law.scaling.law is None]
    parts = ["Means over seeds with their standard errors; filled: runs that fit, hollow: runs that did not."]
    parts += ["Solid: the law. Dashed: its forecast up to ten times the largest size, with 95 % prediction intervals for one run."]
    parts += ["Shaded: the largest decade, by which the form was chosen."]
    if none:
        parts.append(f"No law: {'; '.join(none)}.")
    if len(laws) < of:
        parts.append(f"{len(laws)} of {of} lines are shown.")
    return " ".join(parts)


def _draw_profiles(panel: Axes, law: StudyLaw, profiles: IsoFlop) -> None:
    each = flops_per_product(law)
    for budget, values, errors, colour in zip(profiles.budgets, profiles.values, profiles.errors, _shades(profiles), strict=True):
        there = np.isfinite(values)
        panel.errorbar(
            *(profiles.sizes[there], values[there], np.nan_to_num(errors[there])),
            marker="o",
            color=colour,
            linestyle="",
            elinewidth=1.0,
            label=f"{budget:.1e}",
        )
        if law.scaling.law is not None:
            sizes = np.geomspace(profiles.sizes[there].min(), profiles.sizes[there].max(), _STEPS)
            panel.plot(sizes, law.scaling.law.predict(sizes, budget / each / sizes), color=colour, linewidth=1.3)
    log_axis(panel, profiles.sizes)
    panel.set_xlabel(words("parameters"))
    panel.set_ylabel(words(law.value))
    panel.legend(title="training FLOPs", fontsize=8)


def _draw_best(panel: Axes, law: StudyLaw, profiles: IsoFlop) -> None:
    for budget, best, colour in zip(profiles.budgets, profiles.best, _shades(profiles), strict=True):
        if np.isfinite(best.value):
            ends = np.nan_to_num([[best.value - best.low], [best.high - best.value]])
            panel.errorbar([budget], [best.value], np.maximum(ends, 0), marker="o", color=colour, elinewidth=1.0)
    heading = "best size by the parabolas"
    if np.isfinite(profiles.exponent.value):
        heading += f": exponent {profiles.exponent}"
    fitted = law.scaling.law
    if fitted is not None and fitted.form.direction < 0 and fitted.form.sign > 0:
        budgets = np.geomspace(profiles.budgets[0], profiles.budgets[-1], _STEPS)
        each = flops_per_product(law)
        panel.plot(budgets, [compute_optimal(fitted, budget, flops_per_product=each)[0] for budget in budgets], color="#555555")
        heading += f"\nline: by the law, exponent {optimal_exponent(fitted)}"
    panel.set_yscale("log")
    log_axis(panel, profiles.budgets)
    panel.set_xlabel("training FLOPs")
    panel.set_ylabel("best " + words("parameters"))
    panel.set_title(heading, fontsize=9)


def _shades(profiles: IsoFlop) -> list[Any]:
    return colours([float(budget) for budget in profiles.budgets])
