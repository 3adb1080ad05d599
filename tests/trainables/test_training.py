"""The training loop: a result is the point's own, whatever trains beside it, stops it on the way or fails next to it."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.trainables.made_up_points import CPU, alone, finish, point, told, train
from trainables import models, own_models
from trainables.config import ConfigError, TrialConfig, with_fields
from trainables.data import load
from trainables.engines.modules import ModuleEngine
from trainables.engines.stacked import StackedDense
from trainables.inputs import point_data
from trainables.training import Result, Training

Values = dict[str, Any]


def only(fields: Values) -> Result:
    (result,) = train([point(fields)]).values()
    return result


# Packing is invisible (design promise 3)

OWN: dict[str, st.SearchStrategy[Any]] = {
    "seed": st.integers(0, 3),
    "optimizer.learning_rate": st.sampled_from([1e-3, 0.05, 0.5]),
    "optimizer.momentum": st.sampled_from([0.0, 0.9]),
    "optimizer.schedule": st.sampled_from(["constant", "exponential", "cosine"]),
    "regularizers.weight_decay": st.sampled_from([0.0, 0.01]),
    "regularizers.decay_biases": st.booleans(),
    "regularizers.label_smoothing": st.sampled_from([0.0, 0.1]),
    "regularizers.gradient_clip": st.sampled_from([None, 0.5]),
    "regularizers.crop": st.sampled_from([0, 1]),
    "regularizers.flip": st.booleans(),
    "regularizers.mixup": st.sampled_from([0.0, 0.4]),
    "regularizers.early_stopping": st.sampled_from([None, 1]),
    "corruption.kind": st.sampled_from(["redraw", "flip", "shuffled_pixels", "random_pixels", "gaussian"]),
    "corruption.level": st.sampled_from([0.0, 0.5, 1.0]),
    "budget.stop_at_train_error": st.sampled_from([None, 0.3]),
    "budget.stop_at_train_loss": st.sampled_from([None, 0.5]),
}
"""What members of a pack may differ in, with what keeps them equal most often left out most often."""


def packs(families: dict[str, Values], widths: list[int], most: int) -> st.SearchStrategy[list[Values]]:
    """Lists of fields of points with one signature."""

    @st.composite
    def draw_pack(draw: st.DrawFn) -> list[Values]:
        model = draw(st.sampled_from(sorted(families)))
        train_size = draw(st.sampled_from([1, 7, 17, 33]))
        shared: Values = families[model] | {
            "model.width": draw(st.sampled_from(widths)),
            "data.train_size": train_size,
            "data.validation_size": 9,
            "optimizer.batch_size": draw(st.sampled_from([1, 4, 8, 16, 100])),  # 16 leaves a batch of one of 17 and of 33
            "optimizer.name": draw(st.sampled_from(["sgd", "sgd", "adam", "adamw"])),
            "optimizer.nesterov": draw(st.booleans()),
            "optimizer.loss": draw(st.sampled_from(["cross_entropy", "squared"])),
            "budget.epochs": draw(st.integers(0, 4)),
            "budget.evaluate_every": draw(st.sampled_from([1, 2])),
        }
        own = dict(OWN)
        if families[model].get("model.depth", 1) and model != "linear":
            own["regularizers.dropout"] = st.sampled_from([0.0, 0.5])
        varied = draw(st.lists(st.sampled_from(sorted(own)), unique=True, max_size=6))
        return [shared | {name: draw(own[name]) for name in {"seed", *varied}} for _ in range(draw(st.integers(2, most)))]

    return draw_pack()


STACKABLE: dict[str, Values] = {
    "linear": {"model.name": "linear"},
    "random_features": {"model.name": "random_features"},
    **{f"mlp {depth}": {"model.name": "mlp", "model.depth": depth} for depth in range(4)},
}
OTHERS: dict[str, Values] = {
    "batch norm": {"model.name": "mlp", "model.batch_norm": True},
    "bfloat16": {"model.name": "mlp", "model.depth": 2, "precision": "bfloat16"},
}


def each_once(blobs: str, pack: list[Values]) -> list[TrialConfig]:
    """The points of the pack, without those that have the key of another."""
    points = [point({"data.name": blobs} | fields) for fields in pack]
    return list({each.key(): each for each in points}.values())


def says_the_same_in_any_pack(points: list[TrialConfig], order: list[TrialConfig], seats: int) -> None:
    assert len({each.signature() for each in points}) == 1
    together = train(order, seats)
    assert set(together) == {each.key() for each in points}
    for each in points:
        assert told(together[each.key()]) == alone(each)


@settings(max_examples=60)
@given(packs(STACKABLE, [1, 2, 3, 5, 8, 17], most=6), st.randoms(use_true_random=False), st.integers(1, 7))
def test_a_stacked_points_result_does_not_depend_on_its_pack(blobs: str, pack: list[Values], shuffle: Any, seats: int) -> None:
    points = each_once(blobs, pack)
    order = points.copy()
    shuffle.shuffle(order)
    says_the_same_in_any_pack(points, order, seats)


@settings(max_examples=15)
@given(packs(OTHERS, [1, 3, 8], most=4), st.integers(1, 4))
def test_a_modules_points_result_does_not_depend_on_its_pack(blobs: str, pack: list[Values], seats: int) -> None:
    points = each_once(blobs, pack)
    says_the_same_in_any_pack(points, points[::-1], seats)


@pytest.mark.parametrize("name", ["cnn5", "alexnet_small"])
def test_a_convolutional_points_result_does_not_depend_on_its_pack(name: str) -> None:
    fields = {"model.name": name, "model.width": 2, "data.train_size": 17, "optimizer.batch_size": 8, "budget.epochs": 2}
    points = [point(fields | {"seed": seed, "regularizers.flip": seed == 1, "corruption.level": seed / 2}) for seed in range(3)]
    says_the_same_in_any_pack(points, points[1:] + points[:1], 2)


def test_results_do_not_depend_on_the_global_random_state(blobs: str) -> None:
    for more in ({}, {"model.batch_norm": True}):
        fields = {"data.name": blobs, "budget.epochs": 2, "regularizers.dropout": 0.5, "regularizers.flip": True} | more
        torch.manual_seed(1)
        first = alone(point(fields))
        torch.manual_seed(2)
        assert alone(point(fields)) == first


def test_a_pack_larger_than_its_seats_gives_every_result_once(blobs: str) -> None:
    points = [point({"data.name": blobs, "model.width": 3, "budget.epochs": 1 + seed % 1, "seed": seed}) for seed in range(9)]
    assert set(train(points, seats=2)) == {each.key() for each in points}
    assert set(train(points)) == {each.key() for each in points}


# Interrupted and resumed


def saved_and_loaded(state: dict[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@settings(max_examples=40)
@given(
    packs(STACKABLE | OTHERS, [1, 3, 8], most=5),
    st.integers(1, 5),
    st.integers(1, 5),
    st.lists(st.integers(0, 3), min_size=1, max_size=3),
)
def test_a_resumed_training_ends_as_an_uninterrupted_one(
    blobs: str, pack: list[Values], seats: int, seats_then: int, epochs: list[int]
) -> None:
    points = each_once(blobs, pack)
    whole = train(points, seats)
    training, results = Training(points, CPU, seats=seats), {}
    for count in epochs:  # interrupted as often
        for _ in range(count):
            if not training.finished:
                results |= {result.key: result for result in training.epoch()}
        state = saved_and_loaded(training.state_dict())
        training = Training(points, CPU, seats=seats_then)
        training.load_state_dict(state)
    later = finish(training)
    assert not set(results) & set(later)
    assert {key: told(result) for key, result in (results | later).items()} == {key: told(result) for key, result in whole.items()}


def test_a_checkpoint_leaves_the_training_as_it_was(blobs: str) -> None:
    points = [point({"data.name": blobs, "model.width": 5, "budget.epochs": 4, "seed": seed}) for seed in range(3)]
    training, results = Training(points, CPU, seats=2), {}
    while not training.finished:
        training.state_dict()
        results |= {result.key: result for result in training.epoch()}
        training.state_dict()
    assert {key: told(result) for key, result in results.items()} == {each.key(): alone(each) for each in points}


def test_time_goes_on_after_a_resumption(blobs: str) -> None:
    points = [point({"data.name": blobs, "budget.epochs": 3})]
    training = Training(points, CPU)
    training.epoch()
    state = saved_and_loaded(training.state_dict())
    (spent,) = (member["seconds"] for member in state["members"])
    resumed = Training(points, CPU)
    resumed.load_state_dict(state)
    (result,) = finish(resumed).values()
    assert result.outcome["seconds"] > spent > 0


# Neighbours that fail


@pytest.mark.parametrize(
    ("model", "loss"),
    [
        ({"model.width": 6}, "cross_entropy"),
        ({"model.width": 6}, "squared"),
        ({"model.width": 6, "model.batch_norm": True}, "squared"),
        ({"model.name": "linear"}, "squared"),
    ],
)
def test_a_diverging_point_says_so_and_leaves_its_neighbours_alone(blobs: str, model: Values, loss: str) -> None:
    shared = {"data.name": blobs, "budget.epochs": 4, "budget.stop_at_train_error": None, "optimizer.loss": loss, **model}
    calm = [point(shared | {"seed": seed, "optimizer.learning_rate": 0.02}) for seed in range(3)]
    wild = point(shared | {"optimizer.learning_rate": 1e30, "optimizer.momentum": 0.0})
    together = train([calm[0], wild, *calm[1:]], seats=3)
    for each in calm:
        assert told(together[each.key()]) == alone(each)
        assert together[each.key()].status == "completed"
    result = together[wild.key()]
    assert result.status == "diverged"
    assert "train loss is" in result.reason
    assert result.outcome.get("train_error") is None
    assert result.outcome["wrong_label_rate"] == 0
    assert all(math.isfinite(row["train_loss"]) for row in result.curve)
    assert told(result) == alone(wild)


OWN_MODEL = '''
import torch
from torch import nn
from trainables.models import model_family


class Careful(nn.Module):
    """Refuses numbers that are too large."""

    def forward(self, outputs):
        if outputs.abs().max() > 50:
            raise ValueError("these outputs are too large")
        return outputs


@model_family("careful", default_width=4)
def careful(model, dropout, image_shape, classes):
    inputs = image_shape[0] * image_shape[1] * image_shape[2]
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, model.width), nn.ReLU(), nn.Linear(model.width, classes), Careful())
'''


@pytest.fixture
def register() -> Iterator[Callable[[str, str], None]]:
    """Register sources, and forget their families afterwards."""
    before = models.families()
    yield own_models.register
    for name in set(models.families()) - set(before):
        del models._FAMILIES[name]


def test_a_point_that_raises_fails_alone_with_its_reason(blobs: str, register: Callable[[str, str], None]) -> None:
    register("careful.py", OWN_MODEL)
    shared = {"data.name": blobs, "model.name": "careful", "budget.epochs": 4, "budget.stop_at_train_error": None}
    calm = [point(shared | {"seed": seed, "optimizer.learning_rate": 1e-3}) for seed in range(3)]
    wild = point(shared | {"optimizer.learning_rate": 100.0})
    together = train([calm[0], wild, *calm[1:]], seats=3)
    assert set(together) == {each.key() for each in (*calm, wild)}
    assert (together[wild.key()].status, together[wild.key()].reason) == ("failed", "ValueError: these outputs are too large")
    for each in calm:
        assert told(together[each.key()]) == alone(each)
        assert together[each.key()].status == "completed"


def test_a_point_that_cannot_be_built_fails_alone_with_its_reason(blobs: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from trainables import training as module

    points = [point({"data.name": blobs, "model.width": 3, "budget.epochs": 2, "seed": seed}) for seed in range(4)]
    expected = {each.key(): alone(each) for each in points}

    def missing(each: TrialConfig, device: torch.device) -> Any:
        if each.seed == 2:
            raise FileNotFoundError("the disk is gone")
        return point_data(each, device)

    monkeypatch.setattr(module, "point_data", missing)
    together = train(points, seats=2)
    lost = points[2].key()
    assert (together[lost].status, together[lost].reason) == ("failed", "FileNotFoundError: the disk is gone")
    assert {key: told(result) for key, result in together.items() if key != lost} == {
        key: value for key, value in expected.items() if key != lost
    }


OUT_OF_MEMORY = {
    "gpu": lambda: torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
    "host": lambda: RuntimeError(
        "[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes."
    ),
    "python": lambda: MemoryError(),
}


def limited(monkeypatch: pytest.MonkeyPatch, operation: str, most: int, error: Callable[[], Exception]) -> list[int]:
    """Let engines raise in an operation above so many members; the numbers of members that were tried."""
    tried: list[int] = []
    for kind in (StackedDense, ModuleEngine):
        original = getattr(kind, operation)

        def guarded(self: Any, *arguments: Any, original: Any = original, **named: Any) -> Any:
            members = len(arguments[0]) + len(arguments[1]) if operation == "seat" else len(self.parameters[0])
            tried.append(members)
            if members > most:
                raise error()
            return original(self, *arguments, **named)

        monkeypatch.setattr(kind, operation, guarded)
    return tried


@pytest.mark.parametrize("kind", OUT_OF_MEMORY)
@pytest.mark.parametrize("operation", ["gradient", "logits", "seat"])
@pytest.mark.parametrize("model", [{"model.width": 5}, {"model.width": 5, "model.batch_norm": True}])
def test_out_of_memory_splits_the_pack_and_loses_nothing(
    blobs: str, monkeypatch: pytest.MonkeyPatch, kind: str, operation: str, model: Values
) -> None:
    points = [point({"data.name": blobs, "budget.epochs": 3, "seed": seed, **model}) for seed in range(7)]
    expected = {each.key(): alone(each) for each in points}
    tried = limited(monkeypatch, operation, 3, OUT_OF_MEMORY[kind])
    assert {key: told(result) for key, result in train(points, seats=7).items()} == expected
    assert max(tried) == 7
    assert 3 in tried  # halved, and no further than needed


def test_a_point_too_large_for_the_memory_by_itself_fails_and_the_rest_goes_on(blobs: str, monkeypatch: pytest.MonkeyPatch) -> None:
    points = [point({"data.name": blobs, "budget.epochs": 2, "model.width": 5, "seed": seed}) for seed in range(3)]
    limited(monkeypatch, "gradient", 0, OUT_OF_MEMORY["gpu"])
    results = train(points, seats=3)
    assert {key: (result.status, result.reason) for key, result in results.items()} == {
        each.key(): ("failed", "out of memory, even alone") for each in points
    }


def test_memory_that_runs_out_while_a_point_is_built_beside_others_is_not_its_failure(blobs: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the others hold is what is missing: with fewer of them it goes on."""
    from trainables import training as module

    points = [point({"data.name": blobs, "budget.epochs": 2, "model.width": 5, "seed": seed}) for seed in range(6)]
    expected = {each.key(): alone(each) for each in points}
    calls = {"made": 0}

    def exhausted_once(each: TrialConfig, device: torch.device) -> Any:
        calls["made"] += 1
        if calls["made"] == 5:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return point_data(each, device)

    monkeypatch.setattr(module, "point_data", exhausted_once)
    assert {key: told(result) for key, result in train(points, seats=6).items()} == expected


