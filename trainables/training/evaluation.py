"""Loss and error of stacked members on their train, validation and test samples, exact at the end of an epoch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from trainables.data.misclassified import misclassified
from trainables.data.protocol import PointData, Samples
from trainables.engines import Engine
from trainables.engines.base import losses_and_errors
from trainables.training.distributed import Processes


@dataclass(frozen=True)
class Score:
    """Mean loss and error of one member: 1 - accuracy, or of regression the mean squared error in units of the targets' variance.

    Train error is on the labels trained on.
    """

    train_loss: float
    train_error: float
    validation_error: float | None
    test_loss: float
    test_error: float
    clean_train_error: float | None
    wrong_train_error: float | None
    clean_train_loss: float | None
    wrong_train_loss: float | None
    train_top_five_error: float | None
    test_top_five_error: float | None
    train_misclassified: Tensor
    of_regression: bool = False

    def as_columns(self) -> dict[str, Any]:
        """The columns of a curve: an error of regression has columns of its own."""
        none = _OF_CLASSES if self.of_regression else ()
        return {self.column(name): None if name in none else getattr(self, name) for name in _COLUMNS}

    def column(self, name: str) -> str:
        """The column that one of the errors, or losses, stands in."""
        return _OF_REGRESSION.get(name, name) if self.of_regression else name

    def errors(self) -> dict[str, Any]:
        """What is reported while the member trains, by column: train and validation error."""
        return {self.column(name): getattr(self, name) for name in ("train_error", "validation_error")}

    def as_outcome(self) -> dict[str, Any]:
        """The columns of a record."""
        gap = "nmse_gap" if self.of_regression else "generalization_gap"
        names = ("train_error", "train_loss", "validation_error", "test_error", "test_loss")
        columns = {self.column(name): getattr(self, name) for name in names}
        return columns | {gap: self.test_error - self.train_error} | self.as_measures()

    def as_measures(self) -> dict[str, float]:
        """What a record has beside these columns."""
        if self.train_top_five_error is None or self.test_top_five_error is None:
            return {}
        return {"measure.train_top5_error": self.train_top_five_error, "measure.test_top5_error": self.test_top_five_error}


_OF_CLASSES = ("clean_train_error", "wrong_train_error")
_OF_REGRESSION = {"train_error": "train_nmse", "validation_error": "validation_nmse", "test_error": "test_nmse"}
_COLUMNS = (
    "train_loss",
    "train_error",
    "validation_error",
    "test_loss",
    "test_error",
    "clean_train_error",
    "wrong_train_error",
    "clean_train_loss",
    "wrong_train_loss",
)


class Evaluation:
    """What the scores of some of an engine's members take, made once for all epochs that they train together.

    Args:
        members: their indices in the engine.
        data: theirs, in the same order.
        loss: that they minimise, "cross_entropy" or "squared".
        processes: among which samples are shared out.
    """

    def __init__(self, members: list[int], data: list[PointData], loss: str, processes: Processes) -> None:
        self.members = members
        self._of_regression = data[0].is_regression
        self._train = _Stacked([one.train for one in data], loss, processes)
        self._test = _Stacked([one.test for one in data], loss, processes)
        validation = [one.validation for one in data if one.validation]
        self._validation = _Stacked(validation, loss, processes) if validation else None
        wrong = torch.stack([one.train.wrong for one in data])
        self._split = ~wrong, wrong

    def scores(self, engine: Engine) -> list[Score]:
        """The score of each member, as it is now in the engine."""
        train_loss, train_wrong, train_beyond = self._train.judged(engine, self.members)
        test_loss, test_wrong, test_beyond = self._test.judged(engine, self.members)
        validation_wrong = self._validation.judged(engine, self.members)[1] if self._validation else None
        columns = [
            _mean(train_loss),
            _mean(train_wrong),
            _mean(validation_wrong),
            _mean(test_loss),
            _mean(test_wrong),
            *(_mean_where(values, chosen) for values in (train_wrong, train_loss) for chosen in self._split),
            _mean(train_beyond),
            _mean(test_beyond),
        ]
        found = iter(torch.stack([part for column in columns for part in column]).tolist())  # once: a GPU is waited for
        means = [[_quotient(*parts) for parts in zip(*(next(found) for _ in column), strict=True)] for column in columns]
        unknown: list[float | None] = [None] * len(self.members)
        numbers = [self._of_regression] * len(self.members)
        return [Score(*scores) for scores in zip(*(column or unknown for column in means), train_wrong, numbers, strict=True)]


class _Stacked:
    """Samples of several members: their index (K, n) into the inputs, or (1, n) where all have the same images, and labels (K, n, ...)."""

    def __init__(self, samples: list[Samples], loss: str, processes: Processes) -> None:
        alike = all(one.inputs is samples[0].inputs and one.index is samples[0].index for one in samples)
        distinct = samples[:1] if alike else samples
        self._inputs = distinct[0].inputs.source([one.inputs for one in distinct])
        self._top_five = distinct[0].inputs.top_five
        self._loss, self._processes, self._count = loss, processes, len(samples[0].labels)
        self._index = processes.own(torch.stack([one.index for one in distinct]))
        self._labels = processes.own(torch.stack([one.labels for one in samples]))

    def judged(self, engine: Engine, members: list[int]) -> tuple[Tensor, Tensor, Tensor | None]:
        """The loss of each sample, whether it is misclassified, and whether five guesses are not enough, where that is recorded."""
        self._inputs.announce(self._index, engine.rows)
        several = self._inputs, self._index, self._labels
        if not self._top_five:
            numbers = self._labels.is_floating_point()  # every engine's own way to judge is for classes
            by_hand = partial(losses_and_errors, engine.logits, several, members, self._loss, engine.rows)
            loss, wrong = by_hand() if numbers else engine.losses(*several, members)
            return self._processes.joined(loss, self._count), self._processes.joined(wrong, self._count), None
        beyond: list[Tensor] = []
        labels = iter(torch.split(self._labels, engine.rows, 1))

        def logits(inputs: Tensor, members: list[int]) -> Tensor:
            found = engine.logits(inputs, members)
            beyond.append(misclassified(found.clone(), next(labels), 1, guesses=5))
            return found

        loss, wrong = losses_and_errors(logits, several, members, self._loss, engine.rows)
        first, second, third = (self._processes.joined(values, self._count) for values in (loss, wrong, torch.cat(beyond, 1)))
        return first, second, third


def _mean(values: Tensor | None) -> list[Tensor]:
    """The mean over samples, (M,) float64, where there is one."""
    return [] if values is None else [values.double().mean(1)]


def _mean_where(values: Tensor, chosen: Tensor) -> list[Tensor]:
    """Dividend and divisor of the mean over the chosen samples, (M,) float64 each."""
    return [torch.where(chosen, values, 0).double().sum(1), chosen.sum(1).double()]


def _quotient(total: float, count: float = 1.0) -> float | None:
    return total / count if count else None
