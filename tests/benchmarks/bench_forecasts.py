"""How often the forecasts of scaling laws cover what comes, by simulation: the table of docs/scaling.md, as Markdown.

Goal: 95 % prediction intervals at ten times the largest size hold 95 % of new runs within the simulation's error, for every form.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.errors import AnalysisError
from analysis.scaling.choice import choose_law
from analysis.scaling.forms import FormName
from tests.benchmarks.bench_coverage import markdown

Floats = NDArray[np.float64]
REPEATS = 100
SEEDS = (3, 1)
RESAMPLES = 200


@dataclass(frozen=True)
class Truth:
    """A law that is known.

    Attributes:
        name: as it stands in the table.
        form: of it.
        law: its value at sizes of shape (sizes, places).
        noise: of one run; relative if ``relative``.
        grid: the sizes that are run, shape (sizes, cells).
        new: the place that is forecast, shape (sizes, 1).
        shared: the part of the noise's variance that runs of one seed have in common.
    """

    name: str
    form: FormName
    law: Callable[[Floats], Floats]
    noise: float
    relative: bool
    grid: Floats
    new: Floats
    shared: float = 0.0

    def runs(self, rng: np.random.Generator, places: Floats, seeds: int) -> Floats:
        """Runs at these places, of which each stands there once for each of the seeds, one after the other."""
        own, common = rng.standard_normal(places.shape[1]), rng.standard_normal(seeds)[np.arange(places.shape[1]) % seeds]
        drawn = self.noise * ((1 - self.shared) ** 0.5 * own + self.shared**0.5 * common)
        return self.law(places) * np.exp(drawn - self.noise**2 / 2) if self.relative else self.law(places) + drawn


LINE = np.geomspace(1e2, 1e5, 13)[None]
PLANE = np.stack([axis.ravel() for axis in np.meshgrid(np.geomspace(1e2, 1e5, 7), np.geomspace(50, 5e3, 7))])
FAR, BOTH = np.array([[1e6]]), np.array([[1e5 * 10**0.5], [5e3 * 10**0.5]])
TRUTHS = (
    Truth("0.05 + 3/x^0.4, noise 3 %", "decreasing", lambda x: 0.05 + 3 * x[0] ** -0.4, 0.03, True, LINE, FAR),
    Truth("0.005 + 3/x^0.7, noise ± 0.01", "decreasing", lambda x: 0.005 + 3 * x[0] ** -0.7, 0.01, False, LINE, FAR),
    Truth("2/x^0.3, noise 5 %", "power", lambda x: 2 * x[0] ** -0.3, 0.05, True, LINE, FAR),
    Truth("0.7 - 1.5/x^0.3, noise ± 0.02", "saturating", lambda x: 0.7 - 1.5 * x[0] ** -0.3, 0.02, False, LINE, FAR),
    Truth("0.1 + 0.01·x^0.3, noise 3 %", "rising", lambda x: 0.1 + 0.01 * x[0] ** 0.3, 0.03, True, LINE, FAR),
    Truth("0.9, noise ± 0.01", "constant", lambda x: 0.9 + 0 * x[0], 0.01, False, LINE, FAR),
    Truth("0.9, noise ± 0.03, 60 % of it the seed's", "constant", lambda x: 0.9 + 0 * x[0], 0.03, False, LINE, FAR, 0.6),
    Truth(
        "0.35 + 1.4/x^0.5, noise 8 %, 60 % of it the seed's", "decreasing", lambda x: 0.35 + 1.4 * x[0] ** -0.5, 0.08, True, LINE, FAR, 0.6
    ),
    Truth(
        "0.05 + 3/x^0.4 + 2/y^0.5, noise 3 %",
        "decreasing",
        lambda x: 0.05 + 3 * x[0] ** -0.4 + 2 * x[1] ** -0.5,
        0.03,
        True,
        PLANE,
        BOTH,
    ),
)


def coverage() -> Iterator[dict[str, Any]]:
    """At ten times the largest of 13 sizes over three decades, or at ten times the largest product of two sizes on 7 by 7."""
    for seeds in SEEDS:
        for truth in TRUTHS:
            if (truth.grid is PLANE and seeds > 1) or (truth.shared and seeds == 1):
                continue  # 49 cells say enough of the noise; of one seed nobody sees what it shares
            rng, covered, laws, none, right = np.random.default_rng(seeds), [], [], 0, 0
            places = np.repeat(truth.grid, seeds, axis=1)
            for _ in range(REPEATS):
                within = (0.0, 1.0) if truth.relative else (-1.0, 1.0)
                found = choose_law(
                    places, truth.runs(rng, places, seeds), seeds=np.arange(places.shape[1]) % seeds, within=within, resamples=RESAMPLES
                )
                try:
                    forecast = found.predict(*truth.new[:, 0])
                except AnalysisError:
                    none += 1
                    continue
                covered.append(float(truth.runs(rng, truth.new, 1)[0]) in forecast)
                laws.append(float(truth.law(truth.new)[0]) in found.predict(*truth.new[:, 0], runs=10**9))
                right += found.law is not None and found.law.form.name == truth.form
            row = {"law": truth.name, "seeds": seeds, "covered": float(np.mean(covered)), "law covered": float(np.mean(laws))}
            yield row | {"no law": none / REPEATS, "right form": right / REPEATS}


def measure() -> dict[str, Any]:
    rows = list(coverage())
    shown = ("covered", "law covered", "no law", "right form")
    flat = [row | {"what": what, "share": row[what]} for row in rows for what in shown]
    print(f"New runs at ten times the largest size inside their 95 % prediction interval, {REPEATS} studies a row\n")
    print(markdown(flat, ("law", "seeds"), "what", lambda row: f"{row['share']:.2f}"))
    return {"repeats": REPEATS, "forecasts": rows}
