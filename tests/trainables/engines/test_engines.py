"""Engines against PyTorch's autograd of the same modules, and members against themselves alone."""

from __future__ import annotations

import copy
from math import prod
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor, nn

from tests.trainables.engines.made_up_members import (
    CLASSES,
    EPSILON,
    SHAPE,
    batch,
    distance,
    gradients_of,
    loss_of,
    modules,
    streams,
    trainable,
)
from trainables.engines import Engine, Stream, make_engine, members_at_once
from trainables.models.chains import stackable
from trainables.point.config import ImageShape

RARE = 1e-4

STACKED: dict[str, dict[str, Any]] = {
    "linear": {"name": "linear"},
    "mlp of depth 0": {"name": "mlp", "depth": 0},
    "mlp of depth 1": {"name": "mlp", "depth": 1},
    "mlp of depth 2": {"name": "mlp", "depth": 2},
    "mlp of depth 3": {"name": "mlp", "depth": 3},
    "random_features": {"name": "random_features"},
    "mlp of gelu units": {"name": "mlp", "depth": 2, "activation": "gelu"},
    "mlp of silu units": {"name": "mlp", "depth": 1, "activation": "silu"},
    "mlp of tanh units": {"name": "mlp", "depth": 2, "activation": "tanh"},
}
MODULES: dict[str, dict[str, Any]] = {
    "mlp with batch norm": {"name": "mlp", "depth": 2, "batch_norm": True},
    "cnn5": {"name": "cnn5"},
    "cnn5 of tanh units": {"name": "cnn5", "activation": "tanh"},
    "cnn5 without batch norm": {"name": "cnn5", "batch_norm": False},
    "alexnet_small": {"name": "alexnet_small"},
    "resnet18": {"name": "resnet18", "batch_norm": False},
    "inception_small": {"name": "inception_small", "batch_norm": True},
}
ALL = STACKED | MODULES


def engine_of(
    members: list[nn.Module],
    dropouts: list[float] | None = None,
    *,
    loss: str = "cross_entropy",
    precision: str = "float32",
    shape: ImageShape = SHAPE,
) -> Engine:
    """An engine of copies of the modules."""
    engine = make_engine(copy.deepcopy(members[0]), loss=loss, precision=precision, image_shape=shape)
    engine.refill([], copy.deepcopy(members))
    return engine


ROUNDED = 200 * EPSILON
"""float32 against double precision: sums of up to a few hundred terms, through up to twenty layers, in practice far less."""


@pytest.mark.parametrize("loss", ["cross_entropy", "squared"])
@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("size", [1, 5])
def test_gradients_and_logits_are_autograds_in_double_precision(name: str, loss: str, size: int) -> None:
    if name == "mlp with batch norm" and size == 1:
        return  # batch norm needs two samples
    members = modules(ALL[name], 3)
    engine = engine_of(members, loss=loss)
    inputs, targets = batch(3, size)
    logits = engine.logits(inputs, [0, 1, 2])
    assert logits.shape == (3, CLASSES, size)
    for index, member in enumerate(copy.deepcopy(members)):
        reference = member.double().eval()(inputs[index].double().reshape(-1, *SHAPE))
        assert distance([logits[index].T], [reference]) < ROUNDED
    engine.gradient(inputs, targets, streams(3))
    assert len(engine.gradients) == len(engine.parameters) == len(trainable(members[0]))
    for index, member in enumerate(copy.deepcopy(members)):
        outputs = member.double().train()(inputs[index].double().reshape(-1, *SHAPE))
        loss_of(outputs, targets[index].double().T, loss).backward()
        assert distance([gradient[index] for gradient in engine.gradients], gradients_of(member)) < ROUNDED
        assert [parameter[index].shape for parameter in engine.parameters] == [own.shape for own in trainable(member)]


@pytest.mark.parametrize("name", ALL)
def test_a_second_gradient_is_not_added_to_the_first(name: str) -> None:
    engine = engine_of(modules(ALL[name], 2))
    inputs, targets = batch(2, 4)
    engine.gradient(inputs, targets, streams(2))
    first = [gradient.clone() for gradient in engine.gradients]
    engine.gradient(*batch(2, 4, seed=1), streams(2))
    engine.gradient(inputs, targets, streams(2))
    assert all(torch.equal(*pair) for pair in zip(first, engine.gradients, strict=True))


