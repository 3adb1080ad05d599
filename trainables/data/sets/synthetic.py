"""The synthetic set: a mixture of Gaussians, one a class."""

from __future__ import annotations

from functools import cache

import torch

from trainables.data.sets.dataset import Dataset
from trainables.point.errors import ConfigError
from trainables.point.streams import generator

SYNTHETIC_SAMPLES = 10_000
"""Training samples, and test samples, of the synthetic set: a fixed pool that `train_size` takes its subset from."""
_MOST_NUMBERS = 2**28
"""Numbers of its pool: 2 GiB while it is made."""


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
