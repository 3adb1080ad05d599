"""Axes: listed values against NumPy's grids, random ones against SciPy's quantile functions, errors as sentences."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from search_spaces import Distribution, Values, parse_axis
from search_spaces.axes import MOST_VALUES
from trainables.point.errors import ConfigError

TWELVE_DIGITS = 1e-11
"""Grid values are rounded to twelve significant digits."""
finite = st.integers(-(10**9), 10**9).map(lambda number: number / 1000)
positive = st.floats(1e-9, 1e9)
quantiles = st.floats(0, 1, exclude_max=True)


def bounds(numbers: st.SearchStrategy[float]) -> st.SearchStrategy[tuple[float, float]]:
    return st.tuples(numbers, numbers).map(sorted).filter(lambda pair: pair[1] - pair[0] > 1e-6 * max(map(abs, pair)))  # type: ignore[return-value]


def test_values_are_taken_as_written():
    assert parse_axis("model.name", {"values": ["mlp", "linear"]}) == Values(("mlp", "linear"))


@pytest.mark.parametrize(("written", "values"), [(3, (0, 1, 2)), ([2, 5], (2, 3, 4)), (1, (0,))])
def test_range_counts_from_zero_or_from_first_to_before_end(written, values):
    assert parse_axis("seed", {"range": written}) == Values(values)


@given(bounds(finite), st.integers(2, 50))
def test_lin_grid_is_linspace(ends, points):
    low, high = ends
    axis = parse_axis("optimizer.momentum", {"lin_grid": {"low": low, "high": high, "points": points}})
    np.testing.assert_allclose(
        axis.values, np.linspace(low, high, points), rtol=TWELVE_DIGITS, atol=TWELVE_DIGITS * max(abs(low), abs(high))
    )


@given(bounds(positive), st.integers(2, 50))
def test_log_grid_is_geomspace(ends, points):
    low, high = ends
    axis = parse_axis("optimizer.learning_rate", {"log_grid": {"low": low, "high": high, "points": points}})
    np.testing.assert_allclose(axis.values, np.geomspace(low, high, points), rtol=TWELVE_DIGITS)


def test_round_grids_have_round_values():
    """Keys are hashes of values: 0.1 must not be 0.10000000000000002 on one machine and 0.1 on another."""
    assert parse_axis("x", {"log_grid": {"low": 0.1, "high": 100, "points": 4}}) == Values((0.1, 1.0, 10.0, 100.0))
    assert parse_axis("x", {"lin_grid": {"low": 0, "high": 1, "points": 11}}) == Values(tuple(tenth / 10 for tenth in range(11)))


@given(bounds(finite), quantiles)
def test_uniform_is_scipys(ends, quantile):
    low, high = ends
    value = Distribution("uniform", low, high).at(quantile)
    assert low <= value <= high
    assert value == pytest.approx(scipy.stats.uniform(low, high - low).ppf(quantile), rel=1e-12, abs=1e-12 * max(abs(low), abs(high)))


@given(bounds(positive), quantiles)
def test_log_uniform_is_scipys(ends, quantile):
    low, high = ends
    value = Distribution("log_uniform", low, high).at(quantile)
    assert low <= value <= high
    assert value == pytest.approx(scipy.stats.loguniform(low, high).ppf(quantile), rel=1e-9)


@given(st.integers(-1000, 1000), st.integers(1, 1000), quantiles)
def test_int_is_scipys(low, count, quantile):
    value = Distribution("int", low, low + count).at(quantile)
    below, up_to = scipy.stats.randint(low, low + count + 1).cdf([value - 1, value])
    assert below - 1e-12 <= quantile <= up_to + 1e-12


@pytest.mark.parametrize(("low", "high"), [(1, 8), (5, 5000), (3, 4)])
def test_log_int_gives_each_value_its_share_of_the_logarithm(low, high):
    axis = parse_axis("model.width", {"int": {"low": low, "high": high, "log": True}})
    draws = 100_000
    counts = Counter(axis.at((draw + 0.5) / draws) for draw in range(draws))
    assert min(counts) == low
    assert max(counts) == high
    for value in {low, low + 1, high}:
        share = np.log((value + 1) / value) / np.log((high + 1) / low)
        assert counts[value] / draws == pytest.approx(share, abs=2 / draws), "evenly spaced quantiles miss at most one at each end"


@given(st.integers(1, 1000), st.integers(0, 1000))
def test_log_int_stays_within_its_bounds(low, more):
    axis = Distribution("int", low, low + more, log=True)
    assert axis.at(0.0) == low
    assert axis.at(np.nextafter(1.0, 0.0)) == low + more


@given(st.lists(st.integers(), min_size=1, unique=True))
def test_choices_share_evenly(choices):
    axis = parse_axis("seed", {"choice": choices})
    middles = (np.arange(len(choices)) + 0.5) / len(choices)
    assert [axis.at(middle) for middle in middles] == choices
    assert axis.at(np.nextafter(1.0, 0.0)) == choices[-1]


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        (3, "must be one of values, range"),
        ({}, "must be one of values, range"),
        ({"values": [1], "range": 2}, "must be one of values, range"),
        ({"rnge": 2}, "did you mean 'range'"),
        ({"values": []}, "at least one value"),
        ({"values": "abc"}, "at least one value"),
        ({"values": {"low": 1}}, "at least one value"),
        ({"range": 0}, "must be a count"),
        ({"range": True}, "must be a count"),
        ({"range": 2.5}, "must be a count"),
        ({"range": [3, 3]}, "end greater than first"),
        ({"range": [1, 2, 3]}, "must be a count"),
        ({"range": MOST_VALUES + 1}, "at most 1,000,000"),
        ({"lin_grid": {"low": 0, "high": 1}}, "must give high, low, points"),
        ({"lin_grid": {"low": 0, "high": 1, "points": 1}}, "from 2 to 1,000,000"),
        ({"lin_grid": {"low": 0, "high": 1, "points": 10**9}}, "from 2 to 1,000,000"),
        ({"lin_grid": {"low": 1, "high": 1, "points": 3}}, "low must be below high"),
        ({"lin_grid": {"low": "a", "high": 1, "points": 3}}, "'a' is not a finite number"),
        ({"lin_grid": {"low": 0, "high": float("inf"), "points": 3}}, "inf is not a finite number"),
        ({"lin_grid": {"low": float("nan"), "high": 1, "points": 3}}, "nan is not a finite number"),
        ({"lin_grid": {"low": 0, "high": 10**400, "points": 3}}, "is not a finite number"),
        ({"lin_grid": {"low": 0, "high": 1, "points": 3, "log": True}}, "must give"),
        ({"log_grid": {"low": 0, "high": 1, "points": 3}}, "low must be positive and below high"),
        ({"log_uniform": {"low": -1, "high": 1}}, "low must be positive and below high"),
        ({"uniform": {"low": True, "high": 2}}, "True is not a finite number"),
        ({"uniform": [0, 1]}, "must give high, low"),
        ({"int": {"low": 0.5, "high": 2}}, "whole bounds"),
        ({"int": {"low": 0, "high": 2, "log": True}}, "at least 1 with log"),
        ({"choice": []}, "at least one value"),
    ],
)
def test_errors_are_sentences_that_name_the_axis(written: Any, sentence: str):
    with pytest.raises(ConfigError, match=sentence) as caught:
        parse_axis("model.width", written)
    assert str(caught.value).startswith("space.model.width")
