"""Means and intervals against SciPy, and the table of gaps."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

import analysis
from tests.analysis.made_up_study import record, records


def test_mean_and_t_interval_equal_scipys():
    values = np.random.default_rng(1).normal(0.3, 0.1, size=(3, 7))
    table = pa.table({"cell": np.repeat([2, 0, 1], 7), "test_error": values.ravel()})
    result = analysis.over_seeds(table, ["cell"], ["test_error"], interval="student")
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
    assert a == {"cell": "a", "x": 1.0, "x.low": None, "x.high": None, "x.seeds": 1, "seeds": 1}
    assert b == {"cell": "b", "x": 4.0, "x.low": None, "x.high": None, "x.seeds": 1, "seeds": 1}
    assert c == {"cell": "c", "x": None, "x.low": None, "x.high": None, "x.seeds": 0, "seeds": 0}


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


def test_nothing_completed_is_a_sentence():
    with pytest.raises(analysis.NothingToShow, match="no records yet"):
        analysis.gap_table(records([]))
    diverged = records([record(seed=seed, status="diverged", finished=datetime(2026, 1, 1, tzinfo=UTC)) for seed in range(3)])
    with pytest.raises(analysis.NothingToShow, match=r"no record is completed \(3 diverged\)"):
        analysis.gap_table(diverged)
