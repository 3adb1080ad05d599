"""Eigenlearning: what kernel regression reaches on average over training sets, from the kernel's eigenvalues and the labels alone.

Simon et al. 2023, "The eigenlearning framework" (arXiv 2110.03922), is about samples drawn from a distribution: with the eigenvalues l_i of
the kernel, n samples and a ridge d a constant k > 0 solves

    sum_i L_i + d / k = n,        L_i = l_i / (l_i + k)        (the learnability of mode i).

A study draws its training sets from a finite pool, without putting samples back, which that misses: where samples of the pool outside the
training set are tested, it is too low by n's share of the pool. Here the pool is what is given. For a subset of n of its M samples, with
K the kernel matrix of the pool, S the subset's rows and eigenvectors in general position (free compression; Nica and Speicher 1996),

    E[S^T (S K S^T + d)^-1 S] = (K + k)^-1,        (k - d) sum_i 1 / (m_i + k) = M - n,

m_i the eigenvalues of K. Without a ridge this is sum_i L_i = n again, and for n far below M the published formulas, k in units of M; at
n = M it is exact, k = d. A derivative in the direction of a matrix A gives the second moment,

    E[G A G] = (K + k)^-1 (A + c tr((K + k)^-2 A)) (K + k)^-1,    G = S^T (S K S^T + d)^-1 S,    c = (k - d) / (s_1 - (k - d) s_2),

with s_j = sum_i (m_i + k)^-j, and by it the expected squared error on any test sample, bias, variance over subsets and noise of the labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from trainables.data.sets.sources import load
from trainables.least_squares.kernel_systems import LinearKernel
from trainables.least_squares.solving import ridge_of
from trainables.point.config import TrialConfig, with_fields
from trainables.predictions.regime import LARGEST, OutOfRegime, designed, spread_evenly, test_targets

FEWEST_OF_A_CLASS = 5
"""Training samples of a class below which a balanced subset, which a study draws, is better than one drawn evenly, which this is about."""
TOLERANCE = 0.1
"""How far the amplification of noise may lie from that of one subset that is drawn, as a share of the predicted loss."""
_ENOUGH = 2000
"""Size of the pool where a training set has more samples, unless the study's training sets need more."""


@dataclass(frozen=True)
class Learning:
    """What n samples of a pool teach a kernel.

    Attributes:
        constant: k, in the units of the kernel matrix of the pool.
        learnability: L_i of each eigenvalue, (M,), in [0, 1].
        spread: c, how strongly what is not learnt enters the variance.
    """

    constant: float
    learnability: Tensor
    spread: float


def learning(eigenvalues: Tensor, samples: int, ridge: float = 0.0) -> Learning:
    """What so many samples teach a kernel.

    Args:
        eigenvalues: of the kernel matrix of the pool, (M,), greater than 0.
        samples: n, from 1 to M.
        ridge: d, at least 0: K + d I is inverted.

    >>> found = learning(torch.linspace(1, 2, 100, dtype=torch.float64), 20)
    >>> round(float(found.learnability.sum()), 6)
    20.0
    """
    left = len(eigenvalues) - samples
    low, high = ridge, ridge + float(eigenvalues.max()) * (left + 1)
    while (high - ridge) * float((1 / (eigenvalues + high)).sum()) < left:
        low, high = high, 2 * high
    for _ in range(200):
        constant = (low + high) / 2
        if (constant - ridge) * float((1 / (eigenvalues + constant)).sum()) < left:
            low = constant
        else:
            high = constant
    above, (first, second) = high - ridge, (float((eigenvalues + high).pow(-power).sum()) for power in (1, 2))
    return Learning(high, eigenvalues / (eigenvalues + high), above / (first - above * second))


@dataclass(frozen=True, eq=False)
class Pool:
    """The samples that training sets are drawn from, and those tested on, as a kernel sees them.

    Attributes:
        eigenvalues, vectors: of the kernel matrix of the pool, (M,) and (M, M).
        crossed: k of the pool and the test samples, in the eigenvectors, (M, m).
        targets: one-hot labels of the pool, (M, C).
        tested: one-hot labels of the test samples, (m, C).
    """

    eigenvalues: Tensor
    vectors: Tensor
    crossed: Tensor
    targets: Tensor
    tested: Tensor

    @classmethod
    def of(cls, matrix: Tensor, crossed: Tensor, targets: Tensor, tested: Tensor) -> Pool:
        """Take the kernel matrix of the pool (M, M) apart; ``crossed`` is k of the pool and the test samples, (M, m). All float64.

        Raises:
            OutOfRegime: the matrix is singular to working precision.
        """
        values, vectors = torch.linalg.eigh(matrix)
        if float(values[0]) <= torch.finfo(values.dtype).eps * len(values) * float(values[-1]):
            raise OutOfRegime("eigen needs a kernel matrix of full rank, and this one is singular to working precision: a smaller "
                              "model.kernel_scale has one")  # fmt: skip
        return cls(values, vectors, vectors.T @ crossed, targets, tested)

    def loss(self, samples: int, ridge: float = 0.0, wrong: float = 0.0) -> float:
        """Half the expected squared distance to the one-hot labels of the test samples, over training sets of so many samples.

        Args:
            samples: n, from 1 to M.
            ridge: at least 0.
            wrong: probability that a training label is wrong, evenly among the other classes.
        """
        known = learning(self.eigenvalues, samples, ridge)
        inverse = 1 / (self.eigenvalues + known.constant)
        weights = self.crossed * inverse[:, None]
        labels = self.vectors.T @ mean_labels(self.targets, wrong)
        bias = float((self.tested - weights.T @ labels).square().sum(1).mean())
        not_learnt = known.spread * float((labels * inverse[:, None]).square().sum())
        return (bias + float(weights.square().sum(0).mean()) * not_learnt + label_noise(self.targets, wrong) * self.noise(known)) / 2

    def noise(self, known: Learning) -> float:
        """The expected squared error on a test sample for each unit of variance of a training label."""
        inverse = 1 / (self.eigenvalues + known.constant)
        weights = (self.crossed * inverse[:, None]).square().sum(0).mean()
        return float(weights * (1 + known.spread * inverse.square().sum()))

    def drawn_noise(self, samples: int, ridge: float) -> float:
        """The same of one subset that is drawn."""
        chosen = torch.randperm(len(self.vectors), generator=torch.Generator().manual_seed(0))[:samples]
        own = self.vectors[chosen]
        matrix = (own * self.eigenvalues) @ own.T + ridge * torch.eye(samples, dtype=own.dtype)
        return float(torch.linalg.solve(matrix, own @ self.crossed).square().sum(0).mean())


