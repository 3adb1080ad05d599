"""What difference one training sample makes to an output: networks trained on it against networks that were not."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from analysis.attribution.memory import parts
from analysis.attribution.subsets import Masks

Doubles = NDArray[np.float64]


class Influences(NamedTuple):
    """Influences of n training samples on m outputs, and their standard errors, each (n, m) float64.

    Both are NaN where a sample was in fewer than two subsets, or in all but fewer than two.
    """

    values: Doubles
    standard_errors: Doubles


def influences(trained: Masks, outputs: NDArray[np.generic]) -> Influences:
    """The mean output of networks that were trained on a sample, less that of networks that were not.

    Source: Feldman and Zhang 2020, "What neural networks memorize and why", equation 2, where outputs are whether a prediction is right.
    The influence of a sample on itself is its memorisation. A standard error is sqrt(s1^2 / k1 + s0^2 / k0), of both kinds of networks.

    Args:
        trained: (networks, n), whether a network was trained on a sample.
        outputs: (networks, m) of any quantity.

    >>> found = influences(np.array([[1], [1], [0], [0]], dtype=bool), np.array([[3.0], [5.0], [1.0], [1.0]]))
    >>> found.values.item(), found.standard_errors.item()
    (3.0, 1.0)
    """
    values = np.asarray(outputs, dtype=np.float64)
    values = values - values.mean(axis=0)  # sums of squares of what is far from 0 lose digits
    found, errors = np.empty((2, trained.shape[1], values.shape[1]))
    for part in parts(trained.shape[1], len(trained)):
        inside = trained[:, part].astype(np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            mean, variance = _moments(inside, values)
            other_mean, other_variance = _moments(1 - inside, values)
            found[part], errors[part] = mean - other_mean, np.sqrt(variance + other_variance)
    return Influences(found, errors)


def _moments(weights: Doubles, values: Doubles) -> tuple[Doubles, Doubles]:
    """The means over the networks of weight 1, and the variances of these means, (n, m); NaN for fewer than two networks."""
    counts = weights.sum(axis=0)[:, None]
    means = weights.T @ values / counts
    squares = np.maximum(weights.T @ values**2 / counts - means**2, 0)
    return np.where(counts > 1, means, np.nan), squares / (counts - 1)
