"""The space of regularizers and its conditions: what is asked for, when, and what is wrong with a condition."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from search_spaces.axes import Distribution, Values
from search_spaces.conditional import SWITCH, in_order, suggest
from search_spaces.regularizers import REGULARIZERS, STRENGTHS, regularizer_axes
from search_spaces.space import Space
from study.spec.reading import understand
from trainables.point.config import Data, Model, Optimizer, TrialConfig, field_types
from trainables.point.errors import ConfigError

DECAY, SCHEDULE, MIXUP = "optimizer.decay", "optimizer.schedule", "regularizers.mixup"


class Scripted:
    """Answers categorical questions from a script, others with their lower bound, and notes every question."""

    def __init__(self, script: Mapping[str, Any]) -> None:
        self.script, self.asked = script, list[str]()

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        self.asked.append(name)
        return low

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        self.asked.append(name)
        return low

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        self.asked.append(name)
        return self.script.get(name, choices[0])


def ask(space: Space, **script: Any) -> tuple[dict[str, Any], list[str]]:
    asker = Scripted(script)
    return suggest(asker, space.axes, space.conditions, space.switches, {}), asker.asked


def space_of(space: dict[str, Any], **trial: Any) -> Space:
    return understand({"study": "made-up", "trial": trial, "space": space}).space


@pytest.mark.parametrize("family", STRENGTHS)
def test_every_strength_is_asked_for_exactly_when_its_switch_is_on(family: str) -> None:
    space = space_of({"regularizers": "all"}, model={"name": family}, data={"name": "cifar10", "validation_size": 10})
    for settings in itertools.product((False, True), repeat=len(space.switches)):
        script = dict(zip(space.switches, settings, strict=True))
        chosen, asked = ask(space, **script)
        assert not chosen.keys() & set(space.switches)
        for name, condition in space.conditions.items():
            switch = next(iter(condition))
            if switch in script:
                assert (name in asked) == (name in chosen) == script[switch]


def test_only_what_the_architecture_and_the_data_have_is_in_all() -> None:
    def fields(model: str, data: str) -> set[str]:
        return set(regularizer_axes("all", TrialConfig(model=Model(name=model), data=Data(name=data))))

    assert "regularizers.dropout" not in fields("linear", "cifar10")
    assert "model.batch_norm" in fields("resnet18", "cifar10") - fields("mlp", "cifar10")
    assert "regularizers.flip" in fields("mlp", "cifar10") - fields("mlp", "digits")
    assert not {"regularizers.crop", "regularizers.flip"} & fields("mlp", "synthetic")


def test_ranges_follow_the_architecture_and_the_optimizer() -> None:
    def rates(model: str, optimizer: str) -> Any:
        trial = TrialConfig(model=Model(name=model), optimizer=Optimizer(name=optimizer))  # type: ignore[arg-type]
        return regularizer_axes(["learning_rate"], trial)["optimizer.learning_rate"]["log_uniform"]

    published = {"mlp": 0.01, "alexnet_small": 0.01, "inception_small": 0.1}  # Zhang et al. 2017, section 2
    for family, rate in published.items():
        found = rates(family, "sgd")
        assert found["low"] < rate < found["high"]
    assert rates("mlp", "adam")["high"] <= 0.01


def test_every_regularizer_names_fields_of_a_point_or_switches() -> None:
    trial = TrialConfig(data=Data(name="cifar10"), model=Model(name="resnet18"))
    for name in REGULARIZERS:
        axes = regularizer_axes([name], trial)
        assert set(axes) - {"switches"} <= set(field_types())
        assert {when for axis in axes.values() if isinstance(axis, dict) and isinstance(when := axis.get("when"), str)} == set(
            axes["switches"]
        )


def test_an_axis_that_the_spec_writes_goes_before_ours() -> None:
    own = {"uniform": {"low": 0.1, "high": 0.2}}
    space = space_of({"regularizers": ["dropout", "mixup"], "regularizers.dropout": own})
    assert space.axes["regularizers.dropout"] == Distribution("uniform", 0.1, 0.2)
    assert space.switches == ("use_mixup",)


@pytest.mark.parametrize(
    ("wanted", "trial", "says"),
    [
        ("some", {}, "must be all, or a list of weight_decay"),
        (["droput"], {}, "did you mean 'dropout'?"),
        (["dropout"], {"model": {"name": "linear"}}, "leave dropout out"),
        (["flip"], {"data": {"name": "synthetic"}}, "leave flip out"),
        (["early_stopping"], {"budget": {"epochs": 5}}, "at least 6 evaluations a run, and there are 5"),
        (["batch_norm"], {"model": {"name": "random_features"}}, "leave batch_norm out"),
    ],
)
def test_what_cannot_be_regularized_is_said(wanted: Any, trial: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=r"space\.regularizers") as caught:
        space_of({"regularizers": wanted}, **trial)
    assert says in str(caught.value)


def test_the_ranges_of_one_architecture_are_not_another_s() -> None:
    with pytest.raises(ConfigError, match=r"model\.name cannot vary"):
        space_of({"regularizers": "all", "model.name": {"values": ["mlp", "linear"]}})


@pytest.mark.parametrize(
    ("axes", "says"),
    [
        ({DECAY: {"uniform": {"low": 0.8, "high": 0.9}, "when": {SCHEDULE: "exponential"}}}, "which is not searched"),
        ({DECAY: {"uniform": {"low": 0.8, "high": 0.9}, "when": "use_decay"}}, "names use_decay, which is not searched"),
        (
            {SCHEDULE: {"choice": ["constant", "step"]}, DECAY: {"uniform": {"low": 0.8, "high": 0.9}, "when": {SCHEDULE: "cosine"}}},
            "wants optimizer.schedule = 'cosine', which it never is: its values are ['constant', 'step']",
        ),
        (
            {MIXUP: {"uniform": {"low": 0, "high": 1}}, DECAY: {"uniform": {"low": 0.8, "high": 0.9}, "when": {MIXUP: 0.5}}},
            "which has no listed values",
        ),
        (
            {
                SCHEDULE: {"choice": ["constant"], "when": {"optimizer.name": "sgd"}},
                "optimizer.name": {"choice": ["sgd"], "when": {SCHEDULE: "constant"}},
            },
            "wait for each other",
        ),
        ({DECAY: {"uniform": {"low": 0.8, "high": 0.9}, "when": 3}}, "must be a switch, or {FIELD: VALUE}"),
        ({"switches": ["use_mixup"], "seed": {"range": 2}}, "no `when:` asks for"),
        ({"switches": ["seed"]}, "names that are no fields"),
        ({"switches": "use_mixup"}, "must be a list of names"),
        ({"optimizer.dekay": {"uniform": {"low": 0.8, "high": 0.9}}}, "did you mean 'optimizer.decay'?"),
    ],
)
def test_a_condition_that_cannot_be_is_said(axes: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match="space") as caught:
        space_of(axes)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_axes_are_asked_after_what_they_wait_for_along_a_chain() -> None:
    axes = {"c": Values((1,)), "b": SWITCH, "a": SWITCH}
    order = in_order(axes, {"c": {"b": (True,)}, "b": {"a": (True,)}})
    assert order.index("a") < order.index("b") < order.index("c")


def test_a_grid_drops_fields_whose_condition_does_not_hold() -> None:
    space = space_of({SCHEDULE: {"values": ["constant", "step"]}, DECAY: {"values": [0.5, 0.9], "when": {SCHEDULE: "step"}}})
    found = {tuple(sorted(assignment.items())) for assignment in space.assignments()}
    assert found == {((SCHEDULE, "constant"),), ((DECAY, 0.5), (SCHEDULE, "step")), ((DECAY, 0.9), (SCHEDULE, "step"))}


def test_random_draws_heed_switches() -> None:
    written = {"switches": ["use_mixup"], MIXUP: {"uniform": {"low": 0.5, "high": 1}, "when": "use_mixup"}}
    spec = understand({"study": "made-up", "space": written, "search": {"kind": "random", "samples": 400}})
    drawn = spec.assignments()
    assert all(assignment.keys() <= {MIXUP} for assignment in drawn)
    assert 140 <= sum(MIXUP in assignment for assignment in drawn) <= 260  # 200 expected, six standard deviations of 10 each way


@pytest.mark.parametrize(("value", "varies"), [("exponential", True), ("constant", False)])
def test_a_field_fixed_for_good_decides_the_conditions_on_it(value: str, varies: bool) -> None:
    space = space_of({"regularizers": ["schedule", "mixup"]}).fixed({SCHEDULE: value})
    assert (DECAY in space.axes) == varies
    assert DECAY not in space.conditions
    assert space.conditions == {MIXUP: {"use_mixup": (True,)}}


def test_a_strength_fixed_for_good_needs_no_switch() -> None:
    space = space_of({"regularizers": ["dropout", "mixup"]}).fixed({MIXUP: 0.5})
    assert space.switches == ("use_dropout",)
    assert "use_mixup" not in space.axes
