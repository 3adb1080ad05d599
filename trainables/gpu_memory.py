"""What processes share of a GPU: how much of its memory this one may take, for Ray leaves it to them to keep to their fractions; what goes
there; and whether their kernels run side by side.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def keep_to(fraction: float) -> None:
    """Let this process allocate at most this fraction of its GPU's memory; what is more is out of memory.

    Args:
        fraction: as granted by Ray, greater than 0; from 1 on nothing is limited.
    """
    if fraction < 1:
        torch.cuda.set_per_process_memory_fraction(fraction)


def granted_bytes(device: torch.device) -> float:
    """Bytes that this process may count on: what is free now, or kept by PyTorch for its next tensors, times the fraction that was granted.

    Processes that share a GPU start one after another: each takes its fraction of what the ones before it, and other programs, have left.
    """
    free, _ = torch.cuda.mem_get_info(device)
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # of earlier packs, by PyTorch for the next one
    return (free + kept) * torch.cuda.get_per_process_memory_fraction(device)


def uploaded(values: Sequence[Any], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Numbers, or rows of them, as a tensor on the device. On a GPU nobody waits for the copy: it starts from pinned memory.

    ``torch.tensor(values, device=...)`` lets the process wait until the GPU has done all that it was given before.
    """
    tensor = torch.tensor(values, dtype=dtype)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def processes_overlap() -> bool:
    """Whether kernels of several processes run side by side on this machine's GPUs: NVIDIA's multi-process service runs.

    Its control daemon writes its number into its folder, ``CUDA_MPS_PIPE_DIRECTORY`` or by default /tmp/nvidia-mps. Without it they take
    turns.
    """
    folder = Path(os.environ.get("CUDA_MPS_PIPE_DIRECTORY") or "/tmp/nvidia-mps")
    with suppress(OSError, ValueError):
        daemon = int((folder / "nvidia-cuda-mps-control.pid").read_text())
        return daemon > 0 and Path(f"/proc/{daemon}").exists()
    return False
