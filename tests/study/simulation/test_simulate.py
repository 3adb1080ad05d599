"""Simulation: schedules against brute force, costs against known ones, replays against the search itself with its records written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from math import log10
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import study
from study.plan.packs import expected_seconds
from study.plan.points import declared_points
from study.records.writer import FragmentWriter, Provenance
from study.search.outcomes import Outcomes
from study.search.plan import plan_search
from study.search.search import Search
from study.simulation.cost import RecordedCosts, back_test, held_out
from study.simulation.replay import PACK_SECONDS, forecast, replay, schedule
from study.spec.reading import understand
from tests.study.made_up_results import resolved
from trainables.point.config import TrialConfig
from trainables.point.errors import ConfigError
from trainables.resolution import Point
from trainables.training.loop import Result

RATES, DECAYS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3), (0.0, 1e-4, 1e-3, 1e-2)
EPOCHS = 9
WRITTEN: dict[str, Any] = {
    "study": "planned",
    "trial": {
        "data": {"name": "synthetic", "dimension": 4, "classes": 3, "train_size": 60, "validation_size": 20},
        "model": {"width": 4},
        "budget": {"epochs": EPOCHS},
    },
    "space": {"optimizer.learning_rate": {"choice": list(RATES)}, "regularizers.weight_decay": {"choice": list(DECAYS)}},
    "replicates": 2,
    "search": {"kind": "optuna", "trials": 30, "at_once": 4, "sampler": "random"},
}


def error(point: TrialConfig, epoch: int) -> float:
    """Falls over the epochs to a value that is least at a learning rate of 0.03 and a weight decay of 1e-3."""
    decay = log10(point.regularizers.weight_decay or 1e-5)
    final = abs(log10(point.optimizer.learning_rate / 0.03)) / 4 + abs(decay + 3) / 10 + 0.01 * point.seed
    return final + (1 - final) / epoch**2


def outcome(point: TrialConfig, seconds: float) -> Result:
    last = {"train_error": 0.0, "validation_error": error(point, EPOCHS)}
    curve = [
        {"key": point.key(), "epoch": epoch, "train_error": 0.0, "validation_error": error(point, epoch)} for epoch in range(1, EPOCHS + 1)
    ]
    sizes = {"seconds": seconds, "epochs": EPOCHS, "parameters": 35, "parameters_per_sample": 35 / 60}
    return Result(point, point.key(), "completed", "spent its epochs", last | sizes, curve)


def record(folder: Path, points: Sequence[TrialConfig], seconds: Callable[[TrialConfig], float]) -> str:
    """A study of these points."""
    root = str(folder / "recorded")
    FragmentWriter(root, Provenance("recorded", None, "0"))([outcome(point, seconds(point)) for point in points], "cpu")
    return root


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A record of every point that the search can ask for; each took a second an epoch."""
    spec = understand(WRITTEN | {"search": {}, "space": {name: {"values": axis["choice"]} for name, axis in WRITTEN["space"].items()}})
    points = [point.config for point in declared_points(spec)]
    assert len(points) == len(RATES) * len(DECAYS) * 2
    return record(tmp_path_factory.mktemp("everything"), points, lambda point: EPOCHS)


def planned(**search: Any) -> study.Spec:
    return understand(WRITTEN | {"search": WRITTEN["search"] | search})


# schedules


@given(st.lists(st.integers(1, 50), min_size=1, max_size=7), st.integers(1, 4))
def test_a_schedule_keeps_every_worker_busy_and_grahams_bound(seconds: list[int], workers: int) -> None:
    ends = schedule(seconds, workers)

    def longest(share: Sequence[int]) -> int:
        loads = [0] * workers
        for job, worker in zip(seconds, share, strict=True):
            loads[worker] += job
        return max(loads)

    best = min(longest(share) for share in product(range(workers), repeat=len(seconds)))
    assert best <= max(ends) <= (2 - 1 / workers) * best, "Graham 1966: any list schedule"
    times = [(end - job, end) for job, end in zip(seconds, ends, strict=True)]
    for begin, _ in times:
        assert sum(begun <= begin < over for begun, over in times) <= workers


