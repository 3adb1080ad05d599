"""Power laws with an offset, E + A/N^alpha + B/D^beta, for error against capacity, samples or both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from analysis.errors import AnalysisError, unknown_column
from analysis.statistics.aggregate import LEVEL, completed, completed_lines
from analysis.statistics.groups import groups
from analysis.words import words

Floats = NDArray[np.float64]

_EFFICIENT = 1.345
"""Huber 1964: residuals beyond this many deviations count linearly; 95 % efficient where they are normal."""
_FIRST_DELTA = 1e-3
"""Of the first fit, whose residuals say how large a deviation is (Hoffmann et al. 2022 use it throughout)."""
_STEPS = 300
"""Most steps of a fit."""
_STEEPEST = 5.0
"""Largest exponent looked for."""


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class PowerLaw:
    """A fitted law: value = offset + sum of scale / size^exponent.

    Attributes:
        value: the column that was fitted.
        sizes: the columns that say how large: capacity N, samples D, or both.
        offset: E, what no size removes.
        scales: A (and B), one a size.
        exponents: alpha (and beta), one a size.
        cells: distinct settings it was fitted to.
        extrapolation_error: median of |predicted/observed - 1| at the largest quarter of sizes, by a fit without them; NaN
            where too few remain.
        resampled: what the intervals are a bootstrap over: ``seeds`` of each cell, or the ``cells`` where each has one seed.
    """

    value: str
    sizes: tuple[str, ...]
    offset: Estimate
    scales: tuple[Estimate, ...]
    exponents: tuple[Estimate, ...]
    cells: int
    extrapolation_error: float
    resampled: str

    def predict(self, *sizes: ArrayLike) -> Floats:
        """The value at given sizes, in the order of ``self.sizes``; arrays broadcast."""
        total: Any = self.offset.value
        for size, scale, exponent in zip(sizes, self.scales, self.exponents, strict=True):
            total = total + scale.value * np.asarray(size, np.float64) ** -exponent.value
        return np.asarray(total, np.float64)

    def sentence(self) -> str:
        """The law and how far to trust it, in words."""
        terms = [
            f"{scale.value:.3g}/{words(size)}^{exponent.value:.3g} (exponent {_interval(exponent)})"
            for size, scale, exponent in zip(self.sizes, self.scales, self.exponents, strict=True)
        ]
        beyond = "there are too few sizes to test it on larger ones"
        if not np.isnan(self.extrapolation_error):
            beyond = f"a fit without the largest quarter of sizes is off by {self.extrapolation_error:.1%} there (median)"
        law = f"{words(self.value)} = {self.offset.value:.3g} ({_interval(self.offset)}) + {' + '.join(terms)}".replace("$", "")
        return f"{law}; {self.cells} settings, bootstrap over {self.resampled}; {beyond}"


def fit_power_law(table: pa.Table, *, value: str = "test_error", sizes: Sequence[str] = ("parameters",), resamples: int = 1000) -> PowerLaw:
    """Fit E + A/N^alpha (+ B/D^beta) to the means over seeds.

    The residuals are logarithms of observed over predicted means, under Huber's loss: first with a width of 0.001
    (Hoffmann et al. 2022, approach 3), then with 1.345 times the deviation (MAD) that these residuals show. The intervals are
    percentiles of a bootstrap over the seeds of each setting, its deviations widened by √(k/(k-1)) for k seeds.

    A power law holds on one side of the interpolation threshold at most: filter the table first.

    Args:
        table: records; only completed ones count.
        value: a column of positive values.
        sizes: one or two columns of positive numbers.
        resamples: bootstrap fits.

    Raises:
        NothingToShow: no completed record.
        AnalysisError: a column does not exist, or there are too few different sizes.
    """
    runs = completed(table)
    for name in (value, *sizes):
        if name not in runs.column_names:
            raise unknown_column(name, runs.column_names)
    numbers = np.stack([runs[name].cast(pa.float64()).to_numpy() for name in (value, *sizes)])
    numbers = numbers[:, np.isfinite(numbers).all(axis=0) & (numbers > 0).all(axis=0)]
    places, cell, seeds = np.unique(numbers[1:], axis=1, return_inverse=True, return_counts=True)
    for row, name in zip(places, sizes, strict=True):
        if len(np.unique(row)) < 4 or len(seeds) < 2 * len(sizes) + 2:
            raise AnalysisError(f"a power law needs at least 4 different values of {words(name)}; there are {len(np.unique(row))}")
    logs = np.log(places)
    means = np.bincount(cell, numbers[0]) / seeds
    best, width = _fit(logs, np.log(means))
    draws = _bootstrap(logs, numbers[0], cell, best, width, resamples)
    low, high = np.quantile(_natural(draws), [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    offset, *terms = (Estimate(*map(float, one)) for one in zip(_natural(best), low, high, strict=True))
    resampled = "seeds" if (seeds > 1).any() else "cells"
    return PowerLaw(value, tuple(sizes), offset, tuple(terms[::2]), tuple(terms[1::2]), len(means), _extrapolation(logs, means), resampled)


def power_law_table(
    table: pa.Table,
    *,
    value: str = "test_error",
    sizes: Sequence[str] = ("parameters",),
    by: Sequence[str] | None = None,
    resamples: int = 1000,
) -> pa.Table:
    """One power law a line: its constants with their intervals, or why there is none.

    Args:
        table: records.
        value: as for `fit_power_law`; so are ``sizes`` and ``resamples``.
        sizes: the columns that say how large.
        by: what tells lines apart; corruption by default.
        resamples: bootstrap fits.

    Returns:
        The columns ``by``, then ``offset``, ``scale.SIZE`` and ``exponent.SIZE``, each with ``.low`` and ``.high``, ``cells``,
        ``extrapolation_error`` and ``note`` (why a line has no fit, or none to rely on; else null).
    """
    runs, by = completed_lines(table, by)
    rows = []
    for row, some in groups(runs, by):
        try:
            law = fit_power_law(some, value=value, sizes=sizes, resamples=resamples)
        except AnalysisError as error:
            rows.append(row | {"note": str(error)})
            continue
        named = {"offset": law.offset} | {f"scale.{size}": one for size, one in zip(sizes, law.scales, strict=True)}
        named |= {f"exponent.{size}": one for size, one in zip(sizes, law.exponents, strict=True)}
        for name, one in named.items():
            row |= {name: one.value, f"{name}.low": one.low, f"{name}.high": one.high}
        steep = any(one.value > 0.999 * _STEEPEST for one in law.exponents)
        note = f"the exponent is at its bound of {_STEEPEST:g}: this falls at once, not by a power law" if steep else None
        rows.append(row | {"cells": law.cells, "extrapolation_error": law.extrapolation_error, "note": note})
    constants = ["offset", *(f"{kind}.{size}" for size in sizes for kind in ("scale", "exponent"))]
    numbers = [pa.field(f"{name}{end}", pa.float64()) for name in constants for end in ("", ".low", ".high")]
    last = [pa.field("cells", pa.int64()), pa.field("extrapolation_error", pa.float64()), pa.field("note", pa.string())]
    return pa.Table.from_pylist(rows, pa.schema([*(runs.schema.field(name) for name in by), *numbers, *last]))


def _fit(logs: Floats, observed: Floats) -> tuple[Floats, float]:
    """The constants (log E, log A, alpha, ...) for log sizes (sizes, cells) and log values (cells,), and the width of the loss."""
    starts = _starts(logs, observed)
    fits, costs = _minimise(np.broadcast_to(logs, (len(starts), *logs.shape)), observed, starts, _FIRST_DELTA)
    first = fits[[np.argmin(costs)]]
    deviation = 1.4826 * float(np.median(np.abs(_residuals(first, logs, observed))))
    width = max(_EFFICIENT * deviation, _FIRST_DELTA)
    return _minimise(logs[None], observed, first, width)[0][0], width


def _minimise(logs: Floats, observed: Floats, constants: Floats, width: float) -> tuple[Floats, Floats]:
    """Many fits at once by Levenberg and Marquardt's method, with Huber's weights.

    Args:
        logs: log sizes, shape (fits, sizes, cells).
        observed: log values, shape (fits, cells) or (cells,).
        constants: where each fit starts, shape (fits, constants).
        width: of Huber's loss.

    Returns:
        The constants, and the loss of each fit.
    """
    lowest = observed.min()
    bounds = np.array([(lowest - 30, lowest + 0.5)] + [(-60, 100), (1e-3, _STEEPEST)] * logs.shape[1])
    constants = np.clip(constants, *bounds.T)
    damping = np.full(len(constants), 1e-2)
    costs = _huber(_residuals(constants, logs, observed), width)
    for _ in range(_STEPS):
        residuals, slopes = _residuals(constants, logs, observed), _slopes(constants, logs)
        weighted = slopes * np.minimum(1, width / np.maximum(np.abs(residuals), 1e-300))[..., None]
        curvature = np.swapaxes(weighted, 1, 2) @ slopes
        diagonal = np.einsum("bii->bi", curvature)
        diagonal += damping[:, None] * diagonal + 1e-12
        step = np.linalg.solve(curvature, -np.einsum("bni,bn->bi", weighted, residuals)[..., None])[..., 0]
        moved = np.clip(constants + step, *bounds.T)
        new = _huber(_residuals(moved, logs, observed), width)
        better = new < costs
        constants = np.where(better[:, None], moved, constants)
        settled = (np.abs(new - costs) <= 1e-9 * costs) | (~better & (damping > 1e6))
        if settled.all():
            break
        costs = np.where(better, new, costs)
        damping = np.clip(np.where(better, damping / 3, damping * 4), 1e-9, 1e9)
    return constants, costs


def _huber(residuals: Floats, width: float) -> Floats:
    """Huber's loss, summed over cells."""
    size = np.abs(residuals)
    return np.where(size <= width, size**2 / 2, width * (size - width / 2)).sum(axis=-1)


