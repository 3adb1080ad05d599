"""How often predictions of scaling laws at ten times the largest size cover the truth, and new runs, by simulation.

Goals: the true form and the chosen one hold 95 % within the simulation's error, or no law is said.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.errors import AnalysisError
from analysis.scaling.choice import choose_law
from analysis.scaling.forms import FormName
from analysis.scaling.laws import fit_law
from tests.benchmarks.bench_coverage import markdown

Floats = NDArray[np.float64]

SIZES = np.geomspace(1e2, 1e5, 13)
LAWS: dict[str, tuple[FormName, Callable[[Floats], Floats], float, bool]] = {
    "0.05 + 3/x^0.4, noise 3 %": ("decreasing", lambda x: 0.05 + 3 * x**-0.4, 0.03, True),
    "0.005 + 3/x^0.7, noise ± 0.01": ("decreasing", lambda x: 0.005 + 3 * x**-0.7, 0.01, False),
    "2/x^0.3, noise 5 %": ("power", lambda x: 2 * x**-0.3, 0.05, True),
    "0.7 - 1.5/x^0.3, noise ± 0.02": ("saturating", lambda x: 0.7 - 1.5 * x**-0.3, 0.02, False),
    "0.9, noise ± 0.01": ("constant", lambda x: 0.9 + 0 * x, 0.01, False),
}
"""Name: form, law, noise of one run, whether that is relative."""


def coverage_of_forecasts(repeats: int = 150) -> list[dict[str, Any]]:
    """At ten times the largest of 13 sizes over three decades: the law of the true form, and the chosen one's prediction of new runs."""
    rows = []
    for name, (form, law, noise, relative) in LAWS.items():
        within = (0.0, 1.0) if relative else (-1.0, 1.0)
        for seeds in (1, 3, 5):
            rng, hits, none, right = np.random.default_rng(seeds), [], 0, 0
            for _ in range(repeats):
                x = np.concatenate([np.repeat(SIZES, seeds), np.full(seeds, 1e6)])
                drawn = noise * rng.standard_normal(len(x))
                y = law(x) * np.exp(drawn - noise**2 / 2) if relative else law(x) + drawn
                x, y, new = x[:-seeds], y[:-seeds], y[-seeds:].mean()
                known = fit_law(form, x, y, within=within, resamples=200)
                found = choose_law(x, y, within=within, resamples=200)
                try:
                    forecast = found.predict(1e6, runs=seeds)
                except AnalysisError:
                    none += 1
                    continue
                right += found.law is not None and found.law.form.name == form
                hits.append((float(law(np.array(1e6))) in known.interval(1e6), float(law(np.array(1e6))) in forecast, new in forecast))
            covered = np.mean(hits, axis=0)
            row = {"law": name, "seeds": seeds, "true form": covered[0], "chosen form": covered[1], "new runs": covered[2]}
            rows.append(row | {"no law": none / repeats, "right form": right / repeats})
    return rows


def measure() -> dict[str, Any]:
    measured: dict[str, Any] = {}
    measured["forecasts"] = coverage_of_forecasts()
    print("Forecasts at ten times the largest size\n")
    shown = ("true form", "chosen form", "new runs", "no law", "right form")
    flat = [row | {"what": what, "share": row[what]} for row in measured["forecasts"] for what in shown]
    print(markdown(flat, ("law", "seeds"), "what", lambda row: f"{row['share']:.3f}"))
    return measured
