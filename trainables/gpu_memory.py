"""The memory of a GPU that this process may take: Ray counts fractions of a GPU, and leaves it to the processes to keep to theirs."""

from __future__ import annotations

import torch


def keep_to(fraction: float) -> None:
    """Let this process allocate at most this fraction of its GPU's memory; what is more is out of memory.

    Args:
        fraction: as granted by Ray, greater than 0; from 1 on nothing is limited.
    """
    if fraction < 1:
        torch.cuda.set_per_process_memory_fraction(fraction)


def granted_bytes(device: torch.device) -> float:
    """Bytes that this process may count on: what is free now, times the fraction that was granted.

    Processes that share a GPU start one after another: each takes its fraction of what the ones before it, and other programs, have left.
    """
    free, _ = torch.cuda.mem_get_info(device)
    return free * torch.cuda.get_per_process_memory_fraction(device)
