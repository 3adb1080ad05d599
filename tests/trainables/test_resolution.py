"""From declared to complete points: the closest width by brute force, what cannot be, and nothing to do the second time."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainables.made_up_points import point
from trainables.models import families, parameter_count
from trainables.point.config import Model, TrialConfig, flatten, with_fields
from trainables.point.errors import ConfigError
from trainables.resolution import REACH, capacity, resolve

DIGITS = 1437
"""Training samples of the digits."""
FAMILIES = ("mlp", "random_features", "cnn5", "alexnet_small", "inception_small", "resnet18")


def count(name: str, width: int, shape: tuple[int, int, int] = (1, 8, 8), classes: int = 10, depth: int | None = None) -> int:
    """Parameters by the family's own build, without a word from the resolution."""
    complete = families()[name].complete(Model(name=name, width=width, depth=depth))
    return parameter_count(complete, shape, classes)


def test_all_that_is_left_to_a_default_is_filled_in() -> None:
    flat = flatten(resolve(TrialConfig(seed=7)))
    assert flat["data.train_size"] == DIGITS
    assert flat["model.width"] == 512
    assert flat["model.depth"] == 1
    assert flat["model.batch_norm"] is False
    assert flat["corruption.level"] == 0
    assert flat["data.seed"] == flat["corruption.seed"] == 7
    stated = flatten(point({"seed": 7, "data.seed": 0, "corruption.seed": 3, "data.validation_size": 37}))
    assert (stated["data.seed"], stated["corruption.seed"], stated["data.train_size"]) == (0, 3, DIGITS - 37)


@pytest.mark.parametrize(
    ("kind", "level"), [("redraw", 0), ("flip", 0), ("random_labels", 1), ("random_signs", 1), ("shuffled_pixels", 1), ("gaussian", 1)]
)
def test_a_corruption_named_alone_has_its_level(kind: str, level: float) -> None:
    assert point({"corruption.kind": kind}).corruption.level == level


# A width for a number of parameters per sample


@settings(max_examples=40)
@given(st.sampled_from(FAMILIES), st.floats(0.05, 40, allow_subnormal=False), st.integers(5, 400), st.sampled_from([1, 2]))
def test_the_width_is_the_closest_there_is(name: str, ratio: float, train_size: int, depth: int) -> None:
    """Among all widths up to one that has far too many parameters, none comes closer."""
    fields = {"model.name": name, "model.parameters_per_sample": ratio, "data.train_size": train_size, "model.depth": depth}
    wanted = ratio * train_size
    widths = [1]
    while count(name, widths[-1], depth=depth) < 2 * wanted + 10_000:
        widths.append(widths[-1] + 1)
    counts = [count(name, width, depth=depth) for width in widths]
    closest = min(abs(each - wanted) for each in counts)
    reachable = any(wanted / REACH <= each <= wanted * REACH for each in counts if abs(each - wanted) == closest)
    if not reachable:
        with pytest.raises(ConfigError, match="no width"):
            point(fields)
        return
    resolved = point(fields)
    assert abs(capacity(resolved) - wanted) == closest
    assert resolved.model.width == 1 + [abs(each - wanted) for each in counts].index(closest)
    assert capacity(resolved) == count(name, resolved.model.width or 0, depth=depth)


def test_capacity_grows_with_width() -> None:
    for name in FAMILIES:
        counts = [count(name, width) for width in range(1, 40)]
        assert all(less < more for less, more in itertools.pairwise(counts))


def test_a_ratio_beyond_every_width_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        point({"model.parameters_per_sample": 0.001})
    smallest = count("mlp", 1) / DIGITS
    assert str(caught.value) == (
        f"model.parameters_per_sample is 0.001, but no width of mlp reaches it on this data: the closest gives {smallest:.3g}"
    )
    for ratio in (1e15, 1e300):
        with pytest.raises(ConfigError, match="no width of mlp reaches it"):
            point({"model.parameters_per_sample": ratio})


def test_a_family_of_one_capacity_takes_the_ratio_it_has_or_none() -> None:
    own = (64 * 10 + 10) / DIGITS
    assert capacity(point({"model.name": "linear", "model.parameters_per_sample": own * 1.5})) == 650
    with pytest.raises(ConfigError, match=f"no width of linear reaches it on this data: the closest gives {own:.3g}"):
        point({"model.name": "linear", "model.parameters_per_sample": own * 2.1})


