"""Members in the branches of a graph: all but the recording itself, which is done at once here, and what CUDA is asked for."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from tests.trainables.engines.made_up_members import CLASSES, SHAPE, batch, distance, modules, streams
from tests.trainables.engines.tapes import Noted
from trainables.engines import Engine
from trainables.engines.fused import FusedEngine
from trainables.engines.graphs import WARM_UPS, AtOnce, CudaRecorder, GraphEngine
from trainables.engines.modules import ModuleEngine
from trainables.point.config import Optimizer, Regularizers, TrialConfig

NETWORKS: dict[str, dict[str, Any]] = {
    "cnn5": {"name": "cnn5", "batch_norm": True},
    "alexnet_small": {"name": "alexnet_small"},
    "inception_small": {"name": "inception_small", "batch_norm": True},
    "resnet18": {"name": "resnet18", "batch_norm": True},
    "transformer": {"name": "transformer"},
}


def members_of(name: str, count: int) -> list[nn.Module]:
    rates = (0.3, 0.0, 0.5, 0.1, 0.2, 0.0, 0.4, 0.1)[:count]
    return [modules(NETWORKS[name], seed + 1, width=4, dropout=rate)[seed] for seed, rate in enumerate(rates)]


def both(members: list[nn.Module], recorder: AtOnce | None = None, **named: Any) -> tuple[ModuleEngine, GraphEngine]:
    loss, precision = named.pop("loss", "cross_entropy"), named.pop("precision", "float32")
    engines = ModuleEngine(loss, precision, SHAPE), GraphEngine(loss, precision, SHAPE, recorder or AtOnce(), **named)
    for engine in engines:
        engine.refill([], copy.deepcopy(members))
    return engines


def step(engine: Engine, number: int, size: int = 5) -> None:
    count = len(engine.parameters[0])
    engine.gradient(*batch(count, size, seed=number), streams(count, number))
    for parameter, gradient in zip(engine.parameters, engine.gradients, strict=True):
        parameter.sub_(gradient, alpha=0.05)


def same(ours: Engine, theirs: Engine) -> bool:
    """Whether all members are equal to the bit."""
    count = len(theirs.parameters[0])
    pairs = [(ours.state(member), theirs.state(member)) for member in range(count)]
    inputs, _ = batch(count, 6)
    logits = [engine.logits(inputs, list(range(count))) for engine in (ours, theirs)]
    return (
        len(ours.parameters[0]) == count
        and torch.equal(*logits)
        and all(list(mine) == list(other) and all(torch.equal(mine[part], other[part]) for part in other) for mine, other in pairs)
    )


@pytest.mark.parametrize(("name", "loss"), [*((name, "cross_entropy") for name in NETWORKS), ("cnn5", "squared")])
def test_steps_are_those_of_member_by_member_to_the_bit(name: str, loss: str) -> None:
    """The same kernels on the same numbers: warmed, recorded and replayed, with a smaller last batch, and dropout at unlike rates."""
    reference, graph = both(members_of(name, 2), Noted(), loss=loss)
    for number in range(WARM_UPS + 3):
        for engine in (reference, graph):
            step(engine, number, 3 if number == 1 else 5)
        assert all(map(torch.equal, graph.gradients, reference.gradients))
    assert same(graph, reference)


def test_bfloat16_and_logits_of_some() -> None:
    reference, graph = both(members_of("cnn5", 3), precision="bfloat16")
    for engine in (reference, graph):
        step(engine, 0)
    assert same(graph, reference)
    inputs, _ = batch(2, 4)
    assert torch.equal(graph.logits(inputs, [2, 0]), reference.logits(inputs, [2, 0]))


def test_a_size_is_recorded_once_after_it_has_warmed_up() -> None:
    recorder = Noted()
    _, graph = both(members_of("cnn5", 2), recorder)
    for number in range(2 * WARM_UPS):
        step(graph, number)
    assert (recorder.warmed_passes, recorder.recordings, recorder.replays) == (WARM_UPS, 1, WARM_UPS)
    assert set(recorder.branches) == {2}  # a branch a member
    step(graph, 0, 3)
    assert (recorder.warmed_passes, recorder.recordings) == (WARM_UPS + 1, 1)


def places(graph: GraphEngine) -> set[int]:
    """Where all that a recording reads and writes lies."""
    memory = [*graph._stacked, *graph._stacked_gradients]
    for one in graph._passes.values():
        memory += [one.inputs, one.targets if one.targets is not None else one.outputs, *one.masks]
    for slot in graph._slots:
        memory += slot.module.state_dict().values()
    return {tensor.data_ptr() for tensor in memory}


@pytest.mark.parametrize("name", ["cnn5", "transformer"])
def test_slots_are_refilled_by_copies_and_nothing_is_recorded_anew(name: str) -> None:
    members, recorder = members_of(name, 8), Noted()
    reference, graph = both(members[:4], recorder)

    def on(numbers: range) -> None:
        for number in numbers:
            for engine in (reference, graph):
                step(engine, number)
        assert same(graph, reference)

    for _ in range(WARM_UPS + 1):
        on(range(1))
    before, recorded = places(graph), recorder.recordings
    for keep, new in (([3, 1], members[4:6]), ([1, 2, 3, 0], []), ([0, 2, 3], []), ([2, 0], members[6:7])):
        for engine in (reference, graph):
            engine.refill(keep, copy.deepcopy(new))
        on(range(2))
    assert (places(graph), recorder.recordings) == (before, recorded)
    for engine in (reference, graph):
        engine.refill([1], copy.deepcopy(members[7:]))  # half of the slots: smaller ones pay
    on(range(WARM_UPS + 1))
    assert recorder.recordings > recorded
    assert recorder.branches[-1] == 2


def test_a_member_that_drops_is_no_member_that_does_not() -> None:
    """Whoever joins a pack that has dropped nothing so far drops at its own rate."""
    keeps, drops = modules(NETWORKS["cnn5"], 1, dropout=0.0)[0], modules(NETWORKS["cnn5"], 1, dropout=0.5)[0]
    reference, graph = both([keeps, copy.deepcopy(keeps)], Noted())
    for number in range(WARM_UPS + 1):
        step(graph, number)
        step(reference, number)
    for engine in (reference, graph):
        engine.refill([0], [copy.deepcopy(drops)])
        step(engine, 7)
    assert same(graph, reference)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_an_optimizer_acts_on_the_rows_of_the_members_that_are_there(name: Literal["sgd", "adamw"]) -> None:
    """All parameters at once, as on a GPU, with an empty slot, against one parameter after another."""
    rule = Optimizer(name=name, learning_rate=0.01, momentum=0.9 if name == "sgd" else 0.0)
    points = [TrialConfig(optimizer=rule, regularizers=Regularizers(weight_decay=0.01 * rank)) for rank in range(3)]
    engines = both(members_of("alexnet_small", 3), Noted(), rows=True)
    optimizers = [engine.optimizer(rule) for engine in engines]
    for keep in (None, [2, 0]):
        for engine, optimizer in zip(engines, optimizers, strict=True):
            if keep is not None:
                engine.refill(keep, [])
            mine = points if keep is None else [points[member] for member in keep]
            fresh = [] if keep else mine
            optimizer.refill(keep or [], mine, engine.parameters, [None] * len(fresh), [0] * len(fresh))
            optimizer.set_rates(torch.full((len(mine),), 0.01))
        for number in range(WARM_UPS + 1):
            for engine, optimizer in zip(engines, optimizers, strict=True):
                engine.gradient(*batch(len(engine.parameters[0]), 5, seed=number), streams(len(engine.parameters[0]), number))
                optimizer.step(engine.gradients)
        assert distance(engines[1].parameters, engines[0].parameters) < 1e-5


class Own(nn.Module):
    """A layer of someone's own with a number that no engine knows of."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs * self.factor


