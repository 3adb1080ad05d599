"""Ranking scores against a table worked by hand, SciPy, plain loops and sampling theory."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pytest
from scipy.stats import kendalltau

from analysis.errors import AnalysisError, NothingToShow
from analysis.statistics.questions.rank_scores import drawn_taus, hoeffding_weight, kendall_tau
from analysis.statistics.questions.ranking import rank_by_hyperparameter, rank_many, rank_measures, sign_errors, varied
from tests.analysis.made_up_study import record, records

# Garbage of other tests, collected meanwhile, is none of these.
pytestmark = pytest.mark.filterwarnings("error", "default::ResourceWarning", "default::pytest.PytestUnraisableExceptionWarning")

BY_HAND = [  # width, depth, gap, measure
    (1, 1, 0.10, 1.0),
    (2, 1, 0.20, 2.0),
    (1, 2, 0.30, 4.0),
    (2, 2, 0.25, 5.0),
]


def run(width: int, depth: int, gap: float, measure: float | None, **changes: Any) -> dict[str, Any]:
    fields = {"model.width": width, "model.depth": depth, "train_error": 0.0, "test_error": gap, "measure.mine": measure}
    return record(**(fields | changes))


def by_hand(**changes: Any) -> pa.Table:
    return records(run(*row, **changes) for row in BY_HAND)


def row_of(table: pa.Table, measure: str) -> dict[str, Any]:
    (row,) = (row for row in table.to_pylist() if row["measure"] == measure)
    return row


def grid(seeds: int, noise: float, measures: int = 1, seed: int = 0) -> pa.Table:
    """3 widths x 3 depths x 2 batch sizes x seeds; the gap is known up to noise, measures are pure noise, their gaps too."""
    random = np.random.default_rng(seed)
    rows = []
    for width, depth, batch, repeat in itertools.product([16, 32, 64], [1, 2, 3], [32, 128], range(seeds)):
        gap = 0.2 + 0.05 * math.log2(width / 16) + 0.03 * depth + random.normal(0, noise)
        values = {f"measure.noise{index}": random.normal() for index in range(measures)}
        fields = {"optimizer.batch_size": batch, "seed": repeat, "measure.near": gap + random.normal(0, 0.02)}
        rows.append(run(width, depth, gap, -gap, **fields, **values))
    return records(rows)


def test_scores_of_the_table_worked_by_hand() -> None:
    """tau: 5 pairs agree, 1 does not. Widths: +1 at depth 1, -1 at depth 2; depths: +1 twice. Four environments, one of them wrong."""
    found = row_of(rank_measures(by_hand(), test_size=10**6, minimum_effective_size=1), "mine")
    assert found["tau"] == pytest.approx(4 / 6)
    assert found["psi"] == pytest.approx(0.5)
    assert found["sign_error_mean"] == pytest.approx(0.25)
    assert found["sign_error_p90"] == pytest.approx(0.7)  # of 0, 0, 0, 1, interpolated
    assert (found["sign_error_max"], found["environments"], found["points"]) == (1.0, 4, 4)


def test_more_runs_than_can_be_compared_pair_by_pair_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """All pairs of 45,000 runs took 20 GB at the end of a run that had trained 104,976 networks."""
    monkeypatch.setattr("analysis.statistics.questions.ranking.MOST_RUNS", 20)
    for rank in (rank_measures, rank_by_hyperparameter, sign_errors):
        with pytest.raises(NothingToShow, match="36 runs fit, and at most 20 are compared pair by pair"):
            rank(grid(2, 0.02), test_size=10**4)
    assert rank_many(grid(2, 0.02), test_size=10**4).num_rows == 5


def test_many_are_ranked_as_each_by_itself() -> None:
    """The same psi and interval, from the same draws, also of a measure that some runs lack."""
    table = grid(2, 0.02, measures=3)
    some = [None if number % 3 else value for number, value in enumerate(table["measure.noise0"].to_pylist())]
    table = table.append_column("measure.some", pa.array(some, pa.float64()))
    found = {row["measure"]: row for row in rank_many(table, test_size=10**4).to_pylist()}
    single = {row["measure"]: row for row in rank_measures(table, test_size=10**4).to_pylist()}
    assert found.keys() == single.keys()
    for name, row in found.items():
        assert row["points"] == single[name]["points"]
        for column in ("psi", "psi.low", "psi.high"):
            assert row[column] == pytest.approx(single[name][column], abs=1e-6), (name, column)


def test_each_hyperparameter_by_itself_is_what_psi_averages() -> None:
    """Widths: +1 at depth 1, -1 at depth 2, so 0 and one environment of two wrong; depths: +1 twice."""
    found = rank_by_hyperparameter(by_hand(), test_size=10**6, minimum_effective_size=1).to_pylist()
    mine = {row["hyperparameter"]: row for row in found if row["measure"] == "mine"}
    columns = ("psi", "sign_error_mean", "sign_error_max", "environments", "setting_pairs")
    assert {name: tuple(row[column] for column in columns) for name, row in mine.items()} == {
        "model.width": (0.0, 0.5, 1.0, 2, 2),
        "model.depth": (1.0, 0.0, 0.0, 2, 2),
    }
    table, how = grid(3, 0.02, measures=2), {"test_size": 10**4, "minimum_effective_size": 1}
    whole = {row["measure"]: row for row in rank_measures(table, **how).to_pylist()}
    parts = rank_by_hyperparameter(table, **how).to_pylist()
    for name, row in whole.items():
        own = [part for part in parts if part["measure"] == name]
        assert np.mean([part["psi"] for part in own]) == pytest.approx(row["psi"])
        assert sum(part["environments"] for part in own) == row["environments"]
        for column in ("psi", "sign_error_mean", "sign_error_max"):
            assert all(part[f"{column}.low"] <= part[column] <= part[f"{column}.high"] for part in own)
    alone = table.filter(pa.compute.and_(pa.compute.equal(table["model.depth"], 1), pa.compute.equal(table["optimizer.batch_size"], 32)))
    whole = {row["measure"]: row for row in rank_measures(alone, **how).to_pylist()}
    for part in rank_by_hyperparameter(alone, **how).to_pylist():  # the one hyperparameter that is left
        for column in (f"{name}{end}" for name in ("psi", "sign_error_mean", "sign_error_max") for end in ("", ".low", ".high")):
            assert part[column] == pytest.approx(whole[part["measure"]][column], nan_ok=True), (part["measure"], column)


def test_a_measure_that_only_sees_the_corruption_is_nothing_at_one_level() -> None:
    """The gap follows corruption and, a little, width; the measure is the corruption alone."""
    random = np.random.default_rng(0)
    rows = [
        run(width, 1, 0.3 * level + 0.01 * width + random.normal(0, 0.001), level, **{"corruption.level": level, "seed": seed})
        for width, level, seed in itertools.product([1, 2, 3], [0.1, 0.2], range(4))
    ]
    table = records(rows)
    both = {
        row["hyperparameter"]: row["psi"] for row in rank_by_hyperparameter(table, test_size=10**4).to_pylist() if row["measure"] == "mine"
    }
    assert both == {"corruption.level": 1.0, "model.width": 0.0}
    assert row_of(rank_measures(table, test_size=10**4), "mine")["psi"] == pytest.approx(0.5)
    fixed = table.filter(pa.compute.equal(table["corruption.level"], 0.1))
    assert row_of(rank_measures(fixed, test_size=10**4), "mine")["psi"] == 0.0


def test_sign_error_weighs_pairs_by_hand() -> None:
    """Two settings, two seeds each, 1,000 test images: the four pairs weigh by their gap difference."""
    rows = [run(1, 1, 0.10, 1.0, seed=0), run(1, 1, 0.16, 4.0, seed=1), run(2, 1, 0.30, 2.0, seed=0), run(2, 1, 0.22, 4.0, seed=1)]
    wrong = {(0.10, 0.30): 0.0, (0.10, 0.22): 0.0, (0.16, 0.30): 1.0, (0.16, 0.22): 0.5}  # 4 > 2 though 0.16 < 0.30; 4 ties with 4

    def weight(low: float, high: float) -> float:
        probability = max(0.0, 1 - 2 * math.exp(-2 * 1000 * ((high - low) / 2) ** 2)) ** 2
        return max(0.0, probability - 0.5)

    weights = {pair: weight(*pair) for pair in wrong}
    total = sum(weights.values())
    (found,) = (row for row in sign_errors(records(rows), test_size=1000, minimum_effective_size=0).to_pylist() if row["measure"] == "mine")
    assert found["sign_error"] == pytest.approx(sum(weights[pair] * wrong[pair] for pair in wrong) / total)
    assert found["effective_size"] == pytest.approx(total**2 / sum(each**2 for each in weights.values()))
    assert found["hyperparameter"] == "model.width"


def test_hoeffding_weight_drops_what_may_be_chance() -> None:
    probability = 1 - math.sqrt(0.5)  # a pair counts once the two-sided probability of chance is below this
    limit = 2 * math.sqrt(math.log(2 / probability) / (2 * 500))
    below, above = hoeffding_weight(np.array([limit * 0.99, limit * 1.01]), 500)
    assert below == 0
    assert above > 0
    assert hoeffding_weight(np.array([1.0]), 10**6) == pytest.approx(0.5)


@pytest.mark.parametrize("levels", [3, 1000])
def test_kendall_tau_is_scipys(levels: int) -> None:
    random = np.random.default_rng(levels)
    measure, gap = random.integers(0, levels, (2, 700)).astype(float)
    expected = kendalltau(measure, gap).statistic
    assert kendall_tau(measure, gap) == pytest.approx(expected)
    assert drawn_taus(measure, gap, np.ones((1, 700))) == pytest.approx([expected])
    drawn = random.multinomial(700, np.full(700, 1 / 700))
    repeated = kendalltau(np.repeat(measure, drawn), np.repeat(gap, drawn)).statistic
    assert drawn_taus(measure, gap, drawn[None].astype(float)) == pytest.approx([repeated])


def test_kendall_tau_without_an_order() -> None:
    assert kendall_tau(np.ones(3), np.arange(3.0)) == 0
    assert math.isnan(kendall_tau(np.arange(3.0), np.ones(3)))
    assert math.isnan(kendall_tau(np.ones(1), np.ones(1)))


def test_tau_interval_has_the_width_of_sampling_theory() -> None:
    """Of an unrelated measure: the variance of tau is 2(2n + 5) / (9n(n - 1))."""
    table = grid(seeds=4, noise=0.1, measures=30)
    n = table.num_rows
    expected = 1.96 * math.sqrt(2 * (2 * n + 5) / (9 * n * (n - 1)))
    rows = [row for row in rank_measures(table, test_size=1000).to_pylist() if row["measure"].startswith("noise")]
    widths = [(row["tau.high"] - row["tau.low"]) / 2 for row in rows]
    assert np.mean(widths) == pytest.approx(expected, rel=0.1)
    for score in ("psi", "sign_error_mean"):  # the spread over 30 unrelated measures is known to 1/sqrt(58) of itself
        spread = np.std([row[score] for row in rows], ddof=1)
        half = np.mean([(row[f"{score}.high"] - row[f"{score}.low"]) / 2 for row in rows])
        assert half / 1.96 == pytest.approx(spread, rel=4 / math.sqrt(58))


def test_oracle_is_the_ceiling_and_random_the_floor() -> None:
    table = grid(seeds=4, noise=0.02)
    ranked = rank_measures(table, test_size=10_000)
    assert ranked["measure"].to_pylist()[0] == "oracle"
    assert ranked["measure"].to_pylist()[-1] == "mine"  # minus the gap: always wrong
    scores = ("tau", "psi", "information", "sign_error_mean", "sign_error_p90", "sign_error_max")
    oracle, random, mine, near = (row_of(ranked, name) for name in ("oracle", "random", "mine", "near"))
    assert [oracle[f"{name}{end}"] for name in scores for end in ("", ".low", ".high")] == pytest.approx([1.0] * 9 + [0.0] * 9)
    assert [mine[name] for name in scores] == pytest.approx([-1.0, -1.0, 1.0, 1.0, 1.0, 1.0])
    assert random["psi.low"] < 0 < random["psi.high"]
    assert random["sign_error_mean.low"] < 0.5 < random["sign_error_mean.high"]
    assert random["information"] < near["information"] < 1
    assert all(row[f"{name}.low"] <= row[name] <= row[f"{name}.high"] for row in (random, near) for name in scores)


def test_information_against_plain_counting() -> None:
    table = grid(seeds=2, noise=0.03)
    axes = ["model.width", "model.depth", "optimizer.batch_size"]
    rows = table.to_pylist()
    lowest = math.inf
    for size in range(3):
        for known in itertools.combinations(axes, size):
            counts: dict[tuple[Any, ...], dict[tuple[int, int], int]] = {}
            for one, other in itertools.permutations(rows, 2):
                cell = tuple((one[name], other[name]) for name in known)
                measured, gaps = ([run[name] for run in (one, other)] for name in ("measure.near", "generalization_gap"))
                signs = (int(np.sign(measured[0] - measured[1])), int(gaps[0] > gaps[1]))
                counts.setdefault(cell, {}).setdefault(signs, 0)
                counts[cell][signs] += 1
            information = entropy = 0.0
            for cell in counts.values():
                total = sum(cell.values())
                for (measure, gap), count in cell.items():
                    same_measure = sum(c for (m, _), c in cell.items() if m == measure)
                    same_gap = sum(c for (_, g), c in cell.items() if g == gap)
                    information += count * math.log(count * total / (same_measure * same_gap))
                    entropy -= count * math.log(same_gap / total)
            lowest = min(lowest, information / entropy)
    assert row_of(rank_measures(table, test_size=1000), "near")["information"] == pytest.approx(lowest)


def test_information_is_what_two_hyperparameters_do_not_tell() -> None:
    """A measure that only repeats width and depth orders many pairs, and tells nothing once both are known: the point of the condition."""
    table = grid(seeds=4, noise=0.02)
    sizes = zip(table["model.width"].to_pylist(), table["model.depth"].to_pylist(), strict=True)
    size = pa.chunked_array([[math.log2(width) + 0.6 * depth for width, depth in sizes]])
    table = table.append_column("measure.size", size)
    found = row_of(rank_measures(table, test_size=10_000), "size")
    assert found["tau"] > 0.5
    assert found["information"] == pytest.approx(0, abs=1e-12)
    width_alone = rank_measures(table, test_size=10_000, hyperparameters=["model.width", "optimizer.batch_size"])
    assert row_of(width_alone, "size")["information"] > 0.05


def test_equal_gaps_have_no_order_to_be_wrong_about() -> None:
    """Of the three pairs of widths at one depth, the two with different gaps count."""
    rows = [run(1, 1, 0.1, 1.0), run(2, 1, 0.1, 9.0), run(3, 1, 0.2, 5.0)]
    ranked = rank_measures(records(rows), test_size=10**6, minimum_effective_size=1)
    found = row_of(ranked, "mine")
    assert (found["psi"], found["sign_error_mean"], found["environments"]) == (0.0, 0.5, 2)
    assert found["tau"] == 0.0
    rows[1]["measure.mine"] = 2.0
    found = row_of(rank_measures(records(rows), test_size=10**6, minimum_effective_size=1), "mine")
    assert (found["psi"], found["sign_error_mean"]) == (1.0, 0.0)


def test_constant_measure_scores_nothing_rather_than_nan() -> None:
    """Counts at a fixed architecture."""
    table = by_hand(**{"measure.count": 7.0})
    found = row_of(rank_measures(table, test_size=10**6, minimum_effective_size=1), "count")
    assert (found["tau"], found["psi"], found["sign_error_mean"], found["sign_error_max"]) == (0.0, 0.0, 0.5, 0.5)


def test_runs_without_a_value_are_left_out_of_that_measure_alone() -> None:
    rows = [run(*row) for row in BY_HAND]
    rows[3]["measure.mine"] = math.nan
    rows[1]["measure.other"] = 1.0
    ranked = rank_measures(records(rows), test_size=10**6, minimum_effective_size=1)
    found = row_of(ranked, "mine")
    assert (found["points"], found["environments"]) == (3, 2)
    assert found["psi"] == 1.0
    other = row_of(ranked, "other")
    assert other["points"] == 1
    assert math.isnan(other["psi"])
    assert ranked["measure"].to_pylist()[-1] == "other"


def test_only_runs_that_fit_are_ranked() -> None:
    rows = [run(*row) for row in BY_HAND]
    extra = [run(3, 1, 0.9, -5.0, interpolated=False), run(3, 2, 0.9, -5.0, status="diverged"), run(4, 1, None, -5.0, interpolated=True)]
    alone, mixed = (rank_measures(records(some), test_size=10**6, minimum_effective_size=1) for some in (rows, rows + extra))
    assert row_of(mixed, "mine") == row_of(alone, "mine")


def test_replicates_count_as_pairs_of_their_settings() -> None:
    """Seeds are not compared with each other; 3 seeds give 9 pairs, 4 give 16, and 12 are asked for."""
    assert row_of(rank_measures(grid(seeds=3, noise=0.001), test_size=10**7), "near")["environments"] == 0
    found = row_of(rank_measures(grid(seeds=4, noise=0.001), test_size=10**7), "near")
    assert 0 < found["environments"] <= 3 * 3 * 1 + 3 * 2 * 3 + 3 * 2 * 3
    assert math.isnan(row_of(rank_measures(grid(seeds=3, noise=0.001), test_size=10**7), "near")["sign_error_mean"])


def test_varied_columns_leave_out_seeds_and_what_varies_with_another() -> None:
    rows = [
        run(width, 1, 0.1, 1.0, **{"model.parameters_per_sample": aim, "seed": seed, "data.seed": seed, "corruption.level": level})
        for (width, aim), seed, level in itertools.product([(4, 0.5), (8, 1.0)], [0, 1], [0.0, 1.0])
    ]
    assert varied(records(rows)) == ["corruption.level", "model.width"]


def test_result_depends_on_the_seed_alone() -> None:
    table = grid(seeds=4, noise=0.02)
    first, again = (rank_measures(table, test_size=10_000, seed=3) for _ in range(2))
    assert first.equals(again)
    other = rank_measures(table, test_size=10_000, seed=4)
    assert row_of(first, "near")["psi"] == row_of(other, "near")["psi"]
    assert row_of(first, "random")["psi"] != row_of(other, "random")["psi"]


def test_test_images_are_those_of_the_smallest_data_set() -> None:
    """Every fifth of 1,797 digits; synthetic sets have 10,000."""
    table = grid(seeds=4, noise=0.02)
    names = pa.chunked_array([["digits"] + ["synthetic"] * (table.num_rows - 1)])
    mixed = table.set_column(table.column_names.index("data.name"), "data.name", names)
    axes = ["model.width", "model.depth"]
    found, stated = (sign_errors(mixed, hyperparameters=axes, minimum_effective_size=1, **size) for size in ({}, {"test_size": 360}))
    assert found.num_rows > 0
    assert found.equals(stated)
    assert not found.equals(sign_errors(mixed, hyperparameters=axes, minimum_effective_size=1, test_size=10_000))
    lost = table.set_column(table.column_names.index("data.name"), "data.name", pa.chunked_array([["npz:gone.npz"] * table.num_rows]))
    with pytest.raises(NothingToShow, match="test images cannot be counted"):
        rank_measures(lost)


def test_what_cannot_be_ranked_is_said_in_a_sentence() -> None:
    with pytest.raises(NothingToShow, match="hold no measure"):
        rank_measures(by_hand().drop_columns(["measure.mine"]), test_size=100)
    with pytest.raises(NothingToShow, match="reached its train target"):
        rank_measures(by_hand(interpolated=False), test_size=100)
    with pytest.raises(AnalysisError, match=r"'model\.widht': did you mean 'model\.width'"):
        rank_measures(by_hand(), test_size=100, hyperparameters=["model.widht"])
