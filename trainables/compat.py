"""Private parts of PyTorch and scikit-learn that training uses, each with a public way that takes its place.

What another version lacks, or has with another face, is not used: `sgemm_address` is None then, and the stacked engine trains
what the compiled one would have; the others do the same by slower public calls, with the same bits.
"""

from __future__ import annotations

import ctypes
import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@cache
def sgemm_address() -> int | None:
    """The address of the matrix product `sgemm` in the library that PyTorch carries (MKL on x86); None where it has no such symbol."""
    folder = Path(torch.__file__).parent / "lib"
    try:
        library = ctypes.CDLL(str(next(folder.glob("libtorch_cpu.*"))))
        return ctypes.cast(library.sgemm_, ctypes.c_void_p).value
    except (StopIteration, OSError, AttributeError):
        return None


def _threshold_backward() -> Any:
    """PyTorch's own gradient of a rectifier with its result written in place; None if it does not do that here."""
    try:
        kernel = torch.ops.aten.threshold_backward.grad_input
        gradient, activations = torch.tensor([2.0, 2.0]), torch.tensor([0.0, 1.0])
        kernel(gradient, activations, 0, grad_input=gradient)
    except (AttributeError, RuntimeError, TypeError):
        return None
    return kernel if gradient.tolist() == [0.0, 2.0] else None


_through_rectifier = _threshold_backward()


def through_rectifier(gradient: Tensor, activations: Tensor) -> None:
    """Make the gradient towards a rectifier's outputs, in place, the one towards its inputs: 0 where the activation is not above 0."""
    if _through_rectifier is None:
        gradient.masked_fill_(activations <= 0, 0)
    else:
        _through_rectifier(gradient, activations, 0, grad_input=gradient)


def _gamma_sampler() -> Any:
    """The function behind `torch.distributions.Gamma`, which draws from a generator of the caller's; None if it does not do that here."""
    try:
        sampler = torch._standard_gamma
        sampler(torch.ones(1), generator=torch.Generator())
    except (AttributeError, RuntimeError, TypeError):
        return None
    return sampler


_standard_gamma = _gamma_sampler()


def standard_gamma(shapes: Tensor, draw: torch.Generator) -> Tensor:
    """Draws of Gamma(shape, rate 1), one for each element of `shapes`, from a generator on the CPU."""
    if _standard_gamma is not None:
        drawn: Tensor = _standard_gamma(shapes, generator=draw)
        return drawn
    with torch.random.fork_rng(devices=[]):  # torch.distributions draws from the process's generator alone
        torch.set_rng_state(draw.get_state())
        drawn = torch.distributions.Gamma(shapes, torch.ones_like(shapes)).sample()
        draw.set_state(torch.get_rng_state())
    return drawn


def digits_table() -> NDArray[np.float64] | None:
    """scikit-learn's 1,797 digits, a row each: 64 pixels of 0 to 16, then the label; None where there is no scikit-learn.

    Its file is read without scikit-learn, whose import takes half a second.
    """
    package = importlib.util.find_spec("sklearn")
    if package is None or package.origin is None:
        return None
    try:
        table = np.loadtxt(Path(package.origin).parent / "datasets/data/digits.csv.gz", delimiter=",")
    except (OSError, ValueError):
        table = np.empty(0)
    return table if table.shape == (1797, 65) else _digits_of_the_package()


def _digits_of_the_package() -> NDArray[np.float64]:
    """The same by scikit-learn's own function."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    return np.column_stack([pixels, labels])
