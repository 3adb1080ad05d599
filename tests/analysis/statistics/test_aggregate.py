"""Means and intervals against SciPy, thresholds against a known one."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

import analysis
from tests.analysis.made_up_study import gap_study, record, records


def test_mean_and_t_interval_equal_scipys():
    values = np.random.default_rng(1).normal(0.3, 0.1, size=(3, 7))
    table = pa.table({"cell": np.repeat([2, 0, 1], 7), "test_error": values.ravel()})
    result = analysis.over_seeds(table, ["cell"], ["test_error"])
    assert result["cell"].to_pylist() == [0, 1, 2]
    for row, sample in zip(result.to_pylist(), values[[1, 2, 0]], strict=True):
        low, high = stats.t.interval(0.95, df=6, loc=sample.mean(), scale=stats.sem(sample))
        assert row["test_error"] == pytest.approx(sample.mean(), rel=1e-12)
        assert (row["test_error.low"], row["test_error.high"]) == pytest.approx((low, high), rel=1e-10)
        assert row["seeds"] == 7


def test_the_interval_covers_the_mean_as_often_as_it_says():
    studies = 2000
    samples = np.random.default_rng(2).normal(0.5, 0.1, size=(studies, 3))
    result = analysis.over_seeds(pa.table({"study": np.repeat(np.arange(studies), 3), "x": samples.ravel()}), ["study"], ["x"])
    covered = np.mean((result["x.low"].to_numpy() <= 0.5) & (result["x.high"].to_numpy() >= 0.5))
    assert abs(covered - 0.95) < 4 * math.sqrt(0.95 * 0.05 / studies)


def test_nan_null_and_a_single_seed():
    table = pa.table({"cell": ["a", "a", "a", "b", "c"], "x": [1.0, math.nan, None, 4.0, None]})
    a, b, c = analysis.over_seeds(table, ["cell"], ["x"]).to_pylist()
    assert a == {"cell": "a", "x": 1.0, "x.low": None, "x.high": None, "seeds": 3}
    assert b == {"cell": "b", "x": 4.0, "x.low": None, "x.high": None, "seeds": 1}
    assert c == {"cell": "c", "x": None, "x.low": None, "x.high": None, "seeds": 1}


def test_gap_table_keeps_runs_that_fit_apart_from_those_that_did_not():
    fit = [record(seed=seed, train_error=0.0, test_error=0.2) for seed in (0, 1)]
    unfit = [record(seed=seed, train_error=0.1, test_error=0.6, interpolated=False) for seed in (2, 3, 4)]
    diverged = record(seed=5, status="diverged", train_error=math.nan, interpolated=False)
    rows = analysis.gap_table(records([*fit, *unfit, diverged])).to_pylist()
    assert [(row["interpolated"], row["seeds"], row["generalization_gap"]) for row in rows] == [(False, 3, 0.5), (True, 2, 0.2)]


def test_gap_table_tells_kinds_apart_only_where_there_are_several():
    one_kind = [record(**{"corruption.level": level}) for level in (0.0, 0.5)]
    assert analysis.gap_table(records(one_kind)).column_names[:3] == ["corruption.level", "parameters_per_sample", "interpolated"]
    two_kinds = [
        *one_kind,
        record(**{"corruption.level": 0.5, "corruption.kind": "flip"}),
        record(**{"corruption.level": 0.0, "corruption.kind": "flip"}, seed=1),
    ]
    found = analysis.gap_table(records(two_kinds)).select(["corruption.kind", "corruption.level", "seeds"]).to_pylist()
    assert [tuple(row.values()) for row in found] == [("flip", 0.5, 1), ("redraw", 0.5, 1), (None, 0.0, 2)], "no corruption is of no kind"


def test_thresholds_are_those_of_the_study():
    thresholds = analysis.interpolation_thresholds(records(gap_study(capacities=(0.1, 1, 2, 3, 4, 5, 10))))
    assert thresholds.to_pylist() == [
        {"corruption.level": 0.0, "threshold": 1.0},
        {"corruption.level": 0.5, "threshold": 3.0},
        {"corruption.level": 1.0, "threshold": 5.0},
    ]


def test_threshold_of_all_seeds_of_half_of_them_and_of_none():
    fits = {1: (False, False), 2: (True, False), 3: (True, True)}
    rows = [
        record(**{"model.width": width}, parameters=width * 1000, seed=seed, interpolated=fit)
        for width, some in fits.items()
        for seed, fit in enumerate(some)
    ]
    table = records(rows)
    threshold = lambda rows, share: analysis.interpolation_thresholds(rows, share=share)["threshold"].to_pylist()  # noqa: E731
    assert threshold(table, 1.0) == [3.0]
    assert threshold(table, 0.5) == [2.0]
    assert threshold(records(rows[:2]), 1.0) == [None]


def test_nothing_completed_is_a_sentence():
    with pytest.raises(analysis.NothingToShow, match="no records yet"):
        analysis.gap_table(records([]))
    diverged = records([record(seed=seed, status="diverged", finished=datetime(2026, 1, 1, tzinfo=UTC)) for seed in range(3)])
    with pytest.raises(analysis.NothingToShow, match=r"no record is completed \(3 diverged\)"):
        analysis.gap_table(diverged)


def test_the_threshold_of_a_known_curve_is_located_between_the_capacities():
    rows = []
    for seed, shift in enumerate((0.9, 1.0, 1.1)):
        for size in (1, 2, 4, 8, 16):
            error = max(0.0, 0.4 - 0.1 * math.log2(size / shift))  # falls to 0.15 where log2(size / shift) is 2.5
            rows.append(record(**{"model.width": size}, parameters=size * 1000, seed=seed, train_error=error))
    row = analysis.threshold_location(records(rows), train_error=0.15).to_pylist()[0]
    logs = np.log([0.9, 1.0, 1.1]) + 2.5 * math.log(2)
    low, high = stats.t.interval(0.95, 2, logs.mean(), stats.sem(logs))
    assert (row["threshold"], row["threshold.low"], row["threshold.high"]) == pytest.approx(
        tuple(np.exp([logs.mean(), low, high])), rel=1e-9
    )
    assert (row["seeds"], row["above"], row["below"]) == (3, 0, 0)


def test_thresholds_outside_the_capacities_are_counted_not_invented():
    errors = {0: (0.5, 0.4), 1: (0.0, 0.0), 2: (0.5, 0.0)}
    rows = [
        record(**{"model.width": size}, parameters=1000 * size, seed=seed, train_error=error)
        for seed, pair in errors.items()
        for size, error in zip((1, 2), pair, strict=True)
    ]
    row = analysis.threshold_location(records(rows), train_error=0.25).to_pylist()[0]
    assert (row["seeds"], row["above"], row["below"]) == (1, 1, 1)
    assert row["threshold"] == pytest.approx(2**0.5)
    assert row["threshold.low"] is None
