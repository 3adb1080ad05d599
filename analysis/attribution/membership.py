"""A membership attack: guess from the outputs of a network which samples it was trained on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.attribution.subsets import Floats, Masks
from analysis.statistics.intervals import ERRORS, Estimate, mean_estimate

Doubles = NDArray[np.float64]

OWN_VARIANCE = 64
"""Networks with a sample, and without it, from which on its outputs have variances of their own (Carlini et al. 2022, section IV-C)."""
_LEAST_VARIANCE = 1e-6
"""Log-odds of single precision do not lie closer than that."""


@dataclass(frozen=True)
class Attack:
    """What the attack reached on the second half of the networks.

    Attributes:
        statistics: (attacked, n) log-likelihood ratios: the higher, the more the sample looks trained on.
        areas: (attacked,) the area under each network's ROC curve: 0.5 is a guess.
        area: their mean, with its 95 % interval over networks.
        false_positives: (points,) false positive rates of the ROC curve of all attacked networks together, ascending from 0 to 1.
        true_positives: (points,) true positive rates at these.
    """

    statistics: Floats
    areas: Doubles
    area: Estimate
    false_positives: Doubles
    true_positives: Doubles

    def caught_at(self, false_positive_rate: float) -> float:
        """The true positive rate at a false positive rate, both in [0, 1]: the last point of the curve that does not exceed it."""
        return float(self.true_positives[np.searchsorted(self.false_positives, false_positive_rate, side="right") - 1])


def membership_attack(trained: Masks, outputs: Floats) -> Attack:
    """Attack half of the networks with the other half: is an output likelier among those trained on the sample, or among the others?

    Source: Carlini et al. 2022, "Membership inference attacks from first principles" (LiRA, online), with the outputs Gaussian for each
    sample; where fewer than 64 networks were, or were not, trained on it, their variance is pooled over samples. Halves, because the areas
    are then independent given the attacker. Were each network attacked by all others, as is done too, two networks would enter one
    another's statistics, and an interval over networks be too narrow by a factor of up to the square root of 2.

    Args:
        trained: (networks, n), whether a network was trained on a sample; the first half of the networks, rounded down, is the attacker's.
        outputs: (networks, n) log-odds of the label.
    """
    half = len(trained) // 2
    known, own = trained[:half], outputs[:half].astype(np.float64)
    attacked, values = trained[half:], outputs[half:].astype(np.float64)
    pooled = min(int(known.sum(axis=0).min()), int((~known).sum(axis=0).min())) < OWN_VARIANCE
    statistics = (_log_density(own, known, values, pooled) - _log_density(own, ~known, values, pooled)).astype(np.float32)
    areas = np.array([_area(one, guess) for one, guess in zip(attacked, statistics, strict=True)])
    areas = areas[np.isfinite(areas)]
    false_positives, true_positives = _curve(attacked.ravel(), statistics.ravel())
    return Attack(statistics, areas, mean_estimate(areas, within=ERRORS), false_positives, true_positives)


def _log_density(own: Doubles, chosen: Masks, values: Doubles, pooled: bool) -> Doubles:
    """The log-density, up to a constant, of values under the Gaussians of the chosen outputs of each sample; 0 where there are too few."""
    counts = chosen.sum(axis=0)
    known = counts > 1
    means = np.where(chosen, own, 0).sum(axis=0) / np.maximum(counts, 1)
    squares = np.where(chosen, (own - means) ** 2, 0).sum(axis=0)
    variances = squares[known].sum() / max((counts[known] - 1).sum(), 1) if pooled else squares / np.maximum(counts - 1, 1)
    variances = np.maximum(variances, _LEAST_VARIANCE)
    density: Doubles = np.where(known, -((values - means) ** 2) / (2 * variances) - np.log(variances) / 2, 0)
    return density


def _area(trained: Masks, statistics: Floats) -> float:
    """The area under one network's ROC curve by ranks, ties counted half (Hanley and McNeil 1982); NaN where one kind is missing."""
    from scipy.stats import rankdata

    members = int(trained.sum())
    others = len(trained) - members
    if not members or not others:
        return float("nan")
    return float((rankdata(statistics)[trained].sum() - members * (members + 1) / 2) / (members * others))


def _curve(trained: Masks, statistics: Floats) -> tuple[Doubles, Doubles]:
    """False and true positive rates at every threshold between unequal statistics."""
    order = np.argsort(-statistics, kind="stable")
    last = np.append(np.flatnonzero(np.diff(statistics[order])), len(order) - 1)
    caught = np.cumsum(trained[order])[last]
    wrong = last + 1 - caught
    return np.concatenate([[0.0], wrong / max(wrong[-1], 1)]), np.concatenate([[0.0], caught / max(caught[-1], 1)])
