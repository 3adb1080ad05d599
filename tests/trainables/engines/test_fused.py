"""All members in one pass against member by member, in double precision: every family, batch norm, dropout, both losses."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.trainables.engines.made_up_members import CLASSES, SHAPE, batch, distance, modules, streams
from tests.trainables.engines.tapes import Noted
from trainables.engines import Engine
from trainables.engines.fused import FusedEngine
from trainables.engines.graphs import WARM_UPS
from trainables.engines.modules import ModuleEngine, shareable

FAMILIES: dict[str, dict[str, Any]] = {
    "linear": {"name": "linear"},
    "mlp": {"name": "mlp", "depth": 2},
    "mlp with batch norm": {"name": "mlp", "depth": 2, "batch_norm": True},
    "random_features": {"name": "random_features"},
    "embedding_mlp": {"name": "embedding_mlp"},
    "transformer": {"name": "transformer"},
    "cnn5 of tanh units": {"name": "cnn5", "activation": "tanh", "batch_norm": True},
} | {
    f"{name} {'with' if norm else 'without'} batch norm": {"name": name, "batch_norm": norm}
    for name in ("alexnet_small", "cnn5", "inception_small", "nin", "resnet18")
    for norm in (False, True)
}
RATES = (0.2, 0.0, 0.5)
EXACT = 1e-12
"""Double precision against double precision, through twenty layers with sums of some hundred terms."""


def members_of(name: str, count: int = 3, dtype: torch.dtype = torch.float64) -> list[nn.Module]:
    """Members of unlike dropout rates, where the family drops at all."""
    rates = [0.0] * count if name == "linear" else [*RATES, *RATES][:count]
    return [modules(FAMILIES[name], seed + 1, dropout=rate)[seed].to(dtype) for seed, rate in enumerate(rates)]


def both(members: list[nn.Module], *, loss: str = "cross_entropy", precision: str = "float32", unfold: bool = False) -> list[Engine]:
    """Member by member, and fused."""
    engines: list[Engine] = [ModuleEngine(loss, precision, SHAPE), FusedEngine(loss, precision, SHAPE, unfold=unfold)]
    for engine in engines:
        engine.refill([], copy.deepcopy(members))
    return engines


def in_double(count: int, size: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    inputs, targets = batch(count, size, seed=seed)
    return inputs.double(), targets.double()


def apart(engine: Engine, reference: Engine, count: int) -> float:
    """The largest distance of a member's tensors, each relative to its size or to 1."""
    pairs = [(engine.state(member), reference.state(member)) for member in range(count)]
    assert all(list(ours) == list(theirs) for ours, theirs in pairs)
    found = [(ours[name] - theirs[name]).abs() / theirs[name].abs().clamp_min(1) for ours, theirs in pairs for name in theirs]
    return max((float(one.max()) for one in found if one.numel()), default=0.0)


CASES = [(name, loss, False) for name in FAMILIES for loss in ("cross_entropy", "squared")]
UNFOLDED = [(name, "cross_entropy", True) for name in FAMILIES if "out batch norm" in name]


@pytest.mark.parametrize(("name", "loss", "unfold"), CASES + UNFOLDED)
def test_gradients_logits_and_states_are_those_of_member_by_member(name: str, loss: str, unfold: bool) -> None:
    reference, fused = both(members_of(name), loss=loss, unfold=unfold)
    for step in range(2):
        inputs, targets = in_double(3, 5, seed=step)
        for engine in (reference, fused):
            engine.gradient(inputs, targets, streams(3, step))
        assert distance(fused.gradients, reference.gradients) < EXACT
        for engine in (reference, fused):
            for parameter, gradient in zip(engine.parameters, engine.gradients, strict=True):
                parameter.sub_(gradient, alpha=0.05)
    assert apart(fused, reference, 3) < EXACT
    assert distance([fused.logits(inputs[[2, 0]], [2, 0])], [reference.logits(inputs[[2, 0]], [2, 0])]) < EXACT


@pytest.mark.parametrize("name", ["cnn5 with batch norm", "resnet18 with batch norm", "transformer"])
def test_members_keep_their_states_when_others_leave_and_come(name: str) -> None:
    members = members_of(name, 5)
    reference, fused = both(members[:3])
    for step, (keep, new) in enumerate([(None, []), ([2, 0], members[3:]), ([3], []), ([0], members[1:2])]):
        if keep is not None:
            for engine in (reference, fused):
                engine.refill(keep, copy.deepcopy(new))
        count = len(fused.parameters[0])
        inputs, targets = in_double(count, 4, seed=step)
        for engine in (reference, fused):
            engine.gradient(inputs, targets, streams(count, step))
            for parameter, gradient in zip(engine.parameters, engine.gradients, strict=True):
                parameter.sub_(gradient, alpha=0.05)
        assert apart(fused, reference, count) < EXACT