# A member alone and among others


def together_and_alone(members: list[nn.Module], dropouts: list[float], inputs: Tensor, targets: Tensor, **named: Any) -> None:
    engine = engine_of(members, dropouts, **named)
    count = len(members)
    engine.gradient(inputs, targets, streams(count))
    logits = engine.logits(inputs, list(range(count))).clone()
    for index, member in enumerate(members):
        own = slice(index, index + 1)
        alone = engine_of([member], [dropouts[index]], **named)
        alone.gradient(inputs[own], targets[own], streams(count)[own])
        for gradient, mine in zip(engine.gradients, alone.gradients, strict=True):
            assert torch.equal(gradient[own], mine)
        assert torch.equal(logits[own], alone.logits(inputs[own], [0]))
    some = list(range(0, count, 2))
    assert torch.equal(engine.logits(inputs[some], some), logits[some])


NO_DROPOUT = [0.0] * 5


@settings(max_examples=150)
@example("mlp of depth 1", 2, 1, 33, 3, (1, 8, 8), "cross_entropy", "float32", NO_DROPOUT)  # one row by a transposed matrix
@example("mlp of depth 1", 2, 7, 1, 2, (1, 8, 8), "cross_entropy", "float32", NO_DROPOUT)  # a matrix by one column
@example("mlp of depth 2", 3, 1, 16, 2, (2, 3, 5), "squared", "bfloat16", NO_DROPOUT)
@given(
    st.sampled_from(sorted(STACKED)),
    st.integers(2, 5),
    st.integers(1, 20),
    st.sampled_from([1, 2, 3, 4, 5, 8, 9, 15, 16, 17, 33]),
    st.integers(2, 11),
    st.sampled_from([(1, 1, 1), (1, 1, 3), (2, 3, 5), (1, 8, 8)]),
    st.sampled_from(["cross_entropy", "squared"]),
    st.sampled_from(["float32", "float32", "bfloat16"]),
    st.lists(st.sampled_from([0.0, 0.3, 0.5]), min_size=5, max_size=5),
)
def test_a_stacked_member_has_the_bits_that_it_has_alone(
    name: str, count: int, size: int, width: int, classes: int, shape: ImageShape, loss: str, precision: str, dropouts: list[float]
) -> None:
    members = modules(ALL[name], count, width=width, shape=shape, classes=classes)
    inputs, targets = batch(count, size, shape=shape, classes=classes)
    rates = dropouts[:count] if "linear" not in name and "depth 0" not in name else [0.0] * count
    together_and_alone(members, rates, inputs, targets, loss=loss, precision=precision, shape=shape)


@pytest.mark.parametrize("name", MODULES)
def test_a_modules_member_has_the_bits_that_it_has_alone(name: str) -> None:
    members = modules(ALL[name], 3, width=3, dropout=0.3)
    together_and_alone(members, [0.3] * 3, *batch(3, 5))


# Dropout


def drops(fields: dict[str, Any], rate: float, width: int = 40, samples: int = 12) -> tuple[Tensor, Tensor, Engine]:
    """A member's hidden units without and with dropout, (samples, width) each, read off a gradient.

    With the last layer 0 and squared loss, the gradient of the outputs is -target/samples whatever is dropped; with a class a
    sample, row b of the last weight's gradient is then -hidden_b/samples.
    """
    (member,) = modules(fields, 1, width=width, dropout=rate, classes=samples)
    last = [layer for layer in member.modules() if isinstance(layer, nn.Linear)][-1]
    nn.init.zeros_(last.weight)
    if last.bias is not None:
        nn.init.zeros_(last.bias)
    engine = engine_of([member], [rate], loss="squared")
    inputs, _ = batch(1, samples)
    engine.gradient(inputs, torch.eye(samples)[None], streams(1))
    index = next(index for index, parameter in enumerate(engine.parameters) if parameter.shape == (1, samples, width))
    found = -samples * engine.gradients[index][0]
    layers = list(member.eval().children())
    before_last = nn.Sequential(*layers[: layers.index(last)])
    return before_last(inputs[0].reshape(-1, *SHAPE)).detach(), found, engine


