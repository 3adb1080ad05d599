"""How fast a device trains, measured in a moment: an order of magnitude, which is enough to size packs by."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from trainables.engines.choice import card_name

_SIZE = {"cpu": 256, "cuda": 4096}
"""Side of the square matrices that are multiplied."""
_LAUNCHES_PER_STEP = 5
"""Operations started for a member's step: a stack of 16 shares the about 80 of an MLP with one hidden layer."""
_SHARE_OF_PEAK = 0.5
"""Share of a matrix product's rate that training reaches: 0.26 to 0.66 on a CPU, the more the wider (tests/benchmarks/bench_engine.py)."""


@dataclass(frozen=True)
class Speed:
    """How fast one worker trains.

    Attributes:
        multiply_adds_per_second: rate in training.
        seconds_per_step: time that a step takes however small it is.
        card: the GPU that this is of, as `trainables.engines.choice.known` takes it: what was measured of a network there says more.
    """

    multiply_adds_per_second: float
    seconds_per_step: float
    card: str | None = None


CORE = Speed(30e9, 10e-6)
"""Speed of one core, assumed where nothing was measured."""


def measure(device: str | None = None, fraction: float = 1.0) -> Speed:
    """Measure the speed of a device: by default the one that a worker here has, a GPU or else one thread. On a CPU it takes 20 ms.

    Args:
        device: "cpu" or "cuda".
        fraction: of a GPU that a worker is granted.
    """
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
    card = card_name(torch.device(device), fraction) if device == "cuda" else None
    return Speed(_SHARE_OF_PEAK * size**3 / product, _LAUNCHES_PER_STEP * launch, card)


def _seconds(device: str, operation: Callable[[], object]) -> float:
    """Seconds of one operation, the fastest of three trials after a first that starts libraries."""
    taken = []
    for _ in range(4):
        begun = time.perf_counter()
        for _ in range(10):
            operation()
        if device == "cuda":
            torch.cuda.synchronize()
        taken.append((time.perf_counter() - begun) / 10)
    return min(taken[1:])
