"""Statistics of records, as tables: no figure is drawn here.

`selection` says which records count and what tells lines apart. `intervals` has those that hold their level for errors and gaps,
`aggregate` means over seeds, `comparison` paired tests, `verdict` whether a published order or number holds. `censored` has times
to fit where some runs never did, `interpolation` the interpolation threshold, `decomposition` the shares of variance,
`moments` values at another epoch than the last. The room `questions` has tables that answer one question of the field each.
How often these are right: docs/how-we-know.md.
"""

from typing import TYPE_CHECKING

from analysis.lazy import lazy_exports

if TYPE_CHECKING:
    from analysis.statistics.aggregate import gap_table, over_seeds
    from analysis.statistics.censored import fit_times
    from analysis.statistics.comparison import compare
    from analysis.statistics.decomposition import decompose, decomposition_table
    from analysis.statistics.interpolation import threshold_table
    from analysis.statistics.intervals import mean_estimate, share_estimate
    from analysis.statistics.moments import at_moment
    from analysis.statistics.questions.ranking import rank_by_hyperparameter, rank_measures, sign_errors
    from analysis.statistics.questions.theories import memorisation_table, rademacher_table, stability_table
    from analysis.statistics.questions.tuning import ablation_table, compared_runs, importance_table, optuna_studies
    from analysis.statistics.verdict import number_verdict, order_verdict

__all__ = [
    "ablation_table",
    "at_moment",
    "compare",
    "compared_runs",
    "decompose",
    "decomposition_table",
    "fit_times",
    "gap_table",
    "importance_table",
    "mean_estimate",
    "memorisation_table",
    "number_verdict",
    "optuna_studies",
    "order_verdict",
    "over_seeds",
    "rademacher_table",
    "rank_by_hyperparameter",
    "rank_measures",
    "share_estimate",
    "sign_errors",
    "stability_table",
    "threshold_table",
]

__getattr__, __dir__ = lazy_exports(__name__)