@pytest.mark.parametrize("rate", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("name", ["mlp of depth 1", "random_features", "mlp with batch norm"])
def test_dropout_zeroes_that_share_and_scales_the_rest(name: str, rate: float) -> None:
    fields = ALL[name] | ({"depth": 1} if name == "mlp with batch norm" else {})
    clean, dropped, _ = drops(fields, rate)
    if name == "mlp with batch norm":  # in training it standardizes by the batch: only where a unit is on can be compared
        active = dropped != 0
        low = stats.binom.ppf(RARE, dropped.numel(), 0.3 * (1 - rate))
        assert low <= int(active.sum()) < dropped.numel() * (1 - rate)
        return
    active = clean.abs() > 1e-6
    ratio = dropped[active] / clean[active]
    kept = ratio != 0
    assert torch.allclose(ratio[kept], torch.tensor(1 / (1 - rate)), rtol=1e-4)
    low, high = stats.binom.interval(1 - RARE, len(ratio), 1 - rate)
    assert low <= int(kept.sum()) <= high
    patterns = (dropped != 0)[:, active.all(0)] if name == "random_features" else dropped != 0
    assert len({tuple(row) for row in patterns.tolist()}) == len(patterns)  # each sample its own


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_gradients_with_dropout_are_autograds_of_the_masks_drawn(depth: int) -> None:
    """With one sample, a weight's gradient is outer(output gradient, input): its rows show what was dropped before it."""
    rate = 0.4
    (member,) = modules({"name": "mlp", "depth": depth}, 1, width=30, dropout=rate)
    engine = engine_of([member], [rate])
    inputs, targets = batch(1, 1)
    engine.gradient(inputs, targets, streams(1))
    linear = [layer for layer in copy.deepcopy(member).double().modules() if isinstance(layer, nn.Linear)]
    gradients = [gradient[0].double() for gradient in engine.gradients]
    hidden = inputs[0].double()
    for index, layer in enumerate(linear):
        if index:
            weight_gradient, bias_gradient = gradients[2 * index], gradients[2 * index + 1]
            row = int(bias_gradient.abs().argmax())
            seen = weight_gradient[row] / bias_gradient[row]
            mask = (seen != 0).double() / (1 - rate)
            hidden = hidden.relu() * mask
            assert torch.allclose(hidden[0].detach(), seen, rtol=1e-3, atol=1e-4)
        hidden = layer(hidden)
    loss_of(hidden, targets[0].double().T, "cross_entropy").backward()
    assert distance(gradients, [each.grad for layer in linear for each in (layer.weight, layer.bias)]) < ROUNDED


@pytest.mark.parametrize("name", ["mlp of depth 2", "random_features", "mlp with batch norm", "cnn5"])
def test_dropout_follows_its_stream_and_rests_in_evaluation(name: str) -> None:
    (member,) = modules(ALL[name], 1, width=30, dropout=0.5)
    inputs, targets = batch(1, 6)

    def gradients(stream: Stream) -> list[Tensor]:
        torch.manual_seed(stream[3])  # whatever the global state is
        engine = engine_of([member], [0.5])
        engine.gradient(inputs, targets, [stream])
        return [gradient.clone() for gradient in engine.gradients]

    first = gradients((3, "dropout", 1, 0))
    assert all(torch.equal(*pair) for pair in zip(first, gradients((3, "dropout", 1, 0)), strict=True))
    for other in ((4, "dropout", 1, 0), (3, "dropout", 2, 0), (3, "dropout", 1, 1)):
        assert not torch.equal(first[-1], gradients(other)[-1])
    engine = engine_of([member], [0.5])
    assert torch.equal(engine.logits(inputs, [0]), engine.logits(inputs, [0]))
    assert distance([engine.logits(inputs, [0])[0].T], [copy.deepcopy(member).eval()(inputs[0].reshape(-1, *SHAPE))]) < ROUNDED


# Precision


@pytest.mark.parametrize("name", ["mlp of depth 2", "random_features", "cnn5 without batch norm"])
def test_bfloat16_is_close_to_float32_and_keeps_its_parameters(name: str) -> None:
    """bfloat16 has 8 bits: rounding moves an array by up to 2^-8 of its norm, and a few layers there and back by a few times that.

    Gradients of a convolutional network are compared more loosely: max pooling may choose another pixel.
    """
    members = modules(ALL[name], 2, width=16)
    inputs, targets = batch(2, 16)
    found = {}
    for precision in ("float32", "bfloat16"):
        engine = engine_of(members, precision=precision)
        engine.gradient(inputs, targets, streams(2))
        found[precision] = [engine.logits(inputs, [0, 1]).clone(), *engine.gradients]
        assert all(tensor.dtype == torch.float32 for tensor in [*engine.parameters, *found[precision]])
    assert 0 < distance(found["bfloat16"][:1], found["float32"][:1]) < 8 * 2.0**-8
    assert 0 < distance(found["bfloat16"][1:], found["float32"][1:]) < (8 if name in STACKED else 32) * 2.0**-8


# Slots


@pytest.mark.parametrize("name", ALL)
def test_members_go_on_where_they_were_when_others_leave_and_come(name: str) -> None:
    members = modules(ALL[name], 5)
    engine = engine_of(members[:3])
    inputs, targets = batch(5, 6)
    engine.gradient(inputs[:3], targets[:3], streams(3))
    for parameter, gradient in zip(engine.parameters, engine.gradients, strict=True):
        parameter.sub_(gradient, alpha=0.1)  # in place, as the optimizer does
    before = [engine.state(index) for index in range(3)]
    logits = engine.logits(inputs[:3], [0, 1, 2]).clone()
    engine.refill([2, 0], copy.deepcopy(members[3:]))
    for index, old in enumerate((2, 0)):
        after = engine.state(index)
        assert list(after) == list(before[old])
        assert all(torch.equal(after[part], before[old][part]) for part in after)
    assert torch.equal(engine.logits(inputs[[2, 0]], [0, 1]), logits[[2, 0]])
    fresh = engine_of(members[3:])
    assert torch.equal(engine.logits(inputs[3:], [2, 3]), fresh.logits(inputs[3:], [0, 1]))
    engine.refill([3], [])
    assert torch.equal(engine.logits(inputs[4:], [0]), fresh.logits(inputs[4:], [1]))


@pytest.mark.parametrize("name", ALL)
def test_a_state_is_a_copy_that_its_module_loads(name: str) -> None:
    members = modules(ALL[name], 2)
    engine = engine_of(members)
    inputs, targets = batch(2, 6)
    untouched = engine.state(1)
    assert all(torch.equal(untouched[part], value) for part, value in members[1].state_dict().items())
    engine.gradient(inputs, targets, streams(2))
    for parameter in engine.parameters:
        parameter.add_(0.01)
    assert all(torch.equal(untouched[part], value) for part, value in members[1].state_dict().items())
    copied = copy.deepcopy(members[0])
    copied.load_state_dict(engine.state(1))
    with torch.no_grad():
        outputs = copied.eval()(inputs[1].reshape(-1, *SHAPE))
    assert distance([engine.logits(inputs, [0, 1])[1].T], [outputs]) < ROUNDED


def test_batch_norm_collects_its_statistics_as_in_pytorch() -> None:
    members = modules(ALL["mlp with batch norm"], 2)
    engine = engine_of(members)
    inputs, targets = batch(2, 6)
    engine.gradient(inputs, targets, streams(2))
    for index, member in enumerate(copy.deepcopy(members)):
        member.train()(inputs[index].reshape(-1, *SHAPE))
        for part, value in member.state_dict().items():
            assert torch.allclose(engine.state(index)[part].double(), value.double(), rtol=1e-5, atol=1e-6)


def test_which_families_are_stacked_and_how_many_at_once() -> None:
    for name, fields in ALL.items():
        (member,) = modules(fields, 1)
        assert stackable(member) == (name in STACKED)
        assert members_at_once(member, 128, prod(SHAPE), torch.device("cpu")) >= 1
    (small,), (large,) = (modules(ALL["mlp of depth 1"], 1, width=width) for width in (4, 4000))
    assert members_at_once(small, 128, prod(SHAPE), torch.device("cpu")) > 8
    assert members_at_once(large, 128, prod(SHAPE), torch.device("cpu")) == 1


# Custom networks that look like stackable ones


class Scaled(nn.Linear):
    """A layer in the NTK's scaling."""

    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs) * 0.5


