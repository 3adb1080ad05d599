"""A membership attack: guess from the outputs of a network which samples it was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.attribution.memory import parts
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
        members: the statistics of all attacked networks on what they were trained on, ascending.
        others: the statistics on what they were not, ascending.
    """

    statistics: Floats
    areas: Doubles
    area: Estimate
    members: Floats
    others: Floats

    def caught_at(self, false_positive_rates: ArrayLike) -> Doubles:
        """The true positive rates at false positive rates, of their shape, both in [0, 1], by the ROC curve of all attacked networks.

        Each is the last point of the curve, which has one between any two unequal statistics, that does not exceed the rate.
        """
        rates, count = np.asarray(false_positive_rates, dtype=np.float64), len(self.others)
        wrong = np.floor(rates * count)
        wrong = np.where((wrong + 1) / count <= rates, wrong + 1, np.where(wrong / count > rates, wrong - 1, wrong)).astype(np.int64)
        # What is guessed to be a member lies above the largest statistic that would be one wrong guess too many.
        above = self.others[np.maximum(count - 1 - wrong, 0)]
        caught = 1 - np.searchsorted(self.members, above, side="right") / max(len(self.members), 1)
        return np.asarray(np.where(wrong >= count, 1.0, caught))


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
    known, attacked = trained[:half], trained[half:]
    with_it = known.sum(axis=0)
    pooled = min(int(with_it.min()), half - int(with_it.max())) < OWN_VARIANCE
    blocks = list(parts(trained.shape[1], len(trained)))
    gaussians = [[_Gaussians.of(outputs[:half, part], chosen[:, part]) for part in blocks] for chosen in (known, ~known)]
    variances = [_pooled(some) if pooled else None for some in gaussians]
    statistics = np.empty(attacked.shape, dtype=np.float32)
    for number, part in enumerate(blocks):
        values = outputs[half:, part].astype(np.float64)
        inside, outside = (some[number].log_density(values, variance) for some, variance in zip(gaussians, variances, strict=True))
        statistics[:, part] = inside - outside
    areas = np.array([_area(one, guess) for one, guess in zip(attacked, statistics, strict=True)])
    areas = areas[np.isfinite(areas)]
    members, others = np.sort(statistics[attacked]), np.sort(statistics[~attacked])
    return Attack(statistics, areas, mean_estimate(areas, within=ERRORS), members, others)


@dataclass(frozen=True)
class _Gaussians:
    """The outputs of some samples, a Gaussian each: (samples,) numbers of networks, their means and sums of squared deviations."""

    counts: NDArray[np.int64]
    means: Doubles
    squares: Doubles

    @classmethod
    def of(cls, outputs: Floats, chosen: Masks) -> _Gaussians:
        """Of the chosen ones of outputs, (networks, samples) each."""
        own, counts = outputs.astype(np.float64), chosen.sum(axis=0)
        means = np.where(chosen, own, 0).sum(axis=0) / np.maximum(counts, 1)
        return cls(counts, means, np.where(chosen, (own - means) ** 2, 0).sum(axis=0))

    def log_density(self, values: Doubles, pooled: float | None) -> Doubles:
        """The log-density of (networks, samples) values, up to a constant, 0 where there are too few; with one variance if given."""
        variances = np.maximum(self.squares / np.maximum(self.counts - 1, 1) if pooled is None else pooled, _LEAST_VARIANCE)
        density: Doubles = np.where(self.counts > 1, -((values - self.means) ** 2) / (2 * variances) - np.log(variances) / 2, 0)
        return density


def _pooled(some: Sequence[_Gaussians]) -> float:
    """The variance of outputs about the means of their samples."""
    squares = sum(float(one.squares[one.counts > 1].sum()) for one in some)
    freedom = sum(int((one.counts[one.counts > 1] - 1).sum()) for one in some)
    return squares / max(freedom, 1)


def _area(trained: Masks, statistics: Floats) -> float:
    """The area under one network's ROC curve by ranks, ties counted half (Hanley and McNeil 1982); NaN where one kind is missing."""
    from scipy.stats import rankdata

    members = int(trained.sum())
    others = len(trained) - members
    if not members or not others:
        return float("nan")
    return float((rankdata(statistics)[trained].sum() - members * (members + 1) / 2) / (members * others))
