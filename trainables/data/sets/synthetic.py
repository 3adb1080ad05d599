"""Sets that are made on the fly: a mixture of Gaussians, one a class, and sequences of tokens whose label is computed from them.

Tokens are one-hot: a sequence of T tokens out of V is an "image" of T channels of 1 x V, so that any network takes it, and a linear layer
over its last axis is an embedding (`trainables.models.bundled.embedding_mlp`). `data.preprocessing: unit` leaves the 0 and 1 as they are.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from trainables.data.sets.dataset import Dataset
from trainables.point.config import Data
from trainables.point.errors import ConfigError
from trainables.point.streams import generator

SYNTHETIC_SAMPLES = 10_000
"""Training samples, and test samples, of the synthetic set: a fixed pool that `train_size` takes its subset from."""
_MOST_NUMBERS = 2**28
"""Numbers of its pool: 2 GiB while it is made."""
_TESTED = 5
"""One in so many sequences is for testing, where there are few enough to take all of them."""


def made_up(data: Data) -> Dataset:
    """The set that `data` names.

    Raises:
        ConfigError: it would not fit into memory.
    """
    if data.name == "modular_addition":
        return modular_addition(data.classes)
    if data.name == "parity":
        return parity(data.dimension)
    return synthetic(data.dimension, data.classes, data.separation)


@cache
def modular_addition(modulus: int) -> Dataset:
    """All pairs (a, b) of numbers below `modulus`, with the label (a + b) mod `modulus` (Power et al. 2022); a fifth of them, drawn
    once for all studies, is for testing.

    Raises:
        ConfigError: there are too many of them for memory.
    """
    if 2 * modulus**3 > _MOST_NUMBERS:
        raise ConfigError(f"data.classes is {modulus:,}: the pairs of modular_addition are made in memory, for a modulus of at most 512")
    numbers = torch.arange(modulus)
    pairs = torch.cartesian_prod(numbers, numbers)
    return _sequences(pairs, pairs.sum(1) % modulus, modulus, modulus, generator(0, "modular addition", modulus))


@cache
def parity(bits: int) -> Dataset:
    """Sequences of bits, with the label 1 where an odd number of them is 1: all there are up to 14 bits, with a fifth of them for testing;
    else as many random ones as the synthetic set has samples.

    Raises:
        ConfigError: one bit has no test sequence, or they would not fit into memory.
    """
    most = _MOST_NUMBERS // (4 * SYNTHETIC_SAMPLES)
    if not 3 <= bits <= most:
        raise ConfigError(f"data.dimension is {bits:,}: parity takes from 3 to {most:,} bits")
    draw = generator(0, "parity", bits)
    if 2**bits <= 2 * SYNTHETIC_SAMPLES:
        sequences = torch.cartesian_prod(*[torch.arange(2)] * bits)
    else:
        sequences = torch.randint(0, 2, (2 * SYNTHETIC_SAMPLES, bits), generator=draw)
    return _sequences(sequences, sequences.sum(1) % 2, 2, 2, draw)


def _sequences(tokens: Tensor, labels: Tensor, vocabulary: int, classes: int, draw: torch.Generator) -> Dataset:
    """Sequences (n, T) of tokens in [0, vocabulary) as one-hot images, split once for all studies."""
    images = torch.nn.functional.one_hot(tokens, vocabulary)[:, :, None].float()
    order = torch.randperm(len(labels), generator=draw)
    test, train = torch.tensor_split(order, [len(labels) // _TESTED])
    facts = (("tokens", f"{tokens.shape[1]} of {vocabulary}, one-hot"),)
    return Dataset(images[train], labels[train], images[test], labels[test], classes, facts=facts)


@cache
def synthetic(dimension: int, classes: int, separation: float) -> Dataset:
    """A mixture of `classes` Gaussians N(mu_c, I) in `dimension` dimensions, as 1 x 1 x dimension "images".

    The means lie on random directions at distance separation/sqrt(2) from the origin: two of them are `separation`
    apart when the directions are orthogonal (made so where dimension >= classes).

    Raises:
        ConfigError: it would not fit into memory.
    """
    if classes > SYNTHETIC_SAMPLES:
        raise ConfigError(f"data.classes is {classes:,}: the synthetic set has {SYNTHETIC_SAMPLES:,} samples, so at most as many classes")
    if (most := _MOST_NUMBERS // (2 * SYNTHETIC_SAMPLES)) < dimension:
        raise ConfigError(f"data.dimension is {dimension:,}: the synthetic set is made in memory, with at most {most:,} dimensions")
    draw = generator(0, "synthetic", dimension, classes)
    directions = torch.randn(classes, dimension, generator=draw, dtype=torch.float64)
    if dimension >= classes:
        directions = torch.linalg.qr(directions.T).Q.T
    means = torch.nn.functional.normalize(directions) * (separation / 2**0.5)
    labels = torch.arange(2 * SYNTHETIC_SAMPLES) % classes
    points = (means[labels] + torch.randn(len(labels), dimension, generator=draw, dtype=torch.float64)).float()[:, None, None]
    return Dataset(points[:SYNTHETIC_SAMPLES], labels[:SYNTHETIC_SAMPLES], points[SYNTHETIC_SAMPLES:], labels[SYNTHETIC_SAMPLES:], classes)
