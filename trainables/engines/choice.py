"""The choice of an engine and of how many members train side by side: what measured fastest (`docs/engines.md`).

On a CPU it is a rule, and no measurement decides: a point has the same bits in every pack there. On a GPU, where results agree to rounding,
networks that are no chains of linear layers are tried out for seconds: every candidate takes steps of this network, at this batch size and
precision. Compiling one takes longer than that, and is tried where training takes much longer still. What was found lies in the folder of
the user's data, and is not measured again on a card of that name with that PyTorch.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from math import prod
from typing import Any

import torch
from torch import nn

from trainables.data.sets.named import data_folder
from trainables.engines.base import ROWS, Engine
from trainables.engines.fused import FusedEngine
from trainables.engines.graphs import MOST_BRANCHES, WARM_UPS, CudaRecorder, GraphEngine
from trainables.engines.modules import ModuleEngine, shareable
from trainables.engines.stacked import StackedDense, stack_size, stacks_in_memory
from trainables.gpu_memory import granted_bytes
from trainables.models.chains import activation_of, stackable
from trainables.point.config import ImageShape, Model, Optimizer, TrialConfig, sizes_only

PROBE_SECONDS = 5.0
"""Time after which no further candidate is tried."""
COMPILER = "inductor"
"""The backend of `torch.compile`."""
_COMPILING_SECONDS = 60.0
"""What it takes to compile a network, assumed until it was measured."""
_ROUND_SECONDS = 0.05
_ROUNDS = 3
_MARGIN = 1.1
"""How much faster than member by member a way must be to be taken: by less another measurement might choose otherwise."""
_EVALUATION_SHARE = 0.1
"""Share of a process' memory on a GPU that an evaluation may take, beside the members."""
_MOST_ROWS = 4096
"""Samples that are evaluated at once at most: more of them start hardly fewer operations."""
_FORMAT = 2
"""Raised when what is tried changes, so that nothing of before is read."""


@dataclass(frozen=True)
class Workload:
    """What an engine is chosen for.

    Attributes:
        model: sizes alone (see `trainables.point.config.sizes_only`).
        image_shape: of an input.
        classes: outputs.
        batch_size: samples of a step.
        loss, precision: as a point says them.
    """

    model: Model
    image_shape: ImageShape
    classes: int
    batch_size: int
    loss: str
    precision: str

    @classmethod
    def of(cls, point: TrialConfig, image_shape: ImageShape, classes: int) -> Workload:
        rule = point.optimizer
        return cls(sizes_only(point.model), image_shape, classes, rule.batch_size, rule.loss, point.precision)


@dataclass(frozen=True)
class Way:
    """An engine by its name, and how many members it trains side by side.

    Attributes:
        seconds: of a member's step, where that was measured; None also where the way was tried, and did not run.
        start: seconds that it takes to compile, where it does.
    """

    engine: str
    slots: int
    seconds: float | None = None
    start: float = 0.0

    def over(self, steps: float) -> float:
        """Seconds of a member's step where so many share what it takes to compile."""
        return (self.seconds or 0.0) + self.start / max(steps, 1.0)


@lru_cache(maxsize=2)
def _dense_engine(compiled: bool) -> type[StackedDense]:
    """Return `CompiledDense`, which is a `StackedDense`, where `compiled` allows it and Numba and `sgemm` are there."""
    if compiled:
        try:
            from trainables.engines.compiled import CompiledDense
        except ImportError:
            return StackedDense
        return CompiledDense
    return StackedDense


MODULES = "modules"
Maker = Callable[[nn.Module, str, str, ImageShape], Engine]
"""(template, loss, precision, image shape) -> engine."""

