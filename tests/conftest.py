"""What all tests share: MKL's mode, and floating-point arithmetic as Python has it, whatever a training in this process has set."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from trainables.reproducibility import keep_bits

keep_bits()  # before any test multiplies matrices; the processes that tests start inherit it


@pytest.fixture(autouse=True)
def denormals() -> None:
    """Training flushes denormals to zero for its process; Hypothesis's floats need them."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """The URL of an empty PostgreSQL database, where there is a server."""
    pytest.importorskip("psycopg")
    from tests.mlflow_servers import postgres_server, programs

    if programs() is None:
        pytest.skip("no PostgreSQL server here (Debian: apt-get install postgresql)")
    with postgres_server() as uri:
        yield uri
