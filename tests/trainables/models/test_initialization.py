"""Weights at the start have the variance that their name promises, and a network differs from another of that seed in nothing else."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import pytest
import torch
from torch import Tensor, nn

from tests.trainables.made_up_points import alone, point, told, train
from trainables.models import build, family
from trainables.point.config import Model
from trainables.point.errors import ConfigError

SHAPE = (3, 28, 28)


def built(name: str = "mlp", **fields: object) -> nn.Module:
    return build(family(name).complete(replace(Model(name=name), **fields)), 0.0, SHAPE, 10, seed=3)  # type: ignore[arg-type]


def layers(module: nn.Module) -> list[nn.Linear | nn.Conv2d]:
    return [layer for layer in module.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]


VARIANCES = {
    "he": lambda fan_in, fan_out: 2 / fan_in,
    "lecun": lambda fan_in, fan_out: 1 / fan_in,
    "xavier": lambda fan_in, fan_out: 2 / (fan_in + fan_out),
    "pytorch": lambda fan_in, fan_out: 1 / (3 * fan_in),
}


@pytest.mark.parametrize("name", VARIANCES)
@pytest.mark.parametrize("scale", [None, 0.5])
@pytest.mark.parametrize("model", ["mlp", "alexnet_small"])
def test_weights_have_the_variance_of_their_initialization(name: str, scale: float | None, model: str) -> None:
    for layer in layers(built(model, initialization=name, initialization_scale=scale)):
        weight, area = layer.weight, prod(layer.weight.shape[2:])
        expected = VARIANCES[name](weight.shape[1] * area, weight.shape[0] * area) * (scale or 1.0) ** 2
        relative = 5 * (2 / weight.numel()) ** 0.5  # five standard errors of a normal's variance; a uniform's is less
        assert weight.square().mean().item() == pytest.approx(expected, rel=relative)
        assert bool(layer.bias.any()) == (name == "pytorch")


def test_by_default_the_convolutions_of_the_paper_start_as_xavier_and_other_layers_as_pytorch() -> None:
    first, *_, last = layers(built("alexnet_small"))
    limit = (6 / (25 * (first.weight.shape[0] + first.weight.shape[1]))) ** 0.5
    assert 0.95 * limit < first.weight.abs().max().item() <= limit
    assert not first.bias.any()
    assert last.bias.any()
    plain, scaled = built(), built(initialization_scale=2.0)
    assert all(torch.equal(2 * one.weight, other.weight) for one, other in zip(layers(plain), layers(scaled), strict=True))
    assert all(torch.equal(one.bias, other.bias) for one, other in zip(layers(plain), layers(scaled), strict=True))


def test_norms_stay_as_they_are() -> None:
    norms: list[Tensor] = [
        tensor
        for start in (None, "he")
        for layer in built("inception_small", width=8, initialization=start).modules()
        if isinstance(layer, nn.BatchNorm2d)
        for tensor in (layer.weight, layer.bias)
    ]
    half = len(norms) // 2
    assert half
    assert all(torch.equal(one, other) for one, other in zip(norms[:half], norms[half:], strict=True))


def test_a_pack_of_several_initializations_gives_what_each_gives_alone() -> None:
    shared = {"data.name": "synthetic", "data.dimension": 6, "data.classes": 3, "data.train_size": 60, "model.width": 8, "budget.epochs": 2}
    points = [point(shared | {"model.initialization": start}) for start in (None, *VARIANCES)]
    together = train(points, slots=len(points))
    assert len({result.outcome["train_loss"] for result in together.values()}) == len(points)
    for each in points:
        assert told(together[each.key()]) == alone(each)


def test_what_is_solved_has_no_initialization() -> None:
    with pytest.raises(ConfigError, match=r"model.initialization is for networks that are trained"):
        point({"model.name": "linear", "optimizer.name": "closed_form", "model.initialization": "he"})
