"""What a study says: load its records, aggregate them, draw them.

    import analysis

    records = analysis.load("results/gap-vs-capacity")
    figure = analysis.gap_vs_capacity(records)
    analysis.write_chart(figure, "gap")

Tables are Arrow's: ``table.to_pandas(types_mapper=pandas.ArrowDtype)`` and ``polars.from_arrow(table)`` copy only where they must.
"""

from analysis.aggregate import gap_table, over_seeds
from analysis.capacity import gap_columns, gap_vs_capacity
from analysis.compare import compare
from analysis.corruption_charts import capacity_corruption_map, error_vs_corruption, time_to_fit
from analysis.descent import double_descent
from analysis.errors import AnalysisError, NothingToShow
from analysis.export import export
from analysis.fits import PowerLaw, fit_power_law, power_law_table
from analysis.load import load, load_curves
from analysis.measure_charts import counts_vs_gap, measures_vs_gap
from analysis.moments import at_moment
from analysis.report import write_report
from analysis.ridgeless import ridgeless_risk
from analysis.run_charts import parallel_coordinates, train_vs_test
from analysis.samples import load_samples
from analysis.style import write_chart
from analysis.theories import memorisation_table, rademacher_table, stability_table
from analysis.theory_charts import memorised_images, rademacher, stability
from analysis.thresholds import interpolation_thresholds, threshold_location
from analysis.training_charts import early_stopping, epoch_double_descent, learning_curves, memorisation
from analysis.tuning import ablation_table, compared_runs, importance_table, optuna_studies, search_figures, tuned_gap_vs_capacity

__all__ = [
    "AnalysisError",
    "NothingToShow",
    "PowerLaw",
    "ablation_table",
    "at_moment",
    "capacity_corruption_map",
    "compare",
    "compared_runs",
    "counts_vs_gap",
    "double_descent",
    "early_stopping",
    "epoch_double_descent",
    "error_vs_corruption",
    "export",
    "fit_power_law",
    "gap_columns",
    "gap_table",
    "gap_vs_capacity",
    "importance_table",
    "interpolation_thresholds",
    "learning_curves",
    "load",
    "load_curves",
    "load_samples",
    "measures_vs_gap",
    "memorisation",
    "memorisation_table",
    "memorised_images",
    "optuna_studies",
    "over_seeds",
    "parallel_coordinates",
    "power_law_table",
    "rademacher",
    "rademacher_table",
    "ridgeless_risk",
    "search_figures",
    "stability",
    "stability_table",
    "threshold_location",
    "time_to_fit",
    "train_vs_test",
    "tuned_gap_vs_capacity",
    "write_chart",
    "write_report",
]
