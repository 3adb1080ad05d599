"""Measures made from the norms of weights, and the path norm.

Notation: W_l the weight of layer l of L, W0_l at initialization, |.|_F the Frobenius norm, |.|_2 the spectral norm, gamma the
margin (`trainables.measures.bundled.margins.margin`), n the training samples. Each measure with a spectral norm comes twice: with the
weight reshaped to a matrix, and as ``NAME_fft`` with the exact norm of the convolution (`trainables.measures.bundled.spectral`).

Those made from the weights layer by layer ignore biases, the scale of batch norms that could not be folded, skip connections and pooling.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import log, nan

import numpy as np
import torch
from torch import Tensor, nn

from trainables.measures.bundled.margins import margin
from trainables.measures.bundled.spectral import convolution_norm, matrix_norm
from trainables.measures.layers import Layer, root_per_sample
from trainables.measures.registry import measure
from trainables.measures.subject import Subject
from trainables.models.activations import is_replaced


@dataclass(frozen=True)
class Norms:
    """Squared norms, an entry a layer: |W_l|_F^2, |W_l|_2^2, and both of W_l - W0_l."""

    frobenius: np.ndarray
    spectral: np.ndarray
    frobenius_distance: np.ndarray
    spectral_distance: np.ndarray


def reshaped(subject: Subject) -> Norms:
    """Compute norms with the spectral norm of the weight as a matrix."""
    return _norms([_squares(layer, matrix_norm) for layer in subject.layers])


def exact(subject: Subject) -> Norms:
    """Compute norms with the spectral norm of the convolution as a linear map; for a linear layer that is the matrix."""
    known = subject.once(reshaped)
    matrices = np.stack([known.frobenius, known.spectral, known.frobenius_distance, known.spectral_distance], axis=1)
    linear = [isinstance(layer.module, nn.Linear) for layer in subject.layers]
    return _norms(
        [
            list(matrix) if flat else _squares(layer, partial(_map_norm, layer))
            for layer, matrix, flat in zip(subject.layers, matrices, linear, strict=True)
        ]
    )


def _squares(layer: Layer, spectral: Callable[[Tensor], float]) -> list[float]:
    """Compute the squared Frobenius and spectral norm of a layer's weight, then of its distance from initialization."""
    both = layer.weight, layer.weight - layer.initial
    return [square for weight in both for square in (weight.double().square().sum().item(), spectral(weight) ** 2)]


def _norms(rows: Sequence[Sequence[float]]) -> Norms:
    frobenius, spectral, frobenius_distance, spectral_distance = np.array(rows).T
    return Norms(frobenius, spectral, frobenius_distance, spectral_distance)


def _map_norm(layer: Layer, weight: Tensor) -> float:
    assert isinstance(layer.module, nn.Conv2d)
    dilation = layer.module.dilation
    if dilation != (1, 1):  # a dilated kernel is one with zeros between its entries
        spread = [step * (length - 1) + 1 for length, step in zip(weight.shape[2:], dilation, strict=True)]
        wide = weight.new_zeros(*weight.shape[:2], *spread)
        wide[:, :, :: dilation[0], :: dilation[1]] = weight
        weight = wide
    return convolution_norm(weight, layer.input_shape[1:], stride=layer.module.stride, groups=layer.module.groups)


_LAYERWISE = "biases, batch norms that could not be folded, skip connections, pooling, and how layers line up with each other and the data"
SpectralFunction = Callable[[Subject, Norms], float]


def _spectral_measure(name: str) -> Callable[[SpectralFunction], SpectralFunction]:
    """Register ``name`` with the reshaped spectral norm and ``name_fft`` with the exact one."""

    def register(function: SpectralFunction) -> SpectralFunction:
        def with_matrices(subject: Subject) -> float:
            return function(subject, subject.once(reshaped))

        def with_maps(subject: Subject) -> float:
            return function(subject, subject.once(exact))

        with_matrices.__doc__ = function.__doc__
        with_maps.__doc__ = f"{function.__doc__}\n    Here |.|_2 is the exact norm of the convolution, by FFT (Sedghi et al. 2019)."
        measure(name, cost="an eigenvalue problem a layer", cheap=True, ignores=_LAYERWISE)(with_matrices)
        measure(f"{name}_fft", cost="an eigenvalue problem a layer and frequency", cheap=True, ignores=_LAYERWISE)(with_maps)
        return function

    return register


