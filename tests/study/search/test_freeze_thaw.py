"""Freeze-thaw: who is frozen and thawed, that the budget holds, and that nothing is lost with a process."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from math import exp
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from study.records.writer import FragmentWriter, Provenance
from study.search.plan import plan_search
from study.search.pruning.learning_curves import LearningCurves
from study.search.pruning.leaving import Pruning, SuggestionPruner
from study.search.pruning.thawing import least_epochs
from study.search.search import Search
from study.spec.reading import Spec
from tests.study.made_up_searches import STATES, spec_of, trials_of
from trainables.point.config import TrialConfig
from trainables.point.errors import ConfigError
from trainables.resolution import Point
from trainables.training.members import Result

EPOCHS = 45


def curve(smoothing: float, epoch: int) -> float:
    """Most fall fast, to 0.3 and more; little smoothing falls slowly, to 0.05, and is the last of all after five epochs."""
    return 0.05 + 0.8 * exp(-epoch / 12) if smoothing < 0.05 else 0.3 + smoothing / 4 + 0.4 * exp(-epoch / 2)


class Workers:
    """Stand for workers that train, pause and record, and count the epochs that they train."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.epochs: dict[str, int] = defaultdict(int)
        self.trained = 0
        self._writer = FragmentWriter(str(root), Provenance("made-up", None, ""))

    def train(self, search: Search, pack: list[Point]) -> None:
        """One pack, to the pauses that the search names."""
        pauses, paused = search.pauses(pack), {}
        for point in pack:
            until, kept = pauses.get(point.key, (EPOCHS, True))
            self.trained += max(0, until - self.epochs[point.key])
            self.epochs[point.key] = max(until, self.epochs[point.key])
            if kept and until < EPOCHS:
                paused[point.key] = dict(self._rows(point.config, until))
            else:
                self._record(point, until)
        search.paused(paused)
        search.collect()

    def run(self, spec: Spec, packs: int | None = None) -> Search:
        """A search to its end, or for so many packs."""
        search = Search(plan_search(spec), str(self.root))
        while not search.finished and packs != 0:
            self.train(search, search.next_pack() or [])
            packs = None if packs is None else packs - 1
        return search

    def _rows(self, point: TrialConfig, until: int) -> Mapping[int, dict[str, Any]]:
        errors = {epoch: curve(point.regularizers.label_smoothing, epoch) for epoch in range(1, until + 1)}
        return {epoch: {"validation_error": error + point.seed / 100, "train_error": error / 2} for epoch, error in errors.items()}

    def _record(self, point: Point, until: int) -> None:
        rows = self._rows(point.config, until)
        status = "completed" if until == EPOCHS else "pruned"
        outcome = {**rows[until], "epochs": until, "seconds": 1.0, "parameters": 35, "parameters_per_sample": 0.5}
        written = [{"key": point.key, "epoch": epoch, **row} for epoch, row in rows.items()]
        self._writer([Result(point.config, point.key, status, "made up", outcome, written)], None)


def freezing(trials: int = 18, **search: Any) -> Spec:
    """One slow starter among many."""
    space = {"regularizers.label_smoothing": {"uniform": {"low": 0.01, "high": 0.5}}}
    budget = {"budget": {"epochs": EPOCHS, "stop_at_train_error": None}}
    return spec_of(space, trial=budget, trials=trials, **{"pruner": "freeze_thaw", "at_once": 4} | search)


def test_the_best_that_starts_slow_is_found_within_the_budget_where_halving_loses_it(tmp_path: Path) -> None:
    workers = Workers(tmp_path)
    search = workers.run(freezing())
    trials = trials_of(tmp_path)
    slow = [trial for trial in trials if trial.params["regularizers.label_smoothing"] < 0.05]
    assert 0 < len(slow) < 4
    first = sorted(trials, key=lambda trial: trial.intermediate_values[5])
    assert first[-1] in slow, "it is the worst where halving decides first"
    best = min((trial for trial in trials if trial.state == STATES.COMPLETE), key=lambda trial: trial.values[0])
    assert best in slow
    assert best.values[0] == curve(0.0, EPOCHS)
    assert {trial.state for trial in trials} == {STATES.COMPLETE, STATES.PRUNED}
    assert search.plan.pruning is not None
    assert workers.trained <= (search.plan.pruning.total_epochs or 0) == 18 * EPOCHS // 3
    assert not search.keys() - workers.epochs.keys()

    halving = SuggestionPruner(Pruning("successive_halving", "validation_error", EPOCHS, 5))
    kept = []
    for trial in trials:
        halving.enter(("same", trial.number), [str(trial.number)])
        errors = [curve(trial.params["regularizers.label_smoothing"], epoch) for epoch in range(1, EPOCHS + 1)]
        reports = ([(str(trial.number), epoch, {"validation_error": error, "train_error": 0.0})] for epoch, error in enumerate(errors, 1))
        kept += [] if any(halving.judge(report) for report in reports) else [trial.number]
    assert kept
    assert not {trial.number for trial in slow} & set(kept), "it is gone for good"