def test_a_layer_of_ones_own_is_not_copied_into_anothers_place() -> None:
    members = [nn.Sequential(nn.Flatten(), Own(factor), nn.Linear(144, CLASSES)) for factor in (1.0, 2.0, 3.0)]
    reference, graph = both(members[:2])
    for engine in (reference, graph):
        engine.refill([1], copy.deepcopy(members[2:]))
        step(engine, 0)
    assert same(graph, reference)


class Refusing(Noted):
    def recorded(self, work: Callable[[], None]) -> Callable[[], None]:
        raise RuntimeError("operation not permitted when stream is capturing\nCUDA kernel errors might be asynchronously reported")


def test_what_is_not_recorded_trains_as_it_is_and_says_so_once(recwarn: pytest.WarningsRecorder) -> None:
    reference, graph = both(members_of("cnn5", 2), Refusing())
    for number in range(WARM_UPS + 2):
        for engine in (reference, graph):
            step(engine, number)
    assert same(graph, reference)
    (said,) = [str(one.message) for one in recwarn if one.category is UserWarning]  # not the garbage of other tests
    assert said.endswith("it trains without: operation not permitted when stream is capturing")


class Full(Noted):
    def recorded(self, work: Callable[[], None]) -> Callable[[], None]:
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_memory_that_is_short_is_the_packs_business() -> None:
    _, graph = both(members_of("cnn5", 2), Full())
    for number in range(WARM_UPS):
        step(graph, number)
    with pytest.raises(torch.OutOfMemoryError):
        step(graph, 0)


