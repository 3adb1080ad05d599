"""Verdicts on claims: *holds*, *does not hold*, or *undecided*, from seeds and their intervals.

A claim is an order of settings (the gap of a is below that of b) or a number with a tolerance. It is decided among runs that fit
equally, with pairs of one seed, and at one level for the whole claim: Holm's correction over the steps of an order. One seed decides
nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.statistics.intervals import DEFAULT, ERRORS, LEVEL, Estimate, Method, mean_estimate

Floats = NDArray[np.float64]
Outcome = Literal["holds", "does not hold", "undecided"]
ROUNDING = 1e-12
"""Differences that deviate by less than this share of their mean are equal."""


@dataclass(frozen=True)
class Step:
    """One step of an order: the second setting minus the first, paired by seed.

    Attributes:
        first: the setting that is claimed to be smaller.
        second: the one that is claimed to be larger.
        difference: mean of second - first, with its interval; it has the level that Holm's correction gave this step. NaN ends where
            all differences are equal and no resolution is given.
        p: of a paired t test that the difference is the margin, two-sided, or of a sign test where all differences are equal, which
            leaves the t test nothing to go by; NaN for fewer than two seeds.
        p_holm: corrected for the steps of the order.
        seeds: pairs that fit on both sides.
    """

    first: str
    second: str
    difference: Estimate
    p: float
    p_holm: float
    seeds: int


@dataclass(frozen=True)
class Verdict:
    """Whether a claim holds.

    Attributes:
        outcome: "holds", "does not hold" or "undecided".
        sentence: why, in words.
        seeds: the fewest that a part of the claim rests on.
        steps: of an order; empty for a number.
        measured: of a number; None for an order.
    """

    outcome: Outcome
    sentence: str
    seeds: int
    steps: tuple[Step, ...] = ()
    measured: Estimate | None = None


def order_verdict(
    values: Mapping[str, ArrayLike],
    *,
    fitted: Mapping[str, ArrayLike] | None = None,
    margin: float = 0.0,
    level: float = LEVEL,
    resolution: float = 0.0,
) -> Verdict:
    """Whether settings are in the order in which they are named, each below the next by more than the margin.

    It holds if every step is shown; it does not if one step is shown to be the other way (or, with a margin, to be smaller than that);
    else it is undecided. "Shown" is a paired t test with Holm's correction over the steps, so that with probability ``level`` neither
    verdict is wrong.

    Args:
        values: of each setting, in the claimed order from low to high, one a seed: entry i of all settings is seed i; NaN where there is
            no run. At least two settings.
        fitted: of each setting, whether the run fit, shape as the values; a pair counts only if both fit. None for claims that are not
            about fitted runs.
        margin: by how much each must exceed the one before, not negative.
        level: of the whole claim, in (0, 1).
        resolution: step between possible values, such as 1/m for an error on m samples: deviations below half a step
            were not seen, and are taken for that.

    Raises:
        ValueError: fewer than two settings, different numbers of seeds, or a negative margin.
    """
    names, numbers = list(values), [np.asarray(one, np.float64) for one in values.values()]
    if len(names) < 2 or len({len(one) for one in numbers}) != 1 or margin < 0:
        raise ValueError("an order needs two settings at least, with one value a seed each, and a margin that is not negative")
    fit = [np.ones(len(one), bool) if fitted is None else np.asarray(fitted[name], bool) for name, one in zip(names, numbers, strict=True)]
    steps = []
    for index in range(len(names) - 1):
        both = fit[index] & fit[index + 1] & np.isfinite(numbers[index]) & np.isfinite(numbers[index + 1])
        steps.append((numbers[index + 1] - numbers[index])[both])
    p = np.array([_t_test(one - margin, resolution) for one in steps])
    corrected, share = _holm(p)
    found = tuple(
        Step(a, b, _difference(one, 1 - (1 - level) * part, resolution), float(raw), float(holm), len(one))
        for a, b, one, raw, holm, part in zip(names[:-1], names[1:], steps, p, corrected, share, strict=True)
    )
    shown = [step.p_holm < 1 - level for step in found]
    right = [step.difference.value > margin for step in found]
    if all(shown) and all(right):
        outcome: Outcome = "holds"
    elif any(one and not good for one, good in zip(shown, right, strict=True)):
        outcome = "does not hold"
    else:
        outcome = "undecided"
    return Verdict(
        outcome, _order_sentence(outcome, found, shown, right, margin, fitted is not None), min(step.seeds for step in found), found
    )


def number_verdict(
    values: ArrayLike,
    published: float,
    *,
    tolerance: float,
    fitted: ArrayLike | None = None,
    level: float = LEVEL,
    within: tuple[float, float] = ERRORS,
    method: Method = DEFAULT,
    resolution: float = 0.0,
) -> Verdict:
    """Whether the mean over seeds is a published number, give or take the tolerance.

    It holds if the whole interval of the mean lies inside published ± tolerance, and does not if it lies outside; else it is undecided.

    Args:
        values: one a seed; NaN where there is no run.
        published: the number.
        tolerance: how far away counts as the same, positive.
        fitted: whether each run fit; only those count. None for claims that are not about fitted runs.
        level: confidence of the interval, in (0, 1).
        within: where the quantity can be.
        method: of the interval, as for `intervals.mean_intervals`; so is ``resolution``.
        resolution: step between possible values.

    Raises:
        ValueError: the tolerance is not positive.
    """
    if tolerance <= 0:
        raise ValueError("a number is compared with a positive tolerance")
    numbers = np.asarray(values, np.float64)
    kept = np.isfinite(numbers) & (np.ones(len(numbers), bool) if fitted is None else np.asarray(fitted, bool))
    numbers = numbers[kept]
    among = " that fit" if fitted is not None else ""
    if len(numbers) < 2:
        measured = Estimate(float(numbers.mean()) if len(numbers) else float("nan"), float("nan"), float("nan"))
        said = f"measured {measured.value:.4g}" if len(numbers) else "nothing was measured"
        return Verdict(
            "undecided",
            f"{said} with {len(numbers)} seed{'' if len(numbers) == 1 else 's'}{among}: one seed decides nothing",
            len(numbers),
            (),
            measured,
        )
    measured = mean_estimate(numbers, level=level, within=within, method=method, resolution=resolution)
    outcome: Outcome = "undecided"
    if published - tolerance <= measured.low and measured.high <= published + tolerance:
        outcome = "holds"
    elif measured.high < published - tolerance or published + tolerance < measured.low:
        outcome = "does not hold"
    said = f"measured {measured} over {len(numbers)} seeds{among}, published {published:.4g} ± {tolerance:.2g}"
    return Verdict(outcome, f"{outcome}: {said}", len(numbers), (), measured)


def _t_test(differences: Floats, resolution: float) -> float:
    from scipy.special import stdtr

    count = len(differences)
    if count < 2:
        return float("nan")
    error, mean = _error(differences, resolution), abs(float(differences.mean()))
    return float(2 * stdtr(count - 1, -mean / error)) if error else sign_test(mean, count)


def sign_test(mean: float, count: int) -> float:
    """The two-sided p-value of ``count`` differences that all are ``mean``: that of as many coins that all fall on one side."""
    return float(0.5 ** (count - 1)) if mean else 1.0


def _error(differences: Floats, resolution: float) -> float:
    """The standard error of the mean; 0 where all differences agree but for rounding, and nothing is said of how fine they are."""
    deviation = max(float(differences.std(ddof=1)), resolution / 2)
    return float(deviation / len(differences) ** 0.5) if deviation > ROUNDING * abs(float(differences.mean())) else 0.0


def _difference(differences: Floats, level: float, resolution: float) -> Estimate:
    from scipy.special import stdtrit

    count = len(differences)
    if count < 2:
        return Estimate(float(differences.mean()) if count else float("nan"), float("nan"), float("nan"))
    mean, error = float(differences.mean()), _error(differences, resolution)
    half = float(stdtrit(count - 1, (1 + level) / 2)) * error if error else float("nan")
    return Estimate(mean, mean - half, mean + half)


def _holm(p: Floats) -> tuple[Floats, Floats]:
    """Holm's corrected p-values (NaN counts as 1 and stays NaN), and the share of the level that each test got."""
    known = np.where(np.isnan(p), 1.0, p)
    order = np.argsort(known, kind="stable")
    factors = np.arange(len(p), 0, -1)
    corrected, share = np.empty(len(p)), np.empty(len(p))
    corrected[order] = np.minimum(np.maximum.accumulate(known[order] * factors), 1)
    share[order] = 1 / factors
    return np.where(np.isnan(p), np.nan, corrected), share


def _order_sentence(
    outcome: Outcome, steps: Sequence[Step], shown: Sequence[bool], right: Sequence[bool], margin: float, equal_fit: bool
) -> str:
    among = " at which both fit" if equal_fit else ""
    by = f" by more than {margin:.3g}" if margin else ""
    parts = []
    for step, sure, good in zip(steps, shown, right, strict=True):
        if step.seeds < 2:
            parts.append(
                f"{step.first} < {step.second}{by} rests on {step.seeds} seed{'' if step.seeds == 1 else 's'}{among}, which decides nothing"
            )
            continue
        says = "is shown" if sure and good else "is contradicted" if sure else "is open"
        equal = np.isnan(step.difference.low)
        difference = f"all differences are equal, {step.difference.value:.3g}," if equal else f"difference {step.difference}"
        parts.append(f"{step.first} < {step.second}{by} {says}: {difference} over {step.seeds} seeds{among}")
    return f"{outcome}: " + "; ".join(parts)