def test_nothing_is_lost_when_a_run_is_resumed_after_an_error(blobs: str, register: Callable[[str, str], None]) -> None:
    register("careful.py", OWN_MODEL)
    shared = {"data.name": blobs, "model.name": "careful", "budget.epochs": 3, "budget.stop_at_train_error": None}
    points = [point(shared | {"seed": seed, "optimizer.learning_rate": 100.0 if seed == 1 else 1e-3}) for seed in range(4)]
    whole = {key: told(result) for key, result in train(points, seats=4).items()}
    for stop_after in range(1, 12):
        training, results = Training(points, CPU, seats=4), {}
        for _ in range(stop_after):
            if not training.finished:
                results |= {result.key: result for result in training.epoch()}
        resumed = Training(points, CPU, seats=4)
        resumed.load_state_dict(saved_and_loaded(training.state_dict()))
        assert {key: told(result) for key, result in (results | finish(resumed)).items()} == whole


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
    """By an explicit loop over the samples, with ties for the largest output counted as mistakes."""
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
    assert clean.curve[0]["wrong_train_error"] is None
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
    from trainables.resolution import sizes_only
    from trainables.streams import derive, generator

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


# Models of one's own

TINY = """
from __future__ import annotations

from dataclasses import dataclass

from torch import nn
from trainables.models import model_family


@dataclass
class Sizes:
    hidden: int


@model_family("tiny", default_width={width})
def tiny(model, dropout, image_shape, classes):
    sizes = Sizes(model.width)
    return nn.Sequential(
        nn.Conv2d(image_shape[0], sizes.hidden, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(sizes.hidden, classes)
    )
"""


