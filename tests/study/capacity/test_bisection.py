"""The bisection by itself: what it asks for when the truth is known, and what it refuses, before anything runs."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from math import ceil, log2
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces.space import Assignment
from study.capacity.bisection import SIZE, Asked, asked, declared, ladder, tracks_of
from study.plan.left_open import LeftOpen
from study.plan.points import declared_points
from study.spec.reading import Spec, understand
from tests.study.conftest import Answer
from trainables.point.config import with_fields
from trainables.resolution import resolve

WRITTEN: dict[str, Any] = {
    "study": "tiny",
    "trial": {"data": {"name": "synthetic", "dimension": 4, "classes": 3, "train_size": 400}, "model": {"width": 4}},
    "space": {"corruption.level": {"values": [0, 0.5, 1]}, "model.width": {"values": [2, 4]}, "seed": {"range": 2}},
}
Truth = Callable[[Assignment], int]


def spec(**changes: Any) -> Spec:
    return understand(WRITTEN | changes)


def key(of: Spec, assignment: Assignment) -> str:
    return resolve(with_fields(of.trial, assignment)).key()


def to_the_end(of: Spec, truth: Truth, resolution: float) -> tuple[Asked, int]:
    """What is asked for in all, if the points of sizes up to the truth fit, and in how many rounds."""
    tracks, left_open, fits = tracks_of(of, resolution), LeftOpen(of, "nowhere", {}, None), dict[str, bool]()
    for rounds in range(100):
        now = asked(tracks, of.trial, left_open, fits)
        if not now.missing:
            return now, rounds
        fits |= {key(of, one): one[SIZE] <= truth(one) for one in now.assignments}
    raise AssertionError("it has no end")


@given(st.integers(1, 60), st.integers(0, 100_000), st.floats(0.01, 3))
def test_a_ladder_leads_from_end_to_end_in_steps_of_the_resolution(fewest: int, more: int, resolution: float) -> None:
    sizes = ladder(fewest, fewest + more, resolution)
    assert (sizes[0], sizes[-1]) == (fewest, fewest + more)
    for size, following in pairwise(sizes):
        assert size < following <= size * (1 + resolution) + 1 + resolution, "up to rounding"


def test_every_cell_and_kind_of_labels_ends_between_two_neighbours_of_the_ladder() -> None:
    def truth(one: Assignment) -> int:
        return int(6 * one["model.width"] ** (1 + one["seed"]) * (1 if one["corruption.level"] else 2.7))

    found, rounds = to_the_end(spec(), truth, 0.1)
    sizes = ladder(3, 400, 0.1)
    assert rounds <= 2 + ceil(log2(len(sizes)))
    lines: dict[tuple[Any, ...], list[Assignment]] = {}
    for one in found.assignments:
        lines.setdefault((one["model.width"], one["seed"], one["corruption.level"]), []).append(one)
    assert len(lines) == 8, "2 widths, 2 seeds, random and true labels; not the spec's own levels"
    for some in lines.values():
        asked_for = [one[SIZE] for one in some]
        assert {sizes[0], sizes[-1]} <= set(asked_for)
        limit = truth(some[0])
        below, above = max(size for size in asked_for if size <= limit), min(size for size in asked_for if size > limit)
        assert sizes.index(above) == sizes.index(below) + 1
        assert len(asked_for) == len(set(asked_for))


@pytest.mark.parametrize("limit", [2, 400, 100_000])
def test_what_fits_everywhere_or_nowhere_is_asked_for_at_both_ends_alone(limit: int) -> None:
    found, rounds = to_the_end(spec(space={}), lambda one: limit, 0.1)
    assert (len(found.assignments), rounds) == (4, 1)


def test_a_repeated_bisection_asks_for_the_same_in_the_same_order() -> None:
    first, _ = to_the_end(spec(), lambda one: 30, 0.2)
    again, _ = to_the_end(spec(), lambda one: 30, 0.2)
    assert first == again


def test_the_points_are_those_of_a_study_with_a_name_of_its_own() -> None:
    of = spec(space={"seed": {"range": 2}})
    found, _ = to_the_end(of, lambda one: 30, 0.5)
    study = declared(of, found.assignments, 0.5)
    assert study.study == "tiny-capacity"
    assert [point.key for point in declared_points(study)] == [key(of, one) for one in found.assignments]
    assert "study: tiny" in study.text
    assert "--resolution 0.5" in study.text


@pytest.mark.parametrize(
    ("changes", "arguments", "sentence"),
    [
        ("", ["--resolution", "0"], "--resolution is 0: it is a share of n above 0, such as 0.1"),
        ("space: {data.train_size: {values: [10, 20]}}", [], "space.data.train_size is what capacity finds: leave it out"),
        ("space: {model.parameters_per_sample: {values: [1, 2]}}", [], "set model.width instead"),
        ("", ["--set", "corruption.kind=flip"], "corruption.kind is flip, whose labels are not random at level 1"),
        ("search: {kind: optuna, trials: 3}", [], "capacity bisects a grid, or drawn points"),
        ("", ["--set", "model.name=theorem1", "--set", "optimizer.name=closed_form"], "whose parameters grow with the number of samples"),
        ("", ["--set", "data.train_size=20000"], "ask for more than the 10,000 training samples"),
    ],
)
def test_what_cannot_be_bisected_is_refused_in_a_sentence(
    gaplab: Callable[..., Answer], tmp_path: Path, changes: str, arguments: list[str], sentence: str
) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(f"study: tiny\ntrial:\n  data: {{name: synthetic, dimension: 4, classes: 3, train_size: 400}}\n{changes}\n")
    answer = gaplab("capacity", str(path), "--storage", str(tmp_path / "results"), *arguments)
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert sentence in answer.err
    assert not (tmp_path / "results").exists(), "nothing was started"
