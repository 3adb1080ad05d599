"""The probe of the learning rate: what it depends on, what it chooses, and what it costs."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import numpy as np
import pytest
import torch

from trainables.data.inputs import point_data
from trainables.point.config import TrialConfig, with_fields
from trainables.probe import learning_rate
from trainables.probe.learning_rate import MULTIPLY_ADDS, Probe, group, probe, probed_points, steps_of
from trainables.resolution import resolve, work

SYNTHETIC = {"data.name": "synthetic", "data.dimension": 6, "data.classes": 3, "data.train_size": 200, "model.width": 20}
SIZES = ((20, 1), (1024, 2), (4096, 2), (4096, 30))


def point(**fields: object) -> TrialConfig:
    named = {name.replace("__", "."): value for name, value in fields.items()}
    return resolve(with_fields(TrialConfig(), SYNTHETIC | named))


def looked_at(*points: TrialConfig) -> list[TrialConfig]:
    found = group(points[0])
    assert found is not None
    return probed_points(found, points)


def group_of(**fields: object) -> str:
    found = group(point(**fields))
    assert found is not None
    return found.key()


@pytest.mark.parametrize(
    ("losses", "chosen"),
    [
        ({0.3: (2.0, 1.0), 0.1: (0.5, 0.5), 0.03: (1.0, 0.7)}, 0.1),
        ({0.3: (inf, 0.0), 0.1: (0.5, inf), 0.03: (2.0, 2.0)}, 0.03),  # a rate that diverges on either is none
        ({0.3: (2.2, 0.1), 0.1: (2.15, 0.5)}, 0.3),  # too small a network for random labels: the true ones decide
        ({0.3: (0.5, 0.5), 0.1: (0.51, 0.52), 0.03: (0.6, 0.5)}, 0.1),  # the smallest of those that are equally good
        ({0.3: (0.001, 0.0), 0.1: (0.008, 0.0), 0.03: (0.02, 0.0)}, 0.1),  # learnt is learnt
        ({3.0: (0.9, 0.0), 1.0: (0.02, 0.01)}, 1.0),  # true labels that are learnt do not outweigh random ones that are not
        ({0.3: (inf, inf)}, None),
        ({0.3: (0.1, 0.1, 9.0, 9.0), 0.1: (0.2, 0.2, 0.4, 0.4), 0.03: (0.4, 0.4, 0.4, 0.4)}, 0.1),  # two widths: near the best of both
        ({0.3: (0.1, 0.1, inf, 1.0), 0.1: (0.9, 0.9, 0.9, 0.9)}, 0.1),  # and no rate at which one of them diverges
        ({}, None),
    ],
)
def test_the_rate_of_the_lowest_loss_is_chosen(losses: dict[float, tuple[float, ...]], chosen: float | None) -> None:
    assert Probe(losses).chosen == chosen


@pytest.mark.parametrize(
    "shared",
    [
        {"seed": 5},
        {"data__seed": 3},
        {"data__validation_size": 20},
        {"corruption__level": 0.5},
        {"corruption__kind": "gaussian"},
        {"regularizers__weight_decay": 0.1, "regularizers__dropout": 0.5},
        {"optimizer__learning_rate": 0.7},
        {"optimizer__schedule": "step", "optimizer__decay": 0.5, "optimizer__decay_every": 7, "optimizer__warmup": 9},
        {"budget__epochs": 7, "budget__stop_at_train_error": None},
        {"model__width": 12},
        {"data__train_size": 250},
    ],
)
def test_points_that_share_data_and_network_share_the_rate(shared: dict[str, object]) -> None:
    assert group_of(**shared) == group_of()


@pytest.mark.parametrize(
    "other",
    [
        {"data__dimension": 7},
        {"model__depth": 2},
        {"model__name": "linear"},
        {"model__initialization_scale": 2.0},
        {"optimizer__name": "adam"},
        {"optimizer__batch_size": 64},
        {"optimizer__momentum": 0.0},
        {"optimizer__loss": "squared"},
    ],
)
def test_other_data_networks_and_optimizers_are_probed_for_themselves(other: dict[str, object]) -> None:
    assert group_of(**other) != group_of()


def test_what_is_solved_has_no_rate() -> None:
    assert group(point(model__name="linear", optimizer__name="closed_form")) is None


def test_the_rate_chosen_for_least_squares_is_below_the_bound_of_gradient_descent() -> None:
    """Full-batch gradient descent on a quadratic converges if and only if the rate is below 2 / the largest eigenvalue of its Hessian."""
    fields = {"model__name": "linear", "optimizer__loss": "squared", "optimizer__momentum": 0.0, "optimizer__batch_size": 128}
    (wanted,) = looked_at(point(data__train_size=128, data__separation=0.0, **fields))
    train = point_data(wanted, torch.device("cpu")).train
    inputs = train.inputs.gather(train.index).double().numpy()
    with_bias = np.hstack([inputs, np.ones((len(inputs), 1))])
    bound = 2 / np.linalg.eigvalsh(with_bias.T @ with_bias / len(inputs)).max()
    found = probe([wanted], torch.device("cpu"))
    assert found.chosen is not None
    assert bound / 100 < found.chosen < bound
    assert all(rate < 2 * bound for rate in found.losses)  # what diverges is no finalist


def test_the_narrowest_the_widest_and_one_between_are_probed() -> None:
    found = looked_at(*(point(model__width=width, data__train_size=size) for width in (3, 9, 30, 100, 300) for size in (50, 200)))
    assert [(one.model.width, one.data.train_size) for one in found] == [(3, 200), (30, 200), (300, 200)]


def test_a_probe_keeps_to_its_multiply_adds_or_is_not_made() -> None:
    (small,), (middle,), (large,), (huge,) = (looked_at(point(model__width=width, model__depth=depth)) for width, depth in SIZES)
    assert steps_of(small) == learning_rate.STEPS
    assert learning_rate.FEWEST_STEPS < steps_of(middle) < learning_rate.STEPS
    runs = len(learning_rate.LEVELS) * (4 + 6 / 4)
    assert runs * steps_of(middle) * work(replace(middle, data=replace(middle.data, train_size=128))) <= MULTIPLY_ADDS
    assert steps_of(large) == learning_rate.FEWEST_STEPS
    assert steps_of(huge) == 0
    assert probe([huge], torch.device("cpu")) == Probe({}, "its runs would take long")
