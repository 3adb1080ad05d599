"""Plans: every declared point once, in packs whose members fit together, the longest first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from math import isclose
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from study.plan.packs import PACKS_PER_WORKER, SECONDS_PER_PACK, SIDE_BY_SIDE, expected_seconds, packs
from study.plan.points import declared_points
from study.spec.reading import understand
from tests.study.made_up_results import resolved
from trainables.data.inputs import input_shape
from trainables.data.sets.sources import load
from trainables.engines import choice
from trainables.engines.speed import Speed
from trainables.models import custom as custom
from trainables.models import registry as models
from trainables.point.errors import ConfigError
from trainables.resolution import Point, resolve

TRIAL = {"data": {"name": "synthetic", "dimension": 4, "classes": 3, "train_size": 60}, "model": {"width": 4}}


def declared(space: dict[str, Any], **trial: Any) -> list[Point]:
    return declared_points(understand({"study": "made-up", "trial": TRIAL | trial, "space": space}))


def test_points_are_resolved_and_keyed_in_the_order_of_the_space():
    points = declared({"corruption.level": {"values": [0, 1]}, "seed": {"range": 2}})
    assert [(point.config.corruption.level, point.config.seed) for point in points] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    for point in points:
        assert resolve(point.config) == point.config
        assert point.config.key() == point.key


def test_two_spellings_of_one_point_are_declared_once():
    """Redraw at level 1 is what random_labels is; without corruption its seed means nothing."""
    assert len(declared({"add": [{"corruption.kind": "random_labels"}, {"corruption.kind": "redraw", "corruption.level": 1.0}]})) == 1
    assert len(declared({"corruption.seed": {"range": 3}})) == 1
    assert len(declared({"corruption.seed": {"range": 3}}, corruption={"level": 0.5})) == 3


def test_progress_counts_what_is_resolved():
    told: list[int] = []
    declared_points(understand({"study": "s", "trial": TRIAL, "space": {"seed": {"range": 3}}}), told.append)
    assert told == [1, 2, 3]


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Register a model file for one test."""
    monkeypatch.setattr(models, "_FAMILIES", models.families())
    return custom.register


mixed = st.lists(
    st.tuples(
        st.sampled_from([2, 8, 300]),  # width
        st.integers(0, 3),  # seed
        st.sampled_from([0.0, 0.5]),  # level
        st.sampled_from([3, 200_000]),  # epochs: far below and above a pack's share
        st.sampled_from(["sgd", "adam"]),
    ),
    min_size=1,
    max_size=25,
    unique=True,
)


def as_points(drawn: list[tuple[Any, ...]]) -> list[Point]:
    names = ("model.width", "seed", "corruption.level", "budget.epochs", "optimizer.name")
    configs = [resolved(**dict(zip(names, values, strict=True))) for values in drawn]
    return [Point(config.key(), config) for config in configs]


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(mixed, st.integers(1, 4))
def test_packs_part_the_points_by_shape_and_length(drawn, workers):
    points = as_points(drawn)
    plan = packs(points, workers)
    assert Counter(point.key for pack in plan for point in pack) == Counter(point.key for point in points), "each point in one pack"
    assert all(len({point.config.signature() for point in pack}) == 1 for pack in plan)
    costs = [sum(expected_seconds(point.config) for point in pack) for pack in plan]
    assert all(first >= second or isclose(first, second) for first, second in pairwise(costs)), "the longest first"
    share = min(SECONDS_PER_PACK, sum(costs) / (workers * PACKS_PER_WORKER))
    for pack, cost in zip(plan, costs, strict=True):
        one = expected_seconds(pack[0].config)
        assert len(pack) == 1 or cost <= share + one * (1 + 1e-9), "no longer than its share, up to one point"