@pytest.mark.parametrize("way", ["graphs", "fused"])
def test_an_engine_that_nobody_needs_is_gone_at_once(way: str) -> None:
    """Without the garbage collector: when memory is short, a smaller engine is made where this one was."""

    class Records(AtOnce):
        def recorded(self, work: Callable[[], None]) -> Callable[[], None]:
            return lambda: None

    how = ("cross_entropy", "float32", SHAPE)
    gc.disable()
    try:
        engine: Engine = GraphEngine(*how, Records()) if way == "graphs" else FusedEngine(*how)
        engine.refill([], members_of("alexnet_small", 2))
        for number in range(WARM_UPS + 2):
            step(engine, number)
        left = [weakref.ref(engine), weakref.ref(engine.parameters[0])]
        del engine
        assert [one() for one in left] == [None, None]
    finally:
        gc.enable()


# What CUDA is asked for


class FakeStream:
    """A stream that notes what it is asked for."""

    def __init__(self, log: list[str], name: str) -> None:
        self.log, self.name, self.events = log, name, 0

    def wait_stream(self, other: FakeStream) -> None:
        self.log.append(f"{self.name} waits for {other.name}")

    def record_event(self) -> str:
        self.events += 1
        self.log.append(f"{self.name} marks {self.events}")
        return f"{self.name}'s {self.events}"

    def wait_event(self, event: str) -> None:
        self.log.append(f"{self.name} waits for {event}")


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is asked of `torch.cuda`, in order."""
    log: list[str] = []
    names = iter(("side", *"abc"))
    current = [FakeStream(log, "main")]

    class FakeGraph:
        def replay(self) -> None:
            log.append("replay")

    @contextmanager
    def on(stream: FakeStream) -> Iterator[None]:
        current.append(stream)
        yield
        current.pop()

    @contextmanager
    def recording(graph: FakeGraph, *, pool: object, stream: FakeStream, capture_error_mode: str) -> Iterator[None]:
        assert (pool, capture_error_mode) == ("pool", "thread_local")
        log.append("record")
        with on(stream):
            yield
        log.append("recorded")

    for name, fake in {
        "Stream": lambda device: FakeStream(log, next(names)),
        "stream": on,
        "current_stream": lambda device: current[-1],
        "CUDAGraph": FakeGraph,
        "graph": recording,
        "graph_pool_handle": lambda: "pool",
    }.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    log.append("")
    return log


def test_cuda_warms_up_on_a_side_stream_records_there_and_joins_every_branch(cuda: list[str]) -> None:
    recorder = CudaRecorder(torch.device("cuda"))

    def branch(name: str) -> Callable[[], None]:
        return lambda: cuda.append(f"{name} on {torch.cuda.current_stream(torch.device('cuda')).name}")  # type: ignore[attr-defined]

    def work() -> None:
        recorder.side_by_side([branch("first"), branch("second")])

    forked = [
        *("side marks 1", "a waits for side's 1", "first on a", "a marks 1", "b waits for side's 1", "second on b", "b marks 1"),
        *("side waits for a's 1", "side waits for b's 1"),
    ]
    recorder.warmed(work)
    assert cuda[1:] == ["side waits for main", *forked, "main waits for side"]
    cuda.clear()
    replay = recorder.recorded(work)
    again = [line.replace("1", "2") for line in forked]
    assert cuda == ["record", *again, "recorded"]
    cuda.clear()
    replay()
    assert cuda == ["replay"]


def test_an_engine_on_cuda_starts_one_graph_a_step(cuda: list[str]) -> None:
    reference, graph = both(members_of("alexnet_small", 2), CudaRecorder(torch.device("cuda")))  # type: ignore[arg-type]
    for number in range(WARM_UPS):
        step(graph, number)
    cuda.clear()
    step(graph, 0)  # records: a fake graph then computes nothing
    assert (cuda.count("record"), cuda.count("replay"), cuda[-1]) == (1, 1, "replay")
    cuda.clear()
    step(graph, 1)
    assert cuda == ["replay"]
    assert reference.parameters[0].shape == graph.parameters[0].shape
