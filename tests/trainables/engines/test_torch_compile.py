"""Members compiled by PyTorch, as far as that goes in seconds on a CPU: by its backend `aot_eager`, or a test's own, without machine code.

They take the way through a compiler that `inductor` takes on a GPU: the network is traced, with its dropout masks, and `aot_eager` traces
its backward pass too.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from tests.trainables.engines.made_up_members import SHAPE, batch, modules, streams
from trainables.engines import StackedOptimizer
from trainables.engines.graphs import AtOnce, GraphEngine
from trainables.engines.modules import ModuleEngine
from trainables.point.config import Optimizer, TrialConfig

CNN5: dict[str, Any] = {"name": "cnn5", "batch_norm": True}
RULE = Optimizer(name="adamw", learning_rate=0.01, momentum=0.0)
CLOSE = 1e-8
"""Double precision against double precision, over some steps of Adam, which divides by the size of gradients that are nearly 0."""


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What the backend `noted` has compiled, which takes what it is given; `refusing` takes nothing, `one-way` no backward pass."""
    from torch._dynamo.backends import registry
    from torch._dynamo.backends.common import aot_autograd

    done: list[str] = []

    def noted(graph: Any, inputs: Any) -> Any:
        done.append("compiled")
        return graph.forward

    def refusing(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("Failed to find C compiler.\nPlease specify via CC environment variable.")

    one_way = aot_autograd(fw_compiler=lambda graph, inputs: graph.forward, bw_compiler=refusing)
    for name, backend in {"noted": noted, "refusing": refusing, "one-way": one_way}.items():
        monkeypatch.setitem(registry._COMPILER_FNS, name, backend)
        monkeypatch.setitem(registry._BACKENDS, name, None)
    monkeypatch.setattr("trainables.engines.graphs._LATEST", [None])
    yield done
    torch.compiler.reset()


def members_of(count: int, dtype: torch.dtype = torch.float64) -> list[nn.Module]:
    return [modules(CNN5, seed + 1, width=3, dropout=0.2 + 0.1 * seed)[seed].to(dtype) for seed in range(count)]


def both(members: list[nn.Module], compiler: str, **named: Any) -> list[tuple[ModuleEngine, StackedOptimizer]]:
    """Member by member, and compiled, each with its optimizer."""
    engines = [ModuleEngine("cross_entropy", "float32", SHAPE)]
    engines.append(GraphEngine("cross_entropy", "float32", SHAPE, AtOnce(), rows=True, compiler=compiler, **named))
    pairs = []
    for engine in engines:
        engine.refill([], copy.deepcopy(members))
        optimizer = engine.optimizer(RULE)
        optimizer.refill([], [TrialConfig(optimizer=RULE)] * len(members), engine.parameters, [None] * len(members), [0] * len(members))
        optimizer.set_rates(torch.full((len(members),), 0.01))
        pairs.append((engine, optimizer))
    return pairs


def step(pairs: list[tuple[ModuleEngine, StackedOptimizer]], number: int, size: int = 5) -> None:
    for engine, optimizer in pairs:
        count = len(engine.parameters[0])
        inputs, targets = (tensor.double() for tensor in batch(count, size, seed=number))
        engine.step(optimizer, inputs, targets, streams(count, number))


def close(pairs: list[tuple[ModuleEngine, StackedOptimizer]]) -> None:
    (theirs, _), (ours, _) = pairs
    for member in range(len(theirs.parameters[0])):
        found, expected = ours.state(member), theirs.state(member)
        for name in expected:
            torch.testing.assert_close(found[name], expected[name], rtol=0, atol=CLOSE)


@pytest.mark.parametrize("channels_last", [False, True])
def test_compiled_steps_are_those_of_member_by_member(channels_last: bool) -> None:
    """With batch norm, dropout, a smaller last batch, which is not compiled, and a member that takes the place of another."""
    members = members_of(2)
    pairs = both(members[:1], "aot_eager", channels_last=channels_last)
    for turn in range(2):
        for number in range(2):
            step(pairs, number)
            step(pairs, number, 3)
        close(pairs)
        assert pairs[1][0].name == "graphs, compiled" + ", channels last" * channels_last
        for engine, optimizer in pairs if turn == 0 else []:
            engine.refill([], copy.deepcopy(members[1:]))
            optimizer.refill([], [TrialConfig(optimizer=RULE)], engine.parameters, [None], [0])
            optimizer.set_rates(torch.full((1,), 0.01))


def test_members_of_an_architecture_share_what_was_compiled(compilations: list[str]) -> None:
    """Side by side, in the places of others, and in another pack; and PyTorch takes as many architectures as there are."""
    with torch._dynamo.config.patch(recompile_limit=1):
        for _ in range(2):
            pairs = both(members_of(2), "noted")
            step(pairs, 0)
            step(pairs, 1, 3)
            pairs[1][0].refill([1, 0], [])
            step(pairs[1:], 2)
            assert compilations == ["compiled"]
        engine = GraphEngine("cross_entropy", "float32", SHAPE, AtOnce(), compiler="noted")
        engine.refill([], modules(CNN5, 1, width=2))
        engine.gradient(*batch(1, 5), streams(1))
        assert compilations == ["compiled"] * 2


@pytest.mark.parametrize("compiler", ["refusing", "one-way"])
def test_what_does_not_compile_trains_as_it_is_and_says_so_once(
    compilations: list[str], compiler: str, recwarn: pytest.WarningsRecorder
) -> None:
    """Also if the forward pass was compiled, and has changed running statistics, before the backward pass was not."""
    pairs = both(members_of(2), compiler)
    for number in range(2):
        step(pairs, number)
        step(pairs, number, 3)
    close(pairs)
    assert pairs[1][0].name == "graphs"
    (said,) = [str(one.message) for one in recwarn if "PyTorch" in str(one.message)]
    assert said.startswith("PyTorch does not compile this network, and it trains as it is: ")
    assert "Failed to find C compiler" in said
    assert "\n" not in said