class Residual(nn.Sequential):
    """Adds a constant at the end."""

    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs) + 1


def frozen(layer: nn.Linear) -> nn.Linear:
    layer.weight.requires_grad_(False)
    return layer


INPUTS = prod(SHAPE)
ALIKE: dict[str, Any] = {
    "a linear layer's subclass": lambda: nn.Sequential(nn.Flatten(), Scaled(INPUTS, 5), nn.ReLU(), nn.Linear(5, CLASSES)),
    "a sequence's subclass": lambda: Residual(nn.Flatten(), nn.Linear(INPUTS, 5), nn.ReLU(), nn.Linear(5, CLASSES)),
    "a frozen layer": lambda: nn.Sequential(nn.Flatten(), frozen(nn.Linear(INPUTS, 5)), nn.ReLU(), nn.Linear(5, CLASSES)),
    "weight norm": lambda: nn.Sequential(
        nn.Flatten(), nn.utils.parametrizations.weight_norm(nn.Linear(INPUTS, 5)), nn.ReLU(), nn.Linear(5, CLASSES)
    ),
    "no biases": lambda: nn.Sequential(nn.Flatten(), nn.Linear(INPUTS, 5, bias=False), nn.ReLU(), nn.Linear(5, CLASSES)),
    "two linear layers in a row": lambda: nn.Sequential(nn.Flatten(), nn.Linear(INPUTS, 5), nn.Linear(5, CLASSES)),
    "another activation": lambda: nn.Sequential(nn.Flatten(), nn.Linear(INPUTS, 5), nn.Tanh(), nn.Linear(5, CLASSES)),
}


