"""Searches: what is asked, trained, told; what a crash leaves. Most run without training or Ray."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from math import log10
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.storages import JournalStorage

import analysis
import study
from analysis.records.fragments import fragments, read_fragments
from study.search.ablation import ablations
from study.search.plan import plan_search
from study.search.pruning.leaving import SuggestionPruner
from study.search.samplers import Task, build, chosen
from study.search.search import Search
from study.search.storage import JOURNAL, GroupCommit
from tests.study.made_up_searches import SPACE, STATES, Trained, bowl, spec_of, trials_of
from trainables.point.config import TrialConfig, with_fields

# What is told


def test_what_is_told_is_the_mean_over_the_seeds(trained: Trained) -> None:
    trained.run(spec_of(replicates=3))
    for trial in trials_of(trained.root):
        rate, smoothing = trial.params["optimizer.learning_rate"], trial.params["regularizers.label_smoothing"]
        assert trial.value == pytest.approx((log10(rate) + 1) ** 2 / 8 + smoothing / 4 + 0.01, abs=1e-12)
        assert len(trial.user_attrs["keys"]) == 3


def test_the_first_suggestion_is_the_trial_as_written(trained: Trained) -> None:
    space = {"regularizers": ["dropout", "learning_rate"]}
    trained.run(spec_of(space, trial={"optimizer": {"learning_rate": 0.05}}, trials=3))
    assert trials_of(trained.root)[0].params == {"use_dropout": False, "optimizer.learning_rate": 0.05}


def test_several_objectives_give_the_pareto_front(trained: Trained) -> None:
    search = trained.run(spec_of(objective=["validation_error", "seconds"], trials=60))
    told = np.array([trial.values for trial in search.cells[0].study.trials])
    dominated = [(np.all(told <= one, axis=1) & np.any(told < one, axis=1)).any() for one in told]
    front = {tuple(values) for values, beaten in zip(told.tolist(), dominated, strict=True) if not beaten}
    assert {tuple(trial.values) for trial in search.cells[0].study.best_trials} == front
    assert len(front) > 1


def test_the_gap_and_the_constraint_are_of_the_record(trained: Trained) -> None:
    search = trained.run(spec_of(objective="validation_gap", constraints=["train_error <= 0.05", "seconds >= 0.02"], trials=40))
    rows = read_fragments(str(trained.root), fragments(str(trained.root))).to_pylist()
    gaps = {row["key"]: row["validation_error"] - row["train_error"] for row in rows}
    kept = {row["key"] for row in rows if row["train_error"] <= 0.05 and row["seconds"] >= 0.02}
    assert 0 < len(kept) < 40
    for trial in search.cells[0].study.trials:
        (key,) = trial.user_attrs["keys"]
        assert trial.value == pytest.approx(gaps[key], abs=1e-12)
        assert all(violation <= 0 for violation in trial.constraints.values()) == (key in kept)
    assert search.cells[0].study.best_trial.user_attrs["keys"][0] == min(kept, key=lambda key: gaps[key])


def test_a_run_that_diverged_is_told_as_all_wrong_and_one_that_failed_as_failed(tmp_path: Path) -> None:
    def status(point: TrialConfig) -> str:
        rate = point.optimizer.learning_rate
        return "diverged" if rate > 0.3 else "failed" if rate < 0.003 else "completed"

    Trained(tmp_path, status=status).run(spec_of(trials=40))
    seen = set()
    for trial in trials_of(tmp_path):
        rate = trial.params["optimizer.learning_rate"]
        expected = STATES.FAIL if rate < 0.003 else STATES.COMPLETE
        assert trial.state == expected
        assert trial.value == 1.0 if rate > 0.3 else True
        seen.add((expected, rate > 0.3))
    assert len(seen) == 3


def test_a_pruned_member_is_told_as_pruned_with_what_it_reported(tmp_path: Path) -> None:
    spec = spec_of(pruner="successive_halving", trials=12)
    trained = Trained(tmp_path, status=lambda point: "pruned" if point.optimizer.learning_rate < 0.03 else "completed")
    search = Search(plan_search(spec), str(tmp_path))
    assert search.plan.pruning
    search.refill(SuggestionPruner(search.plan.pruning))
    while not search.finished:
        trained(search.next_pack() or [])
        search.collect()
    states = Counter(trial.state for trial in trials_of(tmp_path))
    assert set(states) == {STATES.PRUNED, STATES.COMPLETE}
    for trial in trials_of(tmp_path):
        assert trial.intermediate_values == ({3: 0.03} if trial.state == STATES.PRUNED else {3: 0.03, 6: 0.06, 9: 0.09})


# What is trained


def test_packs_hold_as_many_suggestions_as_asked_for_and_share_their_shapes(trained: Trained) -> None:
    space = SPACE | {"optimizer.batch_size": {"choice": [8, 16]}}
    search = Search(plan_search(spec_of(space, trials=32, at_once=8, replicates=2)), str(trained.root))
    sizes = []
    while not search.finished:
        pack = search.next_pack() or []
        assert len({point.config.signature() for point in pack}) == 1
        sizes.append(len(pack))
        trained(pack)
        search.collect()
    assert sum(sizes) == 64
    assert max(sizes) <= 16


def test_nothing_recorded_is_trained_again(trained: Trained) -> None:
    space = {"optimizer.batch_size": {"choice": [8, 16, 32]}, "regularizers.label_smoothing": {"choice": [0.0, 0.1]}}
    trained.run(spec_of(space, trials=50))
    assert len(trained.times) == 6
    assert set(trained.times.values()) == {1}
    assert Counter(trial.state for trial in trials_of(trained.root)) == {STATES.COMPLETE: 50}
    trained.run(spec_of(space, trials=10, objective="validation_gap"))  # another question of the same points
    assert set(trained.times.values()) == {1}


def test_a_search_goes_on_where_it_was_extended(trained: Trained) -> None:
    trained.run(spec_of(trials=8))
    search = trained.run(spec_of(SPACE | {"optimizer.learning_rate": {"log_uniform": {"low": 1e-2, "high": 1.0}}}, trials=20))
    assert len(trials_of(trained.root)) == len(search.cells[0].study.trials) == 20
    assert sum(trained.times.values()) == 20


def test_another_trial_is_another_search_in_the_same_storage(trained: Trained) -> None:
    trained.run(spec_of(trials=5))
    search = trained.run(spec_of(trials=5, trial={"budget": {"epochs": 12}}))
    assert len(search.cells[0].study.trials) == 5
    assert len(trials_of(trained.root)) == 10


def test_each_cell_of_listed_axes_has_its_own_optuna_study(trained: Trained) -> None:
    space = SPACE | {"model.width": {"values": [2, 4, 8]}, "corruption.level": {"values": [0, 0.4]}}
    search = trained.run(spec_of(space, trials=7, at_once=3, replicates=2))
    assert len(search.cells) == 6
    assert all(len(cell.study.trials) == 7 for cell in search.cells)
    assert sum(trained.times.values()) == 6 * 7 * 2
    rows = read_fragments(str(trained.root), fragments(str(trained.root))).to_pylist()
    by_key = {row["key"]: (row["model.width"], row["corruption.level"]) for row in rows}
    for cell in search.cells:
        settings = {by_key[key] for trial in cell.study.trials for key in trial.user_attrs["keys"]}
        assert settings == {(cell.assignment["model.width"], cell.assignment["corruption.level"])}


def test_a_function_may_be_the_space(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "def mine(trial):\n"
        "    depth = trial.suggest_int('model.depth', 1, 3)\n"
        "    rates = [trial.suggest_float(f'rate {layer}', 1e-3, 1, log=True) for layer in range(depth)]\n"
        "    return {'model.depth': depth, 'optimizer.learning_rate': max(rates)}\n"
    )
    written = spec_of({}, function="mine.py:mine", trials=10).text
    (tmp_path / "spec.yaml").write_text(written)
    search = Trained(tmp_path / "results").run(study.read_spec(tmp_path / "spec.yaml"))
    assert {len(trial.params) - 1 == trial.params["model.depth"] for trial in search.cells[0].study.trials} == {True}


# Crashes


@pytest.mark.parametrize("told", [0, 1, 3])
def test_a_crash_loses_no_suggestion_asks_none_twice_and_leaves_none_open(trained: Trained, told: int) -> None:
    spec = spec_of(trials=40, at_once=8, replicates=2)
    trained.run(spec, packs=told)
    crashed = Search(plan_search(spec), str(trained.root))  # asks for two packs, one of which is recorded but not told
    first, second = crashed.next_pack() or [], crashed.next_pack() or []
    trained(first)
    left_open = {trial.number: trial.params for trial in trials_of(trained.root) if trial.state == STATES.RUNNING}
    assert len(left_open) == 16
    del crashed
    search = trained.run(spec)
    trials = trials_of(trained.root)
    assert Counter(trial.state for trial in trials) == {STATES.COMPLETE: 40}
    assert {number: trials[number].params for number in left_open} == left_open
    assert len({json.dumps(trial.params) for trial in trials}) == 40
    assert len(trained.times) == 80
    assert set(trained.times.values()) == {1}
    assert {point.key for point in second} <= search.keys()


def test_a_resumed_random_search_does_not_repeat_its_draws(trained: Trained) -> None:
    for trials in (10, 20, 30):
        trained.run(spec_of(trials=trials))
    rates = [trial.params["optimizer.learning_rate"] for trial in trials_of(trained.root)]
    assert len(set(rates)) == 30


def test_failures_of_an_earlier_run_do_not_count(tmp_path: Path) -> None:
    Trained(tmp_path, status=lambda point: "failed" if point.optimizer.learning_rate < 0.1 else "completed").run(spec_of(trials=20))
    failed = sum(trial.state == STATES.FAIL for trial in trials_of(tmp_path))
    assert failed
    Trained(tmp_path).run(spec_of(trials=20))
    assert Counter(trial.state for trial in trials_of(tmp_path)) == {STATES.FAIL: failed, STATES.COMPLETE: 20}


def test_a_pack_that_kills_its_workers_is_tried_point_by_point(trained: Trained) -> None:
    search = Search(plan_search(spec_of(trials=8, at_once=8)), str(trained.root))
    pack = search.next_pack() or []
    assert search.give_up(pack)
    alone = [search.next_pack() for _ in pack]
    assert sorted(point.key for one in alone for point in one or []) == sorted(point.key for point in pack)
    assert all(one and len(one) == 1 for one in alone)
    assert not search.give_up(alone[0] or [])


def test_a_database_keeps_trials_as_well(trained: Trained) -> None:
    url = f"sqlite:///{trained.root}/trials.db"
    trained.run(spec_of(storage=url, trials=10), packs=1)
    trained.run(spec_of(storage=url, trials=10))
    (name,) = optuna.get_all_study_names(url)
    assert Counter(trial.state for trial in optuna.load_study(study_name=name, storage=url).trials) == {STATES.COMPLETE: 10}
    assert not (trained.root / JOURNAL).exists()


def test_the_journal_reaches_the_disk_in_groups_and_reads_as_optuna_s_own(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    backend = GroupCommit(str(path))
    running = optuna.create_study(storage=JournalStorage(backend), study_name="made up", sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(3):
        trial = running.ask()
        trial.suggest_float("x", 0, 1)
        assert trial.number == len(running.trials) - 1
    assert not path.exists()
    backend.flush()
    running.tell(1, 0.5)
    backend.flush()
    with path.open("ab") as file:
        file.write(b'{"op_code": 4, "wor')  # what a kill may leave
    again = optuna.load_study(study_name="made up", storage=JournalStorage(GroupCommit(str(path))))
    assert [(trial.state, trial.params, trial.value) for trial in again.trials] == [
        (trial.state, trial.params, trial.value) for trial in running.trials
    ]


# Samplers


def test_tpe_beats_random_search_also_in_packs() -> None:
    from tests.benchmarks.bench_search import best_found

    best = {name: np.array([best_found(name, 8, seed, trials=40) for seed in range(8)]) for name in ("tpe", "random")}
    differences = best["random"] - best["tpe"]
    t = differences.mean() / (differences.std(ddof=1) / len(differences) ** 0.5)
    assert t > 2.36  # Student's 97.5 % point with 7 degrees of freedom; benchmarked at 24 seeds and 96 trials


@pytest.mark.parametrize(
    ("task", "name"),
    [
        (Task(trials=50, objectives=1, constraints=0, numbers=3, others=0), "gp"),
        (Task(trials=50, objectives=1, constraints=0, numbers=3, others=1), "tpe"),
        (Task(trials=1000, objectives=2, constraints=0, numbers=3, others=0), "tpe"),
        (Task(trials=5000, objectives=1, constraints=0, numbers=3, others=2), "nsga2"),
        (Task(trials=5000, objectives=4, constraints=0, numbers=3, others=0), "nsga3"),
        (Task(trials=100_000, objectives=1, constraints=0, numbers=3, others=2), "qmc"),
    ],
)
def test_the_default_sampler_follows_budget_and_space(task: Task, name: str) -> None:
    assert chosen("auto", task)[0] == name


@pytest.mark.parametrize("name", ["tpe", "gp", "cma_es", "nsga2", "nsga3", "qmc", "random"])
def test_every_sampler_searches_a_conditional_space(name: str, trained: Trained) -> None:
    search = trained.run(spec_of(SPACE | {"regularizers": ["dropout", "schedule"]}, sampler=name, trials=12, at_once=4))
    assert len(search.cells[0].study.trials) == 12
    assert type(search.cells[0].study.sampler) is type(build(name, 0))


# On the command line


def test_show_and_status_say_what_is_searched_how_and_how_far(trained: Trained) -> None:
    from rich.console import Console

    from study.cli.shown.search import concluded, described, progress_of

    spec = spec_of(SPACE | {"model.width": {"values": [2, 4]}}, sampler="auto", replicates=3)
    search, root = plan_search(spec), trained.root / spec.study
    console = Console(width=160, record=True)
    for part in (*described(search, str(root), 1), progress_of(search, str(root))):
        console.print(part)
    text = console.export_text()
    assert "2 cells x 20 suggestions x 3 seeds = 120 points" in text
    assert "GP: numbers only, up to 100 trials" in text
    assert "0.001 to 1, logarithmic" in text
    assert "40 suggestions declared; none asked for yet" in text
    assert not list(trained.root.rglob("*"))
    Trained(root).run(spec_of(SPACE | {"model.width": {"values": [2, 4]}}, replicates=3))
    assert "40 suggestions declared; 40 complete" in str(progress_of(search, str(root)))
    tables, files = concluded(search, str(root), root / "charts")
    assert len(tables) == 1
    assert [file.name for file in files] == ["search.html"]


# Afterwards


def test_the_ablation_takes_one_regularizer_out_at_a_time_on_fresh_seeds(trained: Trained) -> None:
    def better_with_more(point: TrialConfig) -> dict[str, Any]:
        regularizers = point.regularizers
        error = 0.9 - 0.2 * (regularizers.weight_decay > 0) - 0.2 * (regularizers.dropout > 0) - 0.2 * (regularizers.mixup > 0)
        return bowl(point) | {"validation_error": error}

    trained = Trained(trained.root, better_with_more)
    search = trained.run(spec_of({"regularizers": ["weight_decay", "dropout", "mixup", "learning_rate"]}, trials=60, replicates=2))
    (ablation,) = ablations(search, seeds=4)
    names = {"without weight_decay", "without dropout", "without mixup"}
    assert set(ablation.variants) == names | {"tuned", "untuned", "without any regularizer"}
    tuned = ablation.variants["tuned"][0].config
    for name in names:
        field = f"regularizers.{name.removeprefix('without ')}"
        assert ablation.variants[name][0].config == with_fields(tuned, {field: 0.0})
    assert {point.config.seed for points in ablation.variants.values() for point in points}.isdisjoint({0, 1})
    assert not {point.key for points in ablation.variants.values() for point in points} & set(trained.times)
    assert [point.config.optimizer for point in ablation.variants["untuned"]] == [search.cells[0].trial.optimizer] * 4


def test_without_a_suggestion_that_kept_to_the_constraints_nothing_is_compared(trained: Trained) -> None:
    search = trained.run(spec_of(constraints=["train_error <= -1"], trials=5))
    assert ablations(search, seeds=2) == []


# With Ray

REAL: dict[str, Any] = {
    "study": "real",
    "trial": {
        "data": {"name": "digits", "train_size": 200, "validation_size": 100},
        "model": {"width": 8},
        "optimizer": {"batch_size": 50},
        "budget": {"epochs": 60, "stop_at_train_error": None},
    },
    "space": {"regularizers": ["weight_decay", "dropout", "learning_rate"]},
    "replicates": 2,
    "search": {"kind": "optuna", "trials": 60, "at_once": 6, "pruner": "successive_halving"},
    "resources": {"workers": 1},
    "tracking": {"mlflow": False},
}


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    script = f"import study; study.run(study.understand({REAL!r}), storage={str(tmp_path)!r})"
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    yield process
    process.kill()
    process.wait()


@pytest.mark.xdist_group("ray")
def test_a_killed_driver_is_followed_by_the_same_search(tmp_path: Path, driver: subprocess.Popen[bytes]) -> None:
    root, records = tmp_path / "real", tmp_path / "real" / "records"
    deadline = time.monotonic() + 300
    while not (records.is_dir() and any(records.glob("*.parquet"))):
        assert driver.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    before = Counter(trial.state for trial in trials_of(root))
    assert before[STATES.COMPLETE] + before[STATES.PRUNED] < 60
    summary = study.run(study.understand(REAL), storage=str(tmp_path))
    trials = trials_of(root)
    states = Counter(trial.state for trial in trials)
    assert len(trials) == states[STATES.COMPLETE] + states[STATES.PRUNED] == 60
    assert states[STATES.COMPLETE]
    assert states[STATES.PRUNED]
    assert len({json.dumps(trial.params) for trial in trials}) == 60
    keys = analysis.load(str(root), columns=["key"])["key"].to_pylist()  # what a killed driver's worker still wrote stands once
    assert len(keys) == len(set(keys)) == 120
    assert summary.declared == 120
    assert not summary.missing
