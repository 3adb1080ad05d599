"""Loss and error of stacked members on their train, validation and test samples, exact at the end of an epoch."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from trainables.engines import Engine
from trainables.inputs import PointData, Samples, StackedInputs

ROWS = 256
"""Samples evaluated at once. Fixed, because the bits of a product could depend on it."""


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
    train_mistakes: Tensor

    def as_columns(self) -> dict[str, Any]:
        """All but `train_mistakes`, (n,) bool."""
        return {column.name: getattr(self, column.name) for column in fields(self)[:-1]}


class Evaluation:
    """What the scores of some of an engine's members take, made once for all epochs that they train together.

    Args:
        members: their places in the engine.
        data: theirs, in the same order.
        loss: "cross_entropy" or "squared".
    """

    def __init__(self, members: list[int], data: list[PointData], loss: str) -> None:
        self.members = members
        self._loss = loss
        self._train = _Stacked([one.train for one in data])
        self._test = _Stacked([one.test for one in data])
        self._validation = _Stacked([one.validation for one in data if one.validation])
        self._wrong = torch.stack([one.train.wrong for one in data])

    def scores(self, engine: Engine) -> list[Score]:
        """Of each member, as it is now in the engine."""
        train_loss, train_wrong = self._losses_and_mistakes(engine, self._train)
        test_loss, test_wrong = self._losses_and_mistakes(engine, self._test)
        validation_error: list[float | None] = [None] * len(self.members)
        if self._validation.batches:
            validation_error = list(_mean(self._losses_and_mistakes(engine, self._validation)[1]))
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

    def _losses_and_mistakes(self, engine: Engine, samples: _Stacked) -> tuple[Tensor, Tensor]:
        """(K, n) float32 and bool. A tie for the largest logit is a mistake: a constant network has learnt nothing."""
        losses, right = [], []
        for rows, label in samples.batches:
            inputs = samples.inputs.gather(rows).expand(len(self.members), -1, -1)
            logits = engine.logits(inputs, self.members)
            own = logits.gather(1, label)
            if self._loss == "squared":
                losses.append((logits.square().sum(1, keepdim=True) - 2 * own + 1) / 2)
            else:
                scratch = samples.scratch_like(logits)
                losses.append(torch.log_softmax(logits, 1, out=scratch).gather(1, label).neg_())
            right.append(own > logits.scatter_(1, label, float("-inf")).amax(1, keepdim=True))
        return torch.cat(losses, 2).squeeze(1), torch.cat(right, 2).squeeze(1).logical_not_()


class _Stacked:
    """Samples of several members in batches: their rows (K, b), or (1, b) where all have the same images, and labels (K, 1, b)."""

    def __init__(self, samples: list[Samples]) -> None:
        alike = all(one.inputs is samples[0].inputs and one.index is samples[0].index for one in samples)
        distinct = samples[:1] if alike else samples
        self.inputs = StackedInputs([one.inputs for one in distinct])
        rows = torch.stack([one.index for one in distinct]).split(ROWS, 1) if samples else ()
        labels = torch.stack([one.labels for one in samples])[:, None].split(ROWS, 2) if samples else ()
        self.batches = list(zip(rows, labels, strict=True))
        self._scratch: dict[torch.Size, Tensor] = {}

    def scratch_like(self, logits: Tensor) -> Tensor:
        """Memory of that shape, kept: fresh pages cost more than what is written to them."""
        if logits.shape not in self._scratch:
            self._scratch[logits.shape] = torch.empty_like(logits)
        return self._scratch[logits.shape]


def _mean(values: Tensor) -> list[float]:
    return values.double().mean(1).tolist()


def _mean_where(values: Tensor, chosen: Tensor) -> list[float | None]:
    counts, totals = chosen.sum(1).tolist(), torch.where(chosen, values, 0).double().sum(1).tolist()
    return [total / count if count else None for total, count in zip(totals, counts, strict=True)]
