"""The memory of the machine that this process runs on."""

from __future__ import annotations

import os
from pathlib import Path

_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Where Linux says what a container may take, of version 2 and 1 of its control groups."""


def machine_bytes() -> float:
    """Bytes of memory that there are, in use or not: the machine's, or the container's where that has fewer."""
    whole = float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for path in _LIMITS:
        try:
            whole = min(whole, float(path.read_text()))
        except (OSError, ValueError):  # there is none, or it is "max"
            continue
    return whole
