"""Scaling laws: an error, a gap or a loss against parameters, samples or compute, with intervals and forecasts.

A law is fitted to the means of cells (the seeds of one setting), so that zeros and negative gaps count as what they are. Where
every mean stands clear of its noise, residuals are logarithms under Huber's loss, as in Hoffmann et al. 2022, approach 3; else they are
differences over their standard errors. Intervals are a parametric bootstrap: means are drawn anew around the law, with the deviation that
seeds show or, if it is larger, with the one that the law leaves over, and widened from the normal to Student's distribution. Runs of one
seed share what the seed decides (their samples, the labels that were drawn), so that settings with the same seeds err together: that part
of the noise is estimated, and drawn once for all settings. How well they cover is simulated by ``python -m tests.benchmarks forecasts``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.errors import AnalysisError
from analysis.scaling.cells import Cells, cells_of
from analysis.scaling.forms import EXPONENTS, FORMS, Form, FormName, Scale, bounds_of, evaluate, fit, minimise
from analysis.statistics.intervals import LEVEL, Estimate

Floats = NDArray[np.float64]

RESAMPLES = 1000
_CLEAR = 3.0
"""Standard errors above 0 that every mean must be for logarithms."""
_KEPT_BY_WEIGHTS = 0.8214
"""What Huber's weights leave of a normal variance, at a width of 1.345 deviations."""


@dataclass(frozen=True)
class Law:
    """A fitted law.

    Attributes:
        form: its kind.
        cells: what it was fitted to.
        within: where the quantity can be.
        level: confidence of its intervals.
        residuals: "log" or "linear".
        bound: which parameter ended at the end of what was looked for, in words; empty if none.
        misfit: deviation of the residuals over that of the seeds' noise; NaN without a second seed. Far above 1, the form is wrong.
        deviation: of the residuals, in logarithms or in units of the quantity, for one run.
        freedom: degrees of freedom that the noise is known with: of the seeds where they say it, else of the residuals.
    """

    form: Form
    cells: Cells
    within: tuple[float, float]
    level: float
    residuals: str
    bound: str
    misfit: float
    deviation: float
    freedom: int
    _theta: Floats = field(repr=False)
    _draws: Floats = field(repr=False)

    @cached_property
    def parameters(self) -> dict[str, Estimate]:
        """E, A, alpha (B, beta; or c, w of a peak, c as a size) with their intervals."""
        best, draws = self._natural(self._theta[None])[0], self._natural(self._draws)
        low, high = np.quantile(draws, [(1 - self.level) / 2, (1 + self.level) / 2], axis=0)
        return {name: Estimate(*map(float, one)) for name, *one in zip(self._names(), best, low, high, strict=True)}

    def predict(self, *sizes: ArrayLike) -> Floats:
        """The expected value at given sizes, in the order of the fit; arrays broadcast."""
        places = np.stack(np.broadcast_arrays(*(np.asarray(size, np.float64) for size in sizes)))
        return np.asarray(self.draws(places.reshape(len(places), -1), best=True)[0].reshape(places.shape[1:]), np.float64)

    def interval(self, *sizes: float, runs: int | None = None, seed: int = 0) -> Estimate:
        """The expected value at one place with its interval; with ``runs`` the prediction interval for the mean of so many new runs."""
        place = np.array(sizes, np.float64)[:, None]
        drawn = self.draws(place)[:, 0]
        if runs:
            drawn = self.with_noise(drawn[:, None], place, runs, seed)[:, 0]
        low, high = np.clip(np.quantile(drawn, [(1 - self.level) / 2, (1 + self.level) / 2]), *self.within)
        return Estimate(float(self.predict(*sizes)), float(low), float(high))

    def draws(self, places: Floats, *, best: bool = False) -> Floats:
        """The value by every resampled fit (or by the best one) at sizes of shape (sizes, places); shape (draws, places)."""
        return evaluate(self.form, self._theta[None] if best else self._draws, np.log(places) - self._centre)

    def with_noise(self, drawn: Floats, places: Floats, runs: int | NDArray[np.int64], seed: int = 0) -> Floats:
        """Such values with the noise of a mean over new runs added."""
        normal = np.random.default_rng([seed, 1]).standard_t(self.freedom, drawn.shape) / np.sqrt(runs)
        if np.isfinite(self.cells.trend).all():
            return np.asarray(drawn + normal * self.cells.noise_at(places) * max(1.0, self.misfit))
        return np.asarray(drawn * np.exp(self.deviation * normal) if self.residuals == "log" else drawn + self.deviation * normal)

    @property
    def _centre(self) -> Floats:
        return np.asarray(np.log(self.cells.sizes).mean(axis=1, keepdims=True), np.float64)

    def _names(self) -> list[str]:
        if self.form.name in ("constant", "peaked"):
            return ["E", "A", "c", "w"][: self.form.parameters(1)]
        pairs = (
            [("A", "alpha"), ("B", "beta")] if len(self.cells.sizes) < 3 else [(f"A{i}", f"alpha{i}") for i in range(len(self.cells.sizes))]
        )
        return ["E"] * self.form.offset + [name for pair in pairs[: len(self.cells.sizes)] for name in pair]

    def _natural(self, theta: Floats) -> Floats:
        natural, first = theta.copy(), int(self.form.offset)
        if self.form.name == "peaked":
            natural[:, 1], natural[:, 2] = np.exp(theta[:, 1]), np.exp(theta[:, 2] + self._centre[0, 0])
        elif self.form.name != "constant":
            natural[:, first::2] = np.exp(theta[:, first::2] - self.form.direction * theta[:, first + 1 :: 2] * self._centre[:, 0])
        return natural

    def sentence(self, value: str = "value", sizes: Sequence[str] = ("x", "y")) -> str:
        """The law in words."""
        constants = ", ".join(f"{name} {one}" for name, one in self.parameters.items())
        formula = re.sub(r"\bx\b", sizes[0], self.form.formula)
        if len(self.cells.sizes) > 1:
            sign = {"saturating": " - ", "rising": " + "}.get(self.form.name, " + ")
            formula += sign + (f"B·{sizes[1]}^beta" if self.form.direction > 0 else f"B/{sizes[1]}^beta")
        one = ", of one seed: what its runs have in common is not in them" if self.cells.seeds == 1 else ""
        return f"{value} = {formula} with {constants} ({100 * self.level:.0f} % intervals{one}, {len(self.cells.means)} settings)"


