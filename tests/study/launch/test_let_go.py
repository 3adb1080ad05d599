"""Packs of which Tune lets go before they ended: they are trained again, or counted as missing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ray.tune.search import Searcher

import study
from analysis.records.fragments import fragments
from study.launch.run import run
from study.launch.searcher import PackSearcher
from study.launch.tuner import ROUNDS, Losses, Trials
from study.search.plan import plan_search
from study.search.search import Search
from tests.study.made_up_searches import Trained, spec_of, trials_of
from trainables.resolution import Point

pytestmark = pytest.mark.xdist_group("faults")

WRITTEN: dict[str, Any] = {
    "study": "let-go",
    "trial": {
        "data": {"name": "synthetic", "dimension": 8, "classes": 3, "train_size": 60},
        "optimizer": {"learning_rate": 0.1},
        "budget": {"epochs": 2},
    },
    "space": {"model.width": {"values": [3, 4, 5, 6]}},
    "resources": {"workers": 1},
    "tracking": {"mlflow": False},
}
DIES_AT_A_CHANGE = """
import os
import signal
from pathlib import Path
from trainables import tune

if os.getpid() != {driver}:
    begun, keeper, died = [], tune._keeper, Path({folder!r}) / "died"

    def dying(*arguments, **options):
        begun.append(True)
        if len(begun) == 2 and not died.exists():
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return keeper(*arguments, **options)

    tune._keeper = dying
"""
"""The first worker that has ended a pack dies as it begins the next one."""


def test_a_worker_that_dies_as_it_changes_packs_loses_none(one_ray: None, tmp_path: Path) -> None:
    (tmp_path / "dies.py").write_text(DIES_AT_A_CHANGE.format(driver=os.getpid(), folder=str(tmp_path)))
    spec = study.understand(WRITTEN | {"imports": ["dies.py"]}, source=tmp_path / "spec.yaml")
    said: list[str] = []
    summary = run(spec, storage=str(tmp_path / "results"), progress=study.Progress(noted=said.append))
    assert (tmp_path / "died").exists()
    assert summary.counts == {"completed": 4}, "Tune gives such a pack up at once; it was not lost for good"
    assert said == ["1 point was let go of without a record or a failure: training goes on with it"]


@pytest.mark.parametrize("rounds", [1, ROUNDS])
def test_points_that_tune_never_ran_are_trained_again_or_missing(
    one_ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rounds: int
) -> None:
    fitted, fit = [0], Trials.fit

    def vanishing(self: Trials, run: Any) -> None:
        fitted[0] += 1
        if fitted[0] > rounds:
            fit(self, run)

    monkeypatch.setattr(Trials, "fit", vanishing)
    said: list[str] = []
    summary = run(study.understand(WRITTEN), storage=str(tmp_path), progress=study.Progress(noted=said.append))
    assert said == ["4 points were let go of without a record or a failure: training goes on with them"] * min(rounds, ROUNDS - 1)
    assert fitted == [min(rounds + 1, ROUNDS)]
    assert summary.missing == (0 if rounds < ROUNDS else 4)


class Searched:
    """A search and what Tune asks it, without Tune."""

    def __init__(self, root: Path, trials: int = 2) -> None:
        self.trained, self.lost, self.losses = Trained(root), list[Point](), Losses()
        self.search = Search(plan_search(spec_of(trials=trials, at_once=1)), str(root))
        self.searcher = PackSearcher(self.search, [], self.losses, self.lost.extend)
        self._numbers: Iterator[str] = map(str, range(10**6))

    def suggested(self) -> tuple[str, list[Point] | Any]:
        """A trial and its pack, or what Tune is told instead."""
        number = next(self._numbers)
        answer = self.searcher.suggest(number)
        return number, self.searcher._packs.get(number, answer)


def test_a_searchs_pack_that_was_lost_once_is_trained_again_and_has_not_failed(tmp_path: Path) -> None:
    searched = Searched(tmp_path)
    first, pack = searched.suggested()
    searched.searcher.on_trial_complete(first, error=True)
    assert not searched.lost, "its worker was lost once"
    second, other = searched.suggested()
    searched.trained(other)
    searched.searcher.on_trial_complete(second)
    with pytest.warns(UserWarning, match="^1 point was let go of without a record or a failure: training goes on with it$"):
        third, again = searched.suggested()
    assert again == pack
    searched.trained(again)
    searched.searcher.on_trial_complete(third)
    assert searched.suggested()[1] == Searcher.FINISHED
    assert searched.search.finished
    assert {trial.state.name for trial in trials_of(tmp_path)} == {"COMPLETE"}


@pytest.mark.filterwarnings("ignore")
def test_a_search_whose_records_are_never_read_ends(tmp_path: Path) -> None:
    """A disk that damages whatever is written: Tune would ask for the next pack for ever."""
    searched = Searched(tmp_path, trials=1)
    for _ in range(ROUNDS):
        number, pack = searched.suggested()
        searched.trained(pack)
        for path in fragments(str(tmp_path)):
            Path(path).write_bytes(b"rotten")
        searched.searcher.on_trial_complete(number)
    assert searched.suggested()[1] == Searcher.FINISHED
    assert not searched.search.finished
