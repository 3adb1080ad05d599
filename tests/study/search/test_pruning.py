"""Pruning: who leaves, by what, and what that changes for those who stay (nothing)."""

from __future__ import annotations

from typing import Any

import numpy as np
import optuna
import pytest
import torch

from study.search.plan import plan_search
from study.search.pruning.leaving import Pruning, SuggestionPruner
from study.search.search import Search
from tests.study.made_up_searches import STATES, Trained, spec_of, trials_of
from trainables.point.config import Budget, Data, Model, TrialConfig, with_fields
from trainables.point.errors import ConfigError
from trainables.resolution import resolve
from trainables.training.loop import Result, Training


@pytest.mark.parametrize("name", ["successive_halving", "hyperband", "median"])
def test_it_decides_as_optuna_s_pruner_does_on_single_runs(name: str) -> None:
    draw = np.random.default_rng(0)
    curves = np.minimum.accumulate(draw.random((30, 27)), axis=1)
    pruning = Pruning(name, "validation_error", 27, 3)
    pruner = SuggestionPruner(pruning)
    alone = optuna.create_study(study_name="made up", pruner=pruning.build())
    pruned = 0
    for number, curve in enumerate(curves):
        pruner.enter(("made up", number), [str(number)])
        trial = alone.ask()
        for epoch, error in enumerate(curve, start=1):
            left = pruner.judge([(str(number), epoch, {"validation_error": error, "train_error": 0.0})])
            trial.report(error, epoch)
            if trial.should_prune():
                assert left == [str(number)]
                alone.tell(trial, state=STATES.PRUNED)
                pruned += 1
                break
            assert not left
        else:
            alone.tell(trial, error)
            pruner.close(str(number))
    assert 5 < pruned < 30


def test_a_suggestion_leaves_by_the_mean_of_its_seeds() -> None:
    pruner = SuggestionPruner(Pruning("successive_halving", "validation_error", 9, 1))

    def judge(key: str, error: float) -> list[str]:
        return pruner.judge([(key, 1, {"validation_error": error, "train_error": 0.0})])

    pruner.enter(("made up", 0), ["good"])
    assert judge("good", 0.2) == []
    pruner.enter(("made up", 1), ["a", "b"])
    assert judge("a", 0.9) == []  # its sibling has not reported yet
    assert judge("b", 0.1) == ["b"]  # mean 0.5
    assert pruner.judge([("a", 2, {"validation_error": 0.0, "train_error": 0.0})]) == ["a"]


def test_wilcoxon_compares_the_seeds_of_a_suggestion_with_those_of_the_best() -> None:
    """By the exact distribution for four pairs: p is 1/16 if all are worse, 2/16 if the one that differs least is not."""
    pruner = SuggestionPruner(Pruning("wilcoxon", "validation_error", 9, 2))

    def reported(number: int, epoch: int, errors: list[float], seeds: tuple[int, ...] = (0, 1, 2, 3)) -> list[str]:
        keys = [f"{number}:{seed}" for seed in seeds]
        if epoch == 1:
            pruner.enter(("study", number), keys, seeds)
        rows = [{"validation_error": error, "train_error": 0.0} for error in errors]
        return pruner.judge([(key, epoch, row) for key, row in zip(keys, rows, strict=True)])

    def ended(number: int) -> None:
        for seed in range(4):
            pruner.close(f"{number}:{seed}")

    best = [0.1, 0.2, 0.3, 0.4]
    for epoch in (1, 2):
        assert reported(0, epoch, best) == [], "there is none to compare with"
    ended(0)
    assert reported(1, 1, [0.9] * 4) == [], "not before the second epoch"
    assert reported(1, 2, [0.11, 0.22, 0.33, 0.44]) == [f"1:{seed}" for seed in range(4)]
    for epoch in (1, 2):
        assert reported(2, epoch, [0.09, 0.25, 0.36, 0.48]) == [], "the least difference is the other way"
    assert reported(3, 1, [0.2, 0.3, 0.4, 0.5][::-1], seeds=(3, 2, 1, 0)) == []
    assert len(reported(3, 2, [0.52, 0.41, 0.33, 0.11], seeds=(3, 2, 1, 0))) == 4, "seeds are paired by name, not by place"
    for epoch in (1, 2):
        assert reported(4, epoch, [0.9, 0.9, 0.9], seeds=(0, 1, 2)) == [], "three cannot tell"
    for epoch in (1, 2):
        assert reported(5, epoch, [0.01, 0.02, 0.03, 0.04]) == []
    ended(5)
    assert reported(6, 1, best) == []
    assert len(reported(6, 2, best)) == 4, "it was the best until another was better"


def test_wilcoxon_remembers_the_seeds_of_an_earlier_run(trained: Trained) -> None:
    spec = spec_of(trials=3, replicates=4, pruner="wilcoxon", at_once=1)
    search = trained.run(spec)
    pruner = SuggestionPruner(search.plan.pruning)
    again = Search(search.plan, str(trained.root))
    again.refill(pruner)
    name = again.cells[0].study.study_name
    value, runs = pruner._best[name]
    first = min(trials_of(trained.root), key=lambda trial: trial.values[0])
    assert value == first.values[0]
    assert runs == {seed: {3: 0.03, 6: 0.06, 9: 0.09} for seed in range(4)}
    with pytest.raises(ConfigError, match="wilcoxon compares suggestions seed by seed, and 3 are too few: set replicates to 4 or more"):
        plan_search(spec_of(replicates=3, pruner="wilcoxon"))


def test_members_that_leave_do_not_change_those_that_stay() -> None:
    trial = TrialConfig(
        data=Data(train_size=80, validation_size=40), model=Model(width=5), budget=Budget(epochs=6, stop_at_train_error=None)
    )
    points = [resolve(with_fields(trial, {"seed": seed})) for seed in range(4)]
    leaving = {points[1].key(): 2, points[2].key(): 4}

    def pruner(reports: Any) -> list[str]:
        assert all(set(errors) == {"train_error", "validation_error"} for _, _, errors in reports)  # never the test set
        return [key for key, epoch, _ in reports if leaving.get(key) == epoch]

    def results(training: Training) -> dict[str, Result]:
        found: dict[str, Result] = {}
        while not training.finished:
            found |= {result.key: result for result in training.epoch()}
        return found

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        together = results(Training(points, torch.device("cpu"), pruner=pruner))
        for point in points:
            alone = results(Training([point], torch.device("cpu")))[point.key()]
            result, epochs = together[point.key()], leaving.get(point.key(), 6)
            assert (result.status, result.outcome["epochs"]) == ("pruned" if epochs < 6 else "completed", epochs)
            assert result.curve == alone.curve[:epochs]
    finally:
        torch.set_num_threads(threads)