@given(st.integers(1, 60), st.floats(0.5, 50, allow_subnormal=False), st.integers(0, 400))
def test_a_held_width_gives_the_closest_number_of_samples(width: int, ratio: float, validation_size: int) -> None:
    fields = {"model.width": width, "model.parameters_per_sample": ratio, "model.hold": "width", "data.validation_size": validation_size}
    parameters, most = count("mlp", width), DIGITS - validation_size
    best = min(max(1, round(parameters / ratio)), most)
    if parameters / best > ratio * REACH or parameters / best < ratio / REACH:
        with pytest.raises(ConfigError, match=r"no data.train_size of mlp reaches it"):
            point(fields)
        return
    resolved = point(fields)
    assert resolved.model.width == width
    assert resolved.data.train_size == best
    assert abs(resolved.data.train_size - parameters / ratio) <= 0.5 or best == most


# Resolving twice


@settings(max_examples=40)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "data.train_size": st.integers(20, 900),
            "data.validation_size": st.integers(0, 500),
            "data.preprocessing": st.sampled_from(["paper", "standardize", "unit"]),
            "data.seed": st.integers(0, 5),
            "corruption.kind": st.sampled_from(["redraw", "flip", "gaussian"]),
            "corruption.level": st.floats(0, 1, allow_subnormal=False),
            "corruption.seed": st.integers(0, 5),
            "model.name": st.sampled_from(["mlp", "random_features", "cnn5"]),
            "model.width": st.integers(1, 50),
            "model.depth": st.integers(1, 3),
            "model.parameters_per_sample": st.floats(1, 10, allow_subnormal=False),
            "model.hold": st.sampled_from(["train_size", "width"]),
            "seed": st.integers(0, 5),
        },
    )
)
def test_resolving_twice_changes_nothing(fields: dict[str, Any]) -> None:
    try:
        resolved = point(fields)
    except ConfigError:
        return
    assert resolve(resolved) == resolved
    assert resolve(resolved).key() == resolved.key()
    for name, value in fields.items():
        solved = {"model.width"} if resolved.model.hold == "train_size" else {"data.train_size"}
        if name not in solved or "model.parameters_per_sample" not in fields:
            assert flatten(resolved)[name] == value


def test_a_solved_point_is_the_point_of_that_width() -> None:
    solved = point({"model.parameters_per_sample": 2.0})
    stated = point({"model.width": solved.model.width})
    assert solved.key() == stated.key()
    assert solved.signature() == stated.signature()


# What cannot be


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {"data.train_size": 1438},
            "data.train_size 1438 and data.validation_size 0 ask for more than the 1,437 training samples of digits",
        ),
        ({"data.train_size": 1000, "data.validation_size": 438}, "data.train_size 1000 and data.validation_size 438 ask for more"),
        ({"data.validation_size": 1437}, "data.train_size null and data.validation_size 1437 ask for more"),
        ({"corruption.kind": "random_labels", "corruption.level": 0.5}, "corruption.level is 0.5, but random_labels redraws every label"),
        ({"data.train_size": 9, "data.replaced": 9}, "data.replaced is 9: it must be less than the 9 training samples used"),
        ({"data.replaced": 9}, "data.replaced takes a sample that is left out, but all 1,437 training samples of digits are used"),
        ({"regularizers.early_stopping": 3}, "regularizers.early_stopping needs a validation split: set data.validation_size"),
        ({"data.name": "synthetic", "regularizers.flip": True}, "regularizers.crop and flip need images, but synthetic has none"),
        ({"data.name": "synthetic", "regularizers.crop": 2}, "regularizers.crop and flip need images, but synthetic has none"),
        ({"model.name": "linear", "regularizers.dropout": 0.5}, "regularizers.dropout acts on hidden units, and model linear has none"),
        ({"model.depth": 0, "regularizers.dropout": 0.5}, "regularizers.dropout acts on hidden units, and model mlp has none"),
        ({"data.name": "synthetic", "model.name": "cnn5"}, "model.name is 'cnn5', which needs images of at least 8x8; the data has 1x32"),
        ({"model.name": "mpl"}, "model.name is 'mpl', which is no model family: did you mean 'mlp'?"),
    ],
)
def test_what_cannot_be_is_one_sentence(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        point(fields)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_largest_sizes_that_may_be_stated_can_be_counted() -> None:
    """No width within its range overflows a count, in any family."""
    for name in ("mlp", *FAMILIES):
        widest = next(knob for knob in Model.__dataclass_fields__.values() if knob.name == "width").metadata["high"]
        assert count(name, widest, (3, 32, 32), 1000, depth=2) > widest
    with pytest.raises(ConfigError, match=r"^model.width is 10000001: it must be at least 1 and at most 10000000$"):
        with_fields(TrialConfig(), {"model.width": 10_000_001})
