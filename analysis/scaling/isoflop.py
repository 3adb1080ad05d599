"""IsoFLOP profiles: which model size serves a compute budget best, read off the runs (Hoffmann et al. 2022, approach 2).

The runs of one model size lie at several amounts of compute, for they trained on more or fewer samples. Between these, what they came to
is interpolated linearly in the logarithm of compute, which gives every size its value at each of a few budgets: a profile. The best size
is the vertex of the parabola, over the logarithm of size, through the profile's lowest sizes. All of it but the vertex is linear in the
means over seeds, so that thousands of noisy copies of the study give its interval at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from analysis.errors import AnalysisError
from analysis.scaling.cells import cells_of
from analysis.scaling.forecasts import COMPUTE
from analysis.statistics.intervals import LEVEL, Estimate
from analysis.statistics.selection import completed, seed_codes
from analysis.statistics.tasks import own

Floats = NDArray[np.float64]
BUDGETS = 5
LEAST = 4
"""Model sizes that a budget's profile has at least."""
_AROUND = 5
"""Sizes around the lowest that its parabola goes through, at most."""
_DRAWS = 2000


@dataclass(frozen=True)
class IsoFlop:
    """Profiles of a few compute budgets.

    Attributes:
        budgets: in floating-point operations, ascending, shape (budgets,).
        sizes: parameters, ascending, shape (sizes,).
        values: of each budget and size, shape (budgets, sizes); NaN where no run of that size came near.
        errors: their standard errors by the seeds; NaN where no setting has two.
        best: the best size of each budget; NaN where the lowest is the smallest or the largest size, or no parabola opens upwards.
        exponent: with which power of compute the best size grows, by a line through the best sizes; NaN for fewer than two.
    """

    budgets: Floats
    sizes: Floats
    values: Floats
    errors: Floats
    best: tuple[Estimate, ...]
    exponent: Estimate


def isoflop(runs: pa.Table, *, value: str = "test_loss", level: float = LEVEL, seed: int = 0) -> IsoFlop:
    """The profiles of one line of a study that varies parameters, and samples or epochs.

    Args:
        runs: records that differ in model size, samples, epochs and seeds alone, such as `StudyLaw.runs`; only completed ones count.
        value: a numeric column.
        level: confidence, in (0, 1).
        seed: of the noisy copies.

    Raises:
        NothingToShow: no completed record.
        AnalysisError: a run lacks its compute or the value, or no budget has `LEAST` model sizes.
    """
    some = completed(runs)
    value = own(some, value)
    columns = [some[name].cast(pa.float64()).to_numpy(zero_copy_only=False) for name in ("parameters", "data.train_size", "budget.epochs")]
    flops = some[COMPUTE].cast(pa.float64()).to_numpy(zero_copy_only=False)
    if not (np.isfinite(flops) & (flops > 0)).all():
        raise AnalysisError("a record lacks training_flops: those of older versions have none; run the study anew under another name")
    places = np.stack(columns)
    cells = cells_of(places, some[value].cast(pa.float64()).to_numpy(zero_copy_only=False), seed_codes(some))
    _, cell = np.unique(places, axis=1, return_inverse=True)
    compute = np.exp(np.bincount(cell.ravel(), np.log(flops)) / np.bincount(cell.ravel()))
    sizes = np.unique(cells.sizes[0])
    budgets = _budgets(cells.sizes[0], compute)
    weights = np.array([[_interpolation(cells.sizes[0] == size, compute, budget) for size in sizes] for budget in budgets])
    known = np.isfinite(weights).all(axis=2)
    weights = np.nan_to_num(weights)
    rng = np.random.default_rng(seed)
    noise = cells.errors * rng.standard_normal((_DRAWS, len(cells.means)))
    values = np.where(known, weights @ cells.means, np.nan)
    errors = np.where(known, np.sqrt(weights**2 @ cells.errors**2), np.nan)
    vertices, draws = [], []
    for profile, weight, there in zip(values, weights, known, strict=True):
        chosen = _around_the_lowest(profile, there)
        logs = np.log(sizes[chosen])
        vertices.append(_vertex(logs, profile[chosen][None])[0] if len(chosen) else np.nan)
        drawn = _vertex(logs, profile[chosen] + noise @ weight[chosen].T) if len(chosen) else np.full(_DRAWS, np.nan)
        draws.append(drawn)
    return _concluded(budgets, sizes, values, errors, np.array(vertices), np.array(draws), level)


