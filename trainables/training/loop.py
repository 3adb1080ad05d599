"""The training loop: points of equal shapes, side by side, each as if it were alone.

A `Training` has a list of points and a number of slots. The members in the slots train one epoch together; those that end (target
reached, budget spent, diverged) free their slots for the next points in the list, so that the engine always runs full. A
member's draws come from its own seeds and epoch, so its result does not depend on its neighbours (design promise 3).

Where inputs come from is the business of a data source (`trainables.data.protocol`): tensors on the device, or files that are streamed.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from trainables.data.augmentation import soft_targets
from trainables.data.inputs import point_data
from trainables.engines import Engine, Way, Workload, fastest, make_engine, rows_at_once
from trainables.engines.optimizers import StackedOptimizer, rate_at
from trainables.gpu_memory import uploaded
from trainables.models import build
from trainables.models.parameterization import rate_factors
from trainables.point.config import TrialConfig
from trainables.point.errors import ConfigError, leave_if_stopped, named
from trainables.point.streams import derive
from trainables.training.device_failures import is_out_of_memory, leave_if_poisoned
from trainables.training.distributed import ALONE, Processes
from trainables.training.epochs import batch_orders, in_order, warm_up
from trainables.training.evaluation import Evaluation, Score
from trainables.training.limits import within
from trainables.training.members import PROGRESS, Member, Network, Result, SlotData, failure, measured, note_score, result_of, solved
from trainables.training.precision import set_products
from trainables.training.samples import PER_SAMPLE, unmeasured

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
        pruner: gets the key, epoch, train and validation error of every evaluated member that would go on; the keys that it
            answers leave, as pruned. That is all that a member's end can depend on its neighbours.
        keeps: whether the result of a point that completes has its network; none has by default.
        point_seconds: a point that takes longer has failed, even in the middle of an epoch (see `trainables.training.limits.within`).
        processes: this one among those that train the points together (see `trainables.training.distributed`).
        loaders: processes that decode images which stay in their files; 0 for this one.

    Raises:
        ConfigError: measures are asked for of a point whose training images are not in memory, or of regression, or TF32 on a CPU.

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
        keeps: Callable[[TrialConfig], bool] | None = None,
        point_seconds: float | None = None,
        processes: Processes = ALONE,
        loaders: int = 0,
    ) -> None:
        if measures and (why := unmeasured(points)):
            raise ConfigError(f"{why}: leave out {', '.join(measures)}")
        torch.set_flush_denormal(True)  # denormals late in training are slow, and mean nothing
        if points:
            set_products(points[0].precision, device)
        self.device = device
        self._total = len(points)
        self._waiting = list(points)[::-1]
        self._slots = slots
        self._measures = tuple(measures)
        self._per_sample = PER_SAMPLE in measures
        self._pruner, self._keeps = pruner, keeps
        self._point_seconds = point_seconds
        self._processes, self._loaders = processes, loaders
        self._active: list[Member] = []
        self._keep: list[int] = []  # indices, in the engine, of the members that were in it before
        self._left = False  # whether some of them have left it since
        self._way: Way | None = None
        self._engine: Engine | None = None
        self._made_for: tuple[object, ...] = ()
        self._optimizer: StackedOptimizer | None = None
        self._samples: SlotData | None = None
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
        """Train all members in the slots for one epoch; the results of those that ended with it.

        Raises:
            PoisonedError: whatever else this process trains would fail too, and none of its points has failed by itself.
        """
        if self._waiting and self._waiting[-1].is_solved:
            return [solved(self._waiting.pop(), self.device, self._point_seconds)]
        failed: list[Result] = []
        started = time.perf_counter()
        try:
            self._fill_slots(failed)
            if not self._active:
                return failed
            scores = within(self._point_seconds and self._point_seconds * len(self._active), self._train_epoch)
        except BaseException as error:
            leave_if_stopped(error)
            return failed + self._after_error(error)
        share = self._processes.slowest(time.perf_counter() - started, self.device) / len(self._active)
        for member in self._active:
            member.seconds += share
        results = [note_score(member, score) or self._overdue(member) for member, score in zip(self._active, scores, strict=True)]
        if self._pruner:
            results = self._after_verdict(self._pruner, results, scores)
        ended = [self._measured(index, result) for index, result in enumerate(results) if result]
        keys = {result.key for result in ended}
        self._keep = [index for index, member in enumerate(self._active) if member.key not in keys]
        self._active = [self._active[index] for index in self._keep]
        self._left = bool(ended)
        return failed + ended

    def leave_out(self, keys: Collection[str]) -> None:
        """Do not train waiting points with these keys: they have their results."""
        self._waiting = [point for point in self._waiting if point.key() not in keys]

    def waiting(self) -> set[str]:
        """The keys of the points that have not begun."""
        return {point.key() for point in self._waiting}

    def members(self) -> Iterator[dict[str, Any]]:
        """The members in the slots, between two epochs: plain values and tensors only, for ``torch.load(weights_only=True)``."""
        for index, member in zip(self._keep, self._active, strict=True):
            assert self._engine is not None
            assert self._optimizer is not None
            yield member.progress() | {"state": self._engine.state(index), "moments": self._optimizer.state(index)}

    def resume(self, saved: dict[str, Any]) -> None:
        """Let a waiting point go on, before all that wait now, as a member was in another training; that of another point is left out."""
        for point in (point for point in self._waiting if point.key() == saved["key"]):
            self._restored.append(self._member(point, saved))
            self._waiting = [other for other in self._waiting if other is not point]
            break

    def state_dict(self) -> dict[str, Any]:
        """A checkpoint between two epochs, for ``torch.load(weights_only=True)``."""
        restored = [m.progress() | {"state": m.module.state_dict(), "moments": m.moments} for m in reversed(self._restored)]
        return {"members": [*self.members(), *restored], "waiting": [point.key() for point in (*self._waiting, *self._alone)]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint of a Training of the same points, of which some may be left out now."""
        points, members = {point.key(): point for point in self._waiting}, state["members"]
        self._restored = []
        self._waiting = [points[key] for key in (*state["waiting"], *(saved["key"] for saved in members)) if key in points]
        for saved in reversed(members):
            self.resume(saved)

    def _fill_slots(self, failed: list[Result]) -> None:
        """Give free slots to waiting points; those that cannot even be built join `failed`."""
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
                except BaseException as error:
                    leave_if_stopped(error)
                    leave_if_poisoned(error)
                    if is_out_of_memory(error) and (self._active or new):  # what is missing is what the others hold
                        queue.append(point)
                        self._slots = len(self._active) + len(new)
                        break
                    failed.append(failure(point, error))
                    continue
            self._slots = new[0].data.train.inputs.members_at_once or self._slots or self._fastest(new[0])
        if new or self._left:
            self._refill(new)

    def _fastest(self, member: Member) -> int:
        """How many members like this one train fastest side by side; by which engine is noted. Several processes train one at a time."""
        workload = Workload.of(member.point, member.data.image_shape, member.data.classes)
        batches = -(-len(member.data.train.labels) // workload.batch_size)
        steps = batches * sum(point.budget.epochs for point in (member.point, *self._waiting))
        self._way = fastest(member.module, workload, self.device, steps) if self._processes.alone else None
        return self._way.slots if self._way else 1

    def _member(self, point: TrialConfig, saved: dict[str, Any] | None = None) -> Member:
        """A point at the start of its training, or as it was saved."""
        data = point_data(point, self.device, self._loaders)
        seed = derive(point.seed, "initialization")
        module = build(point.model, point.regularizers.dropout, data.image_shape, data.classes, seed=seed)
        module = self._processes.synchronized(module.to(self.device), self.device)
        member = Member(point, point.key(), data, module, right=[] if self._per_sample else None)
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
            self._let_go()
            return
        points = [member.point for member in self._active]
        first = points[0]
        shape, classes = self._active[0].data.image_shape, self._active[0].data.classes
        if self._engine is None or self._optimizer is None or (shape, classes) != self._made_for:
            name, self._made_for = self._way.engine if self._way else None, (shape, classes)
            self._engine = make_engine(new[0].module, loss=first.optimizer.loss, precision=first.precision, image_shape=shape, name=name)
            if self._active[0].data.train.inputs.members_at_once is None:  # files are read by batches of their own
                self._engine.rows = rows_at_once(new[0].module, shape, len(self._active), self.device)
            self._optimizer = self._engine.optimizer(first.optimizer)
            self._optimizer.scale(rate_factors(first.model, first.optimizer.name, shape, classes))
        self._engine.refill(stayed, [member.module for member in new])
        self._optimizer.refill(
            stayed, points, self._engine.parameters, [member.moments for member in new], [member.steps for member in new]
        )
        samples = [member.data.train for member in self._active]
        smoothing = [point.regularizers.label_smoothing for point in points]
        self._samples = SlotData(
            samples[0].inputs.source([one.inputs for one in samples]),
            torch.stack([one.index for one in samples]),
            torch.stack([one.labels for one in samples]),
            torch.tensor(smoothing, device=self.device) if any(smoothing) else None,
        )
        self._evaluation = None

    def _let_go(self) -> None:
        """Free what the members in the slots shared: a smaller engine is made only where the memory of the larger one is free again."""
        self._engine = self._optimizer = self._samples = self._evaluation = None
        if self.device.type == "cuda":
            torch.cuda.empty_cache()  # else the allocator keeps blocks of the old sizes, into which the new ones may not fit

    def _train_epoch(self) -> list[Score | None]:
        self._update()
        return self._scores()

    def _update(self) -> None:
        members, engine, optimizer, samples, together = self._active, self._engine, self._optimizer, self._samples, self._processes
        assert engine is not None
        assert optimizer is not None
        assert samples is not None
        if members[0].point.budget.epochs == 0:
            return
        points = [member.point for member in members]
        orders = batch_orders(members, samples.index.shape[1], self.device)
        orders, size, shares = together.own_batches(orders, points[0].optimizer.batch_size)
        index, labels = samples.index.gather(1, orders), in_order(samples.labels, orders)
        rates = uploaded([rate_at(member.point, member.epoch) for member in members], torch.float32, self.device)
        optimizer.set_rates(rates)
        optimizer.foresee(len(shares))
        warming = warm_up(members, len(shares), self.device)  # then a step has a rate of its own
        drops = [(member.point.seed, "dropout", member.epoch) for member in members]
        samples.source.begin_epoch(points, [member.epoch for member in members], index, size)
        classes, step = members[0].data.classes, 0
        for some, truths in zip(*(torch.split(all_of, size * TARGET_BATCHES, 1) for all_of in (index, labels)), strict=True):
            plain = together.alone and warming is None and not labels.is_floating_point()  # many steps at once are towards classes alone
            if plain and engine.descend(optimizer, samples.source, some, truths, size, samples.smoothing):
                step += -(-some.shape[1] // size)
                continue
            aims = soft_targets(truths, classes, samples.smoothing)
            for rows, targets in zip(torch.split(some, size, 1), torch.split(aims, size, 2), strict=True):
                batch = samples.source.training_batch(rows, targets)
                draws = [(*drop, step * together.count + together.rank) for drop in drops]
                if warming is not None:
                    optimizer.set_rates(rates * warming[step])
                together.step(engine, optimizer, batch, draws, shares[step])
                step += 1
        together.share_buffers(member.module for member in members)
        for member in members:
            member.epoch += 1
            member.steps += step

    def _scores(self) -> list[Score | None]:
        """The score of each member; None where no evaluation is due."""
        due = [
            index
            for index, member in enumerate(self._active)
            if member.epoch % member.point.budget.evaluate_every == 0 or member.epoch >= member.point.budget.epochs
        ]
        scores: list[Score | None] = [None] * len(self._active)
        if due:
            assert self._engine is not None
            if self._evaluation is None or self._evaluation.members != due:
                loss = self._active[0].point.optimizer.loss
                self._evaluation = Evaluation(due, [self._active[index].data for index in due], loss, self._processes)
            for index, score in zip(due, self._evaluation.scores(self._engine), strict=True):
                scores[index] = score
        return scores

    def _overdue(self, member: Member) -> Result | None:
        """The failure of a member that spent more than its time."""
        if self._point_seconds is None or member.seconds <= self._point_seconds:
            return None
        late = TimeoutError(f"not done after {member.epoch} epochs and the limit of {self._point_seconds:g} seconds")
        return failure(member.point, late)

    def _measured(self, index: int, result: Result) -> Result:
        """The result of the member in this slot with the measures, and the network, that were asked for."""
        assert self._engine is not None
        result = replace(result, engine=self._engine.name, slots=self._slots)
        if result.status != "completed":
            return result
        member = self._active[index]
        if self._keeps and self._keeps(member.point):
            state = {name: value.detach().cpu().clone() for name, value in self._engine.state(index).items()}
            result = replace(result, network=Network(state, member.data.image_shape, member.data.classes))
        if not self._measures:
            return result
        member.module.load_state_dict(self._engine.state(index))
        return measured(member, self._member(member.point).module, self._trained_again, self._measures, result)

    def _trained_again(self, point: TrialConfig) -> nn.Module:
        """The network of a point, trained once more: the same draws make the same weights, so nobody has to keep them."""
        again = Training([point], self.device, slots=1)
        again._way = self._way  # by the same engine, which draws alike
        while not again.finished:
            if any(result.status != "completed" for result in again.epoch()):
                raise RuntimeError("the network that is trained once more did not get through")
        assert again._engine is not None
        module = again._member(point).module
        module.load_state_dict(again._engine.state(0))
        return module

    def _after_verdict(self, pruner: Pruner, results: list[Result | None], scores: list[Score | None]) -> list[Result | None]:
        """The results, with those of the members that leave now."""
        going_on = [(member, score) for member, score, result in zip(self._active, scores, results, strict=True) if score and not result]
        reports = [(member.key, member.epoch, score.errors()) for member, score in going_on]
        leaving = self._processes.agreed(lambda: set(pruner(reports))) if reports else set()
        return [
            result_of(member, "pruned", f"pruned after epoch {member.epoch}", score) if member.key in leaving else result
            for member, score, result in zip(self._active, scores, results, strict=True)
        ]

    def _after_error(self, error: BaseException) -> list[Result]:
        """One alone failed by itself. Several are taken apart and start anew: out of memory, two halves; else one by one.

        Starting anew loses nothing but time: the same draws give the same result. Among several processes the others wait for this one:
        it must end, so that all start anew.
        """
        leave_if_poisoned(error)
        if not self._processes.alone:
            if isinstance(error, Exception):
                raise error
            raise RuntimeError(named(error)) from error
        points = [member.point for member in self._active]
        self._active, self._keep = [], []
        traceback.clear_frames(error.__traceback__)  # which hold the engine and its tensors
        self._let_go()
        if len(points) == 1:
            return [failure(points[0], error)]
        if is_out_of_memory(error):
            self._slots = max(1, len(points) // 2)
            self._waiting += points[::-1]
        else:
            self._alone, self._way = points[::-1], None  # by the plainest engine
        return []
