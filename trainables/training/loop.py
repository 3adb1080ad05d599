"""The training loop: points of equal shapes, side by side, each as if it were alone.

A `Training` has a list of points and a number of slots. Seated members train one epoch together; those that end (target
reached, budget spent, diverged) free their slots for the next points in the list, so that the engine always runs full. A
member's draws come from its own seeds and epoch, so its result does not depend on its neighbours (design promise 3).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from trainables.data.augmentation import augment, augments, soft_targets
from trainables.data.inputs import StackedInputs, point_data
from trainables.engines import Engine, make_engine, members_at_once
from trainables.engines.optimizers import StackedOptimizer, rate_at
from trainables.models import build
from trainables.point.config import TrialConfig, sizes_only
from trainables.point.streams import derive, generator
from trainables.training.evaluation import Evaluation, Score
from trainables.training.limits import within
from trainables.training.members import PROGRESS, Member, Result, failure, is_out_of_memory, measured, note_score, result_of, solved
from trainables.training.samples import PER_SAMPLE

Pruner = Callable[[Sequence[tuple[str, int, dict[str, Any]]]], Collection[str]]
"""Decides which members leave early: ``[(key, epoch, errors), ...] -> keys`` (see `Training`)."""

TARGET_BATCHES = 32
"""Batches whose target distributions are made at once: one by one they cost a tenth of a small network's step."""


