"""Where learning curves that have begun will be: the Gaussian process of Swersky, Snoek & Adams 2014, *Freeze-thaw Bayesian optimization*.

A curve is its asymptote and what decays towards it: a mixture of exponential decays exp(-rt) with gamma-distributed rates r, of which the
covariance is k(t, t') = b^a / (t + t' + b)^a (their equation 6). Asymptotes are normal about a common mean, and so are decays: theirs is
zero, here it is fitted. Their kernel between the settings of different curves is left out: a curve says of others only what all have in
common. The parameters are those of a grid under which the curves are likeliest.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

MOST_TIMES = 24
"""Epochs of a curve that are looked at, evenly spaced with both ends."""
SHAPES = (0.5, 1.0, 2.0)
"""Of a."""
SCALES = (0.01, 0.03, 0.1, 0.3, 1.0)
"""Of b, in units of the last epoch."""
SPREADS = (0.03, 0.3, 3.0)
"""Of the variance of asymptotes, in units of that of decays."""
NOISES = (1e-5, 1e-4, 1e-3, 1e-2)
"""Of the variance of the noise, in the same units."""

_Numbers = NDArray[np.float64]
_Groups = Mapping[tuple[int, ...], _Numbers]


@dataclass(frozen=True)
class LearningCurves:
    """The process under which some curves are likeliest.

    Attributes:
        variance: of decays, at their beginning.
        spread, noise: variances of asymptotes and of the noise, in units of that.
        means: of asymptotes and of decays.
    """

    shape: float
    scale: float
    spread: float
    noise: float
    variance: float
    means: tuple[float, float]

    @classmethod
    def fitted(cls, curves: Sequence[Mapping[int, float]], last: int) -> LearningCurves:
        """Fit it.

        Args:
            curves: epoch (from 1) -> value; none is empty.
            last: the epoch at which curves end.
        """
        groups = _by_times(curves)
        ways = product(SHAPES, (scale * last for scale in SCALES), SPREADS, NOISES)
        return max((_profiled(groups, *way) for way in ways), key=lambda found: found[0])[1]

    def forecast(self, curve: Mapping[int, float], epoch: int) -> tuple[float, float]:
        """Mean and standard deviation of where a curve is at an epoch, without the noise."""
        times, values = _thinned(curve)
        covariance = self._covariance(times)
        with_then = self.spread + self._decay(times + epoch)
        weights = np.linalg.solve(covariance, with_then)
        then = np.array([1.0, self._decay(np.array([epoch]))[0]])
        mean = then @ self.means + weights @ (values - self._regressors(times) @ self.means)
        left = self.spread + self._decay(np.array([2 * epoch]))[0] - weights @ with_then
        return float(mean), float(np.sqrt(self.variance * max(left, 1e-9)))

    def _decay(self, times: _Numbers) -> _Numbers:
        return np.asarray((self.scale / (times + self.scale)) ** self.shape)

    def _covariance(self, times: _Numbers) -> _Numbers:
        return self.spread + self._decay(times[:, None] + times) + self.noise * np.eye(len(times))

    def _regressors(self, times: _Numbers) -> _Numbers:
        return np.stack([np.ones(len(times)), self._decay(times)], axis=1)


def expected_improvement(mean: float, deviation: float, best: float) -> float:
    """By how much a normal number is expected to be less than the best, where it is (Mockus et al. 1978)."""
    distance = (best - mean) / deviation
    return float(deviation * (distance * norm.cdf(distance) + norm.pdf(distance)))


def _thinned(curve: Mapping[int, float]) -> tuple[_Numbers, _Numbers]:
    """The epochs of a curve that are looked at, and its values there."""
    epochs = sorted(curve)
    if len(epochs) > MOST_TIMES:
        epochs = [epochs[index] for index in np.linspace(0, len(epochs) - 1, MOST_TIMES).round().astype(int)]
    return np.array(epochs, dtype=np.float64), np.array([curve[epoch] for epoch in epochs])


def _by_times(curves: Sequence[Mapping[int, float]]) -> _Groups:
    """The values of curves with the same epochs, (curves, epochs)."""
    groups: dict[tuple[int, ...], list[_Numbers]] = defaultdict(list)
    for times, values in map(_thinned, curves):
        groups[tuple(times.astype(int).tolist())].append(values)
    return {times: np.stack(values) for times, values in groups.items()}


def _profiled(groups: _Groups, shape: float, scale: float, spread: float, noise: float) -> tuple[float, LearningCurves]:
    """The log likelihood, up to a constant, at the likeliest variance and means; and the process with these."""
    unit = LearningCurves(shape, scale, spread, noise, 1.0, (0.0, 0.0))
    whitened, regressors, logs = [], [], 0.0
    for times, values in groups.items():
        at = np.array(times, dtype=np.float64)
        root = np.linalg.cholesky(unit._covariance(at))
        whitened.append(np.linalg.solve(root, values.T).T.ravel())
        regressors.append(np.tile(np.linalg.solve(root, unit._regressors(at)), (len(values), 1)))
        logs += 2 * len(values) * float(np.log(np.diag(root)).sum())
    values, design = np.concatenate(whitened), np.concatenate(regressors)
    means = np.linalg.lstsq(design, values, rcond=None)[0]
    variance = max(float(((values - design @ means) ** 2).mean()), 1e-12)
    found = LearningCurves(shape, scale, spread, noise, variance, (float(means[0]), float(means[1])))
    return -0.5 * (len(values) * np.log(variance) + logs), found
