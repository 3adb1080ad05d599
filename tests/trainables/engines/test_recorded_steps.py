"""The optimizer at the end of a recorded pass, against member by member with its own optimizer, in double precision."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from tests.trainables.engines.made_up_members import SHAPE, batch, modules, streams
from tests.trainables.engines.tapes import Noted
from trainables.engines import Engine, StackedOptimizer
from trainables.engines.fused import FusedEngine
from trainables.engines.graphs import WARM_UPS, AtOnce, GraphEngine
from trainables.engines.modules import ModuleEngine
from trainables.point.config import TrialConfig, with_fields

WAYS = ("graphs", "fused in graphs")
RULES: dict[str, dict[str, Any]] = {
    "sgd": {"optimizer.momentum": 0.9, "optimizer.nesterov": True},
    "adam": {"optimizer.name": "adam", "optimizer.momentum": 0.0},
    "adamw": {"optimizer.name": "adamw", "optimizer.momentum": 0.0, "regularizers.decay_biases": True},
}


def points_of(rule: str) -> list[TrialConfig]:
    """Only the last two of seven decay their weights, and only the last one's gradient is clipped."""
    of_all = [RULES[rule]] * 5 + [RULES[rule] | {"regularizers.weight_decay": 0.02}]
    of_all += [RULES[rule] | {"regularizers.weight_decay": 0.03, "regularizers.gradient_clip": 0.1}]
    return [with_fields(TrialConfig(), fields) for fields in of_all]


def engine_of(way: str, recorder: AtOnce) -> Engine:
    how = ("cross_entropy", "float32", SHAPE)
    return GraphEngine(*how, recorder, rows=True) if way == "graphs" else FusedEngine(*how, recorder=recorder, rows=True)


def members_of(count: int, dtype: torch.dtype = torch.float64) -> list[nn.Module]:
    fields = {"name": "alexnet_small"}
    return [modules(fields, seed + 1, width=3, dropout=0.1 * (seed % 3))[seed].to(dtype) for seed in range(count)]


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("way", WAYS)
def test_a_recorded_step_is_that_of_each_member(way: str, rule: str, scaled: bool) -> None:
    """Rates change from step to step, members leave and come, a slot is empty; what is clipped or decays for the first time is recorded."""
    if scaled and rule != "adam":
        pytest.skip("a rate for each parameter is another list of pieces, whatever the rule")
    members, points, recorder = members_of(7), points_of(rule), Noted()
    engines = [ModuleEngine("cross_entropy", "float32", SHAPE), engine_of(way, recorder)]
    optimizers: list[StackedOptimizer] = []
    there: list[int] = []
    recorded, number = [], 0
    for keep, new in (([], [0, 1, 2]), ([2, 0], [3]), ([1, 2], []), ([1, 0], [4]), ([0], [5]), ([0, 1], [6])):
        there = [there[member] for member in keep] + new
        for engine in engines:
            engine.refill(keep, [copy.deepcopy(members[member]) for member in new])
        if not optimizers:
            optimizers = [engine.optimizer(points[0].optimizer) for engine in engines]
            for optimizer, engine in zip(optimizers, engines, strict=True):
                optimizer.scale(tuple(0.5 + index for index in range(len(engine.parameters))) if scaled else ())
        count = len(there)
        for optimizer, engine in zip(optimizers, engines, strict=True):
            optimizer.refill(keep, [points[member] for member in there], engine.parameters, [None] * len(new), [0] * len(new))
            optimizer.foresee(2)  # the third step asks for itself
        for step in range(WARM_UPS + 2 if not recorded else 3):
            rates = torch.tensor([0.01 / (1 + member + step) for member in there])
            inputs, targets = (tensor.double() for tensor in batch(count, 4, seed=number))
            for optimizer, engine in zip(optimizers, engines, strict=True):
                optimizer.set_rates(rates)
                engine.step(optimizer, inputs, targets, streams(count, number))
            number += 1
        for member in range(count):
            ours, theirs = engines[1].state(member), engines[0].state(member)
            for name in theirs:
                torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=1e-11)
            torch.testing.assert_close(optimizers[1].state(member), optimizers[0].state(member), rtol=0, atol=1e-11)
        recorded.append(recorder.recordings)
    assert recorded[:4] == [1] * 4


class Counted(TorchDispatchMode):
    """How many operations are started that are no views."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not func._schema.returns or not all(one.alias_info is not None and not one.alias_info.is_write for one in func._schema.returns):
            self.names.append(func.name())
        return func(*args, **kwargs or {})


@pytest.mark.parametrize(("rule", "copies"), [("sgd", 2), ("adamw", 3)])
@pytest.mark.parametrize("way", WAYS)
def test_a_step_is_a_few_copies_and_one_start(way: str, rule: str, copies: int) -> None:
    """Inputs, targets, and Adam's corrections: nothing else is started beside the graph, which is counted as nothing here."""

    class Replays(AtOnce):
        def recorded(self, work: Callable[[], None]) -> Callable[[], None]:
            return lambda: None

    engine, points = engine_of(way, Replays()), points_of(rule)[:3]
    engine.refill([], modules({"name": "alexnet_small"}, 3, width=3))
    optimizer = engine.optimizer(points[0].optimizer)
    optimizer.refill([], points, engine.parameters, [None] * 3, [0] * 3)
    optimizer.set_rates(torch.full((3,), 0.01))
    optimizer.foresee(WARM_UPS + 2)
    for number in range(WARM_UPS + 2):
        inputs, targets = batch(3, 4)
        with Counted() as counted:
            engine.step(optimizer, inputs, targets, streams(3, number))
    assert len(counted.names) == copies, counted.names


def test_another_optimizer_is_another_recording() -> None:
    recorder = Noted()
    engine, points = engine_of("graphs", recorder), points_of("sgd")[:2]
    engine.refill([], members_of(2))
    for turn in (1, 2):
        optimizer = engine.optimizer(points[0].optimizer)
        optimizer.refill([], points, engine.parameters, [None] * 2, [0] * 2)
        optimizer.set_rates(torch.full((2,), 0.01))
        for number in range(WARM_UPS + 2):
            before = engine.state(0)
            engine.step(optimizer, *(tensor.double() for tensor in batch(2, 4)), streams(2, number))
            assert any(not torch.equal(before[name], value) for name, value in engine.state(0).items())
        assert recorder.recordings == turn
