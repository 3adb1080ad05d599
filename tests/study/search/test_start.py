"""A warm start: what another study has recorded is told, tried first or left out, and is none of the search's own finds."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

from study.cli.shown.search import progress_of
from study.records.writer import FragmentWriter, Provenance
from study.search.ablation import best_trial
from study.search.plan import plan_search
from study.search.search import Search
from tests.study.made_up_searches import STATES, Trained, spec_of
from trainables.point.errors import ConfigError
from trainables.training.loop import Result


@pytest.fixture
def trained(tmp_path: Path) -> Trained:
    """In a storage of its own, where another study may lie beside it."""
    return Trained(tmp_path / "made-up")


def earlier(root: Path, **changes: Any) -> Trained:
    """Another study in the same storage: a random search of twelve points."""
    trained = Trained(root.with_name("earlier"))
    trained.run(spec_of(trials=12, seed=3, **changes))
    return trained


def begun(root: Path, **changes: Any) -> Search:
    return Search(plan_search(spec_of(**{"trials": 5, "start_from": "earlier", "sampler": "tpe"} | changes)), str(root))


@pytest.fixture(autouse=True)
def no_warnings() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.simplefilter("default", pytest.PytestUnraisableExceptionWarning)  # garbage of other tests, collected meanwhile
        yield


def test_points_that_are_the_searchs_own_are_told_and_not_trained(trained: Trained) -> None:
    other = earlier(trained.root)
    search = begun(trained.root)
    told = search.cells[0].study.get_trials(deepcopy=False)
    assert [trial.state for trial in told] == [STATES.COMPLETE] * 12 + [STATES.WAITING]
    assert {key for trial in told[:12] for key in trial.user_attrs["keys"]} == set(other.times)
    (said,) = search.told
    assert said.startswith("warm start from earlier: 12 of its configurations are points of this search and told to the sampler; the best")
    assert said.endswith("and 0 more that lie in the space, are tried first; 0 are left out")
    assert search.cells[0].left == 5, "they are none of its trials"
    assert search.keys() == set()
    spec = spec_of(trials=5, start_from="earlier", sampler="tpe")
    done = trained.run(spec)
    assert sum(trained.times.values()) == 5
    assert set(trained.times) == done.keys()
    trials = done.cells[0].study.trials
    least = min(trials[:12], key=lambda trial: trial.values[0])
    assert trials[12].params == least.params, "so that it finds nothing worse"
    best = best_trial(done.ranked(done.cells[0]))
    assert best is not None
    assert best.number >= 12
    assert best.values[0] <= least.values[0]
    assert "5 suggestions declared; 5 complete" in progress_of(done.plan, str(trained.root)).plain
    again = begun(trained.root)
    assert (again.told, again.finished) == ([], True), "once is enough"


def test_what_is_told_changes_what_is_suggested(trained: Trained) -> None:
    earlier(trained.root)
    told, alone = trained.root.with_name("told"), trained.root.with_name("alone")
    rates = []
    for root, start in ((told, "earlier"), (alone, None)):
        search = Trained(root).run(spec_of(trials=14, sampler="tpe", start_from=start))
        own = [trial for trial in search.cells[0].study.trials if "start_from" not in trial.user_attrs]
        rates.append([trial.params for trial in own[2:]])
    assert rates[0] != rates[1]


def test_points_that_differ_elsewhere_are_tried_first_as_many_as_go_into_a_pack(trained: Trained) -> None:
    other = earlier(trained.root, trial={"budget": {"epochs": 5}})
    search = begun(trained.root, at_once=3, trials=8)
    waiting = [trial.system_attrs["fixed_params"] for trial in search.cells[0].study.trials]
    assert "0 of its configurations are points of this search" in search.told[0]
    assert "and 3 more that lie in the space, are tried first; 9 are left out" in search.told[0]
    other_search = Search(plan_search(spec_of(trials=12, seed=3, trial={"budget": {"epochs": 5}})), str(other.root))
    ranked = sorted(other_search.cells[0].study.trials, key=lambda trial: trial.values[0])
    assert waiting[:3] == [trial.params for trial in ranked[:3]]
    trained.run(spec_of(trials=8, at_once=3, start_from="earlier", sampler="tpe"))
    assert sum(trained.times.values()) == 8


def test_what_lies_outside_of_the_space_is_left_out_and_cells_take_their_own(trained: Trained) -> None:
    rate = "optimizer.learning_rate"
    earlier(trained.root, space={rate: {"log_uniform": {"low": 1e-3, "high": 1.0}}, "corruption.level": {"values": [0.0, 0.5]}})
    space = {rate: {"log_uniform": {"low": 1e-2, "high": 1.0}}, "corruption.level": {"values": [0.5, 1.0]}}
    search = begun(trained.root, space=space)
    half, whole = (cell.study.get_trials(deepcopy=False) for cell in search.cells)
    told = [trial for trial in half if trial.state == STATES.COMPLETE]
    assert 0 < len(told) < 12
    assert all(trial.params[rate] >= 1e-2 for trial in told)
    assert f"{len(told)} of its configurations" in search.told[0]
    assert not [trial for trial in whole if trial.state == STATES.COMPLETE], "no record is of that cell"
    assert "24 are left out" in search.told[1]


def test_a_configuration_whose_seeds_are_not_all_there_is_trained(trained: Trained) -> None:
    earlier(trained.root, replicates=2)
    search = begun(trained.root, replicates=3, at_once=2)
    assert "0 of its configurations are points of this search" in search.told[0]
    assert "and 2 more" in search.told[0]
    assert "12 of its configurations are points" in begun(trained.root.with_name("fewer"), replicates=2).told[0]


def test_diverged_and_constrained_ones_are_told_as_they_were(trained: Trained) -> None:
    other = Trained(
        trained.root.with_name("earlier"), status=lambda point: "diverged" if point.optimizer.learning_rate > 0.3 else "completed"
    )
    other.run(spec_of(trials=12, seed=3))
    search = begun(trained.root, constraints=["train_error <= 0.02"])
    told = [trial for trial in search.cells[0].study.trials if trial.state == STATES.COMPLETE]
    assert {trial.values[0] for trial in told if trial.params["optimizer.learning_rate"] > 0.3} == {1.0}
    broken = [max(trial.constraints.values()) > 0 for trial in told]
    assert any(broken)
    assert not all(broken)
    first = next(trial for trial in search.cells[0].study.trials if trial.state == STATES.WAITING)
    allowed = [trial for trial, bad in zip(told, broken, strict=True) if not bad]
    assert first.system_attrs["fixed_params"] == min(allowed, key=lambda trial: trial.values[0]).params


@pytest.mark.parametrize(
    ("reference", "says"),
    [("nowhere", "holds no finished points"), ("made-up", "is this study itself"), ("/no/such/study", "/no/such/study")],
)
def test_a_study_that_teaches_nothing_is_a_sentence_and_leaves_nothing(reference: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"search\.start_from: .*") as caught:
        begun(tmp_path / "made-up", start_from=reference)
    assert says in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_records_without_a_validation_split_are_no_start(trained: Trained) -> None:
    point = next(iter(Search(plan_search(spec_of(trials=1, trial={"budget": {"epochs": 4}})), str(trained.root)).next_pack() or []))
    writer = FragmentWriter(str(trained.root.with_name("earlier")), Provenance("earlier", None, ""))
    writer([Result(point.config, point.key, "completed", "", {"seconds": 1.0, "epochs": 4}, [])], None)
    assert "1 are left out" in begun(trained.root.with_name("new")).told[0]
