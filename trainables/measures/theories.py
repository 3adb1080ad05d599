"""The complexities of a learner that Zhang et al. 2017 confront, besides the VC dimension (`trainables.measures.bundled.counts`).

They are no measures of one trained network: each takes many trainings, which are points of a study (the presets `rademacher` and
`stability`). The functions here turn their results into the number.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log, nan, sqrt
from typing import NamedTuple

import numpy as np


class WithStandardError(NamedTuple):
    """A mean over draws and its standard error (NaN for one draw)."""

    mean: float
    standard_error: float


def rademacher_complexity(train_errors: Sequence[float]) -> WithStandardError:
    """Empirical Rademacher complexity of what training reaches: E_s sup_h (1/n) sum_i s_i h(x_i), h(x) and s_i in {-1, +1}.

    The correlation that a run on random signs reached is 1 - 2 * (train error); here is its mean over draws of the signs.
    Source: Bartlett and Mendelson 2002; Zhang et al. 2017, section 2.2. A lower estimate: training need not find the supremum.
    Cost: a training for each draw. Ignores the data's own labels, so it is the same for true and for random ones.

    Args:
        train_errors: train errors, in [0, 1], of runs with corruption kind `random_signs` on the same inputs, each with its own draw.

    >>> rademacher_complexity([0.0, 0.5]).mean
    0.5
    """
    reached = 1 - 2 * np.asarray(train_errors, dtype=np.float64)
    return WithStandardError(float(reached.mean()), float(reached.std(ddof=1) / sqrt(len(reached))) if len(reached) > 1 else nan)


def rademacher_gap_bound(complexity: float, samples: int, *, confidence: float = 0.95) -> float:
    """Bound of test error - train error of a two-class learner: R + 3 sqrt(log(2/delta) / (2n)), delta = 1 - confidence.

    Source: Bartlett and Mendelson 2002, as in Mohri, Rostamizadeh and Talwalkar 2018 ("Foundations of machine learning"). Vacuous above
    1, as for every learner that fits random labels, whose R is 1.
    """
    return complexity + 3 * sqrt(log(2 / (1 - confidence)) / (2 * samples))


class Stability(NamedTuple):
    """Change of the loss when one training sample is replaced: the largest seen, and the mean over replacements and test points."""

    largest: float
    mean: float


def uniform_stability(losses: np.ndarray, losses_replaced: np.ndarray) -> Stability:
    """Estimate how much one training sample matters: sup over samples i and test points z of |loss(S, z) - loss(S with i replaced, z)|.

    Source: Bousquet and Elisseeff 2002; Zhang et al. 2017, section 2.2. `largest` is a lower estimate of their beta: it knows
    the replacements and test points tried only. A property of the algorithm: it ignores how the labels were made, and takes the
    random numbers of training as given: all runs must draw the same ones, as points with one `seed` do.
    Cost: a training for each replaced sample and one more.

    Args:
        losses: (points,), any bounded loss of the network trained on the whole set at each test point.
        losses_replaced: (replacements, points), those of networks trained with `data.replaced`.

    >>> uniform_stability(np.array([0.0, 1.0]), np.array([[0.0, 1.0], [0.5, 1.0]]))
    Stability(largest=0.5, mean=0.125)
    """
    change = np.abs(np.asarray(losses_replaced, dtype=np.float64) - losses)
    return Stability(float(change.max()), float(change.mean()))


def stability_gap_bound(stability: float, samples: int, *, confidence: float = 0.95) -> float:
    """Bound of test loss - train loss for losses in [0, 1]: 2b + (4nb + 1) sqrt(log(1/delta) / (2n)), delta = 1 - confidence.

    Source: Bousquet and Elisseeff 2002. Says nothing unless b falls faster than 1/sqrt(n).
    """
    return 2 * stability + (4 * samples * stability + 1) * sqrt(log(1 / (1 - confidence)) / (2 * samples))