def test_a_faster_worker_gets_longer_packs():
    """What fills a core for minutes is nothing to a GPU, which trains many at once as fast as one."""
    points = [Point(config.key(), config) for config in (resolved(seed=seed, **{"budget.epochs": 4_000_000}) for seed in range(24))]
    assert expected_seconds(points[0].config) > SECONDS_PER_PACK
    assert {len(pack) for pack in packs(points, 1)} == {1}
    assert {len(pack) for pack in packs(points, 1, Speed(1e14, 1e-9))} == {24 // PACKS_PER_WORKER}


def test_a_pack_on_a_gpu_has_as_many_points_as_train_side_by_side(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Points that take longer than a pack is long would come one by one, and leave a GPU as slow as it is with one network."""
    monkeypatch.setenv("GAPLAB_DATA", str(tmp_path))
    points = [Point(config.key(), config) for config in (resolved(seed=seed, **{"budget.epochs": 4_000_000}) for seed in range(64))]
    speed = Speed(1e9, 1e-5, "Card 1, 100% of it, torch 2")
    assert expected_seconds(points[0].config, speed) > SECONDS_PER_PACK
    assert [len(pack) for pack in packs(points, 2, speed)] == [SIDE_BY_SIDE] * 8
    assert [len(pack) for pack in packs(points, 16, speed)] == [4] * 16  # before that, every worker has some
    config = points[0].config
    dataset = load(config.data)
    workload = choice.Workload.of(config, input_shape(dataset, config.data.preprocessing), dataset.classes)
    choice._note(workload, "Card 1, 100% of it, torch 2", [choice.Way("modules", 1, 4.0), choice.Way("graphs", 32, 0.5)])
    assert [len(pack) for pack in packs(points, 1, speed)] == [32, 32]
    assert {len(pack) for pack in packs(points, 1, replace(speed, card=None))} == {1}


def test_what_was_measured_of_a_network_on_a_card_says_what_it_costs_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GAPLAB_DATA", str(tmp_path))
    config, other = resolved(seed=0, **{"model.width": 5}), resolved(seed=0, **{"model.width": 6})
    dataset = load(config.data)
    shape = input_shape(dataset, config.data.preprocessing)
    ways = [choice.Way("modules", 1, 4.0), choice.Way("graphs", 8, 0.5)]
    choice._note(choice.Workload.of(config, shape, dataset.classes), "Card 1, 100% of it, torch 2", ways)
    steps = -(-(config.data.train_size or 0) // config.optimizer.batch_size) * config.budget.epochs
    by_rule, here, elsewhere = Speed(1e9, 1e-6), Speed(1e9, 1e-6, "Card 1, 100% of it, torch 2"), Speed(1e9, 1e-6, "Card 2")
    assert expected_seconds(config, here) == pytest.approx(0.5 * steps, rel=1e-2)
    assert expected_seconds(config, by_rule) == expected_seconds(config, elsewhere) != expected_seconds(config, here)
    assert expected_seconds(other, here) == expected_seconds(other, by_rule)


def test_seeds_and_corruption_share_a_pack_and_widths_do_not():
    """Tensors of different shapes cannot be stacked; labels and draws can differ."""
    together = as_points([(8, seed, level, 3, "sgd") for seed in range(3) for level in (0.0, 0.5)])
    apart = as_points([(2, 0, 0.0, 3, "sgd"), (8, 0, 0.0, 3, "adam")])
    assert len({point.config.signature() for point in together}) == 1
    assert len({point.config.signature() for point in (*together, *apart)}) == 3


def test_expected_cost_grows_with_what_is_computed():
    base = resolved(seed=0)
    for more in ({"model.width": 400}, {"budget.epochs": 30}, {"data.train_size": 600}, {"optimizer.batch_size": 1}):
        assert expected_seconds(resolved(seed=0, **more)) > expected_seconds(base), more


def test_an_own_model_that_cannot_be_built_is_a_sentence(register):
    source = """
from trainables.models import model_family

@model_family("breaks", default_width=4)
def breaks(model, dropout, image_shape, classes):
    raise RuntimeError("no such layer")
"""
    register("breaks.py", source)
    with pytest.raises(ConfigError, match="your model breaks cannot be built: it raises RuntimeError: no such layer"):
        declared({}, model={"name": "breaks"})


def test_an_own_model_that_looks_at_values_is_planned_by_its_size(register):
    """Counting its products runs it without values (on PyTorch's meta device), which it may not bear."""
    source = """
from torch import nn
from trainables.models import model_family

class Looks(nn.Linear):
    def forward(self, x):
        return super().forward(x.flatten(1)) * float(x.abs().max())

@model_family("looks", default_width=1)
def looks(model, dropout, image_shape, classes):
    channels, height, width = image_shape
    return Looks(channels * height * width, classes)
"""
    register("looks.py", source)
    (point,) = declared({}, model={"name": "looks"})
    assert expected_seconds(point.config) > 0
    assert packs([point], 1) == [[point]]