def mean_labels(targets: Tensor, wrong: float) -> Tensor:
    """The mean of one-hot labels (n, C) of which each is wrong with that probability, evenly among the other classes."""
    return (1 - wrong) * targets + wrong / max(targets.shape[1] - 1, 1) * (1 - targets)


def label_noise(targets: Tensor, wrong: float) -> float:
    """The variance of such a label around its mean, summed over the C outputs."""
    return 1 - (1 - wrong) ** 2 - wrong**2 / max(targets.shape[1] - 1, 1)


def predict(point: TrialConfig, outcome: Mapping[str, Any]) -> dict[str, float]:
    """The expected test loss of a resolved point with a Gaussian kernel, over training sets and label noise.

    Raises:
        OutOfRegime: the model is no Gaussian kernel, the corruption is not even over the classes, there are too few or too many samples,
            or the amplification of noise is not what one drawn subset has.
    """
    wrong, samples, ridge = _wrong_share(point), point.data.train_size or 0, ridge_of(point)
    if samples < (fewest := FEWEST_OF_A_CLASS * load(point.data).classes):
        raise OutOfRegime(
            f"eigen is about subsets drawn evenly, and balanced ones of {samples} samples are better: from {fewest} on, "
            f"{FEWEST_OF_A_CLASS} a class, it hardly counts"
        )
    pool = _pool(*_whole(point))
    predicted = pool.loss(samples, ridge, wrong)
    if wrong:
        here, drawn = pool.noise(learning(pool.eigenvalues, samples, ridge)), pool.drawn_noise(samples, ridge)
        apart = abs(here - drawn) * label_noise(pool.targets, wrong) / 2 / predicted
        if apart > TOLERANCE:
            raise OutOfRegime(
                f"eigen takes the kernel's eigenvectors to be in general position, and at n = {samples:,} they are not: a drawn subset "
                f"amplifies label noise {drawn / here:.2f} times as much as predicted, {apart:.0%} of the loss; weight decay makes it hold"
            )
    return {"test_loss": predicted}


def _wrong_share(point: TrialConfig) -> float:
    """The probability that a training label is wrong."""
    corruption, classes = point.corruption, load(point.data).classes
    level = corruption.level or 0.0
    if not level:
        return 0.0
    if corruption.kind in ("redraw", "random_labels"):
        return level * (classes - 1) / classes
    if corruption.kind == "flip":
        return level
    raise OutOfRegime(f"eigen knows labels that are wrong evenly among the other classes, and corruption.kind is {corruption.kind}")


def _whole(point: TrialConfig) -> tuple[TrialConfig, int]:
    """The point with the whole pool for its training set and true labels, and how many samples that are."""
    samples, available = point.data.train_size or 0, len(load(point.data).train_labels)
    if samples > LARGEST:
        raise OutOfRegime(f"eigen takes the kernel matrix of a pool apart, of up to {LARGEST:,} samples, and {samples:,} are trained on")
    size = available if available <= LARGEST else _ENOUGH if samples <= _ENOUGH else LARGEST
    same = {"data.train_size": size, "data.validation_size": 0, "data.seed": 0, "data.replaced": None, "model.parameters_per_sample": None}
    cleaned = {"corruption.kind": "redraw", "corruption.level": 0.0, "corruption.seed": 0, "corruption.validation": None}
    others = {"regularizers.weight_decay": 0.0, "seed": 0, "budget.stop_at_train_error": None}
    return with_fields(point, same | cleaned | others), size


@lru_cache(maxsize=2)
def _pool(whole: TrialConfig, size: int) -> Pool:
    data, design = designed(whole, "eigen")
    if isinstance(design.kernel, LinearKernel):
        raise OutOfRegime(f"eigen is about kernels, and model {whole.model.name} is none: gaussian_kernel and gabor_kernel are")
    chosen = spread_evenly(len(design.test))
    matrix, crossed, _ = replace(design, test=design.test[chosen]).products()
    return Pool.of(matrix, crossed, design.targets, test_targets(data)[chosen])
