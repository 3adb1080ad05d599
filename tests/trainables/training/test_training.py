"""The training loop: when a run ends, what its result measures, and that it learns what an ordinary loop learns."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.trainables.made_up_points import CPU, alone, finish, only, point, saved_and_loaded, told, train
from trainables.data.inputs import point_data
from trainables.data.sets.sources import load
from trainables.models import registry as models
from trainables.point.config import TrialConfig
from trainables.point.streams import derive, generator
from trainables.training.loop import Result, Training

Values = dict[str, Any]


# When a run ends


FITTING: Values = {"model.width": 16, "budget.epochs": 30, "optimizer.learning_rate": 0.02, "optimizer.batch_size": 16}
"""Errors that fall to 0 on the blobs within 30 epochs."""


def errors_of(result: Result) -> list[float]:
    return [row["train_error"] for row in result.curve]


def test_a_run_stops_where_its_train_error_first_reaches_the_target(blobs: str) -> None:
    fields = FITTING | {"data.name": blobs}
    free = only(fields | {"budget.stop_at_train_error": None})
    for target in (0.3, 0.1, 0.0):
        first = next(row["epoch"] for row in free.curve if row["train_error"] <= target)
        result = only(fields | {"budget.stop_at_train_error": target})
        assert (result.status, result.reason) == ("completed", "reached the train target")
        assert result.outcome["epochs"] == result.outcome["fit_epoch"] == first < 30
        assert result.outcome["interpolated"] is True
        assert [row["train_loss"] for row in result.curve] == [row["train_loss"] for row in free.curve[:first]]
    assert free.outcome["epochs"] == 30
    assert free.outcome["fit_epoch"] == 1 + errors_of(free).index(0.0)  # trained on, and the target is 0 all the same
    assert free.outcome["interpolated"] is True


def test_a_run_stops_where_its_train_loss_first_reaches_the_target(blobs: str) -> None:
    fields = FITTING | {"data.name": blobs}
    free = only(fields | {"budget.stop_at_train_error": None})
    first = next(row["epoch"] for row in free.curve if row["train_loss"] <= 0.2)
    assert errors_of(free)[first - 1] > 0 or 0.0 in errors_of(free)[: first - 1]
    result = only(fields | {"budget.stop_at_train_loss": 0.2})
    assert result.reason == "reached the train target"
    assert result.outcome["epochs"] == result.outcome["fit_epoch"] == first
    assert result.outcome["train_loss"] <= 0.2


def test_a_run_that_does_not_fit_says_so(blobs: str) -> None:
    result = only({"data.name": blobs, "model.width": 2, "budget.epochs": 3, "corruption.kind": "random_labels"})
    assert (result.status, result.reason) == ("completed", "spent its epochs")
    assert result.outcome["epochs"] == 3
    assert result.outcome["fit_epoch"] is None
    assert result.outcome["interpolated"] is False
    assert min(errors_of(result)) > 0


@pytest.mark.parametrize("patience", [1, 2, 4])
def test_early_stopping_waits_so_many_evaluations_for_a_lower_validation_error(blobs: str, patience: int) -> None:
    fields = {"data.name": blobs, "data.validation_size": 45, "budget.epochs": 60, "budget.stop_at_train_error": None, "model.width": 8}
    free = [row["validation_error"] for row in only(fields).curve]
    best, since, last = 2.0, 0, len(free)
    for place, error in enumerate(free):
        best, since = (error, 0) if error < best else (best, since + 1)
        if since == patience:
            last = place + 1
            break
    assert last < 60
    result = only(fields | {"regularizers.early_stopping": patience})
    assert result.reason == "stopped early: no lower validation error"
    assert result.outcome["epochs"] == last
    assert [row["validation_error"] for row in result.curve] == free[:last]


@pytest.mark.parametrize(("epochs", "every", "expected"), [(7, 3, [3, 6, 7]), (6, 3, [3, 6]), (2, 5, [2]), (3, 1, [1, 2, 3]), (0, 4, [0])])
def test_evaluations_come_every_so_many_epochs_and_at_the_end(blobs: str, epochs: int, every: int, expected: list[int]) -> None:
    fields = {"data.name": blobs, "model.width": 4, "budget.epochs": epochs, "budget.stop_at_train_error": None}
    result = only(fields | {"budget.evaluate_every": every})
    assert [row["epoch"] for row in result.curve] == expected
    whole = {row["epoch"]: row for row in only(fields).curve}
    assert all(row["train_loss"] == whole[row["epoch"]]["train_loss"] for row in result.curve)
    assert result.outcome["epochs"] == epochs


def test_no_epochs_leave_the_network_as_it_was_built(blobs: str) -> None:
    fields = {"data.name": blobs, "model.width": 4, "budget.epochs": 0}
    result, other = only(fields), only(fields | {"optimizer.learning_rate": 7.0, "regularizers.dropout": 0.5})
    assert (result.status, result.reason) == ("completed", "spent its epochs")
    assert result.outcome["train_loss"] == other.outcome["train_loss"]
    assert result.outcome["fit_epoch"] is None


def test_a_curve_tells_the_learning_rate_of_its_epoch(blobs: str) -> None:
    fields = {"data.name": blobs, "model.width": 4, "budget.epochs": 4, "budget.stop_at_train_error": None}
    result = only(
        fields | {"optimizer.schedule": "step", "optimizer.decay_every": 2, "optimizer.decay": 0.5, "optimizer.learning_rate": 0.4}
    )
    assert [row["learning_rate"] for row in result.curve] == [0.4, 0.4, 0.2, 0.2]
    assert {row["key"] for row in result.curve} == {result.key}


def test_bfloat16_trains_to_about_the_same(blobs: str) -> None:
    """A product rounds to 8 bits: after three epochs losses are apart by some percent, not more, and not equal."""
    fields = {
        "data.name": blobs,
        "model.width": 16,
        "budget.epochs": 3,
        "budget.stop_at_train_error": None,
        "optimizer.learning_rate": 0.01,
    }
    exact, rounded = only(fields), only(fields | {"precision": "bfloat16"})
    assert exact.outcome["train_loss"] != rounded.outcome["train_loss"]
    assert rounded.outcome["train_loss"] == pytest.approx(exact.outcome["train_loss"], rel=0.05)


# What a result measures


def test_an_outcome_is_the_last_row_of_its_curve(blobs: str) -> None:
    result = only({"data.name": blobs, "data.validation_size": 30, "corruption.level": 0.5, "model.width": 4, "budget.epochs": 3})
    last, outcome = result.curve[-1], result.outcome
    for name in ("train_error", "train_loss", "validation_error", "test_error", "test_loss"):
        assert outcome[name] == last[name]
    assert outcome["generalization_gap"] == outcome["test_error"] - outcome["train_error"]
    assert outcome["parameters"] == 40 * 4 + 4 + 4 * 3 + 3
    assert outcome["parameters_per_sample"] == outcome["parameters"] / 60
    assert outcome["seconds"] > 0


FIXED = '''
import torch
from torch import nn
from trainables.models import model_family


@model_family("fixed_outputs", default_width=1)
def fixed_outputs(model, dropout, image_shape, classes):
    """Outputs that are rounded sums of pixels, so that ties are common; width 2 gives none but ties."""
    inputs = image_shape[0] * image_shape[1] * image_shape[2]

    class Rounded(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(classes, inputs))
            with torch.no_grad():
                for label in range(classes):
                    self.weight[label, label::classes] = 0.2 if model.width == 1 else 0.0

        def forward(self, images):
            return nn.functional.linear(images.flatten(1), self.weight).round()

    return Rounded()
'''


def rounded_outputs(images: Tensor, classes: int) -> list[list[float]]:
    weight = torch.zeros(classes, images.shape[1])
    for label in range(classes):
        weight[label, label::classes] = 0.2
    return (images @ weight.T).round().tolist()


@pytest.mark.parametrize("loss", ["cross_entropy", "squared"])
def test_errors_and_losses_are_counted_sample_by_sample(blobs: str, register: Callable[[str, str], None], loss: str) -> None:
    """By an explicit loop over the samples, with ties for the largest output counted as errors."""
    register("fixed.py", FIXED)
    fields = {"data.name": blobs, "data.validation_size": 20, "corruption.kind": "flip", "corruption.level": 0.4}
    each = point(fields | {"model.name": "fixed_outputs", "budget.epochs": 0, "optimizer.loss": loss})
    (result,) = train([each]).values()
    data = point_data(each, CPU)
    assert data.validation is not None
    true = load(each.data).train_labels
    found: dict[str, list[tuple[bool, float, bool]]] = {}
    ties = 0
    for name, samples in (("train", data.train), ("validation", data.validation), ("test", data.test)):
        outputs = rounded_outputs(samples.inputs.gather(samples.index), 3)
        for place, (row, label) in enumerate(zip(outputs, samples.labels.tolist(), strict=True)):
            others = [value for other, value in enumerate(row) if other != label]
            ties += row[label] == max(others)
            if loss == "squared":
                lost = sum((value - (other == label)) ** 2 for other, value in enumerate(row)) / 2
            else:
                lost = math.log(sum(math.exp(value - row[label]) for value in row))
            wrong = name == "train" and label != int(true[samples.index[place]])
            found.setdefault(name, []).append((not all(row[label] > value for value in others), lost, wrong))
    assert ties > 10

    def error(name: str, wrong: tuple[bool, ...] = (True, False)) -> float:
        counted = [mistaken for mistaken, _, label_wrong in found[name] if label_wrong in wrong]
        return sum(counted) / len(counted)

    row = result.curve[-1]
    assert row["train_error"] == pytest.approx(error("train"), abs=1e-12)
    assert row["validation_error"] == pytest.approx(error("validation"), abs=1e-12)
    assert row["test_error"] == pytest.approx(error("test"), abs=1e-12)
    assert row["clean_train_error"] == pytest.approx(error("train", (False,)), abs=1e-12)
    assert row["wrong_train_error"] == pytest.approx(error("train", (True,)), abs=1e-12)
    for name, kind in (("clean", False), ("wrong", True)):
        losses = [lost for _, lost, wrong in found["train"] if wrong == kind]
        assert row[f"{name}_train_loss"] == pytest.approx(sum(losses) / len(losses), rel=1e-6)
    for name in ("train", "test"):
        mean = sum(lost for _, lost, _ in found[name]) / len(found[name])
        assert row[f"{name}_loss"] == pytest.approx(mean, rel=1e-6)
    assert result.outcome["wrong_label_rate"] == sum(wrong for _, _, wrong in found["train"]) / 70


def test_a_network_that_says_nothing_is_always_wrong(blobs: str, register: Callable[[str, str], None]) -> None:
    register("fixed.py", FIXED)
    result = only({"data.name": blobs, "model.name": "fixed_outputs", "model.width": 2, "budget.epochs": 0})
    assert result.outcome["train_error"] == result.outcome["test_error"] == 1
    assert result.outcome["train_loss"] == pytest.approx(math.log(3), rel=1e-6)


def test_clean_and_wrong_labels_are_told_apart_only_where_there_are_both(blobs: str) -> None:
    fields = {"data.name": blobs, "model.width": 4, "budget.epochs": 1}
    clean, wrong = only(fields), only(fields | {"corruption.kind": "flip", "corruption.level": 1.0})
    assert clean.curve[0]["wrong_train_error"] is clean.curve[0]["wrong_train_loss"] is None
    assert clean.curve[0]["clean_train_error"] == clean.curve[0]["train_error"]
    assert wrong.curve[0]["clean_train_error"] is None
    assert wrong.curve[0]["wrong_train_error"] == wrong.curve[0]["train_error"]


def test_the_train_loss_is_of_the_labels_without_penalties(blobs: str) -> None:
    """Smoothing, decay, dropout and mixup shape the training; the loss reported is that of the labels alone."""
    fields = {"data.name": blobs, "model.width": 8, "budget.epochs": 0}
    plain = only(fields)
    penalties = {
        "regularizers.label_smoothing": 0.3,
        "regularizers.weight_decay": 1.0,
        "regularizers.mixup": 1.0,
        "regularizers.dropout": 0.5,
    }
    assert only(fields | penalties).outcome["train_loss"] == plain.outcome["train_loss"]


# Training learns what it should


def sgd_in_pytorch(each: TrialConfig) -> nn.Module:
    """The point by an ordinary loop: its initial network, its batches, `torch.optim.SGD`."""
    from trainables.point.config import sizes_only
    from trainables.point.streams import derive, generator

    data = point_data(each, CPU)
    module = models.build(sizes_only(each.model), 0.0, data.image_shape, data.classes, seed=derive(each.seed, "initialization"))
    rule = torch.optim.SGD(module.parameters(), each.optimizer.learning_rate, each.optimizer.momentum, weight_decay=0.0)
    for epoch in range(each.budget.epochs):
        order = torch.randperm(len(data.train.index), generator=generator(each.seed, "batches", epoch))
        for rows in order.split(each.optimizer.batch_size):
            rule.zero_grad()
            outputs = module(data.train.inputs.gather(data.train.index[rows]).reshape(-1, *data.image_shape))
            nn.functional.cross_entropy(outputs, data.train.labels[rows]).backward()
            rule.step()
    return module


@pytest.mark.parametrize("depth", [1, 2])
def test_training_is_the_loop_that_everyone_writes(blobs: str, depth: int) -> None:
    fields = {"data.name": blobs, "model.width": 8, "model.depth": depth, "optimizer.batch_size": 32, "optimizer.learning_rate": 0.02}
    each = point(fields | {"budget.epochs": 5, "budget.stop_at_train_error": None, "corruption.level": 0.3})
    (result,) = train([each]).values()
    data = point_data(each, CPU)
    module = sgd_in_pytorch(each)
    with torch.no_grad():
        for name, samples in (("train", data.train), ("test", data.test)):
            outputs = module(samples.inputs.gather(samples.index).reshape(-1, *data.image_shape))
            loss = float(nn.functional.cross_entropy(outputs, samples.labels))
            assert result.outcome[f"{name}_loss"] == pytest.approx(loss, rel=1e-4)


def test_a_warm_up_is_pytorchs_linear_schedule(blobs: str) -> None:
    """Against torch.optim, in the same order of the samples: 7 steps an epoch, warmed up in the middle of the second."""
    fields = {"data.name": blobs, "model.width": 6, "budget.epochs": 3, "optimizer.batch_size": 13, "budget.stop_at_train_error": None}
    warmed = point(fields | {"optimizer.warmup": 10, "optimizer.learning_rate": 0.4, "optimizer.schedule": "exponential"})
    (result,) = train([warmed]).values()
    data = point_data(warmed, CPU)
    module = models.build(warmed.model, 0.0, data.image_shape, data.classes, seed=derive(warmed.seed, "initialization"))
    optimizer = torch.optim.SGD(module.parameters(), lr=0.4, momentum=0.9)
    step = 0
    for epoch in range(3):
        order = torch.randperm(90, generator=generator(warmed.seed, "batches", epoch))
        for rows in torch.split(data.train.index[order], 13):
            optimizer.param_groups[0]["lr"] = 0.4 * 0.95**epoch * min(1, (step + 1) / 10)
            optimizer.zero_grad()
            images = data.train.inputs.gather(rows).reshape(-1, *data.image_shape)
            nn.functional.cross_entropy(module(images), load(warmed.data).train_labels[rows]).backward()
            optimizer.step()
            step += 1
    with torch.no_grad():
        outputs = module(data.train.inputs.gather(data.train.index).reshape(-1, *data.image_shape))
        loss = nn.functional.cross_entropy(outputs, data.train.labels).item()
    assert result.outcome["train_loss"] == pytest.approx(loss, rel=1e-4)
    assert [row["learning_rate"] for row in result.curve] == pytest.approx([0.4 * 0.7, 0.4 * 0.95, 0.4 * 0.95**2])


def test_a_member_warms_up_alone_among_others_and_after_a_resume_alike(blobs: str) -> None:
    fields = {"data.name": blobs, "model.width": 6, "budget.epochs": 4, "optimizer.batch_size": 13, "budget.stop_at_train_error": None}
    points = [point(fields | {"optimizer.warmup": steps, "seed": seed}) for seed, steps in enumerate((None, 10, 23))]
    together = train(points, slots=3)
    assert [told(together[one.key()]) for one in points] == [alone(one) for one in points]
    begun = Training(points, CPU, slots=3)
    begun.epoch()
    resumed = Training(points, CPU, slots=3)
    resumed.load_state_dict(saved_and_loaded(begun.state_dict()))
    assert {key: told(result) for key, result in finish(resumed).items()} == {key: told(result) for key, result in together.items()}
