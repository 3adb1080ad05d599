"""Loss and error of stacked members on their train, validation and test samples, exact at the end of an epoch."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from trainables.engines import Engine
from trainables.inputs import PointData, Samples, stacked_inputs

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


def evaluate(engine: Engine, members: list[int], data: list[PointData], loss: str) -> list[Score]:
    """Scores of the engine's `members`, whose data stand in `data`."""
    train_loss, train_wrong = _losses_and_mistakes(engine, members, [one.train for one in data], loss)
    test_loss, test_wrong = _losses_and_mistakes(engine, members, [one.test for one in data], loss)
    validation = [one.validation for one in data if one.validation is not None]
    validation_error: list[float | None] = [None] * len(data)
    if validation:
        validation_error = list(_mean(_losses_and_mistakes(engine, members, validation, loss)[1]))
    corrupted = torch.stack([one.train.wrong for one in data])
    return [
        Score(*scores)
        for scores in zip(
            _mean(train_loss),
            _mean(train_wrong),
            validation_error,
            _mean(test_loss),
            _mean(test_wrong),
            _mean_where(train_wrong, ~corrupted),
            _mean_where(train_wrong, corrupted),
            _mean_where(train_loss, ~corrupted),
            _mean_where(train_loss, corrupted),
            train_wrong,
            strict=True,
        )
    ]


def _losses_and_mistakes(engine: Engine, members: list[int], samples: list[Samples], loss: str) -> tuple[Tensor, Tensor]:
    """(K, n) float32 and bool. A tie for the largest logit is a mistake: a constant network has learnt nothing."""
    shared = all(one is samples[0] for one in samples)
    distinct = samples[:1] if shared else samples
    index = torch.stack([one.index for one in distinct])
    labels = torch.stack([one.labels for one in distinct]).expand(len(members), -1)
    sources = [one.inputs for one in distinct]
    losses, mistakes = [], []
    for rows, truth in zip(index.split(ROWS, 1), labels.split(ROWS, 1), strict=True):
        logits = engine.logits(stacked_inputs(sources, rows).expand(len(members), -1, -1), members)
        label = truth[:, None, :]
        own = logits.gather(1, label)
        if loss == "squared":
            losses.append((logits.square().sum(1, keepdim=True) - 2 * own + 1).squeeze(1) / 2)
        else:
            losses.append(-torch.log_softmax(logits, 1).gather(1, label).squeeze(1))
        others = logits.scatter_(1, label, float("-inf")).amax(1)
        mistakes.append(~(own.squeeze(1) > others))
    return torch.cat(losses, 1), torch.cat(mistakes, 1)


def _mean(values: Tensor) -> list[float]:
    return values.double().mean(1).tolist()


def _mean_where(values: Tensor, chosen: Tensor) -> list[float | None]:
    counts, totals = chosen.sum(1).tolist(), torch.where(chosen, values, 0).double().sum(1).tolist()
    return [total / count if count else None for total, count in zip(totals, counts, strict=True)]
