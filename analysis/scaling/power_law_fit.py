"""The numbers of a power law: a robust fit to logarithms, many fits at once, by Levenberg and Marquardt's method.

The constants of a law are an array (log E, log A, alpha) or (log E, log A, alpha, log B, beta).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

STEEPEST = 5.0
"""Largest exponent that is looked for."""
_EFFICIENT = 1.345
"""Huber 1964: residuals beyond this many deviations count linearly; 95 % efficient where they are normal."""
_FIRST_DELTA = 1e-3
"""The loss's width in the first fit, whose residuals say how large a deviation is (Hoffmann et al. 2022 use it throughout)."""
_STEPS = 300
"""The most steps of a fit."""


def fit(logs: Floats, observed: Floats) -> tuple[Floats, float]:
    """The constants (log E, log A, alpha, ...) for log sizes (sizes, cells) and log values (cells,), and the width of the loss."""
    starts = _starts(logs, observed)
    fits, costs = _minimise(np.broadcast_to(logs, (len(starts), *logs.shape)), observed, starts, _FIRST_DELTA)
    first = fits[[np.argmin(costs)]]
    deviation = 1.4826 * float(np.median(np.abs(_residuals(first, logs, observed))))
    width = max(_EFFICIENT * deviation, _FIRST_DELTA)
    return _minimise(logs[None], observed, first, width)[0][0], width


def resampled_fits(logs: Floats, values: Floats, cell: NDArray[np.int64], best: Floats, width: float, resamples: int) -> Floats:
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


def natural(constants: Floats) -> Floats:
    """The constants along the last axis with offset and scales themselves instead of their logarithms; exponents stay."""
    natural = constants.copy()
    natural[..., 0] = np.exp(constants[..., 0])
    natural[..., 1::2] = np.exp(constants[..., 1::2])
    return natural


def extrapolation_error(logs: Floats, means: Floats) -> float:
    """The error at cells in the largest quarter of any size, predicted from the rest."""
    held_out = np.zeros(len(means), bool)
    for row in logs:
        sizes = np.unique(row)
        held_out |= row >= sizes[-max(1, len(sizes) // 4)]
    kept = logs[:, ~held_out]
    if min(len(np.unique(row)) for row in kept) < 4 or kept.shape[1] < 2 * len(logs) + 2:
        return float("nan")
    constants, _ = fit(kept, np.log(means[~held_out]))
    predicted = np.exp(np.logaddexp.reduce(_terms(constants[None], logs[:, held_out])[0]))
    return float(np.median(np.abs(predicted / means[held_out] - 1)))


def _minimise(logs: Floats, observed: Floats, constants: Floats, width: float) -> tuple[Floats, Floats]:
    """Many fits at once by Levenberg and Marquardt's method, with Huber's weights.

    Args:
        logs: log sizes, shape (fits, sizes, cells).
        observed: log values, shape (fits, cells) or (cells,).
        constants: where each fit starts, shape (fits, constants).
        width: the width of Huber's loss.

    Returns:
        The constants, and the loss of each fit.
    """
    lowest = observed.min()
    bounds = np.array([(lowest - 30, lowest + 0.5)] + [(-60, 100), (1e-3, STEEPEST)] * logs.shape[1])
    constants = np.clip(constants, *bounds.T)
    damping = np.full(len(constants), 1e-2)
    costs = _huber(_residuals(constants, logs, observed), width)
    for _ in range(_STEPS):
        residuals, jacobian = _residuals(constants, logs, observed), _jacobian(constants, logs)
        weighted = jacobian * np.minimum(1, width / np.maximum(np.abs(residuals), 1e-300))[..., None]
        curvature = np.swapaxes(weighted, 1, 2) @ jacobian
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
    costs: Floats = np.where(size <= width, size**2 / 2, width * (size - width / 2)).sum(axis=-1)
    return costs


def _starts(logs: Floats, observed: Floats) -> Floats:
    """Constants to start from, shape (starts, constants): several exponents and offsets, with scales that give every term the largest
    value at its smallest size."""
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
    predicted: Floats = np.logaddexp.reduce(_terms(constants, logs), axis=1)
    return predicted - observed


def _jacobian(constants: Floats, logs: Floats) -> Floats:
    """Derivatives of the residuals by the constants, shape (fits, cells, constants)."""
    terms = _terms(constants, logs)
    shares = np.exp(terms - np.logaddexp.reduce(terms, axis=1, keepdims=True))
    jacobian = np.empty((len(constants), terms.shape[2], constants.shape[1]))
    jacobian[..., 0] = shares[:, 0]
    jacobian[..., 1::2] = np.swapaxes(shares[:, 1:], 1, 2)
    jacobian[..., 2::2] = np.swapaxes(-logs * shares[:, 1:], 1, 2)
    return jacobian