ENGINES: dict[str, Maker] = {
    "compiled": lambda template, loss, precision, shape: _dense_engine(True)(template, loss, precision),
    "stacked": lambda template, loss, precision, shape: StackedDense(template, loss, precision),
    MODULES: lambda template, loss, precision, shape: ModuleEngine(loss, precision, shape, rows=_on_gpu(template)),
    "modules, channels last": lambda template, loss, precision, shape: ModuleEngine(
        loss, precision, shape, channels_last=True, rows=_on_gpu(template)
    ),
    "graphs": lambda template, loss, precision, shape: GraphEngine(loss, precision, shape, _recorder(template), rows=_on_gpu(template)),
    "graphs, channels last": lambda template, loss, precision, shape: GraphEngine(
        loss, precision, shape, _recorder(template), channels_last=True, rows=_on_gpu(template)
    ),
    "graphs, compiled": lambda template, loss, precision, shape: GraphEngine(
        loss, precision, shape, _recorder(template), rows=_on_gpu(template), compiler=COMPILER
    ),
    "graphs, compiled, channels last": lambda template, loss, precision, shape: GraphEngine(
        loss, precision, shape, _recorder(template), channels_last=True, rows=_on_gpu(template), compiler=COMPILER
    ),
    "fused": lambda template, loss, precision, shape: FusedEngine(loss, precision, shape, rows=_on_gpu(template)),
    "fused in graphs": lambda template, loss, precision, shape: FusedEngine(
        loss, precision, shape, rows=_on_gpu(template), recorder=_recorder(template)
    ),
    "fused, unfolded": lambda template, loss, precision, shape: FusedEngine(loss, precision, shape, unfold=True, rows=_on_gpu(template)),
}
"""Every engine by the name that records give it."""
_COMPILED = ("graphs, compiled", "graphs, compiled, channels last")


def make_engine(template: nn.Module, *, loss: str, precision: str, image_shape: ImageShape, name: str | None = None) -> Engine:
    """Make an engine without members yet.

    Args:
        template: a module of the members' architecture, on their device.
        loss: "cross_entropy" or "squared".
        precision: "float32", "tf32" or "bfloat16".
        image_shape: channels, height and width of an input.
        name: one of `ENGINES`; by default what the rule of CPUs says.
    """
    return ENGINES[name or _by_rule(template, precision)](template, loss, precision, image_shape)


def fastest(template: nn.Module, workload: Workload, device: torch.device, steps: float = 0) -> Way:
    """The way of training members like this one that measured fastest: by a rule on a CPU, and of chains; else it is measured here.

    Args:
        template: a module of the members' architecture, on the device.
        steps: members' steps that are to be taken at most. A network is compiled only where they are enough to make up for it.
    """
    if stackable(template) or device.type == "cpu":
        slots = members_at_once(template, workload.batch_size, prod(workload.image_shape), device)
        return Way(_by_rule(template, workload.precision), slots)
    if not shareable(template):
        return Way(MODULES, 1)
    card = card_name(device)
    measured = _measured(workload, card)
    if measured is None:
        measured = _probed(template, workload, device)
        _note(workload, card, measured)
    if found := _compiled(template, workload, steps, measured):
        measured = [*measured, *found]
        _note(workload, card, measured)
    way = _best(measured, steps)
    return replace(way, slots=min(way.slots, _most_slots(template, workload, device)))


def members_at_once(template: nn.Module, batch_size: int, inputs: int, device: torch.device) -> int:
    """Number of members of a chain that train side by side: as many as the cache (CPU) or a share of the memory (GPU) holds; else 1."""
    return stack_size(template, batch_size, inputs, device) if stackable(template) else 1


