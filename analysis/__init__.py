"""The analysis says what a study found: it loads the records, aggregates them and draws them. It runs nothing.

    import analysis

    records = analysis.load("results/gap-vs-capacity")
    figure = analysis.gap_vs_capacity(records)
    analysis.write_chart(figure, "gap")

Tables are Arrow's: ``table.to_pandas(types_mapper=pandas.ArrowDtype)`` and ``polars.from_arrow(table)`` copy only where they must.
"""

from typing import TYPE_CHECKING

from analysis.lazy import lazy_exports

if TYPE_CHECKING:
    from analysis.attribution.left_out import left_out_table
    from analysis.attribution.table import attribution_table, influence_table
    from analysis.errors import AnalysisError, NothingToShow
    from analysis.figures.bounds import bound_vs_corruption
    from analysis.figures.capacity import gap_columns, gap_vs_capacity
    from analysis.figures.corruption import error_vs_corruption, time_to_fit
    from analysis.figures.descent import double_descent
    from analysis.figures.drawing.style import write_chart
    from analysis.figures.maps import capacity_corruption_map
    from analysis.figures.measures import counts_vs_gap, measures_vs_gap
    from analysis.figures.memorised.attribution import attribution_chart, influential_images
    from analysis.figures.memorised.bits import capacity_chart
    from analysis.figures.runs import parallel_coordinates, train_vs_test
    from analysis.figures.scaling import scaling_chart
    from analysis.figures.search import search_figures, tuned_gap_vs_capacity
    from analysis.figures.theories import memorised_images, rademacher, ridgeless_risk, stability, theory_lines
    from analysis.figures.training import early_stopping, epoch_double_descent, learning_curves, memorisation
    from analysis.records.export_file import export
    from analysis.records.networks import load_network
    from analysis.records.parquet.samples import load_samples
    from analysis.records.reader import load, load_curves
    from analysis.report.findings import findings
    from analysis.report.page import write_report
    from analysis.scaling.choice import Scaling
    from analysis.scaling.forecasts import forecast_table
    from analysis.scaling.isoflop import isoflop
    from analysis.scaling.studies import StudyLaw, scaling_laws, scaling_of, scaling_table
    from analysis.statistics.aggregate import gap_table, over_seeds
    from analysis.statistics.censored import fit_times
    from analysis.statistics.comparison import compare
    from analysis.statistics.decomposition import decomposition_table, explained
    from analysis.statistics.interpolation import threshold_table
    from analysis.statistics.moments import at_moment
    from analysis.statistics.questions.capacity import capacity_ranks, capacity_table
    from analysis.statistics.questions.predictions import theory_table
    from analysis.statistics.questions.theories import memorisation_table, rademacher_table, stability_table
    from analysis.statistics.questions.tuning import ablation_table, compared_runs, importance_table, optuna_studies

__all__ = [
    "AnalysisError",
    "NothingToShow",
    "Scaling",
    "StudyLaw",
    "ablation_table",
    "at_moment",
    "attribution_chart",
    "attribution_table",
    "bound_vs_corruption",
    "capacity_chart",
    "capacity_corruption_map",
    "capacity_ranks",
    "capacity_table",
    "compare",
    "compared_runs",
    "counts_vs_gap",
    "decomposition_table",
    "double_descent",
    "early_stopping",
    "epoch_double_descent",
    "error_vs_corruption",
    "explained",
    "export",
    "findings",
    "fit_times",
    "forecast_table",
    "gap_columns",
    "gap_table",
    "gap_vs_capacity",
    "importance_table",
    "influence_table",
    "influential_images",
    "isoflop",
    "learning_curves",
    "left_out_table",
    "load",
    "load_curves",
    "load_network",
    "load_samples",
    "measures_vs_gap",
    "memorisation",
    "memorisation_table",
    "memorised_images",
    "optuna_studies",
    "over_seeds",
    "parallel_coordinates",
    "rademacher",
    "rademacher_table",
    "ridgeless_risk",
    "scaling_chart",
    "scaling_laws",
    "scaling_of",
    "scaling_table",
    "search_figures",
    "stability",
    "stability_table",
    "theory_lines",
    "theory_table",
    "threshold_table",
    "time_to_fit",
    "train_vs_test",
    "tuned_gap_vs_capacity",
    "write_chart",
    "write_report",
]

__getattr__, __dir__ = lazy_exports(__name__)