def _budgets(sizes: Floats, compute: Floats) -> Floats:
    """Budgets, spread evenly in logarithms over where enough sizes have runs on both sides."""
    grid = np.geomspace(compute.min(), compute.max(), 200)
    ends = [(compute[sizes == size].min(), compute[sizes == size].max()) for size in np.unique(sizes)]
    reached = grid[[sum(low <= budget <= high for low, high in ends) >= LEAST for budget in grid]]
    if not len(reached):
        raise AnalysisError(
            f"no compute budget has runs of {LEAST} model sizes around it: vary data.train_size (or budget.epochs) for each size"
        )
    return np.asarray(np.geomspace(reached[0], reached[-1], BUDGETS + 2)[1:-1])


def _interpolation(mine: NDArray[np.bool_], compute: Floats, budget: float) -> Floats:
    """The weights of the cells of one size in its value at a budget; NaN where the budget is beyond them."""
    weights = np.zeros(len(compute))
    indices = np.flatnonzero(mine)[np.argsort(compute[mine])]
    after = int(np.searchsorted(compute[indices], budget))
    if after == 0 or after == len(indices):
        return np.full(len(compute), np.nan)
    low, high = indices[after - 1], indices[after]
    share = np.log(budget / compute[low]) / np.log(compute[high] / compute[low])
    weights[low], weights[high] = 1 - share, share
    return weights


def _around_the_lowest(profile: Floats, known: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The indices of the sizes that the parabola goes through; none if the lowest is at an end."""
    there = np.flatnonzero(known)
    lowest = int(np.argmin(profile[there]))
    if not 0 < lowest < len(there) - 1:
        return np.array([], np.int64)
    first = int(np.clip(lowest - _AROUND // 2, 0, max(len(there) - _AROUND, 0)))
    return np.asarray(there[first : first + _AROUND])


def _vertex(logs: Floats, profiles: Floats) -> Floats:
    """The log size at the vertex of the parabola through each profile, shape (profiles,); NaN where it does not open upwards, or lies
    more than the profile's own length outside of it."""
    centre = logs.mean()
    design = np.stack([np.ones_like(logs), logs - centre, (logs - centre) ** 2])
    _, slope, curvature = np.linalg.pinv(design.T) @ profiles.T
    with np.errstate(divide="ignore", invalid="ignore"):
        place = np.where(curvature > 0, -slope / (2 * curvature), np.nan)
    return np.asarray(np.where(np.abs(place) <= np.ptp(logs), centre + place, np.nan))


def _concluded(budgets: Floats, sizes: Floats, values: Floats, errors: Floats, vertices: Floats, draws: Floats, level: float) -> IsoFlop:
    tails = [(1 - level) / 2, (1 + level) / 2]
    best = []
    for vertex, drawn in zip(vertices, draws, strict=True):
        sound = drawn[np.isfinite(drawn)]
        low, high = np.quantile(sound, tails) if len(sound) > len(drawn) / 2 else (np.nan, np.nan)
        best.append(Estimate(*(float(np.exp(one)) for one in (vertex, low, high))))
    there = np.isfinite(vertices)
    exponent = Estimate(float("nan"), float("nan"), float("nan"))
    if there.sum() > 1:
        x = np.log(budgets[there])
        slope = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
        drawn = slope @ draws[there]
        sound = drawn[np.isfinite(drawn)]
        low, high = np.quantile(sound, tails) if len(sound) > len(drawn) / 2 else (np.nan, np.nan)
        exponent = Estimate(float(slope @ vertices[there]), float(low), float(high))
    return IsoFlop(budgets, sizes, values, errors, tuple(best), exponent)
