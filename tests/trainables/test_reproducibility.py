"""Equal bits wherever operands stand: in processes of their own, because MKL reads its mode once."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from trainables import reproducibility
from trainables.reproducibility import MODE, VARIABLE, bits_mode, keep_bits

needs_mkl = pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="without MKL bits are promised nowhere")

PRODUCTS = """
from trainables.reproducibility import keep_bits
keep_bits()
import itertools, torch
torch.set_num_threads(1)

def moved(value, first):  # by so many floats from the beginning of a cache line
    room = torch.empty(value.numel() + 32)
    first += -(room.data_ptr() // 4) % 16
    return room[first : first + value.numel()].view(value.shape).copy_(value)

for rows, inner, columns in itertools.product((1, 2, 3), (1, 6, 33, 64, 144), (1, 4, 10, 33)):
    left, right = torch.randn(rows, inner), torch.randn(inner, columns)
    for turn_left, turn_right in itertools.product((False, True), repeat=2):  # as a forward and a backward pass ask for them
        found = {torch.mm: set(), torch.bmm: set()}
        for first, second in itertools.product(range(16), (0, 1, 6, 11)):
            a = moved(left.T.contiguous(), first).T if turn_left else moved(left, first)
            b = moved(right.T.contiguous(), second).T if turn_right else moved(right, second)
            one = torch.mm(a, b, out=moved(torch.empty(rows, columns), (first + second) % 16))
            batched = torch.bmm(a[None], b[None])[0]
            found[torch.mm].add(one.numpy().tobytes())
            found[torch.bmm].add(batched.numpy().tobytes())
        for product, bits in found.items():
            assert len(bits) == 1, (product, rows, inner, columns, turn_left, turn_right)
"""
ENGINE = """
from trainables.reproducibility import keep_bits
keep_bits()
import copy, torch
from tests.trainables.engines.test_engines import STACKED, batch, engine_of, modules, streams
torch.set_num_threads(1)
for name in STACKED:
    for size in (1, 2, 3):
        inputs, targets = batch(2, size)
        engine, found = engine_of(modules(STACKED[name], 2)), set()
        for first in range(16):
            room = torch.empty(inputs.numel() + 32)
            first += -(room.data_ptr() // 4) % 16
            engine.gradient(room[first : first + inputs.numel()].view(inputs.shape).copy_(inputs), targets, streams(2))
            found.add(b"".join(gradient.contiguous().numpy().tobytes() for gradient in engine.gradients))
        assert len(found) == 1, (name, size)
"""
TOO_LATE = """
import torch
torch.ones(2, 2) @ torch.ones(2, 2)
from trainables.reproducibility import bits_mode, keep_bits, _addresses_matter
keep_bits()
assert (bits_mode() is None) == _addresses_matter()
"""


def in_a_process(program: str, **environment: str) -> None:
    kept = {name: value for name, value in os.environ.items() if name != VARIABLE}
    done = subprocess.run([sys.executable, "-c", program], env=kept | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@needs_mkl
@pytest.mark.parametrize("program", [PRODUCTS, ENGINE], ids=["products", "engine"])
def test_small_batches_have_the_same_bits_at_every_address(program: str) -> None:
    in_a_process(program)


@needs_mkl
def test_these_tests_run_in_the_mode_that_workers_run_in() -> None:
    assert bits_mode() == f"{os.environ[VARIABLE]} on {torch.backends.cpu.get_cpu_capability()}"


def test_a_mode_that_comes_too_late_is_not_claimed() -> None:
    in_a_process(TOO_LATE)


def test_what_the_user_asks_of_mkl_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "COMPATIBLE")
    keep_bits()
    assert os.environ[VARIABLE] == "COMPATIBLE"
    monkeypatch.delenv(VARIABLE)
    keep_bits()
    assert os.environ[VARIABLE] == MODE


def test_without_mkl_nothing_is_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: False)
    keep_bits()
    assert bits_mode() is None


def test_where_addresses_matter_nothing_is_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reproducibility, "_addresses_matter", lambda: True)
    assert bits_mode() is None
