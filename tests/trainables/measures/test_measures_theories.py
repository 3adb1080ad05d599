"""Rademacher complexity, stability and memorisation against enumeration, closed forms, plain loops and simulation."""

import itertools
import math

import numpy as np
import pytest
import torch

from tests.trainables.made_up_points import point, train
from trainables.data.corruption import corrupt_labels
from trainables.measures.bundled.counts import vc_dimension_bound, vc_gap_bound
from trainables.measures.bundled.memorisation import forgetting_events, learning_epoch, learning_speed, memorisation_scores
from trainables.measures.theories import rademacher_complexity, rademacher_gap_bound, stability_gap_bound, uniform_stability
from trainables.point.config import Corruption


def test_rademacher_complexity_of_thresholds_is_the_enumerated_one() -> None:
    """All 2^8 label sets of 8 points, for the functions that are -1 below a threshold and +1 above, or the reverse."""
    n = 8
    thresholds = np.array([[sign * (1 if i >= cut else -1) for i in range(n)] for cut in range(n + 1) for sign in (1, -1)])
    signs = np.array(list(itertools.product([-1, 1], repeat=n)))
    exact = (signs @ thresholds.T).max(axis=1) / n

    def best_error(draw: int) -> float:
        labels = corrupt_labels(torch.arange(n) % 2, 2, Corruption("random_signs", 1.0, seed=draw))
        return float(((thresholds > 0) != labels.bool().numpy()).mean(axis=1).min())

    found = rademacher_complexity([best_error(draw) for draw in range(400)])
    assert found.mean == pytest.approx(exact.mean(), abs=4 * exact.std() / math.sqrt(400))
    assert found.standard_error == pytest.approx(exact.std() / math.sqrt(400), rel=0.2)


def test_learner_that_fits_everything_has_complexity_1_and_a_vacuous_bound() -> None:
    found = rademacher_complexity([0.0, 0.0, 0.0])
    assert found == (1.0, 0.0)
    assert rademacher_gap_bound(found.mean, 10**9) > 1
    assert math.isnan(rademacher_complexity([0.25]).standard_error)


def test_rademacher_complexity_on_digits_is_1_past_the_threshold_and_falls_below_it() -> None:
    """Two-class networks of 2, 8 and 64 hidden units, 136 to 4,290 parameters, on coin flips for 300 digits."""
    fields = {"data.train_size": 300, "data.seed": 0, "corruption.kind": "random_signs", "optimizer.name": "adam"}
    fields |= {"optimizer.learning_rate": 0.01, "optimizer.batch_size": 50, "budget.epochs": 300, "budget.evaluate_every": 20}
    found = []
    for width in (2, 8, 64):
        results = train([point(fields | {"model.width": width, "seed": seed}) for seed in range(3)]).values()
        found.append(rademacher_complexity([result.outcome["train_error"] for result in results]))
    assert found[2] == (1.0, 0.0)
    assert found[0].mean < 0.7 < found[1].mean < 1
    assert rademacher_gap_bound(found[2].mean, 300) > 1
    assert vc_gap_bound(vc_dimension_bound([65 * 2, 3 * 2], [2, 2]), 300) > 1  # even where random signs cannot be fitted


def test_gap_bounds_count_by_hand() -> None:
    """At delta = 2/e and n = 200, log(2/delta) = 1 and the root is 1/20; at delta = 1/e and n = 200 likewise."""
    assert rademacher_gap_bound(0.5, 200, confidence=1 - 2 / math.e) == pytest.approx(0.5 + 3 / 20)
    assert stability_gap_bound(0.01, 200, confidence=1 - 1 / math.e) == pytest.approx(0.02 + (4 * 200 * 0.01 + 1) / 20)


def test_stability_of_the_mean_is_its_closed_form() -> None:
    """Learning the mean of n numbers: replacing y_i by 0 moves it by y_i / n; the loss |z - mean| moves by that at most."""
    numbers = np.array([0.0, 1.0, 3.0, 4.0])
    points = np.array([-10.0, 10.0])
    replaced = [np.where(np.arange(4) == index, 0.0, numbers) for index in range(4)]
    losses, losses_replaced = np.abs(points - numbers.mean()), np.stack([np.abs(points - one.mean()) for one in replaced])
    assert uniform_stability(losses, losses_replaced) == pytest.approx((1.0, numbers.mean() / 4))


def test_stability_takes_absolute_changes() -> None:
    assert uniform_stability(np.array([1.0, 0.0]), np.array([[0.0, 0.0], [1.0, 1.0]])) == (1.0, 0.5)


def test_stability_bound_needs_a_stability_below_the_root_of_n() -> None:
    assert stability_gap_bound(1 / 1000, 1000) < stability_gap_bound(1 / math.sqrt(1000), 1000)
    assert stability_gap_bound(1 / math.sqrt(1000), 1000) > 1


def test_forgetting_and_learning_against_a_plain_loop() -> None:
    correct = np.random.default_rng(0).random((9, 200)) < 0.6
    for sample in range(200):
        column = list(correct[:, sample])
        events = sum(before and not after for before, after in itertools.pairwise(column))
        last_wrong = max((epoch for epoch, right in enumerate(column) if not right), default=-1)
        assert forgetting_events(correct)[sample] == events
        assert learning_speed(correct)[sample] == pytest.approx(sum(column) / 9)
        expected = math.nan if last_wrong == 8 else last_wrong + 1
        assert learning_epoch(correct)[sample] == pytest.approx(expected, nan_ok=True)


def test_memorisation_scores_recover_known_probabilities() -> None:
    """Models that are right with probability p when trained on a sample and q when not; z-scores must be standard normal."""
    random = np.random.default_rng(0)
    inside, outside = random.uniform(0.1, 0.9, (2, 500))
    subsets = random.random((400, 500)) < 0.7
    correct = random.random((400, 500)) < np.where(subsets, inside, outside)
    found = memorisation_scores(subsets, correct)
    z = (found.scores - (inside - outside)) / found.standard_error
    assert abs(z.mean()) < 4 / math.sqrt(500)
    assert z.std() == pytest.approx(1, abs=4 / math.sqrt(2 * 500))
    assert found.standard_error.max() <= math.sqrt(1 / (4 * subsets.sum(0).min()) + 1 / (4 * (~subsets).sum(0).min()))


def test_memorisation_scores_count_by_hand() -> None:
    subsets = np.array([[1, 1, 1], [1, 1, 0], [0, 1, 0], [0, 1, 1]], dtype=bool)
    correct = np.array([[1, 1, 1], [0, 0, 0], [0, 1, 1], [0, 1, 0]], dtype=bool)
    found = memorisation_scores(subsets, correct)
    assert found.scores == pytest.approx([0.5, math.nan, 0.0], nan_ok=True)
    assert found.standard_error == pytest.approx([math.sqrt(0.25 / 2), math.nan, math.sqrt(0.25)], nan_ok=True)
