"""Spaces: their assignments against a brute-force product, draws against SciPy's Sobol sequence and the uniform law."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import qmc

from search_spaces import Distribution, Space, Values
from search_spaces.space import draw
from trainables.point.errors import ConfigError

names = st.sampled_from(["seed", "model.width", "model.depth", "corruption.level"])
axes = st.dictionaries(names, st.lists(st.integers(0, 3), min_size=1, max_size=3, unique=True).map(lambda values: Values(tuple(values))))
patterns = st.lists(st.dictionaries(names, st.integers(0, 3), min_size=1), max_size=3)


def as_set(assignments) -> set[frozenset]:
    return {frozenset(assignment.items()) for assignment in assignments}


@given(axes, patterns)
def test_assignments_are_the_product_less_the_excluded(crossed, excluded):
    excluded = [pattern for pattern in excluded if set(pattern) <= set(crossed)]
    product = [dict(zip(crossed, values, strict=True)) for values in itertools.product(*(axis.values for axis in crossed.values()))]
    expected = [point for point in product if not any(pattern.items() <= point.items() for pattern in excluded)]
    found = list(Space(crossed, excluded=tuple(excluded)).assignments())
    assert len(found) == len(expected), "each point of the grid once"
    assert as_set(found) == as_set(expected)


def test_an_empty_space_is_one_point():
    assert list(Space({}).assignments()) == [{}]


def test_zipped_fields_move_together_and_cross_with_the_rest():
    zipped = {"model.width": Values((8, 16)), "optimizer.learning_rate": Values((0.1, 0.05))}
    found = list(Space({"seed": Values((0, 1))}, zipped=(zipped,)).assignments())
    pairs = [{"model.width": 8, "optimizer.learning_rate": 0.1}, {"model.width": 16, "optimizer.learning_rate": 0.05}]
    assert found == [{"seed": seed} | pair for seed in (0, 1) for pair in pairs]


def test_added_points_join_the_grid_and_can_be_excluded():
    space = Space({"seed": Values((0,))}, added=({"seed": 5}, {"model.width": 3}), excluded=({"model.width": 3},))
    assert list(space.assignments()) == [{"seed": 0}, {"seed": 5}]


def test_points_listed_by_hand_alone_are_all_there_is():
    assert list(Space({}, added=({"seed": 5}, {"seed": 7})).assignments()) == [{"seed": 5}, {"seed": 7}]


@given(axes, patterns, st.dictionaries(names, st.integers(0, 3)))
def test_fixed_fields_have_one_value_and_the_rest_varies_as_before(crossed, excluded, fixed):
    """Fixing is what choosing among the assignments is, where the fixed value is one of the axis."""
    excluded = tuple(pattern for pattern in excluded if set(pattern) <= set(crossed))
    fixed = {name: value for name, value in fixed.items() if name in crossed and value in crossed[name].values}
    space = Space(crossed, excluded=excluded)
    chosen = [point for point in space.assignments() if fixed.items() <= point.items()]
    assert as_set(point | fixed for point in space.fixed(fixed).assignments()) == as_set(chosen)


def test_fixing_reaches_zipped_and_added_fields():
    zipped = {"model.width": Values((8, 16)), "optimizer.learning_rate": Values((0.1, 0.05))}
    space = Space({}, zipped=(zipped,), added=({"model.width": 32, "seed": 4},)).fixed({"model.width": 2, "optimizer.learning_rate": 1.0})
    assert list(space.assignments()) == [{"seed": 4}]


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        ({"axes": {}, "zipped": ({"seed": Values((0, 1)), "model.width": Values((1,))},)}, "differ in length"),
        ({"axes": {"seed": Values((0,))}, "zipped": ({"seed": Values((1,))},)}, "space names seed twice"),
        ({"axes": {"seed": Values((0,))}, "excluded": ({"model.width": 3},)}, "model.width, which the space does not vary"),
    ],
)
def test_parts_that_do_not_fit(parts, sentence):
    with pytest.raises(ConfigError, match=sentence):
        Space(**parts)


def test_a_space_too_large_to_list_is_a_sentence_at_once():
    million = Values(tuple(range(1_000_000)))
    with pytest.raises(ConfigError, match="1,000,000,000,000 points"):
        next(Space({"seed": million, "data.seed": million}).assignments())


RANDOM = {
    "optimizer.learning_rate": Distribution("log_uniform", 1e-4, 1.0),
    "optimizer.momentum": Distribution("uniform", 0.0, 0.99),
    "model.width": Distribution("int", 1, 100),
    "optimizer.name": Distribution("choice", choices=("sgd", "adam")),
}


@pytest.mark.parametrize("quasi_random", [False, True])
def test_a_longer_list_of_draws_begins_with_the_shorter(quasi_random):
    """So a study of 5 draws that grows to 20 runs 15."""
    longer = draw(RANDOM, 20, seed=3, quasi_random=quasi_random)
    for samples in (1, 5, 16, 17):
        assert draw(RANDOM, samples, seed=3, quasi_random=quasi_random) == longer[:samples]


@pytest.mark.parametrize("quasi_random", [False, True])
def test_seeds_draw_differently(quasi_random):
    assert draw(RANDOM, 5, seed=0, quasi_random=quasi_random) != draw(RANDOM, 5, seed=1, quasi_random=quasi_random)


def test_quasi_random_draws_are_scipys_sobol_points():
    quantiles = qmc.Sobol(len(RANDOM), rng=np.random.default_rng(7)).random_base2(4)
    expected = [{name: axis.at(quantile) for (name, axis), quantile in zip(RANDOM.items(), row, strict=True)} for row in quantiles]
    assert draw(RANDOM, 16, seed=7, quasi_random=True) == expected


def test_quasi_random_draws_fill_every_interval_evenly():
    """2^m points of a Sobol sequence put one point in each of 2^m equal intervals, in every dimension."""
    points = draw({"a": Distribution("uniform"), "b": Distribution("uniform")}, 64, seed=0, quasi_random=True)
    for name in ("a", "b"):
        assert sorted(int(64 * point[name]) for point in points) == list(range(64))


def test_random_draws_follow_their_distributions():
    points = draw(RANDOM, 2000, seed=11, quasi_random=False)
    laws = {"optimizer.learning_rate": scipy.stats.loguniform(1e-4, 1.0), "optimizer.momentum": scipy.stats.uniform(0, 0.99)}
    for name, law in laws.items():
        assert scipy.stats.kstest([point[name] for point in points], law.cdf).pvalue > 1e-3, "seeded: holds or not, once and for all"
    widths = np.bincount([point["model.width"] for point in points], minlength=101)[1:]
    assert scipy.stats.chisquare(widths).pvalue > 1e-3
    adams = sum(point["optimizer.name"] == "adam" for point in points)
    assert abs(adams - 1000) < 4 * (2000 * 0.25) ** 0.5, "four standard deviations of the binomial law"


def test_each_point_of_the_grid_meets_each_draw():
    space = Space({"seed": Values((0, 1)), "optimizer.momentum": RANDOM["optimizer.momentum"]})
    draws = draw(space.distributions(), 3, seed=0, quasi_random=False)
    found = list(space.assignments(draws))
    assert as_set(found) == as_set(one | {"seed": seed} for one in draws for seed in (0, 1))
    assert len(found) == 6


def test_drawing_without_a_random_axis_is_a_sentence():
    with pytest.raises(ConfigError, match="no random axis"):
        draw({}, 3, seed=0, quasi_random=False)
