"""Freeze-thaw: every suggestion begins and is frozen, and the budget goes to those that promise most (Swersky, Snoek & Adams 2014).

A suggestion trains for `min_epochs` and is frozen, with its networks kept. Which are thawed, to train for as many epochs again, is
decided by the expected improvement of where their curves will end over the best one so far. What is left of the budget in the end brings
the one of the best forecast to its end. The others are dropped then, and recorded as pruned.

Theirs chooses by entropy search and may begin another suggestion at any time; here so many are asked for, and thaws keep pace with them,
so that the sampler learns from some that ended.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from math import ceil

from study.search.pruning.learning_curves import LearningCurves, expected_improvement
from study.search.pruning.leaving import REDUCTION, Pruning

SHARE = 3
"""One in so many of the epochs of a search without pruning are trained by default."""
REFIT = 1.25
"""The process is fitted anew when there are so many times as many values as at the last time."""


def least_epochs(trials: int, epochs: int, min_epochs: int) -> int:
    """The least budget: all suggestions begin, and one gets to its end."""
    return trials * min(epochs, min_epochs) + max(0, epochs - min_epochs)


def epochs_by_default(trials: int, epochs: int, min_epochs: int) -> int:
    """The budget of a search that names none."""
    return max(least_epochs(trials, epochs, min_epochs), ceil(trials * epochs / SHARE))


class Basket:
    """The suggestions of one cell, by number: who trains, who is frozen, and what is left of the budget.

    Epochs are those of a suggestion: its seeds train side by side, and count once.

    Args:
        trials: suggestions that are asked for in all.
    """

    def __init__(self, pruning: Pruning, trials: int) -> None:
        self._pruning, self._trials = pruning, trials
        self._first = min(pruning.epochs, pruning.min_epochs)
        self._budget = pruning.total_epochs or epochs_by_default(trials, pruning.epochs, pruning.min_epochs)
        self._reaches: dict[int, int] = {}
        """The epoch that each has reached, or that it is training to."""
        self._frozen: dict[int, Mapping[int, float]] = {}
        self._training: set[int] = set()
        self._ended: dict[int, Mapping[int, float]] = {}
        self._best: float | None = None
        self._curves: LearningCurves | None = None
        self._fitted_to = 0
        self._forecasts: dict[int, tuple[float, float]] = {}

    @property
    def frozen(self) -> Collection[int]:
        """The numbers of the suggestions that are frozen."""
        return self._frozen.keys()

    @property
    def training(self) -> Collection[int]:
        """The numbers of the suggestions that train, or are about to."""
        return self._training

    def reached(self) -> dict[int, int]:
        """The epoch that each suggestion has reached, or is training to."""
        return dict(self._reaches)

    def begins(self, number: int) -> int:
        """A suggestion trains for the first time; the epoch at which it is to be frozen."""
        self._reaches[number] = self._first
        self._training.add(number)
        return self._first

    def froze(self, number: int, curve: Mapping[int, float]) -> None:
        """A suggestion is frozen.

        Args:
            curve: the mean over its seeds at each epoch; the last is where it is.
        """
        self._training.discard(number)
        self._frozen[number] = dict(curve)
        self._reaches[number] = max(curve, default=self._first)
        self._forecasts.pop(number, None)

    def ended(self, number: int, epochs: int, curve: Mapping[int, float], value: float | None) -> None:
        """A suggestion has ended.

        Args:
            epochs: that it trained.
            value: what it came to; None if it was dropped, or failed.
        """
        self._training.discard(number)
        self._frozen.pop(number, None)
        self._reaches[number] = epochs
        if curve:
            self._ended[number] = dict(curve)
        if value is not None and (self._best is None or value < self._best):
            self._best = value

    def thawed(self, most: int, asked: bool) -> dict[int, int]:
        """The suggestions to be trained on now, and the epochs at which they are frozen again; none if others should begin, or end, first.

        Args:
            most: how many at most; never more than one in three of those that are frozen.
            asked: whether all suggestions have begun.
        """
        found: dict[int, int] = {}
        most = min(most, ceil(len(self._frozen) / REDUCTION))
        while self._frozen and len(found) < most and (number := self._next(asked)) is not None:
            found[number] = self._reaches[number]
        return found

    def dropped(self) -> dict[int, int]:
        """Drop all that are frozen; the epochs at which they are."""
        found = {number: self._reaches[number] for number in self._frozen}
        self._frozen.clear()
        self._training.update(found)
        return found

    def _next(self, asked: bool) -> int | None:
        """Thaw one, if one is to be thawed."""
        last, left = self._pruning.epochs, self._left()
        promising = min(self._frozen, key=lambda number: self._forecast(number)[0])
        if left - self._first >= last - self._reaches[promising]:
            if not asked and self._spent_on_thaws() >= self._for_thaws() * len(self._reaches) / self._trials:
                return None
            best = min([self._forecast(promising)[0], *([] if self._best is None else [self._best])])
            number = max(self._frozen, key=lambda one: expected_improvement(*self._forecast(one), best))
            return self._thaw(number, min(last, self._reaches[number] + self._first))
        can_end = [number for number in self._frozen if last - self._reaches[number] <= left]
        if not asked or self._training or not can_end:  # one in training may turn out to be the best
            return None
        return self._thaw(min(can_end, key=lambda number: self._forecast(number)[0]), last)

    def _thaw(self, number: int, until: int) -> int:
        del self._frozen[number]
        self._reaches[number] = until
        self._training.add(number)
        return number

    def _for_thaws(self) -> int:
        return self._budget - self._trials * self._first

    def _spent_on_thaws(self) -> int:
        return sum(max(0, epoch - self._first) for epoch in self._reaches.values())

    def _left(self) -> int:
        return self._for_thaws() - self._spent_on_thaws()

    def _forecast(self, number: int) -> tuple[float, float]:
        """Mean and standard deviation of where a frozen suggestion will end."""
        curves = [curve for curve in (*self._frozen.values(), *self._ended.values()) if curve]
        values = sum(map(len, curves))
        if self._curves is None or values > REFIT * self._fitted_to:
            self._curves, self._fitted_to = LearningCurves.fitted(curves, self._pruning.epochs), values
            self._forecasts.clear()
        if number not in self._forecasts:
            self._forecasts[number] = self._curves.forecast(self._frozen[number], self._pruning.epochs)
        return self._forecasts[number]
