"""Generalized cross-validation: against leaving out in earnest, and against the measured risk on pure noise."""

from __future__ import annotations

import pytest
import torch

from trainables.data.inputs import point_data
from trainables.data.sets.sources import load
from trainables.least_squares.closed_form import linear_regression
from trainables.point.config import TrialConfig, with_fields
from trainables.predictions import OutOfRegime
from trainables.predictions.cross_validation import left_out, predict_generalized, predict_left_out
from trainables.resolution import resolve


@pytest.mark.parametrize(("columns", "ridge"), [(120, 30.0), (300, 0.0), (1200, 0.0)])
def test_it_is_the_measured_risk_on_pure_noise_within_three_percent(columns: int, ridge: float) -> None:
    draw = torch.Generator().manual_seed(columns)
    features, noise = (torch.randn(600, some, generator=draw, dtype=torch.float64) for some in (columns, 200))
    found = left_out(features @ features.T, noise, ridge)
    solution = linear_regression(features, noise, ridge=ridge)
    measured = 200 + float(solution.coefficients.square().sum())  # of a fresh sample: its own noise, and |w|^2 for isotropic inputs
    assert float(found.generalized.square().sum(1).mean()) == pytest.approx(measured, rel=0.03)
    assert float(found.one.square().sum(1).mean()) == pytest.approx(measured, rel=0.03)
    assert found.freedom > 100
    assert ridge or columns > 600 or found.freedom == pytest.approx(600 - columns)


@pytest.mark.parametrize(("columns", "ridge"), [(30, 5.0), (30, 0.0), (200, 0.0)])
def test_leaving_one_out_is_what_it_says(columns: int, ridge: float) -> None:
    draw = torch.Generator().manual_seed(0)
    features, targets = (torch.randn(60, some, generator=draw, dtype=torch.float64) for some in (columns, 2))
    found = left_out(features @ features.T, targets, ridge)
    for one in (0, 7):
        others = torch.arange(60) != one
        weights = linear_regression(features[others], targets[others], ridge=ridge).coefficients
        torch.testing.assert_close(targets[one] - features[one] @ weights, found.one[one], rtol=1e-6, atol=1e-6)


def solved(**fields: object) -> TrialConfig:
    same = {"data.name": "digits", "data.train_size": 200, "optimizer.name": "closed_form"}
    return resolve(with_fields(TrialConfig(), same | {name.replace("__", "."): value for name, value in fields.items()}))


def test_the_labels_compared_with_are_the_true_ones() -> None:
    """Leaving out in earnest, of a ridge fit on labels of which half are redrawn."""
    point = solved(model__name="linear", regularizers__weight_decay=0.1, corruption__level=0.5)
    data = point_data(point, torch.device("cpu"))
    inputs, true = data.train.inputs.gather(data.train.index).double(), load(point.data).train_labels[data.train.index]
    trained, target = (torch.nn.functional.one_hot(some, 10).double() for some in (data.train.labels, true))
    losses = []
    for one in range(200):
        others = torch.arange(200) != one
        weights = linear_regression(inputs[others], trained[others], ridge=20.0).coefficients
        losses.append((inputs[one] @ weights - target[one]).square().sum() / 2)
    assert (data.train.labels != true).any()
    assert predict_left_out(point, {})["test_loss"] == pytest.approx(float(torch.stack(losses).mean()), rel=1e-6)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"model__name": "random_features", "model__width": 190}, "leaves 10 directions"),
        ({"model__name": "linear", "data__train_size": 40}, "40 are too few"),
        ({"model__name": "theorem1"}, "model theorem1 with optimizer closed_form is none"),
        ({"model__name": "mlp", "optimizer__name": "sgd"}, "model mlp with optimizer sgd is none"),
        ({"model__name": "gaussian_kernel"}, "gcv takes all samples to weigh alike, and at n = 200 they do not"),
    ],
)
def test_it_refuses_outside_its_regime(fields: dict[str, object], sentence: str) -> None:
    with pytest.raises(OutOfRegime, match=sentence):
        predict_generalized(solved(**fields), {})
