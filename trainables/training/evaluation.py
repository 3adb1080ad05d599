"""Loss and error of stacked members on their train, validation and test samples, exact at the end of an epoch."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from trainables.data.inputs import PointData, Samples, StackedInputs
from trainables.engines import Engine


@dataclass(frozen=True)
class Score:
    """Mean loss and error (1 - accuracy) of one member. Train error is on the labels trained on."""

    train_loss: float
    train_error: float
    validation_error: float | None
    test_loss: float
    test_error: float
    clean_train_error: float | None
    wrong_train_error: float | None
    clean_train_loss: float | None
    wrong_train_loss: float | None
    train_misclassified: Tensor

    def as_columns(self) -> dict[str, Any]:
        """All but `train_misclassified`, (n,) bool."""
        return {name: getattr(self, name) for name in _COLUMNS}


_COLUMNS = [column.name for column in fields(Score)[:-1]]


class Evaluation:
    """What the scores of some of an engine's members take, made once for all epochs that they train together.

    Args:
        members: their places in the engine.
        data: theirs, in the same order.
    """

    def __init__(self, members: list[int], data: list[PointData]) -> None:
        self.members = members
        self._train = _Stacked([one.train for one in data])
        self._test = _Stacked([one.test for one in data])
        validation = [one.validation for one in data if one.validation]
        self._validation = _Stacked(validation) if validation else None
        self._wrong = torch.stack([one.train.wrong for one in data])

    def scores(self, engine: Engine) -> list[Score]:
        """Of each member, as it is now in the engine."""
        train_loss, train_wrong = self._train.losses(engine, self.members)
        test_loss, test_wrong = self._test.losses(engine, self.members)
        validation_error: list[float | None] = [None] * len(self.members)
        if self._validation:
            validation_error = list(_mean(self._validation.losses(engine, self.members)[1]))
        return [
            Score(*scores)
            for scores in zip(
                _mean(train_loss),
                _mean(train_wrong),
                validation_error,
                _mean(test_loss),
                _mean(test_wrong),
                _mean_where(train_wrong, ~self._wrong),
                _mean_where(train_wrong, self._wrong),
                _mean_where(train_loss, ~self._wrong),
                _mean_where(train_loss, self._wrong),
                train_wrong,
                strict=True,
            )
        ]


class _Stacked:
    """Samples of several members: their places (K, n) in the inputs, or (1, n) where all have the same images, and labels (K, n)."""

    def __init__(self, samples: list[Samples]) -> None:
        alike = all(one.inputs is samples[0].inputs and one.index is samples[0].index for one in samples)
        distinct = samples[:1] if alike else samples
        self._inputs = StackedInputs([one.inputs for one in distinct])
        self._index = torch.stack([one.index for one in distinct])
        self._labels = torch.stack([one.labels for one in samples])

    def losses(self, engine: Engine, members: list[int]) -> tuple[Tensor, Tensor]:
        """See `Engine.losses`."""
        return engine.losses(self._inputs, self._index, self._labels, members)


def _mean(values: Tensor) -> list[float]:
    return values.double().mean(1).tolist()


def _mean_where(values: Tensor, chosen: Tensor) -> list[float | None]:
    counts, totals = chosen.sum(1).tolist(), torch.where(chosen, values, 0).double().sum(1).tolist()
    return [total / count if count else None for total, count in zip(totals, counts, strict=True)]