def test_more_workers_take_less_time_for_the_same_work(everything: str) -> None:
    recorded = RecordedCosts.read(everything)
    points = [Point(row["key"], point) for row, point in zip(recorded.rows, recorded.points, strict=True)]
    told = [forecast(points, recorded, workers) for workers in (1, 2, 4)]
    for one in told:
        overhead = one.worker_hours * 3600 - len(points) * EPOCHS
        assert 0 < overhead < PACK_SECONDS * len(points) + 1e-6
        assert one.hours * one.workers >= one.worker_hours * (1 - 1e-9)
    assert told[0].hours == pytest.approx(told[0].worker_hours)
    assert told[0].hours > told[1].hours > told[2].hours


# costs

WIDTHS = (2, 4, 8, 16, 32, 64, 128)


def test_costs_in_proportion_to_the_expected_ones_are_predicted_exactly(tmp_path: Path) -> None:
    points = [resolved(**{"model.width": width, "seed": seed}) for width in WIDTHS for seed in range(2)]
    recorded = RecordedCosts.read(record(tmp_path, points, lambda point: 7 * expected_seconds(point)))
    for unseen in (resolved(**{"model.width": 24, "seed": 9}), resolved(**{"model.width": 500})):
        assert recorded.seconds(unseen) == pytest.approx(7 * expected_seconds(unseen))
    tested = back_test(recorded)
    assert tested is not None
    assert (tested.point, tested.low, tested.high) == pytest.approx((0, 0, 0), abs=1e-9)


def test_a_back_test_holds_out_all_seeds_of_a_configuration(tmp_path: Path) -> None:
    """Subset and corruption follow the seed: a neighbour that differs in these alone would tell what is asked."""
    points = [resolved(**{"model.width": width, "seed": seed}) for width in WIDTHS for seed in range(3)]
    assert len({point.data.seed for point in points}) == 3
    recorded = RecordedCosts.read(
        record(tmp_path, points, lambda point: expected_seconds(point) * 4 ** (WIDTHS.index(point.model.width) % 2))
    )
    folds = held_out(recorded)
    assert sorted(len(predicted) for fold in folds for predicted, _ in fold) == [3] * len(WIDTHS)
    tested = back_test(recorded)
    assert tested is not None
    assert tested.point > 0.3, "each width tells nothing of the others"


def test_a_back_test_finds_out_that_a_cost_follows_nothing(tmp_path: Path) -> None:
    """Every other width takes four times as long: its neighbours tell the wrong cost, by a factor between 1 and 4."""
    points = [resolved(**{"model.width": width}) for width in WIDTHS]
    recorded = RecordedCosts.read(
        record(tmp_path, points, lambda point: expected_seconds(point) * 4 ** (WIDTHS.index(point.model.width) % 2))
    )
    tested = back_test(recorded)
    assert tested is not None
    assert 0.3 < tested.point < 3
    assert tested.low < -0.2
    assert tested.high > 0.2
    assert back_test(RecordedCosts(recorded.rows[:4])) is None


def test_the_nearest_point_is_the_point_itself_its_seed_or_the_least_distance(everything: str) -> None:
    recorded = RecordedCosts.read(everything)
    by_key = {row["key"]: point for row, point in zip(recorded.rows, recorded.points, strict=True)}
    known = recorded.points[5]
    assert recorded.nearest(known, known.key()) == (known.key(), True)
    other = replace(known, seed=99)
    key, exact = recorded.nearest(other, other.key())
    assert not exact
    assert replace(by_key[key], seed=99) == other
    between = replace(known, optimizer=replace(known.optimizer, learning_rate=0.025))
    key, _ = recorded.nearest(between, between.key())
    assert by_key[key].optimizer.learning_rate == 0.03, "by the logarithm; the difference would say so too"
    lower = replace(known, optimizer=replace(known.optimizer, learning_rate=0.0058))
    key, _ = recorded.nearest(lower, lower.key())
    assert by_key[key].optimizer.learning_rate == 0.01, "0.003 is nearer, and farther by the logarithm"
    assert by_key[key].seed == known.seed


def test_a_study_without_records_teaches_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no finished points"):
        RecordedCosts.read(str(tmp_path))


# searches


