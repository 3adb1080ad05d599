"""What an error says of more than its point: that memory is full, or that the process itself is spoilt."""

from __future__ import annotations

import errno

import torch

from trainables.point.errors import message_of

_OUT_OF_MEMORY = (
    "out of memory",  # CUDA, HIP, MPS and Triton
    "can't allocate memory",  # PyTorch on CPUs
    "not enough memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUSOLVER_STATUS_ALLOC_FAILED",
    "cudaErrorMemoryAllocation",
)
_OF_ONE_CALL = (
    "invalid argument",
    "invalid configuration argument",
    "invalid device function",
    "invalid resource handle",
    "no kernel image is available",
    "operation not supported",
    "too many resources requested for launch",
)
"""What CUDA refuses, and goes on: the context is as it was."""
_STICKY = (
    "illegal memory access",
    "device-side assert",
    "unspecified launch failure",
    "misaligned address",
    "illegal instruction",
    "invalid program counter",
    "operation not supported on global/shared address space",
    "launch timed out",
    "hardware stack error",
    "uncorrectable ECC error",
    "context is destroyed",
    "Lane User Stack Overflow",
    "CUBLAS_STATUS_EXECUTION_FAILED",
    "CUDNN_STATUS_EXECUTION_FAILED",
)
"""What every later call of the process is answered with, too."""


class PoisonedError(RuntimeError):
    """The accelerator answers every further call of this process with the same error: only a new process helps."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a GPU or the host had no memory left.

    >>> is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"))
    True
    """
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    return any(words in message_of(error) for words in _OUT_OF_MEMORY)


def is_poisonous(error: BaseException) -> bool:
    """Whether whatever this process asks of its accelerator from now on would fail alike.

    >>> is_poisonous(RuntimeError("CUDA error: device-side assert triggered"))
    True
    >>> is_poisonous(torch.AcceleratorError("CUDA error: invalid configuration argument"))
    False
    """
    if isinstance(error, PoisonedError):
        return True
    if is_out_of_memory(error) or not isinstance(error, RuntimeError):
        return False
    said = message_of(error)
    if any(words in said for words in _STICKY):
        return True
    return isinstance(error, torch.AcceleratorError) and not any(words in said for words in _OF_ONE_CALL)


def leave_if_poisoned(error: BaseException) -> None:
    """Raise PoisonedError, of one line, if the error is poisonous: it is nobody's result."""
    if isinstance(error, PoisonedError):
        raise error
    if is_poisonous(error):
        raise PoisonedError(f"{type(error).__name__}: {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    """What an error says first: PyTorch adds several lines of advice to CUDA's errors."""
    return next((line.strip() for line in message_of(error).splitlines() if line.strip()), type(error).__name__)
