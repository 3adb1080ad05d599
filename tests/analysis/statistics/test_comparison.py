"""Paired comparisons against SciPy's paired t test, and what is said about them."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

import analysis
from analysis.statistics.comparison import holm
from tests.analysis.made_up_study import record, records


def study(effects=((0.0, 0.0), (1e-3, 0.05)), widths=(8, 64), seeds=6, noise=0.01):
    rng = np.random.default_rng(0)
    rows = []
    for width in widths:
        for seed in range(seeds):
            common = rng.normal(0, 0.1)
            for decay, effect in effects:
                error = 0.3 + common - effect + rng.normal(0, noise)
                rows.append(record(**{"model.width": width, "regularizers.weight_decay": decay}, seed=seed, test_error=error))
    return rows


def test_differences_intervals_and_p_values_are_scipys():
    rows = study()
    result = analysis.compare(records(rows), "regularizers.weight_decay").to_pylist()
    assert [row["model.width"] for row in result] == [8, 64]
    for row in result:
        cell = [one for one in rows if one["model.width"] == row["model.width"]]
        without, decayed = (
            np.array([one["test_error"] for one in cell if one["regularizers.weight_decay"] == decay]) for decay in (0, 1e-3)
        )
        reference = stats.ttest_rel(decayed, without)
        interval = reference.confidence_interval(0.95)
        assert (row["a"], row["b"], row["pairs"]) == ("0", "0.001", 6)
        assert row["p"] == pytest.approx(reference.pvalue, rel=1e-9)
        assert (row["difference.low"], row["difference.high"]) == pytest.approx((interval.low, interval.high), rel=1e-9)
        standardised = (decayed - without).mean() / (decayed - without).std(ddof=1)
        assert row["effect"] == pytest.approx(standardised * (1 - 3 / 19), rel=1e-9)


def test_pairing_finds_what_means_alone_do_not():
    rows = study(widths=(8,))
    row = analysis.compare(records(rows), "regularizers.weight_decay").to_pylist()[0]
    split = [[one["test_error"] for one in rows if one["regularizers.weight_decay"] == decay] for decay in (0.0, 1e-3)]
    assert stats.ttest_ind(*split).pvalue > 0.05
    assert row["p.holm"] < 0.01


def test_holm_is_the_closed_test_of_bonferroni():
    """By definition: a hypothesis falls at level x when every subset that holds it has a p-value of at most x/size."""
    p = np.random.default_rng(1).uniform(size=6) ** 2
    subsets = [subset for size in range(1, 7) for subset in combinations(range(6), size)]
    expected = [max(min(1, len(subset) * p[list(subset)].min()) for subset in subsets if index in subset) for index in range(6)]
    np.testing.assert_allclose(holm(p), expected)


def test_the_family_wise_error_is_held():
    rng = np.random.default_rng(2)
    false = 0
    for _ in range(60):
        rows = [
            record(**{"model.width": width, "regularizers.weight_decay": decay}, seed=seed, test_error=rng.normal(0.5, 0.1))
            for width in range(1, 9)
            for seed in range(4)
            for decay in (0.0, 0.1)
        ]
        false += min(analysis.compare(records(rows), "regularizers.weight_decay")["p.holm"].to_pylist()) < 0.05
    assert false <= 9  # of 60 at a rate of at most 0.05: more than 9 has probability 0.0008


def test_two_studies_are_compared_by_name():
    one = [row | {"study": "one"} for row in study(effects=((0.0, 0.0),))]
    other = [row | {"study": "other", "key": row["key"] + "x"} for row in study(effects=((1e-3, 0.05),))]
    both = pa.concat_tables([records(one), records(other)])
    result = analysis.compare(both, "study")
    assert result["b"].to_pylist() == ["other", "other"]
    assert result["difference"].to_pylist() == pytest.approx([-0.05, -0.05], abs=0.02)


def test_only_seeds_that_both_have_are_paired():
    rows = [record(seed=seed, **{"regularizers.dropout": rate}) for rate, seeds in ((0.0, (0, 1, 2)), (0.5, (2, 3))) for seed in seeds]
    row = analysis.compare(records(rows), "regularizers.dropout").to_pylist()[0]
    assert row["pairs"] == 1
    assert row["p"] is None
    assert row["sentence"] == "dropout 0.5 against 0: test error 0.1 against 0.1, difference +0; one pair only, nothing was tested."


def test_equal_values_differ_by_nothing():
    rows = [record(seed=seed, **{"regularizers.dropout": rate}) for rate in (0.0, 0.5) for seed in range(3)]
    row = analysis.compare(records(rows), "regularizers.dropout").to_pylist()[0]
    assert (row["difference"], row["effect"], row["p"], row["p.holm"]) == (0, 0, 1, 1)


def test_the_sentence_says_what_was_tested():
    sentence = analysis.compare(records(study()), "regularizers.weight_decay")["sentence"][0].as_py()
    assert sentence.startswith("weight decay 0.001 against 0 at width 8: test error ")
    assert "paired t test over 6 seeds, of which both reached the train target" in sentence
    assert "after Holm's correction for 2 tests: differs at 5 %." in sentence


def test_two_runs_of_one_seed_are_refused_not_chosen_from():
    rows = study(widths=(8,))
    again = rows[0] | {"key": "again", "test_error": 0.9}
    with pytest.raises(analysis.AnalysisError, match=r"two completed runs of regularizers\.weight_decay 0 agree in all else \(seed 0"):
        analysis.compare(records([*rows, again]), "regularizers.weight_decay")


def test_runs_that_fit_are_not_compared_with_runs_that_did_not():
    decays, seeds = (0.0, 0.1), range(6)
    fits = {(0.0, seed): seed < 4 for seed in seeds} | {(0.1, seed): seed < 2 or seed == 5 for seed in seeds}
    rows = [
        record(
            **{"regularizers.weight_decay": decay}, seed=seed, test_error=0.3 + decay + 0.01 * seed * decay, interpolated=fits[decay, seed]
        )
        for decay in decays
        for seed in seeds
    ]
    both, neither = analysis.compare(records(rows), "regularizers.weight_decay").to_pylist()
    assert [(row["pairs"], row["fit"], row["unequal"]) for row in (both, neither)] == [(2, 2, 3), (1, 0, 3)]
    assert "3 pairs of which one run reached its train target and one did not are not compared" in both["sentence"]
    (any_fit,) = analysis.compare(records(rows), "regularizers.weight_decay", equal_fit=False).to_pylist()
    assert (any_fit["pairs"], any_fit["fit"], any_fit["unequal"]) == (6, 2, 3)
    assert "over 6 seeds, of which in 2 both reached the train target, in 3 one did" in any_fit["sentence"]
    (only,) = analysis.compare(records([row for row in rows if row["seed"] in (2, 3)]), "regularizers.weight_decay").to_pylist()
    assert (only["pairs"], only["unequal"], only["p"]) == (0, 2, None)
    assert only["sentence"].endswith("there are only 2 pairs of which one run reached its train target and one did not.")


def test_equal_differences_are_tested_by_their_signs():
    """Three pairs that differ by the same are no proof: heads three times, or tails, has probability 1/4."""
    rows = [record(seed=seed, test_error=0.3 + decay, **{"regularizers.weight_decay": decay}) for decay in (0.0, 0.1) for seed in range(3)]
    row = analysis.compare(records(rows), "regularizers.weight_decay").to_pylist()[0]
    assert (row["p"], row["effect"], row["difference.low"]) == (0.25, None, None)
    assert "all differences are equal" in row["sentence"]
    assert "sign test over 3 seeds" in row["sentence"]


def test_an_interval_of_differences_stays_where_they_can_be():
    errors = {(0.0, 0): 0.0, (0.0, 1): 1.0, (0.5, 0): 1.0, (0.5, 1): 0.9}
    rows = [record(seed=seed, test_error=error, **{"regularizers.dropout": rate}) for (rate, seed), error in errors.items()]
    row = analysis.compare(records(rows), "regularizers.dropout").to_pylist()[0]
    assert (row["difference.low"], row["difference.high"]) == (-1, 1)


def test_against_one_value_only():
    rows = study(effects=((0.0, 0.0), (1e-4, 0.0), (1e-3, 0.0)), widths=(8,))
    assert analysis.compare(records(rows), "regularizers.weight_decay").num_rows == 3
    assert analysis.compare(records(rows), "regularizers.weight_decay", against=0.0)["b"].to_pylist() == ["0.0001", "0.001"]


def test_nothing_to_compare_is_a_sentence():
    with pytest.raises(analysis.NothingToShow, match=r"no two completed runs differ in regularizers\.dropout"):
        analysis.compare(records(study()), "regularizers.dropout")
    with pytest.raises(analysis.AnalysisError, match=r"did you mean 'regularizers\.dropout'"):
        analysis.compare(records(study()), "regularizers.drop_out")


def test_what_changes_along_with_the_setting_is_named():
    rows = [
        record(
            **{"regularizers.dropout": dropout, "optimizer.learning_rate": rate, "model.width": width}, seed=seed, test_error=0.3 + dropout
        )
        for dropout, rate in ((0.0, 0.1), (0.5, 0.01))
        for width in (8, 16)
        for seed in range(3)
    ]
    for sentence in analysis.compare(records(rows), "regularizers.dropout")["sentence"].to_pylist():
        assert sentence.endswith("; what changes along with it: learning rate (0.01 against 0.1).")
    capacities = [record(**{"model.width": width}, parameters=100 * width, seed=seed) for width in (8, 16) for seed in range(3)]
    assert "along" not in analysis.compare(records(capacities), "parameters")["sentence"][0].as_py()
