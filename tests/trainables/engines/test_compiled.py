"""Compiled steps and evaluations against double precision, against batched products, and against themselves one by one."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from math import prod
from typing import Any

import numba
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp
from torch import Tensor, nn

import trainables.engines
from tests.trainables.engines.test_engines import (
    ALL,
    CLASSES,
    EPSILON,
    ROUNDED,
    SHAPE,
    STACKED,
    batch,
    distance,
    engine_of,
    modules,
    streams,
)
from trainables.data.inputs import Inputs, StackedInputs
from trainables.engines import Engine, kernels
from trainables.engines.base import ROWS
from trainables.engines.compiled import CompiledDense
from trainables.engines.stacked import StackedDense
from trainables.point.config import Optimizer, Regularizers, TrialConfig

WIDTH = prod(SHAPE)
COMPILED = {name: fields for name, fields in STACKED.items() if "activation" not in fields}
"""Of rectified linear units: others have batched products."""


def images(count: int, seed: int = 0) -> Inputs:
    pixels = torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(seed))
    return Inputs(pixels, torch.ones(1, 1), torch.zeros(1, 1), SHAPE)


def drawn(rows: int, many: int, below: int, seed: int = 0) -> Tensor:
    return torch.randint(below, (rows, many), generator=torch.Generator().manual_seed(seed))


# Evaluation


@pytest.mark.parametrize("loss", ["cross_entropy", "squared"])
@pytest.mark.parametrize("name", ALL)
def test_losses_and_errors_are_those_of_double_precision(name: str, loss: str) -> None:
    members = modules(ALL[name], 3)
    engine = engine_of(members, loss=loss)
    many = ROWS + 7 if name in STACKED else 9
    inputs = images(40)
    index, labels = drawn(3, many, 40), drawn(3, many, CLASSES, seed=1)
    losses, misclassified = engine.losses(StackedInputs([inputs]), index, labels, [0, 1, 2])
    assert losses.shape == misclassified.shape == (3, many)
    for number, member in enumerate(copy.deepcopy(members)):
        pixels = inputs.gather(index[number]).double().reshape(-1, *SHAPE)
        outputs = member.double().eval()(pixels).detach().numpy()
        right = np.take_along_axis(outputs, labels[number][:, None].numpy(), 1)[:, 0]
        squared, entropies = ((outputs - np.eye(CLASSES)[labels[number]]) ** 2).sum(1) / 2, logsumexp(outputs, axis=1) - right
        expected = squared if loss == "squared" else entropies
        assert distance([losses[number]], [torch.from_numpy(expected)]) < ROUNDED
        margin = right - np.where(np.eye(CLASSES)[labels[number]] == 1, -np.inf, outputs).max(1)
        sure = abs(margin) > ROUNDED * abs(outputs).max()
        assert sure.mean() > 0.9
        assert np.array_equal(misclassified[number].numpy()[sure], margin[sure] <= 0)


@pytest.mark.parametrize("name", STACKED)
def test_a_member_is_evaluated_alike_alone_with_others_and_on_shared_images(name: str) -> None:
    members = modules(STACKED[name], 3)
    engine = engine_of(members)
    inputs, index, labels = images(50), drawn(1, ROWS + 3, 50), drawn(3, ROWS + 3, CLASSES, seed=1)
    together = engine.losses(StackedInputs([inputs]), index, labels, [0, 1, 2])
    apart = engine.losses(StackedInputs([inputs]), index.expand(3, -1), labels, [0, 1, 2])
    own_copies = engine.losses(StackedInputs([images(50) for _ in members]), index.expand(3, -1), labels, [0, 1, 2])
    for number, member in enumerate(members):
        own = slice(number, number + 1)
        alone = engine_of([member]).losses(StackedInputs([inputs]), index, labels[own], [0])
        some = engine.losses(StackedInputs([inputs]), index, labels[own], [number])
        for found in (together, apart, own_copies):
            assert all(torch.equal(a[own], b) for a, b in zip(found, alone, strict=True))
        assert all(map(torch.equal, some, alone))


@pytest.mark.parametrize("loss", ["cross_entropy", "squared"])
@pytest.mark.parametrize("name", ["linear", "mlp of depth 2", "cnn5"])
def test_a_constant_network_has_learnt_nothing(name: str, loss: str) -> None:
    members = modules(ALL[name], 1)
    for parameter in members[0].parameters():
        nn.init.zeros_(parameter)
    losses, misclassified = engine_of(members, loss=loss).losses(StackedInputs([images(5)]), drawn(1, 8, 5), drawn(1, 8, CLASSES), [0])
    assert misclassified.all()
    assert torch.allclose(losses, torch.tensor(np.log(CLASSES) if loss == "cross_entropy" else 0.5, dtype=torch.float32), rtol=4 * EPSILON)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["linear", "mlp of depth 1", "mlp of depth 2"])
def test_what_is_not_finite_stays_so(name: str, bad: float) -> None:
    members = modules(STACKED[name], 2)
    with torch.no_grad():
        list(members[0].parameters())[-1][1] = bad  # a bias of the last layer
    engine = engine_of(members)
    losses, _ = engine.losses(StackedInputs([images(5)]), drawn(2, 8, 5), drawn(2, 8, 1), [0, 1])
    assert not losses[0].isfinite().any()
    assert losses[1].isfinite().all()
    engine.gradient(*batch(2, 4), streams(2))
    assert not engine.gradients[-1][0].isfinite().all()
    assert all(gradient[1].isfinite().all() for gradient in engine.gradients)


@given(
    st.lists(st.lists(st.floats(-200, 200, width=32), min_size=6, max_size=6), min_size=1, max_size=4),
)
@settings(deadline=None, max_examples=50)
def test_exponentials_are_exact_to_rounding(rows: list[list[float]]) -> None:
    """2 units in the last place of the polynomial, one of 1/total, one of the product; below exp(-87) zero but for denormals."""
    logits = np.array(rows, np.float32)
    expected = np.exp(logits.astype(np.float64) - logsumexp(logits.astype(np.float64), axis=0))
    found, space = logits.copy(), np.empty((5, 6), np.float32)
    _softmax(found, space)
    assert np.abs(found - expected).max() <= 8 * EPSILON
    large = expected > 1e-30
    assert (np.abs(found - expected)[large] <= (8 + 2 * np.log(1 / expected[large])) * EPSILON * expected[large]).all()


@numba.njit
def _softmax(logits: Any, space: Any) -> None:
    _compiled_softmax(logits, space)


_compiled_softmax = kernels._softmax


# Steps


@pytest.mark.parametrize("loss", ["cross_entropy", "squared"])
@pytest.mark.parametrize("name", COMPILED)
def test_batched_products_give_the_same_gradients(name: str, loss: str) -> None:
    """`StackedDense`, which serves GPUs, against the same by machine code, dropout included."""
    members, dropouts = modules(STACKED[name], 4, dropout=0.3), [0.3] * 4
    compiled = engine_of(members, dropouts, loss=loss)
    batched = StackedDense(copy.deepcopy(members[0]), loss, "float32")
    batched.refill([], copy.deepcopy(members))
    assert type(compiled) is CompiledDense
    for size in (1, 5):
        for engine in (compiled, batched):
            engine.gradient(*batch(4, size), streams(4))
        assert distance(compiled.gradients, batched.gradients) < ROUNDED


def descended(
    members: list[nn.Module], points: list[TrialConfig], *, at_once: bool, many: int = 37, size: int = 8, loss: str
) -> list[Tensor]:
    """Parameters after an epoch and a part of one, then moments; by `descend`, or step by step."""
    engine = engine_of(members, loss=loss)
    optimizer = engine.optimizer(points[0].optimizer)
    optimizer.refill([], points, engine.parameters, [None] * len(points), [0] * len(points))
    optimizer.set_rates(torch.tensor([point.optimizer.learning_rate for point in points]))
    inputs = StackedInputs([images(60)])
    seeds = [point.seed for point in points]
    index = torch.cat([drawn(1, 37, 60, seed=seed) for seed in seeds])
    labels = torch.cat([drawn(1, 37, CLASSES, seed=seed + 1) for seed in seeds])
    smoothing = torch.tensor([point.regularizers.label_smoothing for point in points])
    for some, truths in ((index, labels), (index[:, :5], labels[:, :5])):
        if at_once:
            assert engine.descend(optimizer, inputs, some, truths, size, smoothing)
            continue
        for rows, classes in zip(some.split(size, 1), truths.split(size, 1), strict=True):
            aims = nn.functional.one_hot(classes, CLASSES).transpose(1, 2).float()
            aims = aims * (1 - smoothing[:, None, None]) + (smoothing / CLASSES)[:, None, None]
            engine.gradient(inputs.gather(rows), aims, streams(len(points)))
            optimizer.step(engine.gradients)
    return [*(parameter.clone() for parameter in engine.parameters), *(torch.stack(each) for each in _moments(optimizer, len(points)))]


def _moments(optimizer: Any, count: int) -> Iterator[tuple[Tensor, ...]]:
    return zip(*(optimizer.state(member) for member in range(count)), strict=True)


@given(data=st.data())
@settings(deadline=None, max_examples=30)
@pytest.mark.parametrize("loss", ["cross_entropy", "squared"])
@pytest.mark.parametrize("name", [name for name in COMPILED if name != "random_features"])
def test_steps_at_once_are_steps_one_by_one_and_alone(name: str, loss: str, data: st.DataObject) -> None:
    """Bit for bit (design promise 3)."""
    nesterov = data.draw(st.booleans())
    points = [
        TrialConfig(
            optimizer=Optimizer(
                learning_rate=data.draw(st.floats(1e-4, 0.01)),
                momentum=data.draw(st.sampled_from([0.5, 0.9])) if nesterov else data.draw(st.sampled_from([0.0, 0.9])),
                nesterov=nesterov,
            ),
            regularizers=Regularizers(
                weight_decay=data.draw(st.sampled_from([0.0, 1e-2])),
                decay_biases=data.draw(st.booleans()),
                label_smoothing=data.draw(st.sampled_from([0.0, 0.1])),
            ),
            seed=seed,
        )
        for seed in range(data.draw(st.integers(1, 4)))
    ]
    size = data.draw(st.sampled_from([1, 3, 8, 64]))
    members = modules(STACKED[name], len(points))
    at_once = descended(members, points, at_once=True, size=size, loss=loss)
    one_by_one = descended(members, points, at_once=False, size=size, loss=loss)
    assert all(tensor.isfinite().all() for tensor in at_once)
    assert all(map(torch.equal, at_once, one_by_one))
    last = len(points) - 1
    alone = descended(members[last:], points[last:], at_once=True, size=size, loss=loss)
    assert all(torch.equal(ours[last:], own) for ours, own in zip(at_once, alone, strict=True))


@pytest.mark.parametrize(
    ("change", "dropout"),
    [({"optimizer": Optimizer(name="adam")}, 0.0), ({"regularizers": Regularizers(gradient_clip=1.0)}, 0.0), ({}, 0.5)],
)
def test_what_steps_at_once_cannot_do_is_left_undone(change: dict[str, Any], dropout: float) -> None:
    point = TrialConfig(**change)
    engine = engine_of(modules(STACKED["mlp of depth 1"], 1, dropout=dropout), [dropout])
    before = [parameter.clone() for parameter in engine.parameters]
    optimizer = engine.optimizer(point.optimizer)
    optimizer.refill([], [point], engine.parameters, [None], [0])
    optimizer.set_rates(torch.tensor([0.1]))
    assert not engine.descend(optimizer, StackedInputs([images(9)]), drawn(1, 9, 9), drawn(1, 9, CLASSES), 3, None)
    assert all(map(torch.equal, before, engine.parameters))


# Where it cannot be had


@pytest.mark.usefixtures("forget_engines")
def test_without_numba_batched_products_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    for name in ("trainables.engines.kernels", "trainables.engines.compiled"):
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(trainables.engines, "kernels")
    monkeypatch.delattr(trainables.engines, "compiled")
    engine: Engine = engine_of(modules(STACKED["mlp of depth 1"], 1))
    assert type(engine) is StackedDense


def test_other_precisions_and_devices_have_batched_products() -> None:
    assert type(engine_of(modules(STACKED["linear"], 1), precision="bfloat16")) is StackedDense
