"""Packing is invisible (design promise 3): a result is the point's own, in any pack, at any seat, after any interruption."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.trainables.made_up_points import CPU, alone, finish, point, saved_and_loaded, told, train
from trainables.point.config import TrialConfig
from trainables.training.loop import Training

Values = dict[str, Any]

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


def says_the_same_in_any_pack(points: list[TrialConfig], order: list[TrialConfig], slots: int) -> None:
    assert len({each.signature() for each in points}) == 1
    together = train(order, slots)
    assert set(together) == {each.key() for each in points}
    for each in points:
        assert told(together[each.key()]) == alone(each)


ONE_SAMPLE: Values = {"model.width": 17, "data.train_size": 1, "optimizer.batch_size": 1, "budget.epochs": 1}
"""One row by a transposed matrix: a product that has other bits by itself unless care is taken."""


@settings(max_examples=60)
@example(pack=[ONE_SAMPLE | {"seed": seed} for seed in range(2)], shuffle=random.Random(0), slots=2)
@given(packs(STACKABLE, [1, 2, 3, 5, 8, 17], most=6), st.randoms(use_true_random=False), st.integers(1, 7))
def test_a_stacked_points_result_does_not_depend_on_its_pack(blobs: str, pack: list[Values], shuffle: Any, slots: int) -> None:
    points = each_once(blobs, pack)
    order = points.copy()
    shuffle.shuffle(order)
    says_the_same_in_any_pack(points, order, slots)


@settings(max_examples=15)
@given(packs(OTHERS, [1, 3, 8], most=4), st.integers(1, 4))
def test_a_modules_points_result_does_not_depend_on_its_pack(blobs: str, pack: list[Values], slots: int) -> None:
    points = each_once(blobs, pack)
    says_the_same_in_any_pack(points, points[::-1], slots)


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
    assert set(train(points, slots=2)) == {each.key() for each in points}
    assert set(train(points)) == {each.key() for each in points}


# Interrupted and resumed


@settings(max_examples=40)
@given(
    packs(STACKABLE | OTHERS, [1, 3, 8], most=5),
    st.integers(1, 5),
    st.integers(1, 5),
    st.lists(st.integers(0, 3), min_size=1, max_size=3),
)
def test_a_resumed_training_ends_as_an_uninterrupted_one(
    blobs: str, pack: list[Values], slots: int, seats_then: int, epochs: list[int]
) -> None:
    points = each_once(blobs, pack)
    whole = train(points, slots)
    training, results = Training(points, CPU, slots=slots), {}
    for count in epochs:  # interrupted as often
        for _ in range(count):
            if not training.finished:
                results |= {result.key: result for result in training.epoch()}
        state = saved_and_loaded(training.state_dict())
        training = Training(points, CPU, slots=seats_then)
        training.load_state_dict(state)
    later = finish(training)
    assert not set(results) & set(later)
    assert {key: told(result) for key, result in (results | later).items()} == {key: told(result) for key, result in whole.items()}


def test_a_checkpoint_leaves_the_training_as_it_was(blobs: str) -> None:
    points = [point({"data.name": blobs, "model.width": 5, "budget.epochs": 4, "seed": seed}) for seed in range(3)]
    training, results = Training(points, CPU, slots=2), {}
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
