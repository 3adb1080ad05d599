"""The maximal update parameterization: Table 3 of Yang et al. 2021 by plain PyTorch, and how far activations move at any width."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.trainables.made_up_points import CPU, point, told, train
from trainables.data.inputs import point_data
from trainables.models import build
from trainables.point.config import TrialConfig
from trainables.point.errors import ConfigError
from trainables.point.streams import derive
from trainables.training.loop import Training

SHARED = {
    "data.name": "digits",
    "data.train_size": 64,
    "model.name": "mlp",
    "model.depth": 2,
    "model.parameterization": "mup",
    "optimizer.batch_size": 64,  # one batch an epoch, whatever the order
    "budget.stop_at_train_error": None,
}
ENGINES: dict[str, dict[str, Any]] = {
    "machine code": {},
    "batched products": {"model.activation": "tanh"},
    "modules": {"model.name": "cnn5", "model.depth": None, "model.batch_norm": False},
    "batch norm": {"model.batch_norm": True},
}
RULES: dict[str, dict[str, Any]] = {
    "sgd": {"optimizer.learning_rate": 0.1, "regularizers.weight_decay": 0.02},
    "nesterov": {"optimizer.learning_rate": 0.05, "optimizer.nesterov": True, "regularizers.decay_biases": True},
    "adam": {"optimizer.name": "adam", "optimizer.learning_rate": 0.003},
    "adamw": {"optimizer.name": "adamw", "optimizer.learning_rate": 0.003, "regularizers.weight_decay": 0.5},
}
NORMALIZED = [("adam", "batch norm"), ("adamw", "batch norm")]
"""Adam normalizes gradients that are 0 but for rounding, as those of biases before batch norm, so that every way of rounding differs."""


def start_of(config: TrialConfig) -> nn.Sequential:
    data = point_data(config, CPU)
    module = build(config.model, 0.0, data.image_shape, data.classes, seed=derive(config.seed, "initialization"))
    assert isinstance(module, nn.Sequential)
    return module


def trained(config: TrialConfig) -> nn.Sequential:
    """The network that gaplab trains."""
    training, module = Training([config], CPU, keeps=lambda _: True), start_of(config)
    while not training.finished:
        for result in training.epoch():
            assert result.network is not None
            module.load_state_dict(result.network.state)
    return module


def samples(config: TrialConfig) -> tuple[Tensor, Tensor]:
    train_data = point_data(config, CPU).train
    return train_data.inputs.gather(train_data.index), train_data.labels


def groups(module: nn.Module, config: TrialConfig, times: float) -> list[dict[str, Any]]:
    """Parameter groups by the rows of Table 3, written out: of a network that is `times` as wide as at the base."""
    sgd, rate = config.optimizer.name == "sgd", config.optimizer.learning_rate
    parameters = list(module.named_parameters())
    first, last = parameters[0][0], [name for name, one in parameters if one.dim() > 1][-1]
    found = []
    for name, parameter in parameters:
        if name == first:
            factor = times if sgd else 1.0  # input weights
        elif name == last:
            factor = 1 / times  # output weights
        elif parameter.dim() > 1:
            factor = 1.0 if sgd else 1 / times  # hidden weights
        else:
            factor = times if sgd and len(parameter) != 10 else 1.0  # biases and norms; the ten outputs are as many at any width
        decay = config.regularizers.weight_decay if parameter.dim() > 1 or config.regularizers.decay_biases else 0.0
        found.append({"params": [parameter], "lr": rate * factor, "weight_decay": decay / factor})
    return found


@pytest.mark.parametrize(("rule", "engine"), [pair for pair in product(RULES, ENGINES) if pair not in NORMALIZED])
def test_training_is_pytorchs_with_the_groups_of_table_3(rule: str, engine: str) -> None:
    config = point(SHARED | RULES[rule] | ENGINES[engine] | {"model.width": 24, "model.base_width": 8, "budget.epochs": 5})
    module, (inputs, labels) = start_of(config), samples(config)
    each, optimizer = groups(module, config, 3.0), config.optimizer
    rules: dict[str, Any] = {
        "sgd": lambda: torch.optim.SGD(each, momentum=optimizer.momentum, nesterov=optimizer.nesterov),
        "adam": lambda: torch.optim.Adam(each),
        "adamw": lambda: torch.optim.AdamW(each),
    }
    stepped = rules[optimizer.name]()
    for _ in range(config.budget.epochs):
        stepped.zero_grad()
        nn.functional.cross_entropy(module.train()(inputs.reshape(-1, 1, 8, 8)), labels).backward()
        stepped.step()
    ours = trained(config)
    for (name, found), expected in zip(ours.named_parameters(), module.parameters(), strict=True):
        moved = (expected - dict(start_of(config).named_parameters())[name]).norm() + 1e-3
        assert ((found - expected).norm() / moved).item() < 1e-3, name


def moves(config: TrialConfig) -> list[float]:
    """How far training moves what each linear layer gives for the training samples: the root mean square of the change."""
    before, after = start_of(config), trained(config)
    inputs = samples(config)[0].reshape(-1, 1, 8, 8)
    found = []
    with torch.no_grad():
        for index, layer in enumerate(before):
            if isinstance(layer, nn.Linear):
                change = after[: index + 1](inputs) - before[: index + 1](inputs)
                found.append(change.square().mean().sqrt().item())
    return found


WIDTHS = (64, 256, 1024)


def slopes(rule: str, **fields: Any) -> list[float]:
    """By which power of the width training moves each layer: least squares in logarithms, of two seeds."""
    wide = [
        point(SHARED | RULES[rule] | {"model.base_width": 64, "model.width": width, "budget.epochs": 4, "seed": seed} | fields)
        for width in WIDTHS
        for seed in (0, 1)
    ]
    logs = np.log([moves(one) for one in wide])
    return np.polyfit(np.log([one.model.width for one in wide]), logs, 1)[0].tolist()


PLAIN = {"regularizers.weight_decay": 0.0}
STANDARD = PLAIN | {"model.parameterization": "standard"}


@pytest.mark.parametrize("rule", ["sgd", "adam"])
def test_activations_move_as_far_at_any_width(rule: str) -> None:
    """The coordinate check (Yang et al. 2021, section D.1)."""
    assert max(map(abs, slopes(rule, **PLAIN))) < 0.1


def test_the_standard_parameterization_moves_layers_by_powers_of_the_width() -> None:
    """What mup mends: the first layer moves less and less under SGD, the outputs more and more, and all the more so under Adam."""
    first, *_, outputs = slopes("sgd", **STANDARD)
    assert first < -0.4
    assert outputs > 0.5
    assert slopes("adam", **STANDARD)[-1] > 1


def test_the_best_learning_rate_is_that_of_another_width() -> None:
    """Random labels, ten epochs of Adam: under mup the same of these rates, half a decade apart, is best at four times the width."""

    def best(parameterization: str, width: int) -> float:
        fields = SHARED | {
            **{"model.base_width": 128, "model.width": width, "model.parameterization": parameterization, "data.train_size": 256},
            **{"optimizer.name": "adam", "corruption.level": 1.0, "budget.epochs": 10, "budget.evaluate_every": 10},
        }
        points = [point(fields | {"optimizer.learning_rate": rate}) for rate in (0.03, 0.01, 0.003, 0.001)]
        results = train(points)
        return min(points, key=lambda one: results[one.key()].outcome["train_loss"]).optimizer.learning_rate

    assert best("standard", 128) == best("mup", 128) == best("mup", 512)
    assert best("standard", 512) < best("standard", 128)


@pytest.mark.parametrize("initialization", [None, "he", "lecun"])
def test_outputs_start_the_smaller_the_wider_and_nothing_else_does(initialization: str | None) -> None:
    def layers(**fields: Any) -> list[nn.Linear]:
        config = point(SHARED | {"model.width": 512, "model.initialization": initialization} | fields)
        return [layer for layer in start_of(config) if isinstance(layer, nn.Linear)]

    ours, standard = layers(**{"model.base_width": 32}), layers(**{"model.parameterization": "standard"})
    for layer, other, weight, bias in zip(ours, standard, (1, 1, 1 / 4), (1, 4, 4), strict=True):
        torch.testing.assert_close(layer.weight, other.weight * weight)
        torch.testing.assert_close(layer.bias, other.bias * bias)


@pytest.mark.parametrize("rule", ["sgd", "adamw"])
def test_at_the_base_width_it_is_the_standard_parameterization(rule: str) -> None:
    fields = SHARED | RULES[rule] | {"model.width": 12, "budget.epochs": 3}
    first, second = (
        next(iter(train([point(fields | more)]).values())) for more in ({"model.base_width": 12}, {"model.parameterization": "standard"})
    )
    assert [told(first)[index] for index in (1, 2)] == [told(second)[index] for index in (1, 2)]
    losses = [[row["train_loss"] for row in result.curve] for result in (first, second)]
    assert losses[0] == losses[1]


def test_keys_are_as_they_were_without_it_and_others_with_it() -> None:
    plain = point({"model.width": 16})
    key = plain.key()
    assert point({"model.width": 16, "model.parameterization": "standard", "model.base_width": 8}).key() == key
    keys = {point({"model.width": 16, "model.parameterization": "mup", "model.base_width": base}).key() for base in (None, 8, 512)}
    assert len(keys) == 2  # the mlp's own default width is 512
    assert key not in keys
    assert point({"model.width": 16, "model.base_width": 8}).signature() == plain.signature()
    assert point({"model.width": 16, "model.parameterization": "mup"}).signature() != plain.signature()


def test_members_of_a_pack_have_what_each_has_alone() -> None:
    fields = SHARED | {"model.width": 10, "model.base_width": 5, "budget.epochs": 3}
    points = [point(fields | {"seed": seed, "optimizer.learning_rate": rate}) for seed, rate in ((0, 0.1), (1, 0.03))]
    together = train(points, slots=2)
    for each in points:
        assert told(together[each.key()]) == told(train([each])[each.key()])


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {"model.name": "transformer"},
            "which is not for model transformer: it is for cnn5, embedding_mlp, mlp, nin, resnet18, and for your own",
        ),
        ({"model.name": "linear", "optimizer.name": "closed_form"}, "closed_form solves this point"),
        ({"model.initialization": "xavier"}, "use he, lecun or pytorch"),
        ({"optimizer.name": "adam", "regularizers.weight_decay": 0.1}, "use optimizer.name adamw, or sgd"),
    ],
)
def test_what_it_is_not_for_is_refused_in_a_sentence(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=r"^model\.parameterization is mup") as raised:
        point({"model.parameterization": "mup"} | fields)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)