class Training:
    """Trains resolved points with equal pack signatures (see `study.plan.packs`).

    Args:
        points: what to train, in this order.
        device: where.
        slots: how many train side by side; what measures fastest by default. Results do not depend on it.
        measures: names of complexity measures to compute on each trained network (see `trainables.measures`); with
            `forgetting_events` results also say what the network does on each sample (see `trainables.training.samples`).
        pruner: told the key, epoch, train and validation error of every evaluated member that would go on; the keys that it
            answers leave, as pruned. That is all that a member's end can depend on its neighbours.
        point_seconds: a point that takes longer has failed, even in the middle of an epoch (see `trainables.training.limits.within`).

    >>> from trainables.point.config import Budget, Data, Model
    >>> from trainables.resolution import resolve
    >>> point = resolve(TrialConfig(data=Data(train_size=100), model=Model(width=4), budget=Budget(epochs=2)))
    >>> training = Training([point], torch.device("cpu"))
    >>> while not training.finished:
    ...     results = training.epoch()
    >>> results[0].status, results[0].outcome["epochs"]
    ('completed', 2)
    """

    def __init__(
        self,
        points: Sequence[TrialConfig],
        device: torch.device,
        *,
        slots: int | None = None,
        measures: Sequence[str] = (),
        pruner: Pruner | None = None,
        point_seconds: float | None = None,
    ) -> None:
        torch.set_flush_denormal(True)  # denormals late in training are slow, and mean nothing
        self.device = device
        self._total = len(points)
        self._waiting = list(points)[::-1]
        self._slots = slots
        self._measures = tuple(measures)
        self._per_sample = PER_SAMPLE in measures
        self._pruner = pruner
        self._point_seconds = point_seconds
        self._active: list[Member] = []
        self._keep: list[int] = []  # places, in the engine, of the members that were in it before
        self._left = False  # whether some of them have left it since
        self._engine: Engine | None = None
        self._optimizer: StackedOptimizer | None = None
        self._evaluation: Evaluation | None = None
        self._restored: list[Member] = []
        self._alone: list[TrialConfig] = []  # restarted after an error among several: each tells its own story

    @property
    def finished(self) -> bool:
        """Whether every point has had its result."""
        return not (self._waiting or self._restored or self._active or self._alone)

    @property
    def share(self) -> float:
        """How much of all epochs is behind, in [0, 1]; a point that ended has all of its behind."""
        begun = sum(1 - member.epoch / max(1, member.point.budget.epochs) for member in (*self._active, *self._restored))
        return 1 - (len(self._waiting) + len(self._alone) + begun) / self._total

    def epoch(self) -> list[Result]:
        """Train all seated members for one epoch; the results of those that ended with it."""
        if self._waiting and self._waiting[-1].optimizer.name == "closed_form":
            return [solved(self._waiting.pop(), self.device, self._point_seconds)]
        failed: list[Result] = []
        started = time.perf_counter()
        try:
            self._fill_slots(failed)
            if not self._active:
                return failed
            scores = within(self._point_seconds and self._point_seconds * len(self._active), self._train_epoch)
        except Exception as error:
            return failed + self._after_error(error)
        share = (time.perf_counter() - started) / len(self._active)
        for member in self._active:
            member.seconds += share
        results = [note_score(member, score) or self._overdue(member) for member, score in zip(self._active, scores, strict=True)]
        if self._pruner:
            results = self._after_verdict(self._pruner, results, scores)
        ended = [self._measured(place, result) for place, result in enumerate(results) if result]
        keys = {result.key for result in ended}
        self._keep = [place for place, member in enumerate(self._active) if member.key not in keys]
        self._active = [self._active[place] for place in self._keep]
        self._left = bool(ended)
        return failed + ended

    def leave_out(self, keys: Collection[str]) -> None:
        """Do not train waiting points with these keys: they have their results."""
        self._waiting = [point for point in self._waiting if point.key() not in keys]

    def state_dict(self) -> dict[str, Any]:
        """A checkpoint between two epochs: plain values and tensors only, for ``torch.load(weights_only=True)``."""
        members = []
        for place, member in zip(self._keep, self._active, strict=True):
            assert self._engine is not None
            assert self._optimizer is not None
            tensors = {"state": self._engine.state(place), "moments": self._optimizer.state(place)}
            members.append(member.progress() | tensors)
        members += [m.progress() | {"state": m.module.state_dict(), "moments": m.moments} for m in reversed(self._restored)]
        return {"members": members, "waiting": [point.key() for point in (*self._waiting, *self._alone)]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint of a Training of the same points, of which some may be left out now."""
        points = {point.key(): point for point in self._waiting}
        self._waiting = [points[key] for key in state["waiting"] if key in points]
        members = [saved for saved in reversed(state["members"]) if saved["key"] in points]
        self._restored = [self._member(points[saved["key"]], saved) for saved in members]

    def _fill_slots(self, failed: list[Result]) -> None:
        """Seat waiting points; those that cannot even be built join `failed`."""
        new: list[Member] = []
        while len(self._active) + len(new) < (1 if self._alone else self._slots or 1):
            queue = self._alone or self._waiting
            if self._restored and not self._alone:
                new.append(self._restored.pop())
            elif not queue:
                break
            else:
                point = queue.pop()
                try:
                    new.append(self._member(point))
                except Exception as error:
                    if is_out_of_memory(error) and (self._active or new):  # what is missing is what the others hold
                        queue.append(point)
                        self._slots = len(self._active) + len(new)
                        break
                    failed.append(failure(point, error))
                    continue
            if self._slots is None:
                inputs = math.prod(new[0].data.image_shape)
                self._slots = members_at_once(new[0].module, new[0].point.optimizer.batch_size, inputs, self.device)
        if new or self._left:
            self._refill(new)

    def _member(self, point: TrialConfig, saved: dict[str, Any] | None = None) -> Member:
        """A point at the start of its training, or as it was saved."""
        data = point_data(point, self.device)
        module = build(
            sizes_only(point.model), point.regularizers.dropout, data.image_shape, data.classes, seed=derive(point.seed, "initialization")
        )
        member = Member(point, point.key(), data, module.to(self.device), right=[] if self._per_sample else None)
        if saved is not None:
            member.module.load_state_dict(saved["state"])
            for name in (*PROGRESS, "moments"):
                setattr(member, name, saved[name])
        return member

    def _refill(self, new: list[Member]) -> None:
        """Let engine and optimizer go on with those who stayed and those who are new."""
        stayed, self._left = self._keep, False
        self._active = [*self._active, *new]
        self._keep = list(range(len(self._active)))
        if not self._active:
            self._engine = self._optimizer = None
            return
        points = [member.point for member in self._active]
        first = points[0]
        if self._engine is None or self._optimizer is None:
            shape = self._active[0].data.image_shape
            self._engine = make_engine(new[0].module, loss=first.optimizer.loss, precision=first.precision, image_shape=shape)
            self._optimizer = self._engine.optimizer(first.optimizer)
        self._engine.refill(stayed, [member.module for member in new])
        self._optimizer.refill(
            stayed, points, self._engine.parameters, [member.moments for member in new], [member.steps for member in new]
        )
        samples = [member.data.train for member in self._active]
        self._inputs = StackedInputs([one.inputs for one in samples])
        self._index = torch.stack([one.index for one in samples])
        self._labels = torch.stack([one.labels for one in samples])
        smoothing = [point.regularizers.label_smoothing for point in points]
        self._smoothing = torch.tensor(smoothing, device=self.device) if any(smoothing) else None
        self._augments = any(augments(point) for point in points)
        self._evaluation = None

    def _train_epoch(self) -> list[Score | None]:
        self._update()
        return self._scores()

    def _update(self) -> None:
        members, engine, optimizer = self._active, self._engine, self._optimizer
        assert engine is not None
        assert optimizer is not None
        if members[0].point.budget.epochs == 0:
            return
        points = [member.point for member in members]
        shuffles = [generator(point.seed, "batches", member.epoch) for point, member in zip(points, members, strict=True)]
        orders = torch.stack([torch.randperm(self._index.shape[1], generator=shuffle) for shuffle in shuffles]).to(self.device)
        index, labels = self._index.gather(1, orders), self._labels.gather(1, orders)
        draws = [generator(member.point.seed, "augmentation", member.epoch) for member in members] if self._augments else []
        optimizer.set_rates(torch.tensor([rate_at(member.point, member.epoch) for member in members], device=self.device))
        size, classes, step = points[0].optimizer.batch_size, members[0].data.classes, 0
        for some, truths in zip(index.split(size * TARGET_BATCHES, 1), labels.split(size * TARGET_BATCHES, 1), strict=True):
            if not self._augments and engine.descend(optimizer, self._inputs, some, truths, size, self._smoothing):
                step += -(-some.shape[1] // size)
                continue
            aims = soft_targets(truths, classes, self._smoothing)
            for rows, targets in zip(some.split(size, 1), aims.split(size, 2), strict=True):
                inputs = self._inputs.gather(rows)
                if self._augments:
                    inputs, targets = augment(inputs, targets, points, draws, members[0].data.image_shape)
                engine.gradient(inputs, targets, [(member.point.seed, "dropout", member.epoch, step) for member in members])
                optimizer.step(engine.gradients)
                step += 1
        for member in members:
            member.epoch += 1
            member.steps += step

    def _scores(self) -> list[Score | None]:
        """Of each member; None where no evaluation is due."""
        due = [
            place
            for place, member in enumerate(self._active)
            if member.epoch % member.point.budget.evaluate_every == 0 or member.epoch >= member.point.budget.epochs
        ]
        scores: list[Score | None] = [None] * len(self._active)
        if due:
            assert self._engine is not None
            if self._evaluation is None or self._evaluation.members != due:
                self._evaluation = Evaluation(due, [self._active[place].data for place in due])
            for place, score in zip(due, self._evaluation.scores(self._engine), strict=True):
                scores[place] = score
        return scores

    def _overdue(self, member: Member) -> Result | None:
        """The failure of a member that spent more than its time."""
        if self._point_seconds is None or member.seconds <= self._point_seconds:
            return None
        late = TimeoutError(f"not done after {member.epoch} epochs and the limit of {self._point_seconds:g} seconds")
        return failure(member.point, late)

    def _measured(self, place: int, result: Result) -> Result:
        """The result of the seated member with the measures that were asked for."""
        if result.status != "completed" or not self._measures:
            return result
        assert self._engine is not None
        member = self._active[place]
        member.module.load_state_dict(self._engine.state(place))
        return measured(member, self._member(member.point).module, self._after_first_epoch, self._measures, result)

    def _after_first_epoch(self, point: TrialConfig) -> nn.Module:
        """The network after one epoch, trained once more: the same draws make the same weights, so nobody has to keep them."""
        again = Training([replace(point, budget=replace(point.budget, epochs=1))], self.device, slots=1)
        again.epoch()
        assert again._engine is not None
        module = again._member(point).module
        module.load_state_dict(again._engine.state(0))
        return module

    def _after_verdict(self, pruner: Pruner, results: list[Result | None], scores: list[Score | None]) -> list[Result | None]:
        """The results, with those of the members that leave now."""
        going_on = [(member, score) for member, score, result in zip(self._active, scores, results, strict=True) if score and not result]
        reports = [
            (member.key, member.epoch, {"train_error": score.train_error, "validation_error": score.validation_error})
            for member, score in going_on
        ]
        leaving = set(pruner(reports)) if reports else set()
        return [
            result_of(member, "pruned", f"pruned after epoch {member.epoch}", score) if member.key in leaving else result
            for member, score, result in zip(self._active, scores, results, strict=True)
        ]

    def _after_error(self, error: Exception) -> list[Result]:
        """One alone failed by itself. Several are taken apart and start anew: out of memory, two halves; else one by one.

        Starting anew loses nothing but time: the same draws give the same result.
        """
        seated, self._active, self._keep, self._engine, self._optimizer = self._active, [], [], None, None
        if len(seated) == 1:
            return [failure(seated[0].point, error)]
        if is_out_of_memory(error):
            self._slots = max(1, len(seated) // 2)
            self._waiting += [member.point for member in reversed(seated)]
        else:
            self._alone = [member.point for member in reversed(seated)]
        return []
