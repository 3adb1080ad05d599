"""Searches without training or Ray: an objective in closed form, told through the same records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from math import log10
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from study.records.writer import FragmentWriter, Provenance
from study.search.plan import plan_search
from study.search.search import Search
from study.search.storage import JOURNAL
from study.spec.reading import Spec, understand
from trainables.point.config import TrialConfig
from trainables.resolution import Point
from trainables.training.loop import Result

SPACE: dict[str, Any] = {
    "optimizer.learning_rate": {"log_uniform": {"low": 1e-3, "high": 1.0}},
    "regularizers.label_smoothing": {"uniform": {"low": 0.0, "high": 0.5}},
}
STATES = optuna.trial.TrialState
Objective = Callable[[TrialConfig], dict[str, Any]]


def spec_of(space: dict[str, Any] | None = None, *, replicates: int = 1, trial: dict[str, Any] | None = None, **search: Any) -> Spec:
    data = {"name": "synthetic", "dimension": 4, "classes": 3, "train_size": 60, "validation_size": 30}
    written = {
        "study": "made-up",
        "trial": {"data": data, "model": {"width": 4}, "optimizer": {"learning_rate": 0.1}, "budget": {"epochs": 9}} | (trial or {}),
        "space": SPACE if space is None else space,
        "search": {"kind": "optuna", "trials": 20, "sampler": "random"} | search,
        "replicates": replicates,
        "tracking": {"mlflow": False},
    }
    return understand(written)


def bowl(point: TrialConfig) -> dict[str, Any]:
    """An error that is 0 at learning rate 0.1 and no label smoothing, and grows a little with the seed."""
    error = (log10(point.optimizer.learning_rate) + 1) ** 2 / 8 + point.regularizers.label_smoothing / 4
    size = {"seconds": point.optimizer.learning_rate, "parameters": 35, "parameters_per_sample": 0.5, "epochs": 9}
    return {"validation_error": min(1.0, error + point.seed / 100), "train_error": error / 2} | size


class Trained:
    """Stands for the workers: records an objective's outcomes, and counts how often each key was trained."""

    def __init__(self, root: Path, objective: Objective = bowl, status: Callable[[TrialConfig], str] = lambda point: "completed") -> None:
        self.root, self.times = root, Counter[str]()
        self._objective, self._status = objective, status
        self._writer = FragmentWriter(str(root), Provenance("made-up", None, ""))

    def __call__(self, pack: list[Point]) -> None:
        self.times.update(point.key for point in pack)
        self._writer([self._result(point) for point in pack], None)

    def _result(self, point: Point) -> Result:
        status, outcome = self._status(point.config), self._objective(point.config)
        if status in ("diverged", "failed"):
            return Result(point.config, point.key, status, "made up", {"seconds": 1.0}, [])
        epochs = range(3, 1 + (9 if status == "completed" else 3), 3)
        curve = [{"key": point.key, "epoch": epoch, "validation_error": epoch / 100, "train_error": 0.0} for epoch in epochs]
        return Result(point.config, point.key, status, "made up", outcome, curve)

    def run(self, spec: Spec, packs: int | None = None) -> Search:
        """A search to its end, or for so many packs."""
        search = Search(plan_search(spec), str(self.root))
        while not search.finished and packs != 0:
            self(search.next_pack() or [])
            search.collect()
            packs = None if packs is None else packs - 1
        return search


def trials_of(root: Path) -> list[optuna.trial.FrozenTrial]:
    """As anything else reads them, such as optuna-dashboard: with Optuna's own journal."""
    storage = JournalStorage(JournalFileBackend(str(root / JOURNAL)))
    return [trial for name in optuna.get_all_study_names(storage) for trial in optuna.load_study(study_name=name, storage=storage).trials]