@measure("l2_norm", cost="a pass over the weights", cheap=True, ignores=_LAYERWISE)
def l2_norm(subject: Subject) -> float:
    """sqrt(v/n), v = |w|, the Euclidean norm of all weights.

    Source: the code of Dziugaite et al. 2020, which takes the norm here and its square in `parameter_norm`.
    """
    return root_per_sample(subject.once(squared_norm) ** 0.5, subject.samples)


@measure("l2_distance", cost="a pass over the weights", cheap=True, ignores=_LAYERWISE)
def l2_distance(subject: Subject) -> float:
    """sqrt(v/n), v = |w - w0|, the Euclidean distance from initialization.

    Source: the code of Dziugaite et al. 2020.
    """
    return root_per_sample(subject.once(squared_distance) ** 0.5, subject.samples)


@measure("parameter_norm", cost="a pass over the weights", cheap=True, ignores=_LAYERWISE)
def parameter_norm(subject: Subject) -> float:
    """sqrt(v/n), v = sum_l |W_l|_F^2. Source: Jiang et al. 2020, eq. 42."""
    return root_per_sample(subject.once(squared_norm), subject.samples)


@measure("frobenius_distance", cost="a pass over the weights", cheap=True, ignores=_LAYERWISE)
def frobenius_distance(subject: Subject) -> float:
    """sqrt(v/n), v = sum_l |W_l - W0_l|_F^2. Source: Jiang et al. 2020, eq. 40."""
    return root_per_sample(subject.once(squared_distance), subject.samples)


@_spectral_measure("spectral_distance")
def spectral_distance(subject: Subject, norms: Norms) -> float:
    """sqrt(v/n), v = sum_l |W_l - W0_l|_2^2. Source: Jiang et al. 2020, eq. 41."""
    return root_per_sample(norms.spectral_distance.sum(), subject.samples)


@measure("log_prod_frobenius", cost="a pass over the weights", cheap=True, ignores=_LAYERWISE)
def log_prod_frobenius(subject: Subject) -> float:
    """(v - log n)/2, v = sum_l log |W_l|_F^2. Source: Jiang et al. 2020, eq. 37."""
    return _half_log(_log_product(_frobenius(subject)), subject)


@measure("log_prod_frobenius_over_margin", cost="a pass over the weights, one forward pass", cheap=True, ignores=_LAYERWISE)
def log_prod_frobenius_over_margin(subject: Subject) -> float:
    """(v - log n)/2, v = sum_l log |W_l|_F^2 - 2 log gamma. Source: Jiang et al. 2020, eq. 36."""
    return _half_log(_log_product(_frobenius(subject)) - _log_squared_margin(subject), subject)


@measure("log_sum_frobenius", cost="a pass over the weights", cheap=True, ignores=_LAYERWISE)
def log_sum_frobenius(subject: Subject) -> float:
    """(v - log n)/2, v = log L + (1/L) sum_l log |W_l|_F^2. Source: Jiang et al. 2020, eq. 39."""
    return _half_log(_log_sum(_frobenius(subject)), subject)


@measure("log_sum_frobenius_over_margin", cost="a pass over the weights, one forward pass", cheap=True, ignores=_LAYERWISE)
def log_sum_frobenius_over_margin(subject: Subject) -> float:
    """(v - log n)/2, v = log L + (1/L) (sum_l log |W_l|_F^2 - 2 log gamma). Source: Jiang et al. 2020, eq. 38."""
    return _half_log(_log_sum(_frobenius(subject), _log_squared_margin(subject)), subject)


@_spectral_measure("log_prod_spectral")
def log_prod_spectral(subject: Subject, norms: Norms) -> float:
    """(v - log n)/2, v = sum_l log |W_l|_2^2. Source: Jiang et al. 2020, eq. 32."""
    return _half_log(_log_product(norms.spectral), subject)


@_spectral_measure("log_prod_spectral_over_margin")
def log_prod_spectral_over_margin(subject: Subject, norms: Norms) -> float:
    """(v - log n)/2, v = sum_l log |W_l|_2^2 - 2 log gamma. Source: Jiang et al. 2020, eq. 31."""
    return _half_log(_log_product(norms.spectral) - _log_squared_margin(subject), subject)


@_spectral_measure("log_sum_spectral")
def log_sum_spectral(subject: Subject, norms: Norms) -> float:
    """(v - log n)/2, v = log L + (1/L) sum_l log |W_l|_2^2. Source: Jiang et al. 2020, eq. 35."""
    return _half_log(_log_sum(norms.spectral), subject)


