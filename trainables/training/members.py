"""A point in training and what comes of it: its progress, when it ends, its outcome."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from trainables.compute import compute_columns
from trainables.data.inputs import input_shape
from trainables.data.protocol import PointData, Source
from trainables.data.sets.sources import load
from trainables.data.subset import split
from trainables.engines.optimizers import rate_at, warmed_up
from trainables.models import parameter_count, solver_of
from trainables.point.config import ImageShape, TrialConfig, sizes_only
from trainables.point.errors import leave_if_stopped, named
from trainables.point.fit import error_at_fit
from trainables.point.streams import derive
from trainables.training.device_failures import is_out_of_memory, leave_if_poisoned
from trainables.training.evaluation import Score
from trainables.training.limits import within
from trainables.training.samples import sample_row


@dataclass(frozen=True)
class SlotData:
    """What the members in the slots train on.

    Attributes:
        source: their images.
        index: rows of the images, (K, n) int64.
        labels: (K, n) int64, or of regression (K, n, T) float32.
        smoothing: (K,), the share of a target's weight that is spread over all classes; None for none.
    """

    source: Source
    index: Tensor
    labels: Tensor
    smoothing: Tensor | None


@dataclass(frozen=True)
class Network:
    """A trained network on the CPU: its ``state_dict``, and what it takes in and gives out."""

    state: dict[str, Tensor]
    image_shape: ImageShape
    classes: int


@dataclass(frozen=True)
class Result:
    """What came of one point.

    Attributes:
        status: "completed", "diverged" (its loss is not finite), "pruned" (a pruner let it go) or "failed" (it raised, or does
            not fit the memory).
        reason: why it ended, in words.
        outcome: the record's outcome columns by name; those that do not apply are None.
        curve: one row per evaluated epoch, by the curves' column names.
        samples: what the network does on each sample, if that was asked for (see `trainables.training.samples`).
        network: as trained, if that was asked for.
        engine: that trained it, one of `trainables.engines.choice.ENGINES`; None if none did.
        slots: members that train side by side where it was trained.
    """

    point: TrialConfig
    key: str
    status: str
    reason: str
    outcome: dict[str, Any]
    curve: list[dict[str, Any]]
    samples: dict[str, Any] | None = None
    network: Network | None = None
    engine: str | None = None
    slots: int | None = None


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
    right: list[Tensor] | None = None
    """Whether each training sample was right, (n,) bool, at each evaluation; None where nobody asks."""

    def progress(self) -> dict[str, Any]:
        """Everything of a checkpoint but tensors that the engine and optimizer hold."""
        return {"key": self.key} | {name: getattr(self, name) for name in PROGRESS}


PROGRESS = ("epoch", "steps", "curve", "fit_epoch", "seconds", "right")


def note_score(member: Member, score: Score | None) -> Result | None:
    """Note the score; the result if the member ends here."""
    if score is None:
        return None
    budget, epoch = member.point.budget, member.epoch
    if not math.isfinite(score.train_loss):
        return result_of(member, "diverged", f"the train loss is {score.train_loss} after epoch {epoch}", None)
    rate = rate_at(member.point, max(0, epoch - 1)) * warmed_up(member.point, max(0, member.steps - 1))
    member.curve.append({"key": member.key, "epoch": epoch, "learning_rate": rate} | score.as_columns())
    if member.right is not None:
        member.right.append(~score.train_misclassified)
    if budget.stop_at_train_loss is not None:
        reached, stops = score.train_loss <= budget.stop_at_train_loss, True
    else:
        reached, stops = score.train_error <= error_at_fit(member.point), budget.stop_at_train_error is not None
    if reached and member.fit_epoch is None:
        member.fit_epoch = epoch
    if reached and stops:
        return result_of(member, "completed", "reached the train target", score)
    if _out_of_patience(member):
        return result_of(member, "completed", "stopped early: no lower validation error", score)
    if epoch >= budget.epochs:
        return result_of(member, "completed", "spent its epochs", score)
    return None


def _out_of_patience(member: Member) -> bool:
    patience = member.point.regularizers.early_stopping
    if patience is None:
        return False
    column = "validation_nmse" if member.data.is_regression else "validation_error"
    errors = [row[column] for row in member.curve]
    return len(errors) - 1 - errors.index(min(errors)) >= patience


def measured(
    member: Member, initial: nn.Module, trained_again: Callable[[TrialConfig], nn.Module], names: Sequence[str], result: Result
) -> Result:
    """The result with the measures of the trained module; one that cannot be computed is null, and the reason says why.

    Where it was noted which training samples were right, the result says what the module does on each sample.

    Args:
        initial: the same network at initialization.
        trained_again: trains another point of the same network.

    Raises:
        PoisonedError: a measure spoilt this process.
    """
    from trainables.measures import Subject, measure_all

    train = member.data.train
    subject = Subject(
        module=member.module,
        initial=initial,
        inputs=train.inputs.gather(train.index).reshape(-1, *member.data.image_shape),
        labels=train.labels,
        classes=member.data.classes,
        seed=derive(member.point.seed, "measures"),
        curve=member.curve,
        after_first_epoch=lambda: trained_again(replace(member.point, budget=replace(member.point.budget, epochs=1))),
        on_a_half=lambda: _on_a_half(member.point, trained_again),
        right=member.right or (),
    )
    outcome, reason = dict(result.outcome), result.reason
    for name in names:
        try:
            outcome[f"measure.{name}"] = measure_all([name], subject)[name]
        except BaseException as error:
            leave_if_stopped(error)
            leave_if_poisoned(error)
            outcome[f"measure.{name}"] = None
            reason += f"; measure {name}: {named(error)}"
    samples = None
    if member.right is not None:
        epochs = [row["epoch"] for row in member.curve]
        samples = {"key": member.key} | sample_row(member.point, member.data, member.module, member.right, epochs)
    return replace(result, outcome=outcome, reason=reason, samples=samples)


def _on_a_half(point: TrialConfig, trained_again: Callable[[TrialConfig], nn.Module]) -> tuple[nn.Module, Tensor]:
    """The network trained on half of its samples, and which of them that did not see: a smaller subset is part of a larger one."""
    data = replace(point.data, train_size=(point.data.train_size or 0) // 2, replaced=None)
    dataset = load(data)
    used, (trained, looked_at) = (split(dataset.train_labels, dataset.classes, some) for some in (point.data, data))
    module = trained_again(replace(point, data=data, model=replace(point.model, parameters_per_sample=None)))
    return module, ~torch.isin(used[0], torch.cat([trained, looked_at]))


def result_of(member: Member, status: str, reason: str, score: Score | None) -> Result:
    """The result of a member that ends with this score; without errors and losses if it has none."""
    point, data = member.point, member.data
    parameters = parameter_count(sizes_only(point.model), data.image_shape, data.classes)
    outcome: dict[str, Any] = {
        "parameters": parameters,
        "parameters_per_sample": parameters / len(data.train.index),
        "wrong_label_rate": data.train.wrong.double().mean().item(),
        "epochs": member.epoch,
        "fit_epoch": member.fit_epoch,
        "interpolated": member.fit_epoch is not None,
        **compute_columns(point, data.image_shape, data.classes, len(data.train.index), member.epoch),
        "seconds": member.seconds,
    }
    if score is not None:
        outcome |= score.as_outcome()
    return Result(point, member.key, status, reason, outcome, member.curve)


def solved(point: TrialConfig, device: torch.device, seconds: float | None) -> Result:
    """The result of a point that is solved in closed form."""
    key = point.key()
    try:
        outcome, row = within(seconds, lambda: solver_of(point.model.name).solve(point, device))
        dataset = load(point.data)
        outcome |= compute_columns(point, input_shape(dataset, point.data.preprocessing), dataset.classes, point.data.train_size or 1, 0)
    except BaseException as error:
        leave_if_stopped(error)
        leave_if_poisoned(error)
        return failure(point, error)
    rate = {"key": key, "learning_rate": None, "validation_error": None, "clean_train_error": None, "wrong_train_error": None}
    return Result(point, key, "completed", "solved in closed form", outcome, [rate | row])


def failure(point: TrialConfig, error: BaseException) -> Result:
    """The result of a point that raised."""
    reason = "out of memory, even alone" if is_out_of_memory(error) else named(error)
    if (point.data.train_size or 0) % point.optimizer.batch_size == 1 and "Expected more than 1 value per channel" in reason:
        reason += " (batch normalization, and a last batch of one sample: change optimizer.batch_size or data.train_size)"
    return Result(point, point.key(), "failed", reason, {}, [])
