"""What a study says: load its records, aggregate them, draw them.

import analysis

records = analysis.load("results/gap-vs-capacity")
figure = analysis.gap_vs_capacity(records)
analysis.write_chart(figure, "gap")
"""

from analysis.aggregate import gap_table, over_seeds
from analysis.capacity import gap_vs_capacity
from analysis.errors import AnalysisError, NothingToShow
from analysis.load import load, load_curves
from analysis.moments import at_moment
from analysis.style import write_chart
from analysis.thresholds import interpolation_thresholds

__all__ = [
    "AnalysisError",
    "NothingToShow",
    "at_moment",
    "gap_table",
    "gap_vs_capacity",
    "interpolation_thresholds",
    "load",
    "load_curves",
    "over_seeds",
    "write_chart",
]