@pytest.mark.parametrize("packs", [1, 6])
def test_a_search_that_was_killed_goes_on_with_what_is_frozen(tmp_path: Path, packs: int) -> None:
    workers = Workers(tmp_path)
    workers.run(freezing(), packs)
    begun = {trial.number for trial in trials_of(tmp_path)}
    frozen = {trial.number: max(trial.intermediate_values) for trial in trials_of(tmp_path) if trial.state == STATES.RUNNING}
    assert frozen
    search = workers.run(freezing())
    trials = trials_of(tmp_path)
    assert len(trials) == 18 > max(begun)
    assert {trial.state for trial in trials} == {STATES.COMPLETE, STATES.PRUNED}
    assert all(max(trials[number].intermediate_values) >= epoch for number, epoch in frozen.items())
    assert search.plan.pruning is not None
    assert workers.trained <= (search.plan.pruning.total_epochs or 0)
    assert Search(search.plan, str(tmp_path)).finished, "nothing runs again"


def test_seeds_pause_together_and_count_once(tmp_path: Path) -> None:
    workers = Workers(tmp_path)
    search = workers.run(freezing(trials=4, replicates=3, total_epochs=60))
    assert 4 * 5 + 40 <= workers.trained / 3 <= 60
    ended = [trial for trial in trials_of(tmp_path) if trial.state == STATES.COMPLETE]
    assert len(ended) == 1, "the budget is enough for one"
    assert ended[0].intermediate_values[5] == pytest.approx(curve(ended[0].params["regularizers.label_smoothing"], 5) + 0.01)
    assert search.left == 0


def test_a_budget_that_is_too_small_is_refused() -> None:
    assert least_epochs(18, EPOCHS, 5) == 18 * 5 + 40
    with pytest.raises(
        ConfigError, match=r"search\.total_epochs is 129, and freeze_thaw needs 130 at least: 18 suggestions train for 5 epochs"
    ):
        plan_search(freezing(total_epochs=129))
    seldom = spec_of(trials=6, trial={"budget": {"epochs": 12, "evaluate_every": 4}}, pruner="freeze_thaw", min_epochs=5)
    assert plan_search(seldom).pruning == Pruning("freeze_thaw", "validation_error", 12, 8, None, least_epochs(6, 12, 8))
    with pytest.raises(ConfigError, match=r"search\.total_epochs is the budget of pruner freeze_thaw"):
        plan_search(freezing(total_epochs=500, pruner="median"))


def test_a_forecast_is_that_of_the_gaussian_process() -> None:
    """By the dense formulas of the conditional normal distribution; and it is sure of what was seen."""
    process = LearningCurves(shape=1.0, scale=3.0, spread=0.3, noise=1e-4, variance=0.04, means=(0.2, 0.5))
    seen = {1: 0.6, 2: 0.5, 4: 0.42, 8: 0.35}
    times = np.array([*seen, 30], dtype=float)
    covariance = 0.04 * (0.3 + 3 / (times[:, None] + times + 3))
    means = 0.2 + 0.5 * 3 / (times + 3)
    inverse = np.linalg.inv(covariance[:4, :4] + 0.04e-4 * np.eye(4))
    expected = means[4] + covariance[4, :4] @ inverse @ (np.array(list(seen.values())) - means[:4])
    variance = covariance[4, 4] - covariance[4, :4] @ inverse @ covariance[:4, 4]
    assert process.forecast(seen, 30) == pytest.approx((expected, variance**0.5))
    mean, deviation = process.forecast(seen, 8)
    assert (mean, deviation) == (pytest.approx(0.35, abs=0.01), pytest.approx(0.0, abs=0.01))


def test_curves_of_one_family_are_forecast_from_their_beginnings() -> None:
    draw = np.random.default_rng(0)
    ends = draw.uniform(0.1, 0.4, 30)
    curves = [{epoch: end + 0.5 * 4 / (epoch + 4) for epoch in range(1, 11)} for end in ends]
    fitted = LearningCurves.fitted(curves, 90)
    truth = ends + 0.5 * 4 / 94
    forecasts = np.array([fitted.forecast(one, 90)[0] for one in curves])
    assert np.abs(forecasts - truth).max() < 0.05
    assert np.abs(forecasts - truth).mean() < np.abs(np.array([one[10] for one in curves]) - truth).mean() / 3
