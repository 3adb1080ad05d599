"""Only seeds are averaged: lines split by all else, seeds are counted where they have a value, intervals stay where errors can be."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest

import analysis
from analysis.statistics.selection import lines_over
from tests.analysis.made_up_study import gap_study, record, records


def test_two_models_at_one_capacity_are_two_rows() -> None:
    rows = [record(**{"model.name": name}, seed=seed, test_error=error) for name, error in (("mlp", 0.1), ("cnn", 0.5)) for seed in (0, 1)]
    found = analysis.gap_table(records(rows)).to_pylist()
    assert [(row["model.name"], row["seeds"], row["test_error"]) for row in found] == [("cnn", 2, 0.5), ("mlp", 2, 0.1)]


def test_one_run_of_each_data_set_has_no_interval() -> None:
    rows = [record(**{"data.name": name}, test_error=error) for name, error in (("digits", 0.1), ("moons", 0.3))]
    assert [(row["seeds"], row["test_error.low"]) for row in analysis.gap_table(records(rows)).to_pylist()] == [(1, None), (1, None)]


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("optimizer.learning_rate", (0.01, 0.1)),
        ("data.train_size", (500, 1000)),
        ("budget.epochs", (10, 20)),
        ("regularizers.crop", (0, 2)),
        ("optimizer.name", ("sgd", "adam")),
    ],
)
def test_whatever_varies_splits_lines(field: str, values: tuple[object, object]) -> None:
    rows = [
        record(**{field: value, "model.width": width}, seed=seed, parameters=100 * width)
        for value in values
        for width in (8, 16, 32)
        for seed in (0, 1)
    ]
    found = analysis.gap_table(records(rows))
    assert field in found.column_names
    assert found["seeds"].to_pylist() == [2] * 6


def test_what_is_swept_with_capacity_does_not_split_lines() -> None:
    """Width makes capacity, and a rate that falls with width belongs to it; two rates at one width are two lines."""
    rows = [
        record(**{"model.width": width, "optimizer.learning_rate": 1 / width}, parameters=100 * width, seed=seed)
        for width in (8, 16, 32)
        for seed in (0, 1)
    ]
    assert lines_over(records(rows), "parameters_per_sample")[1] == ["corruption.level"]
    rows.append(record(**{"model.width": 8, "optimizer.learning_rate": 0.5}, parameters=800))
    assert lines_over(records(rows), "parameters_per_sample")[1] == ["corruption.level", "optimizer.learning_rate"]


def test_a_name_splits_lines_even_where_no_mean_would_pool_it() -> None:
    rows = [record(**{"model.name": name}, parameters=size) for name, size in (("mlp", 100), ("cnn", 200), ("mlp", 300))]
    assert lines_over(records(rows), "parameters")[1] == ["corruption.level", "model.name"]


def test_what_is_asked_for_counts_and_the_rest_is_named_and_refused() -> None:
    rows = [
        record(**{"regularizers.weight_decay": decay, "optimizer.learning_rate": rate}, seed=seed)
        for decay in (0.0, 0.1)
        for rate in (0.01, 0.1)
        for seed in (0, 1)
    ]
    table = records(rows)
    for ask in (
        lambda: analysis.gap_table(table, by=["regularizers.weight_decay"]),
        lambda: analysis.gap_vs_capacity(table, by=["regularizers.weight_decay"]),
        lambda: analysis.threshold_table(table, by=["regularizers.weight_decay"]),
        lambda: analysis.over_seeds(table, ["regularizers.weight_decay"], ["test_error"]),
    ):
        with pytest.raises(analysis.AnalysisError, match=r"optimizer\.learning_rate varies as well"):
            ask()
    assert analysis.gap_table(table, by=["regularizers.weight_decay", "optimizer.learning_rate"])["seeds"].to_pylist() == [2] * 4


def test_seeds_are_counted_where_they_have_a_value() -> None:
    rows = [record(seed=0), record(seed=1, test_error=math.nan), record(seed=2, test_error=None, generalization_gap=None)]
    (row,) = analysis.over_seeds(records(rows), [], ["train_error", "test_error"]).to_pylist()
    assert (row["train_error.seeds"], row["test_error.seeds"], row["seeds"]) == (3, 1, 1)
    assert row["test_error.low"] is None


def test_a_seed_that_stands_twice_is_one_seed() -> None:
    rows = [record(seed=0, test_error=0.1), record(seed=0, test_error=0.3) | {"key": "again"}, record(seed=1, test_error=0.4)]
    (row,) = analysis.over_seeds(records(rows), [], ["test_error"]).to_pylist()
    assert row["seeds"] == 2
    assert row["test_error"] == pytest.approx(0.3)


def test_runs_of_unknown_seeds_are_counted_one_by_one() -> None:
    rows = [record(seed=seed) | {"seed": None, "key": str(seed)} for seed in range(3)]
    assert analysis.over_seeds(records(rows), [], ["test_error"])["seeds"].to_pylist() == [3]


def test_intervals_stay_where_their_quantity_can_be() -> None:
    rows = [record(seed=seed, test_error=error, train_error=0.0) for seed, error in enumerate((0.0, 0.01, 0.08))]
    (row,) = analysis.gap_table(records(rows)).to_pylist()
    assert 0 < row["test_error.low"] < row["test_error"] < row["test_error.high"] < 1
    losses = pa.table({"seed": [0, 1, 2], "test_loss": [0.01, 0.02, 0.9]})
    assert analysis.over_seeds(losses, [], ["test_loss"])["test_loss.low"][0].as_py() == 0
    percent = pa.table({"seed": [0, 1, 2], "test_error": [10.0, 12.0, 14.0]})
    assert analysis.over_seeds(percent, [], ["test_error"])["test_error.high"][0].as_py() > 14, "another unit has no bounds"


def test_fit_and_unfit_runs_are_in_no_cell_of_a_map_together() -> None:
    fits = {1: (False, False), 2: (True, False), 3: (True, True)}
    rows = [
        record(**{"model.width": width, "corruption.level": level}, parameters=width * 1000, seed=seed, interpolated=fit,
               train_error=0.0 if fit else 0.5, test_error=0.5, generalization_gap=0.5 if fit else 0.0)
        for level in (0.0, 1.0)
        for width, some in fits.items()
        for seed, fit in enumerate(some)
    ]  # fmt: skip
    figure = analysis.capacity_corruption_map(records(rows))
    reached, missed = (np.ma.filled(axes.collections[0].get_array().reshape(2, 3), np.nan) for axes in figure.axes[:2])
    np.testing.assert_array_equal(reached, [[np.nan, 0.5, 0.5]] * 2)
    np.testing.assert_array_equal(missed, [[0.0, 0.0, np.nan]] * 2)


def test_a_frame_and_a_column_that_is_not_there_are_sentences() -> None:
    table = records(gap_study())
    with pytest.raises(analysis.AnalysisError, match=r"no column 'level': did you mean 'corruption\.level'"):
        analysis.gap_table(table, by=["level"])
    with pytest.raises(analysis.AnalysisError, match=r"no column 'level': did you mean 'corruption\.level'"):
        analysis.gap_vs_capacity(table, by=["level"])
    for ask in (
        analysis.gap_table,
        analysis.gap_vs_capacity,
        analysis.threshold_table,
        analysis.decomposition_table,
        analysis.train_vs_test,
        lambda frame: analysis.compare(frame, "model.width"),
        lambda frame: analysis.over_seeds(frame, ["model.width"], ["test_error"]),
        lambda frame: analysis.fit_times(frame, ["model.width"]),
    ):
        with pytest.raises(analysis.AnalysisError, match=r"an Arrow table, not a DataFrame: pyarrow\.Table\.from_pandas"):
            ask(table.to_pandas())
