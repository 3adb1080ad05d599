"""Figures of a search: what tuning gains against capacity, and Optuna's own figures of how it was found."""

from __future__ import annotations

import html
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from analysis.errors import NothingToShow
from analysis.figures.capacity import gap_vs_capacity
from analysis.statistics.questions.tuning import BASELINE, TUNED, UNTUNED, importance_table, target_of
from analysis.statistics.selection import averaged_over, completed_lines
from analysis.whole_files import whole_file

if TYPE_CHECKING:
    import optuna
    from matplotlib.figure import Figure


def tuned_gap_vs_capacity(runs: pa.Table, *, capacity: str = "parameters_per_sample", title: str | None = None) -> Figure:
    """Draw the generalization gap against capacity, untuned beside tuned.

    Args:
        runs: from `compared_runs`.
        capacity: as for `analysis.gap_vs_capacity`.
        title: stands above the figure.
    """
    two, corruption = completed_lines(runs.filter(pc.is_in(runs["variant"], pa.array([TUNED, UNTUNED]))), None)
    # what was tuned differs from cell to cell: it tells no lines apart, unless a cell would hold more than seeds
    by = None if averaged_over(two, [*corruption, "variant", capacity]) else corruption
    return gap_vs_capacity(two, capacity=capacity, by=by, panels="variant", title=title)


def search_figures(study: optuna.Study) -> dict[str, Any]:
    """Plotly figures of a search, by title: importance (PED-ANOVA) beside chance, and Optuna's own history, parallel coordinates,
    slices, and Pareto front of several objectives or intermediate values of a pruned search.

    Raises:
        NothingToShow: no trial completed.
    """
    import optuna
    from optuna import visualization

    if not study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,)):
        raise NothingToShow(f"{study.study_name} has no completed trial yet")
    names = study.user_attrs.get("objectives") or [f"objective {index}" for index in range(len(study.directions))]
    several = len(names) > 1
    figures: dict[str, Any] = {}
    for index, name in enumerate(names):
        target = {"target": target_of(index) if several else None, "target_name": name}
        figures[f"History of the {name}"] = visualization.plot_optimization_history(study, **target)
        with suppress(NothingToShow):
            figures[f"Importance for the {name}"] = importance_figure(importance_table(study, objective=index))
        figures[f"Parallel coordinates, {name}"] = visualization.plot_parallel_coordinate(study, **target)
        figures[f"Slices, {name}"] = visualization.plot_slice(study, **target)
    if several and len(names) <= 3:
        figures["Pareto front"] = visualization.plot_pareto_front(study, target_names=names)
    if any(trial.intermediate_values for trial in study.get_trials(deepcopy=False)):
        figures["Intermediate values"] = visualization.plot_intermediate_values(study)
    return figures


def importance_figure(table: pa.Table) -> Any:
    """A plotly figure of `importance_table`: bars, the random number's in grey, and a line at the 95 % quantile of chance."""
    from plotly import graph_objects

    names = table["parameter"].to_pylist()[::-1]
    colours = ["#999999" if name == BASELINE else "#0072B2" for name in names]
    bars = graph_objects.Bar(x=table["importance"].to_pylist()[::-1], y=names, orientation="h", marker_color=colours)
    figure = graph_objects.Figure(bars)
    figure.add_vline(
        table["chance"][0].as_py(),
        line_dash="dash",
        annotation_text="95 % of random numbers lie below",
        annotation_position="bottom right",  # where bars are short
    )
    figure.update_layout(xaxis_title="importance (share)", height=120 + 24 * len(names))
    return figure


def write_page(figures: Mapping[str, Any], path: str | Path, title: str) -> Path:
    """Write plotly figures under their titles into one HTML file, which holds all that it needs and works without a network."""
    from plotly.offline import get_plotlyjs

    parts = [f"<h2>{html.escape(name)}</h2>{figure.to_html(full_html=False, include_plotlyjs=False)}" for name, figure in figures.items()]
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>body {{font-family: sans-serif; margin: 2em}}</style>'
    target = Path(path)
    body = f"<h1>{html.escape(title)}</h1>{''.join(parts)}"
    page = f"<!doctype html><html><head>{head}<script>{get_plotlyjs()}</script></head><body>{body}</body></html>"
    with whole_file(target) as unfinished:
        unfinished.write_text(page, encoding="utf-8")
    return target
