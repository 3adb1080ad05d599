"""Capacity in bits of records whose truth is known."""

from __future__ import annotations

from collections.abc import Iterable
from math import log2, sqrt
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import analysis
from analysis.errors import NothingToShow
from analysis.statistics.questions.capacity import capacity_ranks, capacity_table
from tests.analysis.made_up_study import record, records

SIZES = (10, 20, 40, 80, 160, 320)
PARAMETERS = 100


def run(size: int, level: float, limit: float, **changes: Any) -> dict[str, Any]:
    """A run on two synthetic classes of a network that fits up to `limit` samples."""
    fits = size <= limit
    fields: dict[str, Any] = {
        "data.name": "synthetic",
        "data.dimension": 5,
        "data.classes": 2,
        "data.train_size": size,
        "corruption.level": level,
    }
    outcome = {"parameters": PARAMETERS, "parameters_per_sample": PARAMETERS / size, "interpolated": fits}
    return record(**(fields | outcome | {"train_error": 0.0 if fits else 0.2, "test_error": 0.3} | changes))


def cell(random: Iterable[float], true: Iterable[float], sizes: Iterable[int] = SIZES, **changes: Any) -> list[dict[str, Any]]:
    """The runs of a setting whose seeds memorise so many random and so many true labels."""
    limits = {1.0: list(random), 0.0: list(true)}
    return [
        run(size, level, limit, seed=seed, **changes) for size in sizes for level, some in limits.items() for seed, limit in enumerate(some)
    ]


def only(table: pa.Table) -> dict[str, Any]:
    (row,) = capacity_table(table).to_pylist()
    return row


def test_the_middle_of_the_bracket_is_what_equal_seeds_memorise() -> None:
    row = only(records(cell([45] * 3, [170] * 3)))
    assert (row["parameters"], row["classes"], row["inputs"], row["seeds"], row["smallest"], row["largest"]) == (100, 2, 5, 3, 10, 320)
    assert row["random"] == pytest.approx(sqrt(40 * 80), rel=0.01)
    assert row["random.low"] < 40.5
    assert row["random.high"] > 79
    assert row["random.fitted"] == pytest.approx(40)
    assert row["bits"] == pytest.approx(row["random"] * log2(2) / 100)
    assert row["true"] == pytest.approx(sqrt(160 * 320), rel=0.01)
    assert row["difference"] == pytest.approx((row["true"] - row["random"]) / 100)
    assert row["ratio"] == pytest.approx(4, rel=0.02)
    assert row["generalization_gap"] == pytest.approx(0.1), "true labels, 320 samples: 0.3 - 0.2"
    assert row["gap.fit"] == 0


def test_fine_sizes_give_the_geometric_mean_over_seeds_and_students_interval() -> None:
    from scipy.stats import t

    limits = np.array([50.5, 60.5, 75.5, 100.5])
    row = only(records(cell(limits, limits * 3, sizes=range(10, 400))))
    logs = np.log(limits)
    half = t.ppf(0.975, 3) * logs.std(ddof=1) / 2
    assert row["random"] == pytest.approx(np.exp(logs.mean()), rel=0.04)
    assert row["random.low"] == pytest.approx(np.exp(logs.mean() - half), rel=0.07)
    assert row["random.high"] == pytest.approx(np.exp(logs.mean() + half), rel=0.07)
    assert row["ratio"] == pytest.approx(3, rel=0.01)
    assert row["ratio.low"] > 2.8, "seeds that memorise much do so of both kinds: the ratio is paired"


def test_what_fits_everywhere_or_nowhere_is_no_number_but_a_bound() -> None:
    row = only(records(cell([45] * 3, [1000] * 3)))
    assert row["true"] is None
    assert (row["true.all"], row["true.none"], row["random.all"]) == (3, 0, 0)
    assert row["true.fitted"] == pytest.approx(320)
    assert row["ratio"] is None
    assert row["ratio.fitted"] == pytest.approx(8), "at least"
    assert row["gap.fit"] == 1
    row = only(records(cell([5] * 3, [45] * 3)))
    assert (row["random"], row["random.fitted"], row["bits"], row["random.none"]) == (None, None, None, 3)


def test_diverged_runs_did_not_fit_failed_ones_do_not_count_and_other_levels_are_left_out() -> None:
    rows = cell([45] * 2, [170] * 2)
    diverged = {"status": "diverged", "interpolated": None, "train_error": None, "test_error": None, "generalization_gap": None}
    changed = [row | diverged if row["corruption.level"] == 1 and row["data.train_size"] == 40 else row for row in rows]
    others = [run(320, 0.5, 1000, seed=0), run(320, 1.0, 1000, seed=0, status="failed")]
    assert only(records([*changed, *others]))["random.fitted"] == pytest.approx(20)


def test_an_outcome_that_is_not_monotone_is_counted_and_widens_the_bracket() -> None:
    rows = [row | ({"interpolated": True} if row["data.train_size"] == 160 and row["corruption.level"] else {}) for row in cell([45], [45])]
    row = only(records(rows))
    assert row["random.mixed"] == 1
    assert row["random"] == pytest.approx(sqrt(40 * 320), rel=0.01), "somewhere between the first that did not fit and the last that did"


def test_settings_are_never_pooled_and_their_ratios_are_ranked_against_their_gaps() -> None:
    rows = [
        one
        for width, (limit, gap) in enumerate([(170, 0.1), (85, 0.2), (45, 0.3), (22, 0.4)], start=1)
        for one in cell([limit] * 2, [170] * 2, **{"model.width": width, "test_error": 0.2 + gap, "regularizers.dropout": width / 10})
    ]
    table = capacity_table(records(rows))
    assert table["model.width"].to_pylist() == [1, 2, 3, 4]
    assert "regularizers.dropout" in table.column_names
    said = capacity_ranks(table)
    assert said is not None
    assert "Over 4 settings" in said
    assert "Kendall's tau 1.00" in said, "made up against the published direction"
    assert capacity_ranks(table.slice(0, 3)) is None
    assert len(analysis.capacity_chart(records(rows)).axes) == 2


def test_what_has_no_capacity_to_show_is_said() -> None:
    with pytest.raises(NothingToShow, match="no run on random labels"):
        capacity_table(records([run(10, 0.5, 20)]))
    with pytest.raises(NothingToShow, match="nothing to draw"):
        analysis.capacity_chart(records(cell([5], [5])))
    with pytest.raises(NothingToShow, match="known from the data alone"):
        capacity_table(records([run(10, 1.0, 20, **{"data.name": "npz:nowhere.npz"})]))
