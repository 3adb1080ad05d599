"""What laws are fitted to: means over the seeds of each setting, with the noise of one run and the part that runs of one seed share."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.errors import AnalysisError

Floats = NDArray[np.float64]

_PRIOR_SEEDS = 4.0
"""Degrees of freedom that the trend of the variance has against that of one cell's own seeds."""


@dataclass(frozen=True)
class Cells:
    """Means over seeds, one a setting.

    Attributes:
        sizes: shape (sizes, cells).
        means: shape (cells,).
        counts: seeds, shape (cells,).
        deviations: of one run, from the seeds and a trend over sizes; NaN where no cell has two seeds; shape (cells,).
        trend: intercept and slopes of log variance over log sizes.
        shared: the part of the variance that runs of the same seed have in common, in [0, 1]; 0 where seeds are not known.
        seeds: how many seeds there are; 0 where they are not known.
    """

    sizes: Floats
    means: Floats
    counts: NDArray[np.int64]
    deviations: Floats
    trend: Floats
    shared: float = 0.0
    seeds: int = 0

    @property
    def errors(self) -> Floats:
        """Standard errors of the means by their seeds; NaN where no cell has two."""
        return np.asarray(self.deviations / np.sqrt(self.counts))

    def only(self, kept: NDArray[np.bool_]) -> Cells:
        """Some of the cells."""
        return replace(self, sizes=self.sizes[:, kept], means=self.means[kept], counts=self.counts[kept], deviations=self.deviations[kept])

    def noise_at(self, sizes: Floats) -> Floats:
        """The deviation of one run at other sizes, shape (sizes, places), by the trend; not beyond the sizes that were run."""
        logs = np.clip(np.log(sizes), *(np.log(self.sizes).min(axis=1)[:, None], np.log(self.sizes).max(axis=1)[:, None]))
        return np.asarray(np.exp((self.trend[0] + self.trend[1:] @ logs) / 2))


def cells_of(sizes: ArrayLike, values: ArrayLike, seeds: ArrayLike | None = None) -> Cells:
    """Means over the runs that agree in their sizes.

    Args:
        sizes: positive, shape (runs,) or (sizes, runs).
        values: finite, zeros and negative ones included, shape (runs,).
        seeds: of each run, shape (runs,); None for seeds of which no two are the same. Runs of one seed and one size, such as a point
            that was recorded again, count once, with their mean.

    Raises:
        AnalysisError: a size is not positive, or a value not finite: nothing is dropped.
    """
    sizes, values = np.atleast_2d(np.asarray(sizes, np.float64)), np.asarray(values, np.float64)
    if not np.isfinite(values).all():
        raise AnalysisError(
            f"{int((~np.isfinite(values)).sum())} of {len(values)} values are missing or not finite: a law of the others would be biased"
        )
    if not (np.isfinite(sizes) & (sizes > 0)).all():
        raise AnalysisError("sizes of a scaling law are positive numbers")
    names, seed = np.unique(np.arange(len(values)) if seeds is None else np.asarray(seeds), return_inverse=True)
    seed = seed.ravel()
    points, first, again = np.unique(np.vstack([sizes, seed]), axis=1, return_index=True, return_inverse=True)
    values, seed = np.bincount(again.ravel(), values) / np.bincount(again.ravel()), seed[first]
    places, cell, counts = np.unique(points[:-1], axis=1, return_inverse=True, return_counts=True)
    cell = cell.ravel()
    means = np.bincount(cell, values) / counts
    squares = np.asarray(np.bincount(cell, (values - means[cell]) ** 2), np.float64)
    deviations, trend = _noise(np.log(places), squares, (counts - 1).astype(np.float64))
    if seeds is None:
        return Cells(places, means, counts, deviations, trend)
    several = counts[cell] > 1
    away = (values - means[cell])[several] / deviations[cell][several] * np.sqrt(counts / np.maximum(counts - 1, 1))[cell][several]
    return Cells(places, means, counts, deviations, trend, _shared(away, seed[several]), len(names))


def _noise(logs: Floats, squares: Floats, freedom: Floats) -> tuple[Floats, Floats]:
    """The deviation of one run in every cell, and the trend of its log variance over log sizes.

    A few seeds say little of their variance, so a straight trend of all cells' log variances counts like four degrees of freedom more.
    """
    from scipy.special import digamma, polygamma

    known = (freedom > 0) & (squares > 0)
    if not (freedom > 0).any():
        return np.full(len(squares), np.nan), np.full(len(logs) + 1, np.nan)
    pooled = squares[freedom > 0].sum() / freedom[freedom > 0].sum()
    trend = np.array([np.log(max(pooled, 1e-24)), *np.zeros(len(logs))])
    if known.sum() >= 5 + len(logs):
        half = freedom[known] / 2
        observed = np.log(squares[known] / freedom[known]) - digamma(half) + np.log(half)
        weights = 1 / polygamma(1, half)  # the variance of a log variance
        centre = (logs[:, known] @ weights)[:, None] / weights.sum()
        design = (logs[:, known] - centre) * np.sqrt(weights)
        spread = np.linalg.pinv(design @ design.T)
        slopes = spread @ (design @ (observed * np.sqrt(weights)))
        # a slope that noise would show as well is none; Stein's shrinkage, doubled
        slopes *= np.maximum(0, 1 - 2 * np.diag(spread) / np.maximum(slopes**2, 1e-300))
        trend = np.array([(weights @ observed) / weights.sum() - float(slopes @ centre[:, 0]), *slopes])
    prior = np.exp(trend[0] + trend[1:] @ logs)
    return np.sqrt((_PRIOR_SEEDS * prior + squares) / (_PRIOR_SEEDS + freedom)), trend


def _shared(away: Floats, seed: NDArray[np.int64]) -> float:
    """The part of the variance that runs of one seed have in common: the mean product of two of their standardized residuals.

    One that independent runs would show as well is none (Stein's shrinkage, doubled).
    """
    number = np.bincount(seed)
    sums, squares = np.bincount(seed, away), np.bincount(seed, away**2)
    pairs = float((number * (number - 1)).sum())
    if not pairs or not np.isfinite(away).all() or len(number) < 2:
        return 0.0
    found = float((sums**2 - squares).sum()) / pairs
    chance = 2 / pairs * len(number) / (len(number) - 1)
    return min(found * max(0.0, 1 - 2 * chance / found**2), 1.0) if found > 0 else 0.0
