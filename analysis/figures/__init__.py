"""Figures for papers: each function takes records and returns a Matplotlib figure (those of a search are Plotly's).

All share the room `drawing`: style (colours, markers, files), lines (which rows make a line), canvas (axes, bands, legend, note).
Then one file a family: `capacity` has the main figure, `corruption`, `maps`, `descent`, `training` and `runs` the field's other ones,
`measures` and `theories` those of single questions, `search` those of a search.
"""

from typing import TYPE_CHECKING

from analysis.lazy import lazy_exports

if TYPE_CHECKING:
    from analysis.figures.bounds import bound_vs_corruption
    from analysis.figures.capacity import gap_columns, gap_vs_capacity
    from analysis.figures.corruption import error_vs_corruption, time_to_fit
    from analysis.figures.descent import double_descent
    from analysis.figures.drawing.style import write_chart
    from analysis.figures.maps import capacity_corruption_map
    from analysis.figures.measures import counts_vs_gap, measures_vs_gap
    from analysis.figures.runs import parallel_coordinates, train_vs_test
    from analysis.figures.search import search_figures, tuned_gap_vs_capacity, write_page
    from analysis.figures.theories import memorised_images, rademacher, ridgeless_risk, stability, theory_lines
    from analysis.figures.training import early_stopping, epoch_double_descent, learning_curves, memorisation

__all__ = [
    "bound_vs_corruption",
    "capacity_corruption_map",
    "counts_vs_gap",
    "double_descent",
    "early_stopping",
    "epoch_double_descent",
    "error_vs_corruption",
    "gap_columns",
    "gap_vs_capacity",
    "learning_curves",
    "measures_vs_gap",
    "memorisation",
    "memorised_images",
    "parallel_coordinates",
    "rademacher",
    "ridgeless_risk",
    "search_figures",
    "stability",
    "theory_lines",
    "time_to_fit",
    "train_vs_test",
    "tuned_gap_vs_capacity",
    "write_chart",
    "write_page",
]

__getattr__, __dir__ = lazy_exports(__name__)
