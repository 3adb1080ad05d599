"""What all tests share: MKL's mode, and floating-point arithmetic as Python has it, whatever a training in this process has set."""

from __future__ import annotations

import sys

import pytest

from trainables.reproducibility import keep_bits

keep_bits()  # before any test multiplies matrices; the processes that tests start inherit it


@pytest.fixture(autouse=True)
def denormals() -> None:
    """Training flushes denormals to zero for its process; Hypothesis's floats need them."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)
