"""Variance decompositions against the analysis of variance by hand, known components, and simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

import analysis
from analysis.statistics.decomposition import RESIDUAL, UNEXPLAINED, UNTOLD, decompose, decomposition_table, explained
from tests.analysis.made_up_study import record, records

A, B, C = np.array([0.0, 1.0, 3.0]), np.array([-1.0, 1.0]), np.array([0.0, 0.5, 0.2, 0.9])
AB = np.array([[1.0, -1.0], [0.0, 0.0], [-1.0, 1.0]])


def factorial(rng, noise, seeds):
    """A full factorial with one interaction, and the settings' variance components, as shares with the noise."""
    rows = [
        (a, b, c, A[a] + B[b] + C[c] + AB[a, b] + noise * rng.standard_normal())
        for a, b, c, _ in itertools.product(range(3), range(2), range(4), range(seeds))
    ]
    a, b, c, y = map(np.array, zip(*rows, strict=True))
    parts = {"a": A.var(), "b": B.var(), "c": C.var(), "a:b": AB.var(), "a:c": 0.0, "b:c": 0.0, RESIDUAL: noise**2}
    return {"a": a, "b": b.astype(str), "c": c}, y, {name: part / sum(parts.values()) for name, part in parts.items()}


def test_a_full_factorial_is_the_analysis_of_variance_by_hand():
    factors, y, _ = factorial(np.random.default_rng(0), 0.5, 3)
    found = {term.name: term for term in decompose(factors, y, resamples=10)}
    cube = y.reshape(3, 2, 4, 3)
    grand = cube.mean()
    mean = {
        axes: cube.mean(axis=tuple(set(range(4)) - set(axes)), keepdims=True)
        for axes in [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)]
    }
    by_hand = {
        "a": 24 * ((mean[0,] - grand) ** 2).sum(),
        "b": 36 * ((mean[1,] - grand) ** 2).sum(),
        "c": 18 * ((mean[2,] - grand) ** 2).sum(),
    }
    by_hand["a:b"] = 12 * ((mean[0, 1] - mean[0,] - mean[1,] + grand) ** 2).sum()
    by_hand["a:c"] = 6 * ((mean[0, 2] - mean[0,] - mean[2,] + grand) ** 2).sum()
    by_hand["b:c"] = 9 * ((mean[1, 2] - mean[1,] - mean[2,] + grand) ** 2).sum()
    by_hand[RESIDUAL] = ((cube - mean[0, 1, 2]) ** 2).sum()
    by_hand[UNEXPLAINED] = ((cube - grand) ** 2).sum() - sum(by_hand.values())
    for name, squares in by_hand.items():
        assert found[name].sum_of_squares == pytest.approx(squares), name
    assert [found[name].freedom for name in ("a", "b", "c", "a:b", "a:c", "b:c", UNEXPLAINED, RESIDUAL)] == [2, 1, 3, 2, 6, 3, 6, 48]


def test_known_components_are_recovered_and_shares_add_up():
    rng = np.random.default_rng(1)
    repeats, sums = 60, {}
    for _ in range(repeats):
        factors, y, truth = factorial(rng, 0.7, 3)
        for term in decompose(factors, y, resamples=2):
            squares = term.sum_of_squares
            sums.setdefault(term.name, []).append((squares, term.freedom))
    # the expectation of an effect's sum of squares is runs · component + freedom · noise variance
    runs, total = 72, sum(part for part in (A.var(), B.var(), C.var(), AB.var(), 0.49))
    for name, share in truth.items():
        if name != RESIDUAL:
            squares = np.array([one for one, _ in sums[name]])
            freedom = sums[name][0][1]
            expected = runs * share * total + freedom * 0.49
            deviation = math.sqrt(2 * freedom * 0.49**2 + 4 * 0.49 * runs * share * total)
            assert abs(squares.mean() - expected) < 4 * deviation / math.sqrt(repeats), name
    found = decompose(factors, y, resamples=2)
    assert sum(term.share.value for term in found) == pytest.approx(1, abs=0.03)  # but for those cut at 0


@pytest.mark.parametrize("seeds", [3, 5])
def test_intervals_cover_known_components(seeds):
    rng = np.random.default_rng(seeds)
    repeats, covered = 80, {}
    for _ in range(repeats):
        factors, y, truth = factorial(rng, 0.7, seeds)
        for term in decompose(factors, y, resamples=200):
            if term.name in truth:
                covered.setdefault(term.name, []).append(term.share.low - 1e-9 <= truth[term.name] <= term.share.high + 1e-9)
    for name, hits in covered.items():
        assert np.mean(hits) > 0.95 - 0.03 - 4 * math.sqrt(0.95 * 0.05 / repeats), name


def test_a_random_study_with_one_run_a_point():
    rng = np.random.default_rng(2)
    n = 300
    rate, decay, useless = 10 ** rng.uniform(-4, 0, n), rng.uniform(0, 1, n), rng.uniform(0, 1, n)
    kind = rng.choice(["sgd", "adam"], n)
    place = np.log10(rate) / 4 + 0.5
    y = 2 * place + 1.5 * (kind == "adam") * place + 0.5 * decay + 0.3 * rng.standard_normal(n)
    found = {term.name: term for term in decompose({"rate": rate, "decay": decay, "useless": useless, "kind": kind}, y, resamples=300)}
    total = y.var()
    assert found["rate"].share.value == pytest.approx((2.75 * place).var() / total, abs=0.08)
    assert found["decay"].share.value == pytest.approx((0.5 * decay).var() / total, abs=0.04)
    assert found[UNTOLD].share.value == pytest.approx(0.09 / total, abs=0.02)
    assert found["rate:kind"].share.low > 0
    assert found["useless"].share.high < 0.02
    assert found["useless"].p > 0.01
    assert found["rate"].p < 1e-10
    assert UNEXPLAINED not in found


