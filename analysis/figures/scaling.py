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
from analysis.scaling.cells import Cells, cells_of
from analysis.scaling.forecasts import flops_per_product
from analysis.scaling.isoflop import IsoFlop, isoflop
from analysis.scaling.laws import compute_optimal, optimal_exponent
from analysis.scaling.studies import StudyLaw
from analysis.statistics.selection import seed_codes
from analysis.words import words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BEYOND = 10.0
"""How far laws are drawn, in the largest size."""
_STEPS = 60
_MOST_PANELS = 4


def scaling_chart(laws: Sequence[StudyLaw], *, title: str | None = None) -> Figure:
    """Draw the laws of a study over one size, with their forecasts up to ten times the largest; or over two, with IsoFLOP panels.

    Over two sizes there is a row of panels for each line. Left, the means over the first size, a colour for each value of the second,
    and the law. Where the sizes are parameters and samples, and training costs a multiple of their product, IsoFLOP panels follow: what
    runs of every model size came to at a few compute budgets, interpolated between runs (Hoffmann et al. 2022, approach 2), with the law of
    both sizes at these budgets (approach 3); and the best size at each budget, by parabolas through the profiles and by the law.

    Args:
        laws: as from `scaling_laws`, at least one.
        title: stands above the figure.

    Raises:
        NothingToShow: no setting has runs on one side of the threshold alone.
    """
    if not laws:
        raise NothingToShow("no setting has runs on one side of the threshold alone: there is no law to draw")
    if len(laws[0].sizes) > 1:
        return _plane_chart(laws, title)
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
        log_axis(panel, np.concatenate([sizes for sizes, _ in extents]))
        found = [law.scaling.law.cells.means for law in shown if law.scaling.law is not None]
        if found:
            _error_scale(panel, np.concatenate(found), np.concatenate([forecasts for _, forecasts in extents]))
        panel.set_xlabel(words(size))
        panel.set_ylabel(words(shown[0].value))
        explain(figure, lines, title_of(by, shown[0].runs) if by else "", title, _note(shown, len(laws)))
    return figure


def _plane_chart(laws: Sequence[StudyLaw], title: str | None) -> Figure:
    shown = [(law, _profiles(law)) for law in _with_law_first(laws)[:_MOST_PANELS]]
    columns = 3 if any(profiles for _, profiles in shown) else 1
    with drawing():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(1.8 + 4.4 * columns, 1.2 + 3.6 * len(shown)), layout="constrained")
        grid = figure.subplots(len(shown), columns, squeeze=False)
        text = (
            f"{'Left: means' if columns == 3 else 'Means'} over seeds with standard errors, a colour for each second size; lines: the law."
        )
        for panels, (law, profiles) in zip(grid, shown, strict=True):
            _draw_plane(panels[0], law)
            if profiles is not None:
                _draw_profiles(panels[1], law, profiles)
                _draw_best(panels[2], law, profiles)
        if columns == 3:
            text += (
                " Middle: the same at equal compute, interpolated between runs of one model size. Right: the best sizes, by parabolas "
                "through these profiles, with 95 % intervals, and by the law."
            )
        explain(figure, [], "", title, text)
    return figure


def _with_law_first(laws: Sequence[StudyLaw]) -> list[StudyLaw]:
    """Those with a law, or those with most runs if none has one."""
    return [law for law in laws if law.scaling.law is not None] or sorted(laws, key=lambda law: -law.runs.num_rows)[:1]


def _profiles(law: StudyLaw) -> IsoFlop | None:
    """The profiles of equal compute, where compute is a multiple of parameters times samples."""
    if law.sizes != ("parameters", "data.train_size"):
        return None
    try:
        flops_per_product(law)
        return isoflop(law.runs, value=law.value)
    except AnalysisError:
        return None


def _draw_plane(panel: Axes, law: StudyLaw) -> None:
    cells = _cells(law)
    seconds = np.unique(cells.sizes[1])
    fitted = law.scaling.law
    for second, colour in zip(seconds, colours(seconds.tolist()), strict=True):
        here = cells.sizes[1] == second
        x = cells.sizes[0][here]
        errors = np.nan_to_num(cells.errors[here])
        panel.errorbar(x, cells.means[here], errors, marker="o", markersize=3.5, color=colour, linestyle="", elinewidth=0.8)
        if fitted is not None:
            along = np.geomspace(x.min(), x.max(), _STEPS)
            panel.plot(along, fitted.predict(along, np.full(_STEPS, second)), color=colour, linewidth=1.2, gid="law")
    ends = [panel.plot([], [], "o", color=colour)[0] for colour in colours(seconds.tolist())]
    some = sorted({0, len(seconds) // 2, len(seconds) - 1})
    panel.legend([ends[one] for one in some], [f"{seconds[one]:,.0f}" for one in some], title=words(law.sizes[1]), fontsize=8)
    log_axis(panel, cells.sizes[0])
    _error_scale(panel, cells.means, np.array([]), below=1.3)
    panel.set_xlabel(words(law.sizes[0]))
    panel.set_ylabel(words(law.value))
    panel.set_title(law.label + ("" if fitted is not None else ": no law"))


def _draw_law(panel: Axes, law: StudyLaw, colour: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draw means with standard errors, the law and its forecast.

    Returns:
        The sizes that it covers, and the values of the forecast.
    """
    hollow = law.side == "unfit"
    size = law.sizes[0]
    try:
        cells = _cells(law)
    except AnalysisError:
        return np.array([]), np.array([])
    x = cells.sizes[0]
    style: dict[str, Any] = {"color": colour, "linestyle": "", "capsize": 0, "elinewidth": 1.0}
    errors = np.nan_to_num(cells.errors)
    panel.errorbar(x, cells.means, errors, marker=MARKERS[0], markerfacecolor="white" if hollow else colour, gid="means", **style)
    if law.scaling.law is None:
        return np.asarray(x), np.array([])
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
        return np.asarray([*x, at[-1]]), value
    return np.asarray(x), np.array([])


def _cells(law: StudyLaw) -> Cells:
    sizes = np.stack([law.runs[size].to_numpy().astype(float) for size in law.sizes])
    return cells_of(sizes, law.runs[law.value].to_numpy(zero_copy_only=False).astype(float), seed_codes(law.runs))


def _error_scale(panel: Axes, means: NDArray[np.float64], forecasts: NDArray[np.float64], below: float = 2.5) -> None:
    """A logarithmic axis where means span more than a factor of three and stand clear of 0; else a linear one. Forecasts lie on it."""
    if means.min() <= 0 or means.max() < 3 * means.min():
        low, high = panel.get_ylim()
        panel.set_ylim(min(low, 0.0) if means.min() >= 0 else low, high)
        return
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    panel.set_yscale("log")
    all_of = np.concatenate([means, forecasts[forecasts > 0]])
    panel.set_ylim(all_of.min() / below, all_of.max() * 1.4)
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
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_xlabel("training FLOPs")
    panel.set_ylabel("best " + words("parameters"))
    panel.set_title(heading, fontsize=9)


def _shades(profiles: IsoFlop) -> list[Any]:
    return colours([float(budget) for budget in profiles.budgets])
