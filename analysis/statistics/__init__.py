"""Statistics of records, as tables: no figure is drawn here.

`selection` says which records count and what tells lines apart. `aggregate` has means over seeds (with `bootstrap`), `comparison` paired
tests, `moments` values at another epoch than the last. `thresholds` and `power_laws` (fitted by `power_law_fit`) describe the gap over
capacity, `ranking` (scored by `rank_scores`) how well complexity measures predict it. `theories` has the tables of the theories that
Zhang et al. 2017 confront, `tuning` those of a search.
"""

from typing import TYPE_CHECKING

from analysis.lazy import lazy_exports

if TYPE_CHECKING:
    from analysis.statistics.aggregate import gap_table, over_seeds
    from analysis.statistics.comparison import compare
    from analysis.statistics.moments import at_moment
    from analysis.statistics.power_laws import PowerLaw, fit_power_law, power_law_table
    from analysis.statistics.ranking import rank_measures, sign_errors
    from analysis.statistics.theories import memorisation_table, rademacher_table, stability_table
    from analysis.statistics.thresholds import interpolation_thresholds, threshold_location
    from analysis.statistics.tuning import ablation_table, compared_runs, importance_table, optuna_studies

__all__ = [
    "PowerLaw",
    "ablation_table",
    "at_moment",
    "compare",
    "compared_runs",
    "fit_power_law",
    "gap_table",
    "importance_table",
    "interpolation_thresholds",
    "memorisation_table",
    "optuna_studies",
    "over_seeds",
    "power_law_table",
    "rademacher_table",
    "rank_measures",
    "sign_errors",
    "stability_table",
    "threshold_location",
]

__getattr__, __dir__ = lazy_exports(__name__)
