"""The complexities of a learner that Zhang et al. 2017 confront, besides the VC dimension (`trainables.measures.counts`).

They are no measures of one trained network: each takes many trainings. A function here either turns finished results into the
number or takes a ``train`` callable and calls it. What training means (which point, how long) is the caller's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import log, nan, sqrt
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from trainables.streams import generator


class Estimate(NamedTuple):
    """A mean over draws and its standard error (NaN for one draw)."""

    mean: float
    standard_error: float


def random_signs(samples: int, draw: int, seed: int) -> Tensor:
    """Labels of one draw of Rademacher variables, as classes: (samples,) int64 of 0 (-1) and 1 (+1), fair and independent."""
    return torch.randint(2, (samples,), generator=generator(seed, "rademacher", draw))


def rademacher_complexity(train: Callable[[Tensor], float], samples: int, *, draws: int, seed: int) -> Estimate:
    """Empirical Rademacher complexity of what ``train`` can reach: E_s sup_h (1/n) sum_i s_i h(x_i), h(x) in {-1, +1}.

    Source: Bartlett and Mendelson 2002; Zhang et al. 2017, section 2.2. A lower estimate: training need not find the supremum.
    Cost: ``draws`` trainings. Ignores the data's own labels, so it is the same for true and for random ones.

    Args:
        train: takes labels (n,) int64 in {0, 1}, trains two classes on the fixed inputs, returns the training error in [0, 1].
        samples: n.
        draws: of labels; each is another training.
        seed: of the labels.

    >>> rademacher_complexity(lambda labels: 0.0, 100, draws=3, seed=0).mean
    1.0
    """
    return rademacher_from_errors([train(random_signs(samples, draw, seed)) for draw in range(draws)])


def rademacher_from_errors(train_errors: Sequence[float]) -> Estimate:
    """The same from finished runs on `random_signs`: the correlation reached is 1 - 2 * (train error), averaged over runs.

    >>> rademacher_from_errors([0.0, 0.5]).mean
    0.5
    """
    reached = 1 - 2 * np.asarray(train_errors, dtype=np.float64)
    return Estimate(float(reached.mean()), float(reached.std(ddof=1) / sqrt(len(reached))) if len(reached) > 1 else nan)


def rademacher_gap_bound(complexity: float, samples: int, *, confidence: float = 0.95) -> float:
    """Bound of test error - train error of a two-class learner: R + 3 sqrt(log(2/delta) / (2n)), delta = 1 - confidence.

    Source: Bartlett and Mendelson 2002, as in Mohri, Rostamizadeh and Talwalkar 2018 ("Foundations of machine learning"). Vacuous above
    1, as for every learner that fits random labels, whose R is 1.
    """
    return complexity + 3 * sqrt(log(2 / (1 - confidence)) / (2 * samples))


class Stability(NamedTuple):
    """Change of the loss when one training sample is replaced: the largest seen, and the mean over replacements and places."""

    largest: float
    mean: float


def uniform_stability(train: Callable[[int | None], np.ndarray], replaced: Iterable[int]) -> Stability:
    """How much one training sample matters: sup over samples i and places z of |loss(S, z) - loss(S with i replaced, z)|.

    Source: Bousquet and Elisseeff 2002; Zhang et al. 2017, section 2.2. `largest` is a lower estimate of their beta: it knows
    the replacements and places tried only. A property of the algorithm: it ignores how the labels were made, and takes the
    random numbers of training as given, so ``train`` must draw the same ones each time.
    Cost: a training for each replaced sample and one more.

    Args:
        train: takes the index of the training sample to replace, or None for the set as it is; trains and returns losses
            (places,) at fixed places z, any one bounded loss; 0-1 losses are bounded by 1.
        replaced: indices of training samples.
    """
    whole = train(None)
    return stability_from_losses(whole, np.stack([train(index) for index in replaced]))


def stability_from_losses(losses: np.ndarray, losses_replaced: np.ndarray) -> Stability:
    """The same from finished runs.

    Args:
        losses: (places,) of the network trained on the whole set.
        losses_replaced: (replacements, places).

    >>> stability_from_losses(np.array([0.0, 1.0]), np.array([[0.0, 1.0], [0.5, 1.0]]))
    Stability(largest=0.5, mean=0.125)
    """
    change = np.abs(np.asarray(losses_replaced, dtype=np.float64) - losses)
    return Stability(float(change.max()), float(change.mean()))


def stability_gap_bound(stability: float, samples: int, *, confidence: float = 0.95) -> float:
    """Bound of test loss - train loss for losses in [0, 1]: 2b + (4nb + 1) sqrt(log(1/delta) / (2n)), delta = 1 - confidence.

    Source: Bousquet and Elisseeff 2002. Says nothing unless b falls faster than 1/sqrt(n).
    """
    return 2 * stability + (4 * samples * stability + 1) * sqrt(log(1 / (1 - confidence)) / (2 * samples))
