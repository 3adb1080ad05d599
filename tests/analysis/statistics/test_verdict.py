"""Verdicts against SciPy's tests, and how often they are wrong, by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from analysis.statistics.comparison import holm
from analysis.statistics.verdict import number_verdict, order_verdict

REPEATS = 1500


def drawn(rng, means, seeds, noise=0.01, shared=0.03):
    """Values of settings that share their seeds' luck."""
    luck = shared * rng.standard_normal(seeds)
    return {str(place): mean + luck + noise * rng.standard_normal(seeds) for place, mean in enumerate(means)}


def test_a_clear_order_holds_its_reverse_does_not_and_a_tie_is_open():
    rng = np.random.default_rng(0)
    values = drawn(rng, (0.1, 0.2, 0.3), 5)
    assert order_verdict(values).outcome == "holds"
    assert order_verdict(dict(reversed(values.items()))).outcome == "does not hold"
    assert order_verdict(drawn(rng, (0.1, 0.1), 5)).outcome == "undecided"
    one_wrong = drawn(rng, (0.1, 0.3, 0.2), 5)
    assert order_verdict(one_wrong).outcome == "does not hold"


def test_steps_are_scipys_paired_tests_with_holms_correction():
    values = drawn(np.random.default_rng(1), (0.1, 0.11, 0.14, 0.15), 6)
    steps = order_verdict(values).steps
    p = [stats.ttest_rel(values[step.second], values[step.first]).pvalue for step in steps]
    assert [step.p for step in steps] == pytest.approx(p)
    assert [step.p_holm for step in steps] == pytest.approx(holm(np.array(p)).tolist())
    smallest = int(np.argmin(p))
    expected = stats.ttest_rel(values[steps[smallest].second], values[steps[smallest].first]).confidence_interval(1 - 0.05 / 3)
    assert (steps[smallest].difference.low, steps[smallest].difference.high) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize("seeds", [2, 3, 10])
@pytest.mark.parametrize("means", [(0.1, 0.1), (0.1, 0.1, 0.1, 0.1)])
def test_a_tie_is_seldom_decided(seeds, means):
    rng = np.random.default_rng(seeds)
    decided = sum(order_verdict(drawn(rng, means, seeds)).outcome != "undecided" for _ in range(REPEATS)) / REPEATS
    assert decided < 0.05 + 4 * math.sqrt(0.05 * 0.95 / REPEATS)


def test_a_tie_of_coarse_errors_is_seldom_decided():
    rng, decided = np.random.default_rng(7), 0
    for _ in range(REPEATS):
        coarse = {name: np.round(one, 2) for name, one in drawn(rng, (0.1, 0.1), 3, noise=0.004, shared=0.0).items()}
        decided += order_verdict(coarse, resolution=0.01).outcome != "undecided"
    assert decided / REPEATS < 0.05 + 4 * math.sqrt(0.05 * 0.95 / REPEATS)


def test_one_seed_decides_nothing_however_far_apart():
    found = order_verdict({"a": [0.1], "b": [0.9]})
    assert (found.outcome, found.seeds) == ("undecided", 1)
    assert "rests on 1 seed, which decides nothing" in found.sentence
    assert number_verdict([0.5], 0.5, tolerance=0.1).outcome == "undecided"
    assert number_verdict([], 0.5, tolerance=0.1).outcome == "undecided"


def test_only_pairs_that_both_fit_count():
    values = {"a": [0.1, 0.11, 0.9, 0.1], "b": [0.2, 0.22, 0.1, math.nan]}
    every = order_verdict(values)
    fit = order_verdict(values, fitted={"a": [True, True, False, True], "b": [True] * 4})
    assert (every.outcome, every.seeds) == ("undecided", 3)
    assert (fit.outcome, fit.seeds) == ("holds", 2)
    assert "over 2 seeds at which both fit" in fit.sentence
    none = order_verdict(values, fitted={"a": [False] * 4, "b": [True] * 4})
    assert (none.outcome, none.seeds) == ("undecided", 0)


def test_a_margin_can_be_missed():
    values = {"a": [0.10, 0.11, 0.12, 0.10], "b": [0.111, 0.119, 0.131, 0.108]}
    assert order_verdict(values).outcome == "holds"
    assert order_verdict(values, margin=0.05).outcome == "does not hold"


def test_a_number_holds_inside_its_tolerance_and_not_outside():
    values = [0.100, 0.102, 0.101, 0.099, 0.100]
    assert number_verdict(values, 0.1, tolerance=0.01).outcome == "holds"
    assert number_verdict(values, 0.2, tolerance=0.01).outcome == "does not hold"
    assert number_verdict(values, 0.102, tolerance=0.002).outcome == "undecided"
    found = number_verdict([0.1, 0.1, 0.1, 0.9], 0.1, tolerance=0.01, fitted=[True, True, True, False])
    assert (found.outcome, found.seeds) == ("holds", 3)


@pytest.mark.parametrize("seeds", [3, 5])
def test_wrong_verdicts_on_a_number_are_rare(seeds):
    rng = np.random.default_rng(seeds)
    wrong = {"outside": 0, "inside": 0}
    for _ in range(REPEATS):
        noise = 0.02 * rng.standard_normal(seeds)
        wrong["outside"] += number_verdict(0.1201 + noise, 0.1, tolerance=0.02).outcome == "holds"
        wrong["inside"] += number_verdict(0.1199 + noise, 0.1, tolerance=0.02).outcome == "does not hold"
    assert max(wrong.values()) / REPEATS < 0.05 + 4 * math.sqrt(0.05 * 0.95 / REPEATS)


def test_claims_are_checked():
    with pytest.raises(ValueError, match="two settings at least"):
        order_verdict({"a": [0.1, 0.2]})
    with pytest.raises(ValueError, match="positive tolerance"):
        number_verdict([0.1, 0.2], 0.1, tolerance=0)


def test_differences_that_all_agree_are_counted_as_coins():
    """Two or three seeds whose coarse errors moved by the same step may have by chance; ten that all did did not."""
    for seeds, expected in ((2, "undecided"), (3, "undecided"), (10, "holds")):
        luck = np.arange(seeds) / 4
        found = order_verdict({"a": luck, "b": luck + 0.25})
        assert (found.outcome, found.steps[0].p) == (expected, 0.5 ** (seeds - 1))
        assert "all differences are equal, 0.25, over" in found.sentence
    assert order_verdict({"a": [0.1, 0.2], "b": [0.1, 0.2]}).steps[0].p == 1


@pytest.mark.parametrize("seeds", [2, 3])
def test_a_tie_of_coarse_errors_of_unknown_resolution_is_seldom_decided(seeds):
    rng, decided = np.random.default_rng(8), 0
    for _ in range(REPEATS):
        coarse = {name: np.round(one, 2) for name, one in drawn(rng, (0.1, 0.1), seeds, noise=0.008, shared=0.0).items()}
        decided += order_verdict(coarse).outcome != "undecided"
    assert decided / REPEATS < 0.05 + 4 * math.sqrt(0.05 * 0.95 / REPEATS)