def fit_law(
    form: FormName,
    sizes: ArrayLike,
    values: ArrayLike,
    *,
    seeds: ArrayLike | None = None,
    within: tuple[float, float] = (0.0, 1.0),
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Law:
    """Fit one form to runs.

    Args:
        form: one of `scaling_forms.FORMS`.
        sizes: positive, shape (runs,) or (sizes, runs).
        values: shape (runs,); runs of equal sizes are seeds of one cell.
        seeds: of each run; None for seeds of which no two are the same.
        within: where the quantity can be: (0, 1) for an error, (-1, 1) for a gap, (0, inf) for a loss.
        level: confidence of intervals, in (0, 1).
        resamples: bootstrap fits.
        seed: of the bootstrap.

    Raises:
        AnalysisError: fewer cells than parameters and one, or what `cells_of` refuses.
    """
    return fit_cells(FORMS[form], cells_of(sizes, values, seeds), within=within, level=level, resamples=resamples, seed=seed)


def fit_cells(
    form: Form, cells: Cells, *, within: tuple[float, float] = (0.0, 1.0), level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 0
) -> Law:
    """`fit_law` for means that are known already."""
    from scipy.special import ndtri, stdtrit

    free = form.parameters(len(cells.sizes))
    if form.name == "peaked" and len(cells.sizes) > 1:
        raise AnalysisError("a peak is fitted over one size")
    distinct = min(len(np.unique(row)) for row in cells.sizes)
    if len(cells.means) <= free or distinct < min(4, free + 1):
        needed = f"a law of the form {form.formula} needs {free + 1} settings, and 4 different values of every size"
        raise AnalysisError(f"{needed}; there are {len(cells.means)}, with {distinct}")
    logs = np.log(cells.sizes)
    z = logs - logs.mean(axis=1, keepdims=True)
    scale = _scale(cells)
    theta, width = fit(form, z, cells.means, scale, within)
    bounds = bounds_of(form, z, cells.means, within)
    value = evaluate(form, theta[None], z)[0]
    left = scale.residuals(value[None], cells.means)[0]
    noise = cells.errors / np.abs(value) if scale.log else cells.errors / scale.deviations
    spare = len(left) - free
    weights = np.minimum(1, width / np.maximum(np.abs(left), 1e-300)) / _KEPT_BY_WEIGHTS
    deviation = float(np.sqrt((weights * left**2).sum() / spare))
    known = bool(np.isfinite(noise).all())
    misfit = float(np.sqrt((weights * (left / noise) ** 2).sum() / spare)) if known and (noise > 0).all() else float("nan")
    spread = noise * max(1.0, misfit) if np.isfinite(misfit) else np.full(len(left), deviation)
    freedom = spare if not np.isfinite(misfit) or misfit > 1 else spare + int((cells.counts - 1).sum())
    wide = float(stdtrit(freedom, (1 + level) / 2) / ndtri((1 + level) / 2))
    rng = np.random.default_rng(seed)
    moved = (1 - cells.shared) ** 0.5 * wide * spread * rng.standard_normal((resamples, len(left)))
    if cells.shared:  # once for all settings
        moved += cells.shared**0.5 * spread * rng.standard_t(max(cells.seeds - 1, 1), (resamples, 1))
    drawn = np.maximum(value, 1e-9) * np.exp(moved) if scale.log else value + moved * scale.deviations
    starts = np.tile(theta, (resamples, 1))
    draws = minimise(form, z, drawn, scale, starts, max(width, 1.345 * float(np.median(spread))), bounds)[0]
    single = deviation * float(np.sqrt(np.median(cells.counts))) * (1.0 if scale.log else float(np.median(scale.deviations)))
    return Law(
        form, cells, within, level, "log" if scale.log else "linear", _at_bound(form, theta, bounds), misfit, single, freedom, theta, draws
    )


def optimal_exponent(law: Law) -> Estimate:
    """The power of compute with which the first size should grow: beta/(alpha + beta) (Hoffmann et al. 2022, equation 4).

    Raises:
        AnalysisError: the law is of another form, or of one size.
    """
    if law.form.direction >= 0 or law.form.sign < 0 or len(law.cells.sizes) != 2:
        raise AnalysisError("a compute-optimal size needs a decreasing law of two sizes")
    first = int(law.form.offset)
    best, draws = law._theta, law._draws
    shares = draws[:, first + 3] / (draws[:, first + 1] + draws[:, first + 3])
    low, high = np.quantile(shares, [(1 - law.level) / 2, (1 + law.level) / 2])
    return Estimate(float(best[first + 3] / (best[first + 1] + best[first + 3])), float(low), float(high))


def compute_optimal(law: Law, compute: float, *, flops_per_product: float = 6.0) -> tuple[float, float]:
    """The two sizes that a compute budget C = flops_per_product·N·D is spent best on.

    N = G·(C/flops_per_product)^(beta/(alpha + beta)), with G = (alpha·A/(beta·B))^(1/(alpha + beta)).

    Args:
        law: decreasing, of two sizes.
        compute: in floating-point operations.
        flops_per_product: operations a parameter and sample: 6 for a dense network and one epoch.

    Raises:
        AnalysisError: as for `optimal_exponent`.
    """
    share = optimal_exponent(law).value
    a, alpha, b, beta = (law.parameters[name].value for name in ("A", "alpha", "B", "beta"))
    product = compute / flops_per_product
    first = (alpha * a / (beta * b)) ** (1 / (alpha + beta)) * product**share
    return float(first), float(product / first)


def _scale(cells: Cells) -> Scale:
    errors = cells.errors
    if np.isfinite(errors).all():
        # also those that agree by chance stand on some noise
        return Scale(bool((cells.means > _CLEAR * errors).all() and (cells.means > 0).all()), np.maximum(errors, 1e-9))
    return Scale(bool((cells.means > 0).all()), np.full(len(cells.means), max(float(np.ptp(cells.means)) / 10, 1e-9)))


def _at_bound(form: Form, theta: Floats, bounds: Floats) -> str:
    near = np.minimum(theta - bounds[:, 0], bounds[:, 1] - theta) <= 1e-3 * (bounds[:, 1] - bounds[:, 0])
    if form.name == "constant" or not near.any():
        return ""
    index = int(np.flatnonzero(near)[0])
    if form.offset and index == 0:
        return f"the offset is at its bound of {theta[0]:.3g}"
    if form.name == "peaked":
        return ("", "the peak's height", "the peak's place", "the peak's width")[index] + " is at its bound"
    if (index - form.offset) % 2:
        slow = theta[index] < 10 * EXPONENTS[0] or theta[index] - bounds[index, 0] < bounds[index, 1] - theta[index]
        return f"the exponent is at its bound of {theta[index]:.3g}: this changes " + (
            "too slowly" if slow else "at once, not by a power law"
        )
    return "a scale is at its bound: the sizes make no difference"
