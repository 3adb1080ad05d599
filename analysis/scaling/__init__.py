"""Scaling laws: how error falls, rises or saturates with parameters, samples or compute, and what larger sizes would give.

`forms` are the curves that are tried, `laws` fits one of them with its intervals, and `choice` picks the form by the held-out largest
decade, or says that there is none. `power_laws` (fitted by `power_law_fit`) is what `gaplab fit` prints.
"""

from typing import TYPE_CHECKING

from analysis.lazy import lazy_exports

if TYPE_CHECKING:
    from analysis.scaling.choice import Scaling, choose_law, scaling_of
    from analysis.scaling.laws import Law, fit_law, optimal_exponent
    from analysis.scaling.power_laws import PowerLaw, fit_power_law, power_law_table

__all__ = [
    "Law",
    "PowerLaw",
    "Scaling",
    "choose_law",
    "fit_law",
    "fit_power_law",
    "optimal_exponent",
    "power_law_table",
    "scaling_of",
]

__getattr__, __dir__ = lazy_exports(__name__)
