"""The training loop: points of equal shapes, side by side, each as if it were alone.

A `Training` has a list of points and a number of seats. Seated members train one epoch together; those that end (target
reached, budget spent, diverged) free their seats for the next points in the list, so that the engine always runs full. A
member's draws come from its own seeds and epoch, so its result does not depend on its neighbours (design promise 3).
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from trainables.augmentation import augment, augments, soft_targets
from trainables.config import TrialConfig
from trainables.engines import Engine, make_engine, members_at_once
from trainables.evaluation import Score, evaluate
from trainables.inputs import PointData, point_data, stacked_inputs
from trainables.models import build, parameter_count
from trainables.optimizers import StackedOptimizer, rate_at
from trainables.resolution import sizes_only
from trainables.streams import derive, generator


@dataclass(frozen=True)
class Result:
    """What came of one point.

    Attributes:
        status: "completed", "diverged" (its loss is not finite) or "failed" (it raised, or does not fit the memory).
        reason: why it ended, in words.
        outcome: the record's outcome columns by name; those that do not apply are None.
        curve: one row per evaluated epoch, by the curves' column names.
    """

    point: TrialConfig
    key: str
    status: str
    reason: str
    outcome: dict[str, Any]
    curve: list[dict[str, Any]]


@dataclass(eq=False)
class Member:
    """A point in training."""

    point: TrialConfig
    key: str
    data: PointData
    module: nn.Module
    epoch: int = 0
    steps: int = 0
    moments: list[Tensor] | None = None
    curve: list[dict[str, Any]] = field(default_factory=list)
    fit_epoch: int | None = None
    seconds: float = 0.0

    def progress(self) -> dict[str, Any]:
        """Everything of a checkpoint but tensors that the engine and optimizer hold."""
        plain = ("epoch", "steps", "curve", "fit_epoch", "seconds")
        return {"key": self.key} | {name: getattr(self, name) for name in plain}


class Training:
    """Trains resolved points with equal pack signatures (see `study.plan`).

    Args:
        points: what to train, in this order.
        device: where.
        seats: how many train side by side; what measures fastest by default. Results do not depend on it.

    >>> from trainables.config import Budget, Data, Model
    >>> from trainables.resolution import resolve
    >>> point = resolve(TrialConfig(data=Data(train_size=100), model=Model(width=4), budget=Budget(epochs=2)))
    >>> training = Training([point], torch.device("cpu"))
    >>> while not training.finished:
    ...     results = training.epoch()
    >>> results[0].status, results[0].outcome["epochs"]
    ('completed', 2)
    """

    def __init__(self, points: Sequence[TrialConfig], device: torch.device, *, seats: int | None = None) -> None:
        torch.set_flush_denormal(True)  # denormals late in training are slow, and mean nothing
        self.device = device
        self._waiting = list(points)[::-1]
        self._seats = seats
        self._seated: list[Member] = []
        self._engine: Engine | None = None
        self._optimizer: StackedOptimizer | None = None
        self._alone: list[Member] = []  # restarted after an error among several: each tells its own story

    @property
    def finished(self) -> bool:
        """Whether every point has had its result."""
        return not (self._waiting or self._seated or self._alone)

    def epoch(self) -> list[Result]:
        """Train all seated members for one epoch; the results of those that ended with it."""
        failed = self._fill_seats()
        if not self._seated:
            return failed
        started = time.perf_counter()
        try:
            self._train_epoch()
            scores = self._scores()
        except Exception as error:
            return failed + self._after_error(error)
        share = (time.perf_counter() - started) / len(self._seated)
        ended: list[Result] = []
        for member, score in zip(self._seated, scores, strict=True):
            member.seconds += share
            result = self._judge(member, score)
            if result is not None:
                ended.append(result)
        self._unseat({result.key for result in ended})
        return failed + ended

    def state_dict(self) -> dict[str, Any]:
        """A checkpoint between two epochs: plain values and tensors only, for ``torch.load(weights_only=True)``."""
        self._collect()
        members = [member.progress() | {"state": member.module.state_dict(), "moments": member.moments} for member in self._seated]
        return {"members": members, "waiting": [point.key() for point in self._waiting]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint of a Training of the same points."""
        points = {point.key(): point for point in self._waiting}
        self._waiting = [points[key] for key in state["waiting"]]
        self._seated, self._engine = [], None
        for saved in state["members"]:
            member = self._member(points[saved["key"]])
            member.module.load_state_dict(saved["state"])
            for name in ("epoch", "steps", "moments", "curve", "fit_epoch", "seconds"):
                setattr(member, name, saved[name])
            self._seated.append(member)

    def _fill_seats(self) -> list[Result]:
        """Seat waiting points; the results of those that cannot even be built."""
        failed: list[Result] = []
        joined = False
        if not self._seated and self._alone:
            self._seated, self._engine = [self._alone.pop()], None
            joined = True
        while self._waiting and not self._alone and (self._seats is None or len(self._seated) < self._seats):
            point = self._waiting.pop()
            try:
                self._collect()
                self._seated.append(self._member(point))
            except Exception as error:
                failed.append(_failure(point, error))
                continue
            joined = True
            if self._seats is None:
                self._seats = members_at_once(
                    self._seated[-1].module, point.optimizer.batch_size, math.prod(self._seated[-1].data.image_shape), self.device
                )
        if self._seated and (joined or self._engine is None):
            self._assemble()
        return failed

    def _member(self, point: TrialConfig) -> Member:
        data = point_data(point, self.device)
        module = build(
            sizes_only(point.model), point.regularizers.dropout, data.image_shape, data.classes, seed=derive(point.seed, "initialization")
        )
        return Member(point, point.key(), data, module.to(self.device))

    def _assemble(self) -> None:
        """Stack the seated members into an engine and an optimizer."""
        points = [member.point for member in self._seated]
        self._engine = make_engine(
            [member.module for member in self._seated],
            [point.regularizers.dropout for point in points],
            loss=points[0].optimizer.loss,
            precision=points[0].precision,
            image_shape=self._seated[0].data.image_shape,
        )
        self._optimizer = StackedOptimizer(
            points, self._engine.parameters, [member.moments for member in self._seated], [member.steps for member in self._seated]
        )
        self._smoothing = torch.tensor([point.regularizers.label_smoothing for point in points], device=self.device)
        self._augments = any(augments(point) for point in points)

    def _collect(self) -> None:
        """Write the stacked state back into the members and take the stack apart."""
        if self._engine is None or self._optimizer is None:
            return
        for place, member in enumerate(self._seated):
            member.module.load_state_dict(self._engine.state(place))
            member.moments = self._optimizer.state(place)
        self._engine = self._optimizer = None

    def _unseat(self, keys: set[str]) -> None:
        if keys:
            self._collect()
            self._seated = [member for member in self._seated if member.key not in keys]

    def _train_epoch(self) -> None:
        members, engine, optimizer = self._seated, self._engine, self._optimizer
        assert engine is not None
        assert optimizer is not None
        if members[0].point.budget.epochs == 0:
            return
        points = [member.point for member in members]
        orders = [
            torch.randperm(len(member.data.train.index), generator=generator(member.point.seed, "batches", member.epoch)).to(self.device)
            for member in members
        ]
        index = torch.stack([member.data.train.index[order] for member, order in zip(members, orders, strict=True)])
        labels = torch.stack([member.data.train.labels[order] for member, order in zip(members, orders, strict=True)])
        draws = [generator(member.point.seed, "augmentation", member.epoch) for member in members] if self._augments else []
        sources = [member.data.train.inputs for member in members]
        rates = torch.tensor([rate_at(member.point, member.epoch) for member in members], device=self.device)
        size = points[0].optimizer.batch_size
        for step, (rows, truth) in enumerate(zip(index.split(size, 1), labels.split(size, 1), strict=True)):
            inputs = stacked_inputs(sources, rows)
            targets = soft_targets(truth, members[0].data.classes, self._smoothing)
            if self._augments:
                inputs, targets = augment(inputs, targets, points, draws, members[0].data.image_shape)
            engine.gradient(inputs, targets, [(member.point.seed, "dropout", member.epoch, step) for member in members])
            optimizer.step(engine.gradients, rates)
        for member in members:
            member.epoch += 1
            member.steps += step + 1

    def _scores(self) -> list[Score | None]:
        """Of each member; None where no evaluation is due."""
        due = [
            place
            for place, member in enumerate(self._seated)
            if member.epoch % member.point.budget.evaluate_every == 0 or member.epoch >= member.point.budget.epochs
        ]
        scores: list[Score | None] = [None] * len(self._seated)
        if due:
            assert self._engine is not None
            loss = self._seated[0].point.optimizer.loss
            found = evaluate(self._engine, due, [self._seated[place].data for place in due], loss)
            for place, score in zip(due, found, strict=True):
                scores[place] = score
        return scores

    def _judge(self, member: Member, score: Score | None) -> Result | None:
        """Note the score; the result if the member ends here."""
        if score is None:
            return None
        budget, epoch = member.point.budget, member.epoch
        if not math.isfinite(score.train_loss):
            return _result(member, "diverged", f"the train loss is {score.train_loss} after epoch {epoch}", None)
        rate = rate_at(member.point, max(0, epoch - 1))
        member.curve.append({"key": member.key, "epoch": epoch, "learning_rate": rate} | score.as_columns())
        if budget.stop_at_train_loss is not None:
            reached, stops = score.train_loss <= budget.stop_at_train_loss, True
        else:
            target = budget.stop_at_train_error
            reached, stops = score.train_error <= (target or 0.0), target is not None
        if reached and member.fit_epoch is None:
            member.fit_epoch = epoch
        if reached and stops:
            return _result(member, "completed", "reached the train target", score)
        if _out_of_patience(member):
            return _result(member, "completed", "stopped early: no lower validation error", score)
        if epoch >= budget.epochs:
            return _result(member, "completed", "spent its epochs", score)
        return None

    def _after_error(self, error: Exception) -> list[Result]:
        """One alone failed by itself. Several are taken apart and start anew: out of memory, two halves; else one by one.

        Starting anew loses nothing but time: the same draws give the same result.
        """
        seated, self._seated, self._engine, self._optimizer = self._seated, [], None, None
        if len(seated) == 1:
            return [_failure(seated[0].point, error)]
        if _is_out_of_memory(error):
            self._seats = max(1, len(seated) // 2)
            self._waiting += [member.point for member in reversed(seated)]
        else:
            self._alone = [self._member(member.point) for member in reversed(seated)]
        return []


def _out_of_patience(member: Member) -> bool:
    patience = member.point.regularizers.early_stopping
    if patience is None:
        return False
    errors = [row["validation_error"] for row in member.curve]
    return len(errors) - 1 - errors.index(min(errors)) >= patience


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, torch.cuda.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def _result(member: Member, status: str, reason: str, score: Score | None) -> Result:
    point, data = member.point, member.data
    parameters = parameter_count(sizes_only(point.model), data.image_shape, data.classes)
    outcome: dict[str, Any] = {
        "parameters": parameters,
        "parameters_per_sample": parameters / len(data.train.index),
        "wrong_label_rate": data.train.wrong.double().mean().item(),
        "epochs": member.epoch,
        "fit_epoch": member.fit_epoch,
        "interpolated": member.fit_epoch is not None,
        "seconds": member.seconds,
    }
    if score is not None:
        outcome |= {
            "train_error": score.train_error,
            "train_loss": score.train_loss,
            "validation_error": score.validation_error,
            "test_error": score.test_error,
            "test_loss": score.test_loss,
            "generalization_gap": score.test_error - score.train_error,
        }
    return Result(point, member.key, status, reason, outcome, member.curve)


def _failure(point: TrialConfig, error: Exception) -> Result:
    reason = "out of memory, even alone" if _is_out_of_memory(error) else f"{type(error).__name__}: {error}"
    return Result(point, point.key(), "failed", reason, {}, [])
