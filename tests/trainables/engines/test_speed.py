"""How fast this machine is, measured in a moment."""

from __future__ import annotations

import time

import torch

from trainables.engines.speed import measure


def test_a_core_is_as_fast_as_a_longer_measurement_says() -> None:
    """Within a factor of four: packs need the order of magnitude, and this machine has other work."""
    tried = []
    for _ in range(5):  # other work may have the core in one of the two measurements
        rate, speed = longer_measurement(), measure("cpu")
        tried.append((rate, speed))
        if rate / 8 < speed.multiply_adds_per_second < 2 * rate and 1e-7 < speed.seconds_per_step < 1e-2:
            return  # half of a product's rate
    raise AssertionError(tried)


def test_measuring_leaves_the_number_of_threads() -> None:
    threads = torch.get_num_threads()
    measure("cpu")
    assert torch.get_num_threads() == threads


def longer_measurement() -> float:
    """Multiply-adds a second of a product, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        left, right = torch.ones(512, 512), torch.ones(512, 512)
        begun = time.perf_counter()
        for _ in range(20):
            torch.mm(left, right)
        return 20 * 512**3 / (time.perf_counter() - begun)
    finally:
        torch.set_num_threads(threads)
