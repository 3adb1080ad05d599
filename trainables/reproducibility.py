"""Equal bits on a CPU: the mode of MKL that keeps a product's bits wherever in memory its operands stand.

By itself MKL chooses among its kernels also by the addresses of the operands, and then the same product has other bits at another
place: a member of a pack and the same point alone would differ. Its conditional numerical reproducibility in the mode
`AUTO,STRICT` promises equal bits at every address on one kind of processor; MKL reads the mode from the environment at its first
call. `docs/engines.md` says on which processors bits are promised.

Where PyTorch has no MKL (aarch64, builds with OpenBLAS) there is no such mode. Training is the same there; its results are promised
to rounding only, and `bits_mode` says so.
"""

from __future__ import annotations

import os
from functools import lru_cache

VARIABLE = "MKL_CBWR"
"""The environment variable that MKL reads."""
MODE = "AUTO,STRICT"
"""The fastest kernels of the processor, and none that depends on addresses."""
_CACHE_LINE = 16
"""Floats in one: addresses that differ by a whole number of these are alike to every kernel."""


def keep_bits() -> None:
    """Ask MKL for products that keep their bits, unless the user has asked it for something else.

    This must happen before the process multiplies its first matrices; later it changes nothing. Processes that are started afterwards
    inherit it. Without MKL it does nothing.
    """
    os.environ.setdefault(VARIABLE, MODE)


def bits_mode() -> str | None:
    """The mode of MKL and the vector instructions of PyTorch that results of this process owe their bits to.

    Two results on CPUs are promised the same bits where this says the same of both, and MKL's mode is a strict one. None where
    nothing is promised: there is no MKL, nobody set a mode before its first call, or products are found to depend on addresses.
    """
    import torch  # not before it is asked for: the command line sets the mode before it knows whether torch is needed

    mode = os.environ.get(VARIABLE)
    if not mode or not torch.backends.mkl.is_available() or _addresses_matter():
        return None
    return f"{mode} on {torch.backends.cpu.get_cpu_capability()}"


@lru_cache(maxsize=1)
def _addresses_matter() -> bool:
    """Whether products of some rows by a column, moved through a cache line, have different bits."""
    import torch

    rows, inner = 8, 144  # on processors where addresses matter, a product of this shape shows it
    left, right = (torch.arange(count, dtype=torch.float32).mul_(0.7).sin_() for count in (rows * inner, inner))
    moved, column = torch.empty(rows * inner + _CACHE_LINE), torch.empty(inner + _CACHE_LINE)
    found = set()
    for first in range(_CACHE_LINE):
        own = moved[first : first + rows * inner].copy_(left).view(rows, inner)
        for second in range(0, _CACHE_LINE, 3):
            beside = column[second : second + inner].copy_(right).view(inner, 1)
            found.add((own @ beside).numpy().tobytes())
    return len(found) > 1