def test_a_model_of_ones_own_trains_and_its_source_is_part_of_the_key(blobs: str, register: Callable[[str, str], None]) -> None:
    fields = {"data.name": blobs, "model.name": "tiny", "model.width": 5, "budget.epochs": 2}
    with pytest.raises(ConfigError, match="no model family"):
        point(fields)
    register("tiny.py", TINY.format(width=3))
    first = point(fields)
    assert first.model.digest is not None
    assert point({"data.name": blobs, "model.name": "tiny"}).model.width == 3
    result = only(fields)
    assert result.status == "completed"
    assert result.outcome["parameters"] == 2 * 9 * 5 + 5 + 5 * 3 + 3
    register("elsewhere/tiny.py", TINY.format(width=3))
    assert point(fields).key() == first.key()  # the text counts, not where it lies
    register("tiny.py", TINY.format(width=4))
    assert point(fields).key() != first.key()
    assert point(fields).model.width == first.model.width
    assert told(only(fields))[3:] != ()
    assert with_fields(first, {"model.depth": 2}).key() != first.key()  # it may read any field


CONDITIONAL = '''
from math import prod
from torch import nn
from trainables.models import model_family


@model_family("conditional", default_width=6)
def conditional(model, dropout, image_shape, classes):
    """Has a dropout layer only where it is asked for."""
    between = [nn.ReLU(), nn.Dropout(dropout)] if dropout else [nn.ReLU()]
    return nn.Sequential(nn.Flatten(), nn.Linear(prod(image_shape), model.width), *between, nn.Linear(model.width, classes))
'''