def test_a_rank_is_a_rank_on_any_scale():
    rng = np.random.default_rng(3)
    rate = 10 ** rng.uniform(-4, 0, 80)
    y = np.log10(rate) + 0.1 * rng.standard_normal(80)
    plain, log = (decompose({"rate": one}, y, resamples=2)[0].share.value for one in (rate, np.log(rate)))
    assert plain == pytest.approx(log)
    assert plain > 0.95


def test_runs_that_are_missing_leave_the_effects_alone():
    factors, y, _ = factorial(np.random.default_rng(4), 0.01, 3)
    kept = np.random.default_rng(5).random(len(y)) > 0.25
    some = {term.name: term for term in decompose({name: one[kept] for name, one in factors.items()}, y[kept], resamples=2)}
    assert some["a:c"].share.value < 0.01
    assert some["a"].share.value > some["b"].share.value > some["c"].share.value > 0.01


def test_what_cannot_be_decomposed_is_a_sentence():
    y = np.arange(8.0)
    with pytest.raises(analysis.AnalysisError, match="does not vary"):
        decompose({"a": np.zeros(8)}, y)
    with pytest.raises(analysis.AnalysisError, match="vary together"):
        decompose({"a": np.arange(8) % 2, "b": np.arange(8) % 2}, y, pairs=False)
    with pytest.raises(analysis.AnalysisError, match="leave out interactions"):
        decompose({"a": np.arange(8) % 2, "b": np.arange(8) // 2 % 4}, y)


def test_the_table_compares_at_equal_fit():
    rng = np.random.default_rng(6)
    rows = []
    for decay, dropout, seed in itertools.product((0.0, 0.1), (0.0, 0.5), range(5)):
        fit = not (dropout == 0.5 and seed == 4)
        gap = 0.2 - decay + 0.01 * rng.standard_normal() if fit else 5.0
        fields = {"regularizers.weight_decay": decay, "regularizers.dropout": dropout}
        rows.append(record(**fields, seed=seed, interpolated=fit, generalization_gap=gap))
    table = records(rows)
    first, *_ = decomposition_table(table, resamples=50).to_pylist()
    assert (first["term"], first["runs"]) == ("regularizers.weight_decay", 18)
    assert first["share"] > 0.9
    every = decomposition_table(table, equal_fit=False, resamples=50).to_pylist()
    assert every[0]["term"] != "regularizers.weight_decay"
    assert every[0]["runs"] == 20


def test_what_fields_share_is_said_to_be_shared():
    """Where decay and dropout are mostly on together, much of what they explain belongs to either."""
    rng = np.random.default_rng(7)
    rows = []
    for decay, dropout, seeds in ((0.0, 0.0, 12), (0.1, 0.5, 12), (0.1, 0.0, 3), (0.0, 0.5, 3)):
        for seed in range(seeds):
            gap = 0.2 - decay - 0.2 * dropout + 0.01 * rng.standard_normal()
            fields = {"regularizers.weight_decay": decay, "regularizers.dropout": dropout}
            rows.append(record(**fields, seed=seed, generalization_gap=gap))
    found = decomposition_table(records(rows), resamples=50)
    shared = 1 - sum(found["share"].to_pylist())
    assert shared > 0.3
    assert f"The other {100 * shared:.2g} % are shared by fields that vary together" in " ".join(explained(found, "generalization_gap"))


def test_one_seed_does_not_say_what_seeds_do():
    """Settings that were run once differ from the fit by seeds or by higher interactions: nobody can tell."""
    rng = np.random.default_rng(9)
    rows = [
        record(**{"regularizers.weight_decay": decay, "regularizers.dropout": dropout, "model.width": width}, generalization_gap=gap)
        for (decay, dropout, width), gap in zip(
            itertools.product((0.0, 0.1, 0.2), (0.0, 0.3, 0.5), (8, 16, 32)), rng.normal(0.2, 0.01, 27), strict=True
        )
    ]
    found = decomposition_table(records(rows), pairs=False, resamples=20)
    assert UNTOLD in found["term"].to_pylist()
    assert RESIDUAL not in found["term"].to_pylist()
    assert f"; {UNTOLD} " in explained(found, "generalization_gap")[0]


def test_a_point_that_stands_twice_is_no_second_seed():
    """Two studies that share their points, put together: noise is what it was, not half of it 0."""
    rng = np.random.default_rng(10)
    rows = [
        record(**{"regularizers.weight_decay": decay}, seed=seed, generalization_gap=rng.normal(0.2, 0.01))
        for decay in (0.0, 0.1)
        for seed in range(3)
    ]
    once, twice = (
        decomposition_table(records(some), resamples=20).to_pylist() for some in (rows, rows + [row | {"study": "other"} for row in rows])
    )
    assert once == twice


def test_fields_that_are_left_out_are_not_called_seeds():
    rng = np.random.default_rng(11)
    rows = [
        record(**{"regularizers.weight_decay": decay, "optimizer.momentum": momentum}, seed=seed, generalization_gap=gap)
        for decay, momentum, seed in itertools.product((0.0, 0.1), (0.0, 0.9), range(3))
        for gap in [0.1 + momentum + rng.normal(0, 0.01)]
    ]
    found = decomposition_table(records(rows), factors=["regularizers.weight_decay"], resamples=20)
    assert found["term"].to_pylist()[0] == f"{RESIDUAL}, optimizer.momentum"
    assert f"; {RESIDUAL}, optimizer.momentum 100 % (" in explained(found, "generalization_gap")[0]