@pytest.mark.parametrize("rows", [False, True])
def test_a_recorded_pass_is_done_again_in_its_memory_and_slots_are_refilled_by_copies(rows: bool) -> None:
    """Warmed, recorded and played from a tape; members leave and come, one slot is empty for a while, and at last half of them are."""
    members, recorder = members_of("cnn5 with batch norm", 8), Noted()
    dtype = torch.float32 if rows else torch.float64  # rows are of single precision
    members = [member.to(dtype) for member in members]
    reference = ModuleEngine("cross_entropy", "float32", SHAPE)
    fused = FusedEngine("cross_entropy", "float32", SHAPE, recorder=recorder, rows=rows)
    exact = 1e-4 if rows else EXACT
    recorded = []
    for keep, new in (([], members[:4]), ([3, 1], members[4:6]), ([0, 2, 3], []), ([2, 0], members[6:8]), ([1], [])):
        for engine in (reference, fused):
            engine.refill(keep, copy.deepcopy(new))
        count = len(reference.parameters[0])
        for step in range(WARM_UPS + 2 if len(keep) < 2 else 2):
            inputs, targets = (tensor.to(dtype) for tensor in in_double(count, 5, seed=step))
            for engine in (reference, fused):
                engine.gradient(inputs, targets, streams(count, step))
            assert distance(fused.gradients, reference.gradients) < exact
            for engine in (reference, fused):
                for parameter, gradient in zip(engine.parameters, engine.gradients, strict=True):
                    parameter.sub_(gradient, alpha=0.01)
            assert distance([fused.logits(inputs, list(range(count)))], [reference.logits(inputs, list(range(count)))]) < exact
        assert apart(fused, reference, count) < exact
        recorded.append(recorder.recordings)
    assert recorded == [2, 2, 2, 2, 4]  # a training and an evaluation pass, and both of fewer slots
    if rows:
        assert len(fused.gradient_rows.whole) == 1
        assert fused.gradients[0].untyped_storage().data_ptr() == fused.gradient_rows.whole.untyped_storage().data_ptr()


def test_adam_takes_the_same_steps() -> None:
    """Biases before a batch norm have the gradient 0 but for rounding, by whose size Adam divides, up to its epsilon of 1e-8.

    In double precision rounding lies far below that, and they stay. In single precision it does not: there such a bias moves by as much as
    a learning rate, to a side that the order of sums decides, and batch norm takes it away again: the network computes the same.
    """
    engines = both(members_of("cnn5 with batch norm"))
    rules = [torch.optim.Adam(engine.parameters, lr=0.01) for engine in engines]
    for step in range(3):
        inputs, targets = in_double(3, 6, seed=step)
        for engine, rule in zip(engines, rules, strict=True):
            engine.gradient(inputs, targets, streams(3, step))
            for parameter, gradient in zip(engine.parameters, engine.gradients, strict=True):
                parameter.grad = gradient.clone()
            rule.step()
    reference, fused = engines
    sizes = [float(gradient.norm()) for gradient in reference.gradients]
    assert sum(size < EXACT * max(sizes) for size in sizes) == 4  # the biases of the four convolutions
    assert apart(fused, reference, 3) < 1e-9


def test_bfloat16_is_refused_for_under_vmap_convolutions_escape_autocast() -> None:
    with pytest.raises(ValueError, match="autocast does not reach"):
        FusedEngine("cross_entropy", "bfloat16", (1, 12, 12))
    with torch.autocast("cpu", torch.bfloat16):
        weights, images = torch.ones(2, 3, 1, 3, 3), torch.ones(2, 4, 1, 12, 12)
        assert torch.nn.functional.conv2d(images[0], weights[0]).dtype == torch.bfloat16
        assert torch.vmap(torch.nn.functional.conv2d)(images, weights).dtype == torch.float32, "or else it could be let in"


def test_a_tensor_of_two_names_stays_one() -> None:
    def tied() -> nn.Module:
        first, second = nn.Linear(6, 6), nn.Linear(6, 6)
        second.weight = first.weight
        return nn.Sequential(nn.Flatten(), nn.Linear(144, 6), first, nn.ReLU(), second, nn.Linear(6, CLASSES)).double()

    torch.manual_seed(0)
    reference, fused = both([tied(), tied()])
    inputs, targets = in_double(2, 5)
    for engine in (reference, fused):
        engine.gradient(inputs, targets, streams(2))
    assert distance(fused.gradients, reference.gradients) < EXACT
    assert apart(fused, reference, 2) == 0


class Doubled(nn.Linear):
    """A layer with code of its own."""


def test_what_cannot_be_fused_says_so() -> None:
    assert shareable(modules({"name": "resnet18"}, 1)[0])
    for layer in (Doubled(144, CLASSES), nn.Sequential(nn.Dropout2d(), nn.Linear(144, CLASSES))):
        assert not shareable(nn.Sequential(nn.Flatten(), layer))
    engine = FusedEngine("cross_entropy", "float32", SHAPE)
    with pytest.raises(ValueError, match="the same layers"):
        engine.refill([], [nn.Sequential(nn.Flatten(), nn.Linear(144, CLASSES), nn.LeakyReLU(slope)) for slope in (0.1, 0.2)])
    draws = FusedEngine("cross_entropy", "float32", SHAPE)  # by itself, from no member's stream
    draws.refill([], [nn.Sequential(nn.Flatten(), nn.AlphaDropout(0.5), nn.Linear(144, CLASSES)) for _ in range(2)])
    with pytest.raises(RuntimeError, match="random"):
        draws.gradient(*batch(2, 3), streams(2))
