"""The journal of a search: trials that wait are suggested, and looking for them costs nothing while there are none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages.journal import JournalStorage
from optuna.trial import TrialState

from study.search.storage import Storage


def asked(study: optuna.Study) -> float:
    trial = study.ask()
    value = trial.suggest_float("x", 0, 1)
    study.tell(trial, value)
    return value


@pytest.fixture
def scans(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often all trials are looked through for those that wait."""
    found: list[int] = []
    before = JournalStorage.get_all_trials

    def counted(self: JournalStorage, study_id: int, deepcopy: bool = True, states: Any = None) -> Any:
        if states == (TrialState.WAITING,):
            found.append(study_id)
        return before(self, study_id, deepcopy, states)

    monkeypatch.setattr(JournalStorage, "get_all_trials", counted)
    return found


def test_trials_are_looked_through_once_until_one_waits(tmp_path: Path, scans: list[int]) -> None:
    storage = Storage("journal", str(tmp_path))
    study, other = (optuna.create_study(storage=storage.optuna, sampler=optuna.samplers.RandomSampler(0)) for _ in range(2))
    for _ in range(50):
        asked(study)
    assert len(scans) == 1
    study.enqueue_trial({"x": 0.25})
    assert asked(other) != 0.25
    assert asked(study) == 0.25
    for _ in range(50):
        asked(study)
    assert len(scans) <= 4
    assert len(study.get_trials(deepcopy=False)) == 101


def test_trials_that_wait_in_a_journal_are_suggested_when_it_is_opened_again(tmp_path: Path) -> None:
    first = Storage("journal", str(tmp_path))
    study = optuna.create_study(storage=first.optuna, study_name="mine")
    asked(study)
    study.enqueue_trial({"x": 0.75})
    first.flush()
    again = optuna.load_study(study_name="mine", storage=Storage("journal", str(tmp_path)).optuna)
    assert asked(again) == 0.75
    assert asked(again) != 0.75
