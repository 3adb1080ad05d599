"""Power laws with an offset, E + A/N^alpha + B/D^beta, for error against capacity, samples or both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike

from analysis.errors import AnalysisError, unknown_column
from analysis.scaling.power_law_fit import STEEPEST, Floats, extrapolation_error, fit, natural, resampled_fits
from analysis.statistics.intervals import LEVEL
from analysis.statistics.selection import completed, completed_lines, groups
from analysis.words import words


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
    """Fit the law E + A/N^alpha (+ B/D^beta) to the means over seeds.

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
    settings, cell, seeds = np.unique(numbers[1:], axis=1, return_inverse=True, return_counts=True)
    for row, name in zip(settings, sizes, strict=True):
        if len(np.unique(row)) < 4 or len(seeds) < 2 * len(sizes) + 2:
            raise AnalysisError(f"a power law needs at least 4 different values of {words(name)}; there are {len(np.unique(row))}")
    logs = np.log(settings)
    means = np.bincount(cell, numbers[0]) / seeds
    best, width = fit(logs, np.log(means))
    draws = resampled_fits(logs, numbers[0], cell, best, width, resamples)
    low, high = np.quantile(natural(draws), [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    offset, *terms = (Estimate(*map(float, one)) for one in zip(natural(best), low, high, strict=True))
    resampled = "seeds" if (seeds > 1).any() else "cells"
    return PowerLaw(
        value, tuple(sizes), offset, tuple(terms[::2]), tuple(terms[1::2]), len(means), extrapolation_error(logs, means), resampled
    )


def power_law_table(
    table: pa.Table,
    *,
    value: str = "test_error",
    sizes: Sequence[str] = ("parameters",),
    by: Sequence[str] | None = None,
    resamples: int = 1000,
) -> pa.Table:
    """The power law of each line: its constants with their intervals, or why there is none.

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
        steep = any(one.value > 0.999 * STEEPEST for one in law.exponents)
        note = f"the exponent is at its bound of {STEEPEST:g}: this falls at once, not by a power law" if steep else None
        rows.append(row | {"cells": law.cells, "extrapolation_error": law.extrapolation_error, "note": note})
    constants = ["offset", *(f"{kind}.{size}" for size in sizes for kind in ("scale", "exponent"))]
    numbers = [pa.field(f"{name}{end}", pa.float64()) for name in constants for end in ("", ".low", ".high")]
    last = [pa.field("cells", pa.int64()), pa.field("extrapolation_error", pa.float64()), pa.field("note", pa.string())]
    return pa.Table.from_pylist(rows, pa.schema([*(runs.schema.field(name) for name in by), *numbers, *last]))


def _interval(estimate: Estimate) -> str:
    return f"{100 * LEVEL:.0f} % interval {estimate.low:.3g} to {estimate.high:.3g}"