def found_with_records(spec: study.Spec, folder: Path) -> float:
    """The best value of the search itself, whose points are recorded as they are asked for."""
    writer = FragmentWriter(str(folder), Provenance("planned", None, "0"))
    running = Search(plan_search(spec), str(folder))
    while not running.finished:
        writer([outcome(point.config, EPOCHS) for point in running.next_pack() or []], None)
        running.collect()
    return float(running.cells[0].study.best_value)


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_a_replay_on_one_worker_finds_what_the_search_finds(everything: str, tmp_path: Path, sampler: str) -> None:
    spec = planned(sampler=sampler)
    recorded, outcomes = RecordedCosts.read(everything), Outcomes(everything)
    came = replay(plan_search(spec), recorded, outcomes, workers=1)
    assert came.exact == came.points
    assert came.best_by(came.hours) == pytest.approx(found_with_records(spec, tmp_path))
    assert came.hours == pytest.approx(came.worker_hours)
    overhead = came.hours * 3600 - came.points * EPOCHS
    assert 0 < overhead <= PACK_SECONDS * came.points + 1e-6
    assert [value for _, value in came.found] == sorted((value for _, value in came.found), reverse=True)
    assert came.best_by(0) is None


def test_more_workers_find_it_sooner_and_a_pruner_for_less(everything: str) -> None:
    recorded, outcomes = RecordedCosts.read(everything), Outcomes(everything)
    alone, four = (replay(plan_search(planned()), recorded, outcomes, workers) for workers in (1, 4))
    assert 2 < alone.hours / four.hours <= 4
    assert four.worker_hours == pytest.approx(alone.worker_hours, rel=0.01)
    pruned = replay(plan_search(planned(pruner="median", trials=60)), recorded, outcomes, workers=1)
    whole = replay(plan_search(planned(trials=60)), recorded, outcomes, workers=1)
    assert pruned.pruned > 0
    assert pruned.worker_hours < 0.9 * whole.worker_hours
    assert pruned.best_by(pruned.hours) == pytest.approx(whole.best_by(whole.hours)), "curves here never cross"


def test_the_command_compares_ways_and_says_what_that_is_worth(everything: str, tmp_path: Path, gaplab: Callable[..., Any]) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(study.understand(WRITTEN).text)
    samplers = ["--sampler", "random", "--sampler", "tpe"]
    told = gaplab("simulate", str(path), "--from", everything, *samplers, "--workers", "4", "--repeats", "2")
    assert told.code == 0, told.err
    lines = [line for line in told.out.splitlines() if "random" in line or "tpe" in line]
    assert len(lines) == 2
    assert "100% of the points were answered by themselves" in told.out
    assert "their total is off by" in told.out
    for mistake in (["--sampler", "nonsense"], ["--pruner", "none", "--from", str(tmp_path / "nothing")]):
        told = gaplab("simulate", str(path), "--from", everything, *mistake)
        assert (told.code, len(told.err.splitlines())) == (2, 1), told.err


def test_records_without_what_a_search_minimizes_are_a_sentence(tmp_path: Path, gaplab: Callable[..., Any]) -> None:
    """Of a study without a validation split."""
    unsplit = understand(WRITTEN | {"search": {}, "space": {}, "trial": WRITTEN["trial"] | {"data": {"train_size": 60}}})
    results = [outcome(point.config, 1.0) for point in declared_points(unsplit)]
    for one in results:
        one.outcome["validation_error"] = None
    FragmentWriter(str(tmp_path / "unsplit"), Provenance("unsplit", None, "0"))(results, "cpu")
    path = tmp_path / "spec.yaml"
    path.write_text(understand(WRITTEN).text)
    told = gaplab("simulate", str(path), "--from", str(tmp_path / "unsplit"))
    assert (told.code, len(told.err.splitlines())) == (2, 1), told.err
    assert "has no validation_error, which the search minimizes" in told.err


def test_the_command_schedules_a_grid_for_several_clusters(everything: str, tmp_path: Path, gaplab: Callable[..., Any]) -> None:
    grid = {name: {"values": axis["choice"]} for name, axis in WRITTEN["space"].items()}
    path = tmp_path / "spec.yaml"
    path.write_text(understand(WRITTEN | {"search": {}, "space": grid, "replicates": 3}).text)
    told = gaplab("simulate", str(path), "--from", everything, "--workers", "1", "--workers", "8", "--ran-with", "2")
    assert told.code == 0, told.err
    assert "72 points, 48 recorded" in told.out
    worker_hours = {line.split("│")[1].strip(): float(line.split("│")[3]) for line in told.out.splitlines() if line.count("│") == 5}
    assert worker_hours == pytest.approx(dict.fromkeys(("1", "8"), 72 * EPOCHS / 3600), rel=0.02)
    assert "Back-test of the schedule: from the first to the last record" in told.out
    assert gaplab("simulate", str(path), "--from", everything, "--sampler", "tpe").code == 2
