"""What takes the place of rectifiers: PyTorch's own functions and their derivatives, in every family that has rectifiers."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from tests.trainables.made_up_points import alone, point, told, train
from trainables.measures import Subject
from trainables.measures.bundled.counts import vc_bound, vc_dimension
from trainables.measures.bundled.norms import path_norm
from trainables.models import build, family, parameter_count
from trainables.models.activations import ACTIVATIONS
from trainables.point.config import Model
from trainables.point.errors import ConfigError

SHAPE = (1, 8, 8)
PYTORCHS = {"gelu": nn.functional.gelu, "silu": nn.functional.silu, "tanh": torch.tanh}


def built(name: str, activation: str | None, **fields: object) -> nn.Module:
    model = family(name).complete(Model(name=name, width=4))
    return build(replace(model, activation=activation, **fields), 0.0, SHAPE, 3, seed=3)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_derivatives_are_those_of_autograd(name: str) -> None:
    inputs = torch.linspace(-6, 6, 401, dtype=torch.float64, requires_grad=True)
    outputs = ACTIVATIONS[name].layer()(inputs)
    assert torch.equal(outputs, PYTORCHS[name](inputs))
    (expected,) = torch.autograd.grad(outputs.sum(), inputs)
    torch.testing.assert_close(ACTIVATIONS[name].derivative(inputs.detach()), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["mlp", "cnn5", "resnet18", "nin", "alexnet_small", "inception_small"])
def test_every_rectifier_of_a_family_is_replaced_and_nothing_else(name: str) -> None:
    plain, smooth = built(name, None), built(name, "tanh")
    kinds, other = ([type(layer) for layer in module.modules()] for module in (plain, smooth))
    tanh = ACTIVATIONS["tanh"].layer
    assert [tanh if kind is nn.ReLU else kind for kind in kinds] == other
    assert tanh in other
    assert all(torch.equal(value, smooth.state_dict()[part]) for part, value in plain.state_dict().items())


def test_relu_is_what_a_family_has() -> None:
    assert [type(layer) for layer in built("mlp", "relu").modules()] == [type(layer) for layer in built("mlp", None).modules()]
    model = family("mlp").complete(Model(name="mlp", width=4))
    assert parameter_count(replace(model, activation="gelu"), SHAPE, 3) == parameter_count(model, SHAPE, 3)


def test_what_has_no_rectifier_is_a_sentence() -> None:
    for name in ("linear", "random_features"):
        with pytest.raises(ConfigError, match=f"model.activation is gelu, but model {name} has no rectifier"):
            point({"model.name": name, "model.activation": "gelu", "data.train_size": 30})
    with pytest.raises(ConfigError, match=r"model.activation is for networks that are trained"):
        point({"model.name": "linear", "model.activation": "gelu", "optimizer.name": "closed_form"})


def test_such_points_train_in_packs_to_the_bits_that_they_have_alone(blobs: str) -> None:
    fields = {"data.name": blobs, "model.width": 5, "model.activation": "gelu", "budget.epochs": 3, "optimizer.batch_size": 7}
    points = [point(fields | {"seed": seed, "regularizers.dropout": rate}) for seed, rate in ((0, 0.0), (1, 0.3), (2, 0.0))]
    together = train(points, slots=3)
    assert [told(together[one.key()]) for one in points] == [alone(one) for one in points]
    (fitted,) = train([point(fields | {"budget.epochs": 60, "model.width": 32})]).values()
    assert fitted.outcome["train_error"] < 0.1


def test_measures_of_rectifier_networks_say_nothing_of_others() -> None:
    inputs, labels = torch.rand(20, *SHAPE), torch.arange(20) % 3
    for measure in (path_norm, vc_dimension, vc_bound):
        rectifying, smooth = (Subject(built("mlp", name), built("mlp", name), inputs, labels, 3) for name in (None, "gelu"))
        assert math.isfinite(measure(rectifying))
        assert math.isnan(measure(smooth))