def _starts(logs: Floats, observed: Floats) -> Floats:
    """Several exponents and offsets, each with the largest value on every term at its smallest size; shape (starts, constants)."""
    starts = []
    for offset in (observed.min() - 0.1, observed.min() - 3):
        for exponent in (0.2, 0.5, 1.0, 2.0):
            terms = [(observed.max() + exponent * row.min(), exponent) for row in logs]
            starts.append([offset, *(number for term in terms for number in term)])
    return np.array(starts)


def _terms(constants: Floats, logs: Floats) -> Floats:
    """Logarithms of the law's terms, shape (fits, 1 + sizes, cells)."""
    decays = constants[:, 1::2, None] - constants[:, 2::2, None] * logs
    offset = np.broadcast_to(constants[:, :1, None], (len(constants), 1, decays.shape[2]))
    return np.concatenate([offset, decays], axis=1)


def _residuals(constants: Floats, logs: Floats, observed: Floats) -> Floats:
    return np.logaddexp.reduce(_terms(constants, logs), axis=1) - observed


def _slopes(constants: Floats, logs: Floats) -> Floats:
    """Derivatives of the residuals by the constants, shape (fits, cells, constants)."""
    terms = _terms(constants, logs)
    shares = np.exp(terms - np.logaddexp.reduce(terms, axis=1, keepdims=True))
    slopes = np.empty((len(constants), terms.shape[2], constants.shape[1]))
    slopes[..., 0] = shares[:, 0]
    slopes[..., 1::2] = np.swapaxes(shares[:, 1:], 1, 2)
    slopes[..., 2::2] = np.swapaxes(-logs * shares[:, 1:], 1, 2)
    return slopes


