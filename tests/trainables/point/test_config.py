"""Keys: equal where results are equal, different where they differ; ranges; the flat form of a point."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import fields
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trainables.made_up_points import alone, point
from trainables.point import config, kinds
from trainables.point.config import GROUPS, Corruption, TrialConfig, field_types, flatten, with_fields
from trainables.point.errors import ConfigError

RESOLVED: dict[str, Any] = {
    "data.train_size": 30,
    "data.seed": 1,
    "corruption.level": 0.0,
    "corruption.seed": 2,
    "model.width": 4,
    "model.depth": 1,
    "model.batch_norm": False,
}

# Every field, once in a setting where another value changes the result: {field: (setting, value, other value)}.
MATTERS: dict[str, tuple[dict[str, Any], Any, Any]] = {
    "data.name": ({}, "npz", "digits"),
    "data.train_size": ({}, 30, 31),
    "data.validation_size": ({}, 10, 11),
    "data.preprocessing": ({}, "standardize", "paper"),
    "data.seed": ({}, 1, 2),
    "data.dimension": ({"data.name": "synthetic"}, 3, 4),
    "data.classes": ({"data.name": "synthetic", "data.dimension": 3}, 2, 3),
    "data.separation": ({"data.name": "synthetic", "data.dimension": 3}, 1.0, 1.5),
    "data.replaced": ({"data.train_size": 30}, None, 3),
    "data.left_out": ({"data.train_size": 30}, None, "3,17"),
    "corruption.kind": ({"corruption.level": 1.0}, "redraw", "flip"),
    "corruption.level": ({}, 0.5, 0.75),
    "corruption.seed": ({"corruption.level": 0.5}, 2, 3),
    "model.name": ({"model.width": 1}, "mlp", "linear"),
    "model.width": ({}, 4, 5),
    "model.depth": ({}, 1, 2),
    "model.batch_norm": ({}, False, True),
    "corruption.transition": (
        {"corruption.kind": "class_conditional", "corruption.level": 1.0},
        "pair_flip",
        "[[0.5, 0.5, 0], [0, 1, 0], [0, 0, 1]]",
    ),
    "corruption.validation": ({"corruption.level": 0.5, "data.validation_size": 9}, None, "noisy"),
    "model.kernel_scale": ({"model.name": "random_features"}, 5.0, 2.0),
    "model.parameterization": ({}, None, "mup"),
    "model.base_width": ({"model.parameterization": "mup"}, 4, 8),
    "model.activation": ({}, None, "tanh"),
    "model.initialization": ({}, None, "he"),
    "model.initialization_scale": ({}, 1.0, 2.0),
    "regularizers.weight_decay": ({}, 0.0, 0.1),
    "regularizers.decay_biases": ({"regularizers.weight_decay": 0.1}, False, True),
    "regularizers.dropout": ({}, 0.25, 0.5),
    "regularizers.crop": ({}, 0, 1),
    "regularizers.flip": ({}, False, True),
    "regularizers.label_smoothing": ({}, 0.0, 0.1),
    "regularizers.mixup": ({}, 0.5, 1.0),
    "regularizers.gradient_clip": ({}, None, 0.1),
    "regularizers.early_stopping": ({"data.validation_size": 9, "optimizer.learning_rate": 1e-6}, 1, 2),
    "optimizer.name": ({}, "sgd", "adam"),
    "optimizer.learning_rate": ({}, 0.1, 0.2),
    "optimizer.momentum": ({}, 0.9, 0.5),
    "optimizer.nesterov": ({}, False, True),
    "optimizer.batch_size": ({}, 8, 9),
    "optimizer.schedule": ({}, "constant", "cosine"),
    "optimizer.decay": ({"optimizer.schedule": "exponential"}, 0.95, 0.5),
    "optimizer.decay_every": ({"optimizer.schedule": "step", "optimizer.decay": 0.5}, 1, 2),
    "optimizer.warmup": ({}, None, 5),
    "optimizer.loss": ({}, "cross_entropy", "squared"),
    "budget.epochs": ({}, 3, 4),
    "budget.stop_at_train_error": ({"budget.epochs": 4}, None, 0.6),
    "budget.stop_at_train_loss": ({"budget.stop_at_train_error": None}, None, 1.2),
    "budget.evaluate_every": ({}, 1, 2),
    "precision": ({}, "float32", "bfloat16"),
    "seed": ({}, 0, 1),
}
# Content hashes stand for content that other tests change; these two are solved from, and leave no trace when solved.
HASHES = {"data.digest", "corruption.digest", "model.digest"}
VIRTUAL = {"model.parameters_per_sample", "model.hold"}
# What they change is shown on image files, large images, tables and files of labels: test_image_files.py, test_windows.py, test_tables.py,
# test_given_labels.py, test_regression.py.
ELSEWHERE = {"data.side", "regularizers.crop_from", "data.label", "data.test_fraction", "data.test_seed", "data.task", "corruption.labels"}

SOLVED: dict[str, Any] = {"optimizer.name": "closed_form", "model.name": "linear"}

# (setting, field, value, other value) with one result.
MATTERS_NOT: list[tuple[dict[str, Any], str, Any, Any]] = [
    ({}, "data.dimension", 3, 4),
    ({}, "data.classes", 2, 3),
    ({}, "data.separation", 1.0, 2.0),
    ({}, "data.side", 224, 8),
    ({}, "data.label", None, "species"),
    ({}, "data.test_fraction", None, 0.5),
    ({}, "data.test_seed", None, 1),
    ({}, "corruption.transition", None, "pair_flip"),
    ({"corruption.level": 1.0}, "corruption.labels", None, "people.pt:worse"),
    ({"corruption.level": 1.0}, "corruption.transition", None, "pair_flip"),
    ({"corruption.level": 0.5, "corruption.transition": "symmetric"}, "corruption.kind", "class_conditional", "flip"),
    ({}, "corruption.kind", "redraw", "flip"),
    ({}, "corruption.kind", "redraw", "gaussian"),
    ({}, "corruption.seed", 2, 3),
    ({"corruption.level": 1.0}, "corruption.kind", "redraw", "random_labels"),
    ({"corruption.kind": "random_signs"}, "corruption.seed", 2, 3),
    ({"corruption.level": 0.5}, "corruption.validation", None, "noisy"),
    ({"data.validation_size": 9}, "corruption.validation", None, "noisy"),
    ({}, "model.kernel_scale", 5.0, 2.0),
    ({}, "model.initialization_scale", None, 1.0),
    ({}, "model.activation", None, "relu"),
    ({}, "model.parameterization", None, "standard"),
    ({}, "model.base_width", None, 8),
    ({}, "regularizers.crop_from", None, "image"),
    ({"model.name": "linear"}, "model.width", 1, 2),
    ({"model.name": "linear"}, "model.depth", 0, 2),
    ({"model.name": "linear"}, "model.batch_norm", False, True),
    ({"model.name": "linear"}, "model.kernel_scale", 5.0, 2.0),
    ({"model.name": "random_features"}, "model.depth", 0, 2),
    ({"model.name": "random_features"}, "model.batch_norm", False, True),
    ({"data.name": "digits", "model.name": "cnn5", "model.width": 1}, "model.depth", 0, 2),
    ({"data.name": "digits", "model.name": "alexnet_small", "model.width": 1}, "model.depth", 0, 2),
    ({}, "regularizers.decay_biases", False, True),
    ({"optimizer.name": "adam"}, "optimizer.momentum", 0.9, 0.5),
    ({"optimizer.name": "adamw"}, "optimizer.nesterov", False, True),
    ({"optimizer.momentum": 0.0}, "optimizer.nesterov", False, True),
    ({}, "optimizer.decay", 0.9, 0.5),
    ({"optimizer.schedule": "cosine"}, "optimizer.decay", 0.9, 0.5),
    ({}, "optimizer.decay_every", 1, 2),
    ({"optimizer.schedule": "exponential"}, "optimizer.decay_every", 1, 2),
    ({"budget.stop_at_train_loss": 1.0}, "budget.stop_at_train_error", 0.0, 0.9),
    (SOLVED, "optimizer.learning_rate", 0.1, 0.2),
    (SOLVED, "optimizer.momentum", 0.9, 0.5),
    (SOLVED, "optimizer.nesterov", False, True),
    (SOLVED, "optimizer.batch_size", 8, 9),
    (SOLVED, "optimizer.schedule", "constant", "cosine"),
    (SOLVED, "optimizer.warmup", None, 3),
    (SOLVED, "optimizer.loss", "cross_entropy", "squared"),
    (SOLVED, "budget.epochs", 3, 4),
    (SOLVED, "budget.evaluate_every", 1, 2),
    (SOLVED, "budget.stop_at_train_error", None, 0.0),
]


def run(blobs: str, setting: dict[str, Any], field: str, value: Any) -> TrialConfig:
    """A short run in that setting; on the blobs unless the setting has another data set."""
    short = {"data.name": blobs, "budget.epochs": 3, "budget.stop_at_train_error": None, "optimizer.batch_size": 8}
    changed = {} if (field, value) == ("data.name", "npz") else {field: value}
    return point(RESOLVED | short | setting | changed)


def what_happened(point: TrialConfig) -> tuple[Any, ...]:
    """The result, without the key that stands in it."""
    _, status, reason, outcome, curve = alone(point)
    return status, reason, outcome, [{name: value for name, value in row.items() if name != "key"} for row in curve]


def test_the_tables_above_name_every_field() -> None:
    assert set(MATTERS) | HASHES | VIRTUAL | ELSEWHERE == set(field_types())
    assert {field for _, field, _, _ in MATTERS_NOT} <= set(MATTERS) | ELSEWHERE


@pytest.mark.parametrize("field", MATTERS)
def test_a_field_that_changes_the_result_changes_the_key(blobs: str, field: str) -> None:
    setting, value, other = MATTERS[field]
    first, second = run(blobs, setting, field, value), run(blobs, setting, field, other)
    assert first.key() != second.key()
    assert what_happened(first) != what_happened(second)


@pytest.mark.parametrize(("setting", "field", "value", "other"), MATTERS_NOT)
def test_a_field_that_leaves_the_result_alone_leaves_the_key_alone(
    blobs: str, setting: dict[str, Any], field: str, value: Any, other: Any
) -> None:
    first, second = run(blobs, setting, field, value), run(blobs, setting, field, other)
    assert flatten(first)[field] != flatten(second)[field]
    assert first.key() == second.key()
    assert alone(first) == alone(second)


@given(
    st.lists(st.sampled_from([case for case in MATTERS_NOT if not case[0]]), min_size=1),
    st.lists(st.sampled_from(sorted(set(MATTERS) - {"data.name", "corruption.kind"})), unique=True),
)
def test_keys_tell_points_apart_by_what_matters_alone(idle: list[tuple[Any, str, Any, Any]], changed: list[str]) -> None:
    base = with_fields(TrialConfig(), RESOLVED)
    idle_values = {field: other for _, field, _, other in idle}
    assert with_fields(base, idle_values).key() == base.key()
    values = {}
    for field in changed:
        setting, value, other = MATTERS[field]
        values[field] = next(one for one in (value, other) if one != flatten(base)[field])
        values = setting | values
    differing = with_fields(base, values)
    assert (differing.key() == base.key()) == (not changed)
    assert with_fields(TrialConfig(), flatten(differing)).key() == differing.key()


FLOATS = [field for field, kind in field_types().items() if float in (kind, *get_args(kind))]
INTEGERS = [field for field, kind in field_types().items() if int in (kind, *get_args(kind))]


@given(st.integers(0, 2**53), st.sampled_from(FLOATS))
def test_equal_numbers_make_one_key(number: int, field: str) -> None:
    base = with_fields(TrialConfig(), RESOLVED | {"data.name": "synthetic", "corruption.level": 0.5, "optimizer.schedule": "step"})
    try:
        whole = with_fields(base, {field: number})
    except ConfigError:
        return
    assert whole.key() == with_fields(base, {field: float(number)}).key()


def test_a_switch_set_by_a_number_makes_one_key() -> None:
    base = with_fields(TrialConfig(), RESOLVED)
    assert with_fields(base, {"regularizers.flip": 1}).key() == with_fields(base, {"regularizers.flip": True}).key()


def test_content_identifies_data_and_own_models() -> None:
    base = with_fields(TrialConfig(), RESOLVED | {"data.name": "npz:here.npz", "data.digest": "a"})
    assert with_fields(base, {"data.name": "npz:/there.npz"}).key() == base.key()
    assert with_fields(base, {"data.digest": "b"}).key() != base.key()
    own = with_fields(TrialConfig(), RESOLVED | {"model.name": "linear", "model.digest": "a"})
    assert with_fields(own, {"model.digest": "b"}).key() != own.key()
    for field, value in {"model.width": 9, "model.depth": 9, "model.batch_norm": True, "model.kernel_scale": 9.0}.items():
        assert with_fields(own, {field: value}).key() != own.key()  # it may read what the bundled family of that name does not


def test_what_a_size_was_solved_from_is_no_part_of_the_key() -> None:
    base = with_fields(TrialConfig(), RESOLVED)
    assert with_fields(base, {"model.parameters_per_sample": 2.0, "model.hold": "width"}).key() == base.key()


@pytest.mark.parametrize("missing", ["data.train_size", "data.seed", "corruption.level", "corruption.seed", "model.width"])
def test_an_unresolved_point_has_no_key(missing: str) -> None:
    with pytest.raises(ConfigError, match="not resolved"):
        with_fields(TrialConfig(), RESOLVED | {missing: None}).key()


@pytest.mark.parametrize("hash_seed", ["1", "4242"])
def test_a_key_is_the_same_in_every_process(hash_seed: str) -> None:
    values = RESOLVED | {"corruption.level": 0.3, "optimizer.learning_rate": 0.07, "regularizers.flip": True, "seed": 2**40}
    program = (
        "import json, sys; from trainables.point.config import TrialConfig, with_fields;"
        "print(with_fields(TrialConfig(), json.loads(sys.argv[1])).key())"
    )
    printed = subprocess.run(
        [sys.executable, "-c", program, json.dumps(values)],
        env=os.environ | {"PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert printed == with_fields(TrialConfig(), values).key()
    assert len(printed) == 32
    int(printed, 16)


LIMITED = {
    f"{group}.{knob.name}" if group else knob.name: knob.metadata
    for group, kind in {**GROUPS, "": TrialConfig}.items()
    for knob in fields(kind)
    if knob.metadata.get("low") is not None or knob.metadata.get("high") is not None
}


@pytest.mark.parametrize("field", LIMITED)
@pytest.mark.parametrize("end", ["low", "high"])
def test_a_value_out_of_range_is_refused_by_field_and_range(field: str, end: str) -> None:
    limits, step = LIMITED[field], 1e-9 if field in FLOATS else 1
    limit = limits[end]
    if limit is None:
        return
    outside, inside = (limit - step, limit + step) if end == "low" else (limit + step, limit - step)
    refused = [outside, limit] if limits[f"open_{end}"] else [outside]
    for value in refused:
        with pytest.raises(ConfigError) as caught:
            with_fields(TrialConfig(), {field: value})
        assert str(caught.value).startswith(f"{field} is {value}: it must be ")
        assert str(limit) in str(caught.value)
    for value in [inside] if limits[f"open_{end}"] else [inside, limit]:
        assert flatten(with_fields(TrialConfig(), {field: value}))[field] == value


@pytest.mark.parametrize("field", LIMITED)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_no_field_takes_a_number_that_is_not_finite(field: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"^{field} is {value}: it must be a finite number$"):
        with_fields(TrialConfig(), {field: value})


def test_every_number_has_a_range_and_every_field_its_documentation() -> None:
    assert {*FLOATS, *INTEGERS} == set(LIMITED)
    for group in GROUPS.values():
        assert all(knob.metadata["doc"] for knob in fields(group))


def test_a_point_and_its_flat_form_are_one() -> None:
    values = {field: other for field, (_, _, other) in MATTERS.items()}
    changed = with_fields(TrialConfig(), values)
    assert flatten(changed) == flatten(TrialConfig()) | values
    assert list(flatten(changed)) == list(field_types())


def test_corruption_kinds_are_of_labels_or_of_pixels() -> None:
    named = field_types()["corruption.kind"].__args__
    assert set(kinds.LABEL_KINDS) | set(kinds.PIXEL_KINDS) == set(named)
    assert Corruption().kind == "redraw"


# The pack signature

MAY_DIFFER = (
    ["data.seed", "corruption.kind", "corruption.level", "corruption.seed", "corruption.transition", "corruption.validation", "seed"]
    + ["model.initialization", "model.initialization_scale"]
    + [f"regularizers.{knob.name}" for knob in fields(config.Regularizers)]
    + [f"optimizer.{name}" for name in ("learning_rate", "momentum", "warmup", "schedule", "decay", "decay_every")]
    + ["budget.stop_at_train_error", "budget.stop_at_train_loss"]
)
OTHERS: dict[str, tuple[Any, ...]] = {"regularizers.crop_from": ("image",)}
MAY_NOT_DIFFER = [
    *("data.name", "data.train_size", "data.validation_size", "data.preprocessing", "data.digest", "precision"),
    *("model.name", "model.width", "model.depth", "model.batch_norm", "model.activation", "model.parameterization", "model.digest"),
    *("optimizer.name", "optimizer.batch_size", "optimizer.loss", "budget.epochs", "budget.evaluate_every"),
]


@pytest.mark.parametrize("field", MAY_DIFFER)
def test_points_of_one_pack_may_differ_in(field: str) -> None:
    base = with_fields(TrialConfig(), RESOLVED)
    values = [value for value in OTHERS.get(field) or MATTERS[field][1:] if value != flatten(base)[field]]
    assert with_fields(base, {field: values[0]}).signature() == base.signature()


@pytest.mark.parametrize("field", MAY_NOT_DIFFER)
def test_points_of_one_pack_may_not_differ_in(field: str) -> None:
    base = with_fields(TrialConfig(), RESOLVED)
    other = "another" if field in HASHES else next(value for value in MATTERS[field][1:] if value != flatten(base)[field])
    changed = with_fields(base, {field: other})
    assert changed.signature() != base.signature()
    hash(changed.signature())
