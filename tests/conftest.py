"""What all tests share: floating-point arithmetic as Python has it, whatever a training in this process has set."""

from __future__ import annotations

import sys

import pytest


@pytest.fixture(autouse=True)
def denormals() -> None:
    """Training flushes denormals to zero for its process; Hypothesis's floats need them."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)
