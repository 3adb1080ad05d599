"""Which scaling law holds, if one does: forms compared on the largest decade, forecasts beyond it, and refusals in a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.errors import AnalysisError
from analysis.scaling.cells import Cells, cells_of
from analysis.scaling.forms import FORMS, FormName
from analysis.scaling.laws import RESAMPLES, Law, fit_cells
from analysis.statistics.intervals import LEVEL, Estimate

Floats = NDArray[np.float64]

_MISSED = 0.99
"""Level at which the largest decade must lie in what the smaller sizes forecast for it."""
_FAR, _MUCH = 3.0, 0.25
"""A form is refused that leaves over this many times the seeds' noise and this share of the variation between sizes."""
LEAST = 4
"""Different sizes that there must be below the largest decade."""
_NEGLIGIBLE = 1e-4
"""Relative noise below which nobody cares how well a law forecasts."""


@dataclass(frozen=True)
class Candidate:
    """How one form fared.

    Attributes:
        form: which.
        held_out: mean squared error on the largest decade, in variances of its noise; NaN where it could not be tried.
        weight: in the forecast; 0 for a form that was refused.
        refused: why, in words; empty if it was not.
    """

    form: FormName
    held_out: float
    weight: float
    refused: str


@dataclass(frozen=True)
class Scaling:
    """The answer: a law, or none and why.

    Attributes:
        law: the chosen one, fitted to all sizes; None is an answer.
        reason: why there is none, a sentence; empty if there is one.
        candidates: all forms that were tried.
        laws: those that the forecast mixes, by weight: forms that the data tell apart badly may part beyond them.
    """

    law: Law | None
    reason: str
    candidates: tuple[Candidate, ...]
    laws: tuple[tuple[float, Law], ...]

    def predict(self, *sizes: float, runs: int = 1, seed: int = 0) -> Estimate:
        """The expected value at one place, with the prediction interval for the mean over ``runs`` new seeds.

        Raises:
            AnalysisError: there is no law, or it leads beyond what is possible there.
        """
        if self.law is None:
            raise AnalysisError(f"there is no law to predict by: {self.reason}")
        place, law = np.array(sizes, np.float64)[:, None], self.law
        value = float(law.predict(*sizes))
        if not law.within[0] <= value <= law.within[1]:
            raise AnalysisError(f"the law gives {value:.3g} there, and nothing beyond {law.within[0]:g} to {law.within[1]:g} is possible")
        drawn, weights = [], []
        for weight, one in self.laws:
            noisy = one.with_noise(one.draws(place), place, runs, seed)[:, 0]
            drawn.append(noisy)
            weights.append(np.full(len(noisy), weight / len(noisy)))
        values = np.concatenate(drawn)
        order = np.argsort(values)
        shares = np.cumsum(np.concatenate(weights)[order])
        tail = (1 - law.level) / 2 * shares[-1]
        low, high = np.clip(values[order][np.searchsorted(shares, [tail, shares[-1] - tail])], *law.within)
        return Estimate(value, min(float(low), value), max(float(high), value))

    def sentence(self, value: str = "value", sizes: Sequence[str] = ("x", "y")) -> str:
        """The law, or why there is none, in words."""
        return f"no law: {self.reason}" if self.law is None else self.law.sentence(value, sizes)


