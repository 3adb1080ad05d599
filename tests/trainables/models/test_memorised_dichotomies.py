"""How many random labels can be told apart: Cover's count for linear networks, Theorem 1's construction for two layers."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest
from scipy.optimize import linprog
from scipy.stats import binomtest

from tests.trainables.made_up_points import CPU, point, train
from trainables.data.inputs import point_data
from trainables.point.config import TrialConfig

DIMENSION = 7
FREE = DIMENSION + 1
"""Coordinates of a point with its constant 1, whose weight is the bias: d of Cover's theorem."""
DRAWS = 100


def cover(n: int, d: int) -> float:
    """The probability that a random dichotomy of n points in general position in d dimensions is separated by a hyperplane through the
    origin (Cover 1965): 2^(1 - n) sum_{k < d} C(n - 1, k)."""
    return 2.0 ** (1 - n) * sum(comb(n - 1, k) for k in range(d))


def dichotomies(n: int) -> list[TrialConfig]:
    """Points of the linear network on n samples of pure noise, each with random labels of its own."""
    fields = {"data.name": "synthetic", "data.dimension": DIMENSION, "data.classes": 2, "data.separation": 0.0, "data.train_size": n}
    fields |= {"corruption.level": 1.0, "model.name": "linear", "optimizer.learning_rate": 1.0, "optimizer.batch_size": n}
    fields |= {"budget.epochs": 600, "budget.evaluate_every": 50}
    return [point(fields | {"seed": seed}) for seed in range(DRAWS)]


def separable(of: TrialConfig) -> bool:
    """Whether a hyperplane separates the labels, by a linear programme: y <w, (x, 1)> >= 1 for all."""
    samples = point_data(of, CPU).train
    inputs = samples.inputs.gather(samples.index).double().numpy()
    signs = 2.0 * samples.labels.numpy() - 1
    rows = signs[:, None] * np.concatenate([inputs, np.ones((len(inputs), 1))], axis=1)
    return bool(linprog(np.zeros(FREE), A_ub=-rows, b_ub=-np.ones(len(rows)), bounds=(None, None)).success)


def test_covers_probability_is_one_half_at_twice_the_dimension() -> None:
    assert cover(2 * FREE, FREE) == 0.5
    assert [cover(n, FREE) for n in (1, FREE)] == [1.0, 1.0]


@pytest.mark.parametrize("n", [12, 16, 20])
def test_random_dichotomies_are_separable_as_often_as_cover_says_and_the_linear_network_fits_no_other(n: int) -> None:
    points = dichotomies(n)
    truth = np.array([separable(one) for one in points])
    assert binomtest(int(truth.sum()), DRAWS, cover(n, FREE)).pvalue > 0.001
    results = train(points)
    fitted = np.array([bool(results[one.key()].outcome["interpolated"]) for one in points])
    assert not (fitted & ~truth).any(), "nobody separates what no hyperplane does"
    assert fitted.sum() >= 0.6 * truth.sum(), "near the threshold margins are thin, and some of 600 steps do not find one"
    assert results[points[0].key()].outcome["parameters"] == 2 * FREE, "n bits at n = p: one bit a parameter of a softmax of two classes"


@pytest.mark.parametrize("n", [10, 200])
def test_theorem_1_fits_half_as_many_random_labels_as_it_has_parameters_beyond_the_inputs(n: int) -> None:
    fields = {"data.name": "synthetic", "data.dimension": DIMENSION, "data.classes": 2, "data.train_size": n, "corruption.level": 1.0}
    (result,) = train([point(fields | {"model.name": "theorem1", "optimizer.name": "closed_form"})]).values()
    assert result.outcome["interpolated"]
    assert (result.outcome["parameters"] - DIMENSION) / 2 == n