@_spectral_measure("log_sum_spectral_over_margin")
def log_sum_spectral_over_margin(subject: Subject, norms: Norms) -> float:
    """(v - log n)/2, v = log L + (1/L) (sum_l log |W_l|_2^2 - 2 log gamma). Source: Jiang et al. 2020, eq. 34."""
    return _half_log(_log_sum(norms.spectral, _log_squared_margin(subject)), subject)


@_spectral_measure("frobenius_over_spectral")
def frobenius_over_spectral(subject: Subject, norms: Norms) -> float:
    """sqrt(v/n), v = sum_l |W_l|_F^2 / |W_l|_2^2, the sum of stable ranks. Source: Jiang et al. 2020, eq. 33."""
    return root_per_sample((norms.frobenius / norms.spectral).sum(), subject.samples)


@_spectral_measure("log_spectral_orig")
def log_spectral_orig(subject: Subject, norms: Norms) -> float:
    """(v - log n)/2, v = sum_l log |W_l|_2^2 - 2 log gamma + log sum_l |W_l|_F^2 / |W_l|_2^2.

    The main term of the bound of Bartlett, Foster and Telgarsky 2017. Source: Jiang et al. 2020, eq. 30.
    """
    ranks = (norms.frobenius / norms.spectral).sum()
    return _half_log(_log_product(norms.spectral) - _log_squared_margin(subject) + np.log(ranks), subject)


@_spectral_measure("log_spectral_init")
def log_spectral_init(subject: Subject, norms: Norms) -> float:
    """(v - log n)/2, v = sum_l log |W_l|_2^2 - 2 log gamma + log sum_l |W_l - W0_l|_F^2 / |W_l|_2^2.

    As `log_spectral_orig`, from the distance to initialization. Source: Jiang et al. 2020, eq. 29.
    """
    moved = (norms.frobenius_distance / norms.spectral).sum()
    return _half_log(_log_product(norms.spectral) - _log_squared_margin(subject) + np.log(moved), subject)


@measure("path_norm", cost="one forward pass of one sample", cheap=True, ignores="data, labels and which paths are ever active together")
def path_norm(subject: Subject) -> float:
    """sqrt(v/n), v the sum over all paths from an input or bias to an output of the product of squared weights along the path.

    Computed as the sum of outputs of the network with all parameters squared on an input of ones. Source: Jiang et al. 2020, eq. 44.

    Counts the biases and the scale of batch norms. Unchanged when a ReLU unit's inputs are scaled and its outputs scaled back.
    Max pooling passes its largest path sum only. Not a path norm where units are not piecewise linear (local response
    normalization); for random features, the one of the readout. NaN with another `model.activation` than rectifiers.
    """
    return root_per_sample(subject.once(squared_path_norm), subject.samples)


@measure("path_norm_over_margin", cost="one forward pass", cheap=True, ignores="which paths are ever active together")
def path_norm_over_margin(subject: Subject) -> float:
    """sqrt(v/n), v = (that of `path_norm`) / gamma^2. Source: Jiang et al. 2020, eq. 43."""
    return root_per_sample(subject.once(squared_path_norm) / subject.once(margin) ** 2, subject.samples)


def squared_norm(subject: Subject) -> float:
    """Compute |w|^2."""
    return float(_frobenius(subject).sum())


def squared_distance(subject: Subject) -> float:
    """Compute |w - w0|^2."""
    return sum((layer.weight - layer.initial).double().square().sum().item() for layer in subject.layers)


@torch.no_grad()
def squared_path_norm(subject: Subject) -> float:
    """Compute the v of `path_norm`, in double precision: products of squares over many layers soon leave single precision."""
    if is_replaced(subject.folded):
        return nan
    squared = copy.deepcopy(subject.folded).double()
    for parameter in squared.parameters():
        parameter.square_()
    return float(squared(torch.ones_like(subject.inputs[:1], dtype=torch.float64)).sum().item())


def _frobenius(subject: Subject) -> np.ndarray:
    return np.array([layer.weight.double().square().sum().item() for layer in subject.layers])


def _log_product(squares: np.ndarray) -> float:
    with np.errstate(divide="ignore"):
        return float(np.log(squares).sum())


def _log_sum(squares: np.ndarray, log_squared_margin: float = 0.0) -> float:
    return log(len(squares)) + (_log_product(squares) - log_squared_margin) / len(squares)


def _log_squared_margin(subject: Subject) -> float:
    return 2 * log(subject.once(margin))


def _half_log(value: float, subject: Subject) -> float:
    return (value - log(subject.samples)) / 2
