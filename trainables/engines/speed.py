"""How fast a device trains, measured in a moment: enough to size packs by, in order of magnitude."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

_SIZE = {"cpu": 256, "cuda": 4096}
_LAUNCHES_PER_STEP = 5
"""Of a member: about 80 in a step of an MLP with one hidden layer (`trainables.engines.stacked`), which a stack of 16 shares."""
_SHARE_OF_PEAK = 0.5
"""Of a matrix product's rate that training reaches (tests/benchmarks/bench_engine.py: 0.26 to 0.66 on a CPU, the more the wider)."""


@dataclass(frozen=True)
class Speed:
    """Of one worker.

    Attributes:
        multiply_adds_per_second: in training.
        seconds_per_step: what a step takes however small it is.
    """

    multiply_adds_per_second: float
    seconds_per_step: float


CORE = Speed(30e9, 10e-6)
"""Of one core, where nothing was measured: for estimates."""


def measure(device: str | None = None) -> Speed:
    """The speed of a device, by default of the one that a worker here has: a GPU, or else a thread. On a CPU it takes 20 ms."""
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    size = _SIZE[device]
    square, small = torch.ones(size, size, device=device), torch.ones(8, device=device)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as a worker, also in a driver that has all cores
    try:
        product = _seconds(device, lambda: square @ square)
        launch = _seconds(device, lambda: small.add_(1))
    finally:
        torch.set_num_threads(threads)
    return Speed(_SHARE_OF_PEAK * size**3 / product, _LAUNCHES_PER_STEP * launch)


def _seconds(device: str, operation: Callable[[], object]) -> float:
    """Of one operation, as fast as it was in three trials after a first that starts libraries."""
    taken = []
    for _ in range(4):
        begun = time.perf_counter()
        for _ in range(10):
            operation()
        if device == "cuda":
            torch.cuda.synchronize()
        taken.append((time.perf_counter() - begun) / 10)
    return min(taken[1:])