@pytest.mark.parametrize("name", ALIKE)
def test_a_custom_network_computes_what_it_says(name: str) -> None:
    torch.manual_seed(0)
    members = [ALIKE[name]() for _ in range(2)]
    engine = engine_of(members)
    inputs, targets = batch(2, 6)
    engine.gradient(inputs, targets, streams(2))
    assert len(engine.parameters) == len(trainable(members[0]))
    for index, member in enumerate(members):
        outputs = member.train()(inputs[index].reshape(-1, *SHAPE))
        assert distance([engine.logits(inputs, [0, 1])[index].T], [outputs]) < ROUNDED
        loss_of(outputs, targets[index].T, "cross_entropy").backward()
        assert distance([gradient[index] for gradient in engine.gradients], gradients_of(member)) < ROUNDED


@pytest.mark.parametrize(
    ("layers", "asked", "drops"),
    [
        (lambda: [nn.Linear(INPUTS, 50), nn.ReLU(), nn.Linear(50, CLASSES)], 0.5, False),  # has none, whatever is asked for
        (lambda: [nn.Linear(INPUTS, 50), nn.ReLU(), nn.Dropout(0.5), nn.Linear(50, CLASSES)], 0.0, True),  # always drops
        (lambda: [nn.Linear(INPUTS, 50), nn.ReLU(), nn.Dropout(0.5), nn.Linear(50, CLASSES)], 0.5, True),
    ],
)
def test_dropout_is_the_networks_own(layers: Any, asked: float, drops: bool) -> None:
    torch.manual_seed(0)
    member = nn.Sequential(nn.Flatten(), *layers())
    inputs, targets = batch(1, 6)
    found = []
    for step in (0, 1):
        engine = engine_of([member], [asked])
        engine.gradient(inputs, targets, streams(1, step))
        found.append([gradient.clone() for gradient in engine.gradients])
    assert torch.equal(found[0][-1], found[1][-1]) != drops
