"""The suggestions of a search that freezes and thaws: which points pause, and when, and what that says of their suggestion.

Nothing of this is lost with the process. That a suggestion is frozen, and what its curve was, stands in its Optuna trial, which is open and
has intermediate values; its networks lie with those of points that are not done (see `study.records.unfinished`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from optuna.trial import FrozenTrial

from analysis.records.searches.objectives import WORST, measured
from analysis.records.searches.trials import keys_of
from study.search.outcomes import Answers
from study.search.pruning.leaving import Pruning, last_by
from study.search.pruning.thawing import Basket
from study.search.suggestion import Cell, Suggestion
from trainables.resolution import Point

Pause = tuple[int, bool]
"""The epoch at which a point's training pauses, and whether it is kept then; otherwise it is recorded as pruned."""
_Name = tuple[str, int]


class Freezer:
    """Who pauses, of all cells of a search.

    Args:
        trials: suggestions in each cell.
        outcomes: what is recorded.
    """

    def __init__(self, pruning: Pruning, trials: int, outcomes: Answers) -> None:
        self._pruning, self._trials, self._outcomes = pruning, trials, outcomes
        self._baskets: dict[str, Basket] = {}
        self._suggestions: dict[_Name, Suggestion] = {}
        self._of: dict[str, _Name] = {}
        self._pauses: dict[str, Pause] = {}
        self._shares: dict[str, float] = {}
        self._paused: dict[str, dict[int, float]] = {}
        """What each point that is frozen has reported: epoch -> value."""
        self._told: dict[_Name, dict[int, float]] = {}
        """What Optuna was told of each suggestion: epoch -> mean over seeds."""

    def remember(self, study: str, trial: FrozenTrial) -> None:
        """A suggestion that has ended in an earlier run."""
        value = trial.values[0] if trial.state.name == "COMPLETE" else None
        self._basket(study).ended(trial.number, self._epochs(keys_of(trial)), trial.intermediate_values, value)

    def recall(self, study: str, trials: Sequence[FrozenTrial]) -> None:
        """Suggestions that an earlier run left open, before they enter."""
        self._told |= {(study, trial.number): dict(trial.intermediate_values) for trial in trials}

    def enters(self, suggestion: Suggestion) -> bool:
        """A suggestion is opened; whether it is frozen, from an earlier run, and not to be trained now."""
        name, trial = _name(suggestion), suggestion.trial
        if isinstance(trial, FrozenTrial):  # its records are gone: it is trained again as far as it was
            if trial.state.name == "PRUNED":
                self._pauses |= {point.key: (max(trial.intermediate_values, default=1), False) for point in suggestion.points}
            return False
        before = self._told.setdefault(name, {})
        self._suggestions[name] = suggestion
        self._of |= {point.key: name for point in suggestion.points}
        until = self._basket(name[0]).begins(trial.number)
        self._pause(suggestion, (until, True), 0)
        if before:
            self._paused |= {point.key: dict(before) for point in self._going_on(suggestion)}
            self._basket(name[0]).froze(trial.number, before)
        return bool(before)

    def told(self, suggestion: Suggestion) -> Collection[int]:
        """The epochs of which Optuna knows the suggestion's mean."""
        return self._told.get(_name(suggestion), {})

    def pauses(self, pack: Sequence[Point]) -> dict[str, Pause]:
        """When each point of a pack pauses; those that do not are not there."""
        return {point.key: self._pauses[point.key] for point in pack if point.key in self._pauses}

    def share(self, key: str) -> float:
        """The share of its epochs that a point trains until it pauses."""
        return self._shares.get(key, 1.0)

    def holds(self, key: str) -> bool:
        """Whether a point is frozen."""
        return key in self._paused

    def paused(self, curves: Mapping[str, Mapping[int, Mapping[str, Any]]]) -> None:
        """Points have paused.

        Args:
            curves: by key: epoch -> train and validation error.
        """
        for key, curve in curves.items():
            if key in self._of and max(curve) >= self._pauses[key][0]:  # a worker that starts anew may tell of an earlier pause
                rows = {epoch: {"status": "running", **row} for epoch, row in curve.items()}
                self._paused[key] = {epoch: measured(row, self._pruning.objective) for epoch, row in rows.items()}
        for name in {self._of[key] for key in curves if key in self._of}:
            self._settle(self._suggestions[name])

    def settle(self, keys: Collection[str]) -> None:
        """These points are recorded: the other seeds of their suggestions may be frozen."""
        for name in {self._of[key] for key in keys if key in self._of}:
            self._settle(self._suggestions[name])

    def ended(self, suggestion: Suggestion, value: float | None) -> None:
        """A suggestion was reported."""
        name = _name(suggestion)
        if self._suggestions.pop(name, None):
            for point in suggestion.points:
                self._of.pop(point.key, None)
                self._paused.pop(point.key, None)
                self._pauses.pop(point.key, None)
            self._basket(name[0]).ended(name[1], self._epochs(point.key for point in suggestion.points), self._told[name], value)

    def thawed(self, cells: Sequence[Cell], most: int) -> list[Point]:
        """Points to be trained on now, of the cells' suggestions that promise most, or to be dropped; none if others come first.

        Args:
            most: suggestions at once.
        """
        for cell in cells:
            study, basket = cell.study.study_name, self._basket(cell.study.study_name)
            before = basket.reached()
            until = {number: (epoch, True) for number, epoch in basket.thawed(most, not cell.left).items()}
            if not until and not cell.left and not basket.training:
                until = {number: (epoch, False) for number, epoch in basket.dropped().items()}
            if until:
                paused = (self._pause(self._suggestions[study, number], pause, before[number]) for number, pause in until.items())
                return [point for points in paused for point in points]
        return []

    def _pause(self, suggestion: Suggestion, pause: Pause, before: int) -> list[Point]:
        """Note when the seeds of a suggestion that go on, from an epoch, pause next; these seeds."""
        going_on = self._going_on(suggestion)
        for point in going_on:
            self._pauses[point.key] = pause
            self._shares[point.key] = (pause[0] - before) / max(1, self._pruning.epochs)
            self._paused.pop(point.key, None)
        return going_on

    def _settle(self, suggestion: Suggestion) -> None:
        """Freeze a suggestion if each of its seeds is frozen or recorded, and one is frozen."""
        going_on, name = self._going_on(suggestion), _name(suggestion)
        if not going_on or not all(point.key in self._paused for point in going_on) or name[1] in self._basket(name[0]).frozen:
            return
        paused = [self._paused[point.key] for point in going_on]
        curves = [*paused, *(self._recorded(point.key) for point in suggestion.points if point not in going_on)]
        told = self._told[name]
        for epoch in sorted(set.intersection(*map(set, paused)) - told.keys()):
            values = [value for curve in curves if (value := last_by(curve, epoch)) is not None]
            told[epoch] = sum(values) / len(values)
            suggestion.trial.report(told[epoch], epoch)
        self._basket(name[0]).froze(name[1], told)

    def _recorded(self, key: str) -> Mapping[int, float]:
        """What a recorded seed has reported; of one that did not get through the worst, from the beginning."""
        if self._outcomes[key]["status"] != "completed":
            return {0: WORST}
        curve = self._outcomes.curve(key)
        return {epoch: measured({"status": "running", **row}, self._pruning.objective) for epoch, row in curve.items()}

    def _epochs(self, keys: Iterable[str]) -> int:
        """The epochs that a suggestion has trained: those of the seed that trained longest."""
        return max((self._outcomes[key]["epochs"] or 0 for key in keys if key in self._outcomes), default=0)

    def _going_on(self, suggestion: Suggestion) -> list[Point]:
        return [point for point in suggestion.points if point.key not in self._outcomes]

    def _basket(self, study: str) -> Basket:
        if study not in self._baskets:
            self._baskets[study] = Basket(self._pruning, self._trials)
        return self._baskets[study]


def _name(suggestion: Suggestion) -> _Name:
    return suggestion.cell.study.study_name, suggestion.trial.number