def choose_law(
    sizes: ArrayLike,
    values: ArrayLike,
    *,
    seeds: ArrayLike | None = None,
    forms: Sequence[FormName] = tuple(FORMS),  # type: ignore[arg-type]
    within: tuple[float, float] = (0.0, 1.0),
    possible: tuple[float, float] | None = None,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Scaling:
    """The law that forecasts the largest decade from the smaller sizes, fitted to all of them; or none.

    Each form is fitted without the largest decade (of the product of sizes). Of those within one standard error of the best there, the
    one with the lowest corrected Akaike criterion on all sizes is chosen; the others of them stay in the forecast with that criterion's
    weights. A form is refused with a parameter at its bound, an asymptote beyond what is possible, residuals far above the seeds' noise,
    or a forecast of the largest decade that misses it at 99 %.

    Args:
        sizes: positive, shape (runs,) or (sizes, runs).
        values: shape (runs,).
        seeds: of each run, shape (runs,): runs of one seed err together; None for seeds of which no two are the same.
        forms: names of the forms to try.
        within: where the quantity can be.
        possible: where an asymptote can be: for random labels not below chance; ``within`` by default.
        level: confidence, in (0, 1).
        resamples: bootstrap fits of each form.
        seed: of the bootstrap.

    Raises:
        AnalysisError: too few sizes below the largest decade, or what `cells_of` refuses.
    """
    cells = cells_of(sizes, values, seeds)
    large = largest_decade(cells.sizes)
    small = replace(cells.only(~large), shared=0.0)  # what seeds share moves the largest decade likewise
    rehearsed: dict[FormName, Law] = {}
    short = []
    for name in forms:
        try:
            rehearsed[name] = fit_cells(FORMS[name], small, within=within, level=level, resamples=min(resamples, 400), seed=seed)
        except AnalysisError as error:
            short.append(Candidate(name, float("nan"), 0.0, str(error)))
    if not rehearsed:
        raise AnalysisError(short[0].refused if short else "name a form to try")
    noise = _noise_of(cells.only(large), list(rehearsed.values()))
    found = []
    for name, trial in rehearsed.items():
        law = fit_cells(FORMS[name], cells, within=within, level=level, resamples=resamples, seed=seed)
        held_out, missed = _rehearsal(trial, cells.only(large), noise, seed)
        refused = law.bound or _impossible(law, possible or within) or _unlike(law) or missed
        found.append((Candidate(name, held_out, 0.0, refused), law, _akaike(law)))
    return _chosen(found, short, int(large.sum()))


def largest_decade(sizes: ArrayLike) -> NDArray[np.bool_]:
    """Which settings a form is tried on: those in the largest decade of the size, or of the product of two.

    Args:
        sizes: positive, shape (sizes, settings).

    Raises:
        AnalysisError: fewer than 4 different values of a size lie below it.
    """
    sizes = np.asarray(sizes, np.float64)
    total = np.log10(sizes).sum(axis=0)
    large = np.asarray(total > total.max() - 1 + 1e-9)
    below = min(len(np.unique(row)) for row in sizes[:, ~large])
    if below < LEAST:
        raise AnalysisError(
            f"a law is tried on the largest decade, so that {LEAST} different sizes must lie below it: there are {below}; add smaller ones"
        )
    return large


def _noise_of(held_out: Cells, laws: Sequence[Law]) -> Floats:
    """Standard errors of the held-out means: by their seeds, or else by what the form leaves over that fits the smaller sizes best."""
    noise = held_out.errors
    if not np.isfinite(noise).all():
        best = min(laws, key=lambda law: law.deviation)
        noise = best.deviation / np.sqrt(held_out.counts) * (np.abs(held_out.means) if best.residuals == "log" else 1.0)
    return np.asarray(np.maximum(noise, _NEGLIGIBLE * np.abs(held_out.means) + 1e-12))


def _rehearsal(law: Law, held_out: Cells, noise: Floats, seed: int) -> tuple[float, str]:
    """The error on the held-out cells, in variances of their noise, and what is to be said if the forecast missed them."""
    expected = law.predict(*held_out.sizes)
    away = (held_out.means - expected) / noise
    drawn = ((law.draws(held_out.sizes) - expected) / noise).mean(axis=1)
    drawn = drawn + np.random.default_rng([seed, 2]).standard_normal(len(drawn)) / len(noise) ** 0.5
    low, high = np.quantile(drawn, [(1 - _MISSED) / 2, (1 + _MISSED) / 2])
    error = float((away**2).mean())
    if low <= away.mean() <= high:
        return error, ""
    return (
        error,
        f"from the smaller sizes it forecasts {expected.mean():.3g} for the largest decade, where {held_out.means.mean():.3g} was measured",
    )


def _impossible(law: Law, possible: tuple[float, float]) -> str:
    if not law.form.offset or law.form.direction > 0 or law.form.name == "constant":
        return ""
    offset = law.parameters["E"].value
    if possible[0] <= offset <= possible[1]:
        return ""
    return f"its asymptote of {offset:.3g} lies beyond what is possible, {possible[0]:.3g} to {possible[1]:.3g}"


def _unlike(law: Law) -> str:
    """What is to be said of a form that leaves over much more than the seeds' noise, and much of what there is to explain."""
    means = law.cells.means
    share = float(((law.predict(*law.cells.sizes) - means) ** 2).sum() / max(((means - means.mean()) ** 2).sum(), 1e-300))
    if not (law.misfit > _FAR and share > _MUCH):
        return ""
    return (
        f"it leaves {100 * min(share, 1):.0f} % of the variation between sizes unexplained, {law.misfit:.1f} times what the seeds vary by"
    )


def _akaike(law: Law) -> float:
    """Akaike's criterion, corrected for few cells (Hurvich and Tsai 1989), on the scale of standard errors or of residuals."""
    cells, free = law.cells, law.form.parameters(len(law.cells.sizes)) + 1
    count = len(cells.means)
    expected = law.predict(*cells.sizes)
    left = np.log(np.maximum(expected, 1e-12) / cells.means) if law.residuals == "log" else expected - cells.means
    size = np.abs(left)
    middle = 1.4826 * float(np.median(size)) * 3 + 1e-12
    loss = np.where(size <= middle, size**2, middle * (2 * size - middle)).mean()
    return float(count * np.log(loss + 1e-24) + 2 * free + 2 * free * (free + 1) / max(count - free - 1, 1))


def _chosen(found: Sequence[tuple[Candidate, Law, float]], short: Sequence[Candidate], held_out: int) -> Scaling:
    eligible = [one for one in found if not one[0].refused]
    if not eligible:
        tried = (*(candidate for candidate, _, _ in found), *short)
        reasons = "; ".join(f"{FORMS[candidate.form].formula}: {candidate.refused}" for candidate in tried)
        return Scaling(None, f"none of the forms holds ({reasons})", tried, ())
    best = min(candidate.held_out for candidate, _, _ in eligible)
    near = [one for one in eligible if one[0].held_out <= max(best, 1e-2) * (1 + (2 / held_out) ** 0.5)]
    lowest = min(score for _, _, score in near)
    weights = {candidate.form: float(np.exp(-(score - lowest) / 2)) for candidate, _, score in near}
    shares = {form: weight / sum(weights.values()) for form, weight in weights.items()}
    candidates = [Candidate(one.form, one.held_out, shares.get(one.form, 0.0), one.refused) for one, _, _ in found]
    laws = tuple((shares[candidate.form], law) for candidate, law, _ in near if shares[candidate.form] > 1e-3)
    return Scaling(min(near, key=lambda one: one[2])[1], "", (*candidates, *short), laws)