def _bootstrap(logs: Floats, values: Floats, cell: NDArray[np.int64], best: Floats, width: float, resamples: int) -> Floats:
    """The constants of fits to resampled data, shape (resamples, constants)."""
    rng = np.random.default_rng(0)
    seeds = np.bincount(cell)
    means = np.bincount(cell, values) / seeds
    starts = np.broadcast_to(best, (resamples, len(best)))
    if (seeds == 1).all():
        chosen = rng.integers(0, len(seeds), (resamples, len(seeds)))
        return _minimise(np.swapaxes(logs[:, chosen], 0, 1), np.log(means)[chosen], starts, width)[0]
    ordered = values[np.argsort(cell, kind="stable")]
    first, size = np.repeat(np.cumsum(seeds) - seeds, seeds), np.repeat(seeds, seeds)
    drawn = ordered[first + rng.integers(0, size, (resamples, len(size)))]
    deviations = np.add.reduceat(drawn, np.cumsum(seeds) - seeds, axis=1) / seeds - means
    wide = means + np.sqrt(seeds / np.maximum(seeds - 1, 1)) * deviations
    return _minimise(np.broadcast_to(logs, (resamples, *logs.shape)), np.log(np.maximum(wide, 1e-3 * means)), starts, width)[0]


def _natural(constants: Floats) -> Floats:
    """Logarithms of offset and scales as numbers, exponents as they are; over the last axis."""
    natural = constants.copy()
    natural[..., 0] = np.exp(constants[..., 0])
    natural[..., 1::2] = np.exp(constants[..., 1::2])
    return natural


def _extrapolation(logs: Floats, means: Floats) -> float:
    """The error at cells in the largest quarter of any size, predicted from the rest."""
    held_out = np.zeros(len(means), bool)
    for row in logs:
        sizes = np.unique(row)
        held_out |= row >= sizes[-max(1, len(sizes) // 4)]
    kept = logs[:, ~held_out]
    if min(len(np.unique(row)) for row in kept) < 4 or kept.shape[1] < 2 * len(logs) + 2:
        return float("nan")
    constants, _ = _fit(kept, np.log(means[~held_out]))
    predicted = np.exp(np.logaddexp.reduce(_terms(constants[None], logs[:, held_out])[0]))
    return float(np.median(np.abs(predicted / means[held_out] - 1)))


def _interval(estimate: Estimate) -> str:
    return f"{100 * LEVEL:.0f} % interval {estimate.low:.3g} to {estimate.high:.3g}"
