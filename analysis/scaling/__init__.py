"""Scaling laws: how error falls, rises or saturates with parameters, samples or compute, and what larger sizes would give.

`cells` are the means that laws are fitted to, `forms` the curves that are tried. `laws` fits one of them with its intervals, and `choice`
picks the form by the held-out largest decade, or says that there is none. `studies` has the law of every line of a study, on each side of
the interpolation threshold; `forecasts` what these say of larger sizes; `isoflop` which size serves a compute budget best.

    import analysis

    records = analysis.load("results/scaling-samples")
    laws = analysis.scaling_laws(records)
    print(laws[0].sentence())
    print(analysis.forecast_table(laws, at=["10x"]).to_pylist())

Of numbers without a study:

>>> import numpy as np
>>> from analysis.scaling import choose_law
>>> sizes = np.geomspace(1e2, 1e5, 13)
>>> found = choose_law(sizes, 0.05 + 3 * sizes**-0.4, resamples=100)
>>> found.law.form.name, round(found.predict(1e6).value, 4)
('decreasing', 0.0619)
"""

from typing import TYPE_CHECKING

from analysis.lazy import lazy_exports

if TYPE_CHECKING:
    from analysis.scaling.choice import Scaling, choose_law
    from analysis.scaling.forecasts import forecast_table
    from analysis.scaling.isoflop import IsoFlop, isoflop
    from analysis.scaling.laws import Law, compute_optimal, fit_law, optimal_exponent
    from analysis.scaling.studies import StudyLaw, scaling_laws, scaling_of, scaling_table

__all__ = [
    "IsoFlop",
    "Law",
    "Scaling",
    "StudyLaw",
    "choose_law",
    "compute_optimal",
    "fit_law",
    "forecast_table",
    "isoflop",
    "optimal_exponent",
    "scaling_laws",
    "scaling_of",
    "scaling_table",
]

__getattr__, __dir__ = lazy_exports(__name__)
