"""Where a theory holds: the refusal, and what several theories ask of a point."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trainables.data.corruption import labels_of
from trainables.data.inputs import point_data
from trainables.data.protocol import PointData
from trainables.data.sets.sources import load
from trainables.least_squares.solving import Design
from trainables.models import family
from trainables.point.config import TrialConfig
from trainables.point.fit import is_regression

LARGEST = 4096
"""Most samples whose kernel matrix a theory takes apart: some 20 seconds on two cores."""
MOST_TESTED = 4096
"""Most test samples that an expectation is a mean over; of more, so many spread evenly."""


class OutOfRegime(ValueError):  # noqa: N818 - what the user reads it as
    """A theory does not hold for a point: one sentence that says why, and where it would hold."""


def designed(point: TrialConfig, theory: str) -> tuple[PointData, Design]:
    """The data of a resolved point, and what it regresses on it.

    Raises:
        OutOfRegime: its targets are numbers, it is trained, or not solved by least squares, or has more than `LARGEST` samples.
    """
    solver = family(point.model.name).solver
    if is_regression(point):
        raise OutOfRegime(f"{theory} is asked here of one-hot labels, and the targets of {point.data.name} are numbers")
    if not point.is_solved or solver is None or solver.design is None:
        raise OutOfRegime(
            f"{theory} is about least squares in closed form, and model {point.model.name} with optimizer {point.optimizer.name} is none"
        )
    if (point.data.train_size or 0) > LARGEST:
        raise OutOfRegime(f"{theory} takes the kernel matrix of the training samples apart, which is done for up to {LARGEST:,} of them")
    data = point_data(point, torch.device("cpu"))
    return data, solver.design(point, data)


def spread_evenly(samples: int, most: int = MOST_TESTED) -> Tensor:
    """The indices of at most `most` of so many test samples."""
    return torch.linspace(0, samples - 1, min(samples, most)).round().long()


def test_targets(data: PointData) -> Tensor:
    """The one-hot labels of the test samples, (m, classes) float64."""
    return nn.functional.one_hot(data.test.labels, data.classes).double()


def true_targets(point: TrialConfig, data: PointData) -> Tensor:
    """The one-hot labels that the training samples have before they are corrupted, (n, classes) float64."""
    labels = data.train.labels
    if not point.corruption.of_pixels:
        labels = labels_of(load(point.data), point.corruption)[0][data.train.index]
    return nn.functional.one_hot(labels, data.classes).double()
