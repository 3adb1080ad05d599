"""Spectral norms: of a weight as a matrix, and of a convolution as the linear map that it is."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def matrix_norm(weight: Tensor) -> float:
    """Largest singular value of the weight reshaped to (outputs, all else).

    For a convolution this does not bound the norm of the map, because windows overlap.
    Source: Yoshida and Miyato 2017, section on convolutions. Cost: one eigenvalue problem of the shorter side.
    """
    return _largest(weight.double().flatten(1)[None])


def convolution_norm(kernel: Tensor, size: Sequence[int], *, stride: Sequence[int] = (1, 1), groups: int = 1) -> float:
    """Largest singular value of a convolution on a torus: exact for circular padding.

    At stride 1, the Fourier transform of the kernel is at each frequency the (outputs, inputs) matrix by which the map acts there; the
    largest singular value of all is the map's. A stride s keeps one position in s, by which s frequencies along the axis fall
    together: their matrices stand side by side, divided by sqrt(s).

    Source: Sedghi, Gupta and Long 2019, "The singular values of convolutional layers", for stride 1; the stride is our extension.
    Ignores zero padding: a zero-padded map is part of the one on a torus larger by the kernel - 1, and no larger than that.
    Cost: an eigenvalue problem of size min(inputs, outputs) for half the frequencies.

    Args:
        kernel: (outputs, inputs / groups, height, width).
        size: height and width of the input; enlarged to the kernel and to a multiple of the stride where they are less.
    """
    torus = [-(-max(length, window) // step) * step for length, window, step in zip(size, kernel.shape[2:], stride, strict=True)]
    transform = torch.fft.fft2(kernel.double(), s=torus)
    rows, columns = (length // step for length, step in zip(torus, stride, strict=True))
    outputs, inputs = kernel.shape[:2]
    aliases = transform.reshape(groups, outputs // groups, inputs, stride[0], rows, stride[1], columns)
    aliases = aliases[..., : columns // 2 + 1]  # a real kernel: the other half is its conjugate
    maps = aliases.permute(0, 4, 6, 1, 2, 3, 5).reshape(-1, outputs // groups, inputs * stride[0] * stride[1])
    norm: float = _largest(maps) / (stride[0] * stride[1]) ** 0.5
    return norm


def _largest(matrices: Tensor) -> float:
    """Largest singular value of a batch of matrices, by the eigenvalues of M M* or M* M, whichever is smaller."""
    if matrices.shape[1] > matrices.shape[2]:
        matrices = matrices.mH
    return float(torch.linalg.eigvalsh(matrices @ matrices.mH).max().clamp_min(0).sqrt().item())
