"""How fast this machine is, measured in a moment."""

from __future__ import annotations

import time

import pytest
import torch

from tests.trainables.gpu.fake_card import CARD, fake_card
from trainables.engines import speed
from trainables.engines.choice import card_name
from trainables.engines.speed import measure


def test_a_core_is_as_fast_as_a_longer_measurement_says() -> None:
    """Within a factor of four: packs need the order of magnitude, and this machine has other work."""
    tried = []
    for _ in range(5):  # other work may have the core in one of the two measurements
        rate, found = longer_measurement(), measure("cpu")
        tried.append((rate, found))
        if rate / 8 < found.multiply_adds_per_second < 2 * rate and 1e-7 < found.seconds_per_step < 1e-2:
            return  # half of a product's rate
    raise AssertionError(tried)


def test_measuring_leaves_the_number_of_threads() -> None:
    threads = torch.get_num_threads()
    measure("cpu")
    assert torch.get_num_threads() == threads


def test_a_gpus_speed_says_of_which_card_and_how_much_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """By these words a study finds what was measured when an engine was chosen there."""
    monkeypatch.setitem(speed._SIZE, "cuda", 8)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Card 1")
    with fake_card():
        found = speed.measure("cuda", fraction=0.25)
        monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda device: 0.25)
        assert found.card == card_name(CARD) == f"Card 1, 25% of it, torch {torch.__version__}"
    assert speed.measure("cpu").card is None


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
