"""Ways to train small convolutional networks on one CPU thread, against member by member, which gaplab takes there.

A way is timed by a step of all its members (gradient and SGD with momentum), in processor seconds per member. All ways of a shape take
turns in one process; a figure is the median over turns, and a ratio the median over turns of member by member's time over the way's.
`same_bits` says whether its gradients are those of member by member to the last bit, which a way must be that is chosen for its speed.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from trainables.engines.base import Engine
from trainables.engines.fused import FusedEngine
from trainables.engines.modules import ModuleEngine
from trainables.models import build, family
from trainables.point.config import ImageShape, Model, Optimizer, Regularizers, TrialConfig
from trainables.reproducibility import keep_bits

SHAPES: dict[str, tuple[Model, ImageShape]] = {
    "cnn5 of width 4": (Model(name="cnn5", width=4), (3, 32, 32)),
    "cnn5 of width 16": (Model(name="cnn5", width=16), (3, 32, 32)),
    "alexnet_small of width 8": (Model(name="alexnet_small", width=8), (3, 28, 28)),
    "resnet18 of width 4": (Model(name="resnet18", width=4), (3, 32, 32)),
    "resnet18 of width 8": (Model(name="resnet18", width=8), (3, 32, 32)),
    "inception_small of width 12": (Model(name="inception_small", width=12), (3, 28, 28)),
}
BATCHES = (16, 32, 128)
MEMBERS, CLASSES, TURNS = 4, 10, 5
LEAST_SECONDS = 0.05
"""Of a turn."""


class _ChannelsLast(ModuleEngine):
    """Member by member on images whose channels lie side by side in memory."""

    def _images(self, flat: Tensor) -> Tensor:
        return super()._images(flat).contiguous(memory_format=torch.channels_last)


WAYS: dict[str, Callable[[ImageShape], Engine]] = {
    "member by member": lambda shape: ModuleEngine("cross_entropy", "float32", shape),
    "channels last": lambda shape: _ChannelsLast("cross_entropy", "float32", shape),
    "fused, grouped": lambda shape: FusedEngine("cross_entropy", "float32", shape),
    "fused, unfolded": lambda shape: FusedEngine("cross_entropy", "float32", shape, unfold=True),
    "bfloat16": lambda shape: ModuleEngine("cross_entropy", "bfloat16", shape),
    "bfloat16, channels last": lambda shape: _ChannelsLast("cross_entropy", "bfloat16", shape),
}


def measure() -> dict[str, Any]:
    keep_bits()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    return {"members": MEMBERS, "turns": TURNS, "rows": [_row(name, size) for name in SHAPES for size in BATCHES]}


def _row(name: str, size: int) -> dict[str, Any]:
    model, shape = SHAPES[name]
    modules = [build(family(model.name).complete(model), 0.0, shape, CLASSES, seed=seed) for seed in range(MEMBERS)]
    draw = torch.Generator().manual_seed(0)
    inputs = torch.randn(MEMBERS, size, shape[0] * shape[1] * shape[2], generator=draw)
    targets = torch.randn(MEMBERS, CLASSES, size, generator=draw).softmax(1)
    steps, gradients = {}, {}
    for way, make in WAYS.items():
        engine = make(shape)
        steps[way] = _step(engine, modules, inputs, targets)
        gradients[way] = [gradient.clone() for gradient in engine.gradients]
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(TURNS):
        for way, step in steps.items():
            seconds[way].append(_timed(step) / MEMBERS)
    plain = seconds["member by member"]
    row: dict[str, Any] = {"network": name, "batch": size, "ways": {}}
    for way, taken in seconds.items():
        row["ways"][way] = {
            "ms_per_member_and_step": statistics.median(taken) * 1e3,
            "times_as_fast": statistics.median(before / now for before, now in zip(plain, taken, strict=True)),
            "same_bits": all(map(torch.equal, gradients[way], gradients["member by member"])),
        }
    ratios = ", ".join(f"{way} {found['times_as_fast']:.2f}{' =' if found['same_bits'] else ''}" for way, found in row["ways"].items())
    print(f"{name:>28}, batch {size:>3}: {statistics.median(plain) * 1e3:8.2f} ms; {ratios}")
    return row


def _step(engine: Engine, modules: list[nn.Module], inputs: Tensor, targets: Tensor) -> Callable[[], None]:
    """A step of all members; the first has been taken without the optimizer, so that gradients are at the initial weights."""
    import copy

    engine.refill([], copy.deepcopy(modules))
    rule = Optimizer(name="sgd", learning_rate=0.001, momentum=0.9)
    points = [TrialConfig(optimizer=rule, regularizers=Regularizers()) for _ in modules]
    optimizer = engine.optimizer(rule)
    optimizer.refill([], points, engine.parameters, [None] * len(modules), [0] * len(modules))
    optimizer.set_rates(torch.full((len(modules),), rule.learning_rate))
    streams = [(member, "dropout", 0, 0) for member in range(len(modules))]

    def step() -> None:
        engine.gradient(inputs, targets, streams)
        optimizer.step(engine.gradients)

    engine.gradient(inputs, targets, streams)
    return step


def _timed(step: Callable[[], None]) -> float:
    """Processor seconds of a step."""
    count, begun = 0, time.process_time()
    while (taken := time.process_time() - begun) < LEAST_SECONDS or not count:
        step()
        count += 1
    return taken / count
