"""The kernel scale of random features, by the median heuristic: the median distance between two training samples.

The usual choice where nothing is known (Garreau, Jitkrittum and Kanagawa 2017, "Large sample analysis of the median heuristic"): the
Gaussian kernel exp(-|x - x'|^2 / (2 scale^2)) is then exp(-1/2) for half of all pairs. A much smaller scale makes every sample unlike
every other, and a much larger one makes all alike.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import torch

from trainables.data.inputs import point_data
from trainables.data.sets.sources import load
from trainables.point.config import Model, TrialConfig
from trainables.resolution import resolve

ON_INPUTS = ("random_features", "gaussian_kernel")
"""The families whose kernel compares inputs as they are."""
SAMPLES = 1_000
"""Training samples whose distances are looked at, as many as there are at most."""
_DIGITS = 3
"""Significant digits kept, so that the rounding of a processor does not show in a key."""


def group(point: TrialConfig) -> TrialConfig | None:
    """What the scale of a resolved point depends on: data and preprocessing; None where the model has no kernel on its inputs."""
    if point.model.name not in ON_INPUTS or point.data.streamed:
        return None
    size = min(SAMPLES, len(load(point.data).train_labels))  # however many a point trains on: one study, one kernel
    data = replace(point.data, train_size=size, validation_size=0, seed=0, replaced=None, left_out=None)
    return _resolved(TrialConfig(data=data, model=Model(name="random_features", width=1)))


@lru_cache(maxsize=4096)
def _resolved(point: TrialConfig) -> TrialConfig:
    return resolve(point)


def median_distance(point: TrialConfig) -> float:
    """The median Euclidean distance between two training inputs of a group, to three digits; 1 where all are the same."""
    train = point_data(point, torch.device("cpu")).train
    inputs = train.inputs.gather(train.index).double()
    distances = torch.pdist(inputs)
    median = distances.median().item() if distances.numel() else 0.0
    return float(f"{median:.{_DIGITS}g}") or 1.0