def rows_at_once(template: nn.Module, image_shape: ImageShape, members: int, device: torch.device) -> int:
    """Samples that each of some members is evaluated on at once: `ROWS` on a CPU, on a GPU as many as a share of its memory holds.

    So an evaluation starts few operations, on tensors of at most 2**31 numbers.

    Args:
        template: a module of the members' architecture.
    """
    kept = _kept_bytes(template, ROWS, image_shape) if device.type == "cuda" else None
    if kept is None:
        return ROWS
    each = members * (kept / ROWS + 3 * 4 * prod(image_shape))  # inputs as they lie, gathered, and in a graph's memory
    fit = min(_EVALUATION_SHARE * granted_bytes(device), 4 * 2**31) / each
    return max(ROWS, min(_MOST_ROWS, int(fit)) // ROWS * ROWS)


def card_name(device: torch.device, fraction: float | None = None) -> str:
    """What a measurement on a GPU is true of: the card, the fraction of it that a process has (by default this one), PyTorch's version."""
    granted = torch.cuda.get_per_process_memory_fraction(device) if fraction is None else min(1.0, fraction)
    return f"{torch.cuda.get_device_name(device)}, {granted:.0%} of it, torch {torch.__version__}"


def known(workload: Workload, card: str, steps: float) -> Way | None:
    """The way that measured fastest on such a card before, for so many steps; None if nothing was measured, or it cannot be read."""
    measured = _measured(workload, card)
    return None if measured is None else _best(measured, steps)


_FOUND: dict[str, list[Way]] = {}
"""What this process has measured: it must not do so again where nothing can be written."""


def _measured(workload: Workload, card: str) -> list[Way] | None:
    """What was measured on such a card before, this process's own included."""
    digest = _digest(workload, card)
    if digest in _FOUND:
        return _FOUND[digest]
    with suppress(OSError, ValueError, KeyError, TypeError):
        found = json.loads((data_folder() / "engines" / f"{digest}.json").read_text())
        ways = [Way(str(one["engine"]), int(one["slots"]), one["seconds"] and float(one["seconds"]), one["start"]) for one in found["ways"]]
        if all(way.engine in ENGINES and way.slots > 0 for way in ways):
            return ways
    return None


def _note(workload: Workload, card: str, measured: list[Way]) -> None:
    """Keep what was measured beside the user's data, whole or not at all."""
    digest = _digest(workload, card)
    _FOUND[digest] = measured
    folder = data_folder() / "engines"
    unfinished = folder / f".{digest}.{os.getpid()}"
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        noted = {"workload": asdict(workload), "card": card, "ways": [asdict(way) for way in measured]}
        unfinished.write_text(json.dumps(noted, indent=1) + "\n")
        unfinished.replace(folder / f"{digest}.json")


def _digest(workload: Workload, card: str) -> str:
    described = json.dumps([_FORMAT, asdict(workload), card], sort_keys=True)
    return hashlib.sha256(described.encode()).hexdigest()[:32]


def _probed(template: nn.Module, workload: Workload, device: torch.device) -> list[Way]:
    """The candidates that run, timed; those that are compiled are another matter."""
    begun = time.monotonic()
    found: list[Way] = []
    for way in _candidates(_most_slots(template, workload, device)):
        if found and time.monotonic() - begun > PROBE_SECONDS:
            break
        found += _tried(template, workload, way)
    return found


def _compiled(template: nn.Module, workload: Workload, steps: float, measured: list[Way]) -> list[Way]:
    """The ways that are compiled, timed, where finding out costs less than the least gain for which one is taken.

    Tried in a process that will train `steps` steps, once for all: what did not run is noted too.
    """
    best, price, found = _best(measured, steps), _COMPILING_SECONDS, list[Way]()
    if any(way.engine in _COMPILED for way in measured):
        return found
    for engine in _COMPILED:
        if steps * (best.seconds or 0.0) * (1 - 1 / _MARGIN) < price:
            break
        way = Way(engine, 1)
        found += _tried(template, workload, way) or [way]
        price = max(_COMPILING_SECONDS, found[-1].start)
    return found


def _tried(template: nn.Module, workload: Workload, way: Way) -> list[Way]:
    """A candidate with its time, or none: what does not run, or runs as another, is no candidate."""
    found: list[Way] = []
    with suppress(RuntimeError, ValueError, NotImplementedError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found.append(_timed(template, workload, way))
    _free(next(template.parameters()).device)
    return found


def _best(measured: list[Way], steps: float) -> Way:
    """The fastest of some ways over so many steps, or member by member where that is not much slower, or nothing ran."""
    ran = [way for way in measured if way.seconds is not None]
    plain = next((way for way in ran if way.engine == MODULES), Way(MODULES, 1, 0.0))
    best = min(ran, key=lambda way: way.over(steps), default=plain)
    return best if best.over(steps) * _MARGIN < plain.over(steps) else plain


def _candidates(most: int) -> list[Way]:
    """Ways to try where at most so many members fit the memory, those that are likely to be best first."""
    few, many = min(8, most), min(MOST_BRANCHES, most)
    tried = [
        *((MODULES, 1), ("graphs", few), ("fused in graphs", many), ("graphs", many), ("modules, channels last", 1)),
        *(("fused in graphs", few), ("graphs, channels last", many), ("fused", many), ("fused, unfolded", many)),
    ]
    return [Way(engine, slots) for engine, slots in dict.fromkeys(tried)]


def _timed(template: nn.Module, workload: Workload, way: Way) -> Way:
    """A way with the seconds of a member's step: gradient and SGD with momentum, the fastest of some rounds after the first steps.

    Raises:
        RuntimeError: it does not run, or as another engine: CUDA refused to record it, or it was not compiled.
    """
    device = next(template.parameters()).device
    engine = make_engine(template, loss=workload.loss, precision=workload.precision, image_shape=workload.image_shape, name=way.engine)
    engine.refill([], [copy.deepcopy(template) for _ in range(way.slots)])
    rule = Optimizer(name="sgd", learning_rate=0.1, momentum=0.9)
    optimizer = engine.optimizer(rule)
    none: list[Any] = [None] * way.slots
    optimizer.refill([], [TrialConfig(optimizer=rule)] * way.slots, engine.parameters, none, [0] * way.slots)
    optimizer.set_rates(torch.zeros(way.slots, device=device))  # weights stay: nothing grows
    inputs = torch.rand(way.slots, workload.batch_size, prod(workload.image_shape), device=device)
    targets = torch.full((way.slots, workload.classes, workload.batch_size), 1 / workload.classes, device=device)
    streams = [(member, "dropout", 0, 0) for member in range(way.slots)]

    def steps(count: int) -> float:
        _finish(device)
        begun = time.perf_counter()
        for _ in range(count):
            engine.step(optimizer, inputs, targets, streams)
        _finish(device)
        return time.perf_counter() - begun

    first = steps(WARM_UPS + 1)
    if engine.name != way.engine:
        raise RuntimeError(f"{way.engine} ran as {engine.name}")
    count = max(1, round(_ROUND_SECONDS / max(steps(1), 1e-6)))
    seconds = min(steps(count) for _ in range(_ROUNDS)) / count
    return replace(way, seconds=seconds / way.slots, start=first if way.engine in _COMPILED else 0.0)


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _free(device: torch.device) -> None:
    """Give back what a candidate held, so that the next one finds the memory that training will."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _most_slots(template: nn.Module, workload: Workload, device: torch.device) -> int:
    """Members that fit the share of a GPU's memory that stacks have."""
    held = _held_bytes(template, workload)
    return 1 if held is None else max(1, min(MOST_BRANCHES, int(stacks_in_memory(device) / held)))


def _held_bytes(template: nn.Module, workload: Workload) -> int | None:
    """Bytes that a member takes: parameters, gradients, moments, and what a forward pass keeps for the backward pass.

    That is counted without computing anything; None where a module looks at its inputs' values.
    """
    kept = _kept_bytes(template, workload.batch_size, workload.image_shape)
    parameters = sum(parameter.numel() * parameter.element_size() for parameter in template.parameters())
    return None if kept is None else 5 * parameters + kept


def _kept_bytes(template: nn.Module, samples: int, image_shape: ImageShape) -> int | None:
    """Bytes that a forward pass of so many samples keeps for the backward pass; None where a module looks at its inputs' values."""
    kept = 0

    def note(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal kept
        kept += tensor.numel() * tensor.element_size()
        return tensor

    try:
        twin = copy.deepcopy(template).to("meta").train()
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            twin(torch.empty(samples, *image_shape, device="meta"))
    except (RuntimeError, NotImplementedError):
        return None
    return kept


def _on_gpu(template: nn.Module) -> bool:
    return next(template.parameters()).device.type == "cuda"


def _recorder(template: nn.Module) -> CudaRecorder:
    return CudaRecorder(next(template.parameters()).device)


def _by_rule(template: nn.Module, precision: str) -> str:
    """The engine of a network on a CPU, and of a chain anywhere."""
    if not stackable(template):
        return MODULES
    device = next(template.parameters()).device
    compiled = device.type == "cpu" and precision == "float32" and activation_of(template) is None  # machine code rectifies
    return "compiled" if _dense_engine(compiled) is not StackedDense else "stacked"