def test_an_own_models_points_may_share_a_pack_whenever_their_signatures_are_equal(
    blobs: str, register: Callable[[str, str], None]
) -> None:
    register("conditional.py", CONDITIONAL)
    fields = {"data.name": blobs, "model.name": "conditional", "budget.epochs": 2}
    points = [point(fields | {"seed": seed, "regularizers.dropout": rate}) for seed, rate in enumerate((0.0, 0.5, 0.0, 0.2))]
    for signature in {each.signature() for each in points}:
        group = [each for each in points if each.signature() == signature]
        together = train(group, seats=4)
        assert {key: told(result) for key, result in together.items()} == {each.key(): alone(each) for each in group}
        assert all(result.status == "completed" for result in together.values())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def broken(:", "own.py raises SyntaxError"),
        ("import no_such_module", "own.py raises ModuleNotFoundError: No module named 'no_such_module'"),
        ("1 / 0", "own.py raises ZeroDivisionError: division by zero"),
    ],
)
def test_a_source_that_raises_is_one_sentence(text: str, said: str, register: Callable[[str, str], None]) -> None:
    with pytest.raises(ConfigError) as caught:
        register("own.py", text)
    assert said in str(caught.value)


def test_bundled_families_have_no_digest(register: Callable[[str, str], None]) -> None:
    register("tiny.py", TINY.format(width=3))
    families = models.families()
    assert {name for name, each in families.items() if each.digest is not None} == {"tiny"}
