"""The split of the training set: disjoint parts, balanced over the classes; and samples that are left out of it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainables.data.subset import split
from trainables.point.config import Corruption, Data, TrialConfig, with_fields
from trainables.point.errors import ConfigError
from trainables.resolution import resolve


def subset(labels: torch.Tensor, classes: int, train: int, validation: int, seed: int = 0) -> tuple[list[int], list[int]]:
    parts = split(labels, classes, Data(train_size=train, validation_size=validation, seed=seed))
    return parts[0].tolist(), parts[1].tolist()


@st.composite
def cuts(draw: st.DrawFn) -> tuple[torch.Tensor, int, int, int, int]:
    classes = draw(st.integers(2, 5))
    labels = torch.tensor(draw(st.lists(st.integers(0, classes - 1), min_size=1, max_size=60)))
    train = draw(st.integers(1, len(labels)))
    return labels, classes, train, draw(st.integers(0, len(labels) - train)), draw(st.integers(0, 5))


@given(cuts())
def test_a_split_is_two_disjoint_parts_of_the_sizes_asked_for(cut: tuple[torch.Tensor, int, int, int, int]) -> None:
    labels, classes, train_size, validation_size, seed = cut
    train, validation = subset(labels, classes, train_size, validation_size, seed)
    assert (len(train), len(validation)) == (train_size, validation_size)
    assert len({*train, *validation}) == train_size + validation_size
    assert {*train, *validation} <= set(range(len(labels)))
    assert train == sorted(train)
    assert validation == sorted(validation)
    assert subset(labels, classes, train_size, 0, seed)[0] == train


@given(cuts())
def test_every_class_has_its_share(cut: tuple[torch.Tensor, int, int, int, int]) -> None:
    """Shares differ by at most one, except where a class has no more to give."""
    labels, classes, train_size, validation_size, seed = cut
    for part, rest in (
        (subset(labels, classes, train_size, 0, seed)[0], set(range(len(labels)))),
        (subset(labels, classes, train_size, validation_size, seed)[1], None),
    ):
        available = rest if rest is not None else set(range(len(labels))) - set(subset(labels, classes, train_size, 0, seed)[0])
        taken = [sum(int(labels[place]) == label for place in part) for label in range(classes)]
        stock = [sum(int(labels[place]) == label for place in available) for label in range(classes)]
        for some, its_stock in zip(taken, stock, strict=True):
            assert some == its_stock or some >= max(taken) - 1


@given(cuts(), st.integers(1, 60))
def test_a_smaller_subset_is_part_of_a_larger_one(cut: tuple[torch.Tensor, int, int, int, int], smaller: int) -> None:
    labels, classes, train_size, _, seed = cut
    smaller = min(smaller, train_size)
    assert set(subset(labels, classes, smaller, 0, seed)[0]) <= set(subset(labels, classes, train_size, 0, seed)[0])


def test_the_seed_chooses_the_subset() -> None:
    labels = torch.arange(1000) % 10
    chosen = {tuple(subset(labels, 10, 100, 100, seed)[0]) for seed in range(20)}
    assert len(chosen) == 20
    drawn = torch.zeros(1000)
    for seed in range(500):
        drawn[subset(labels, 10, 100, 0, seed)[0]] += 1
    # Each of the 1,000 samples is in a binomial (500, 1/10) number of subsets, mean 50 and variance 45: the sum of squares
    # over the variance has mean 1,000, and as for a chi-square a variance of about twice that.
    statistic = float(((drawn - 50) ** 2 / 45).sum())
    assert abs(statistic - 1000) < 5 * 2000**0.5


# Samples that are left out


def test_a_subset_of_all_is_all_but_those_left_out() -> None:
    point = resolve(TrialConfig(data=Data(left_out="1436,5, 7,5")))
    assert (point.data.left_out, point.data.train_size) == ("5,7,1436", 1434)
    labels = torch.arange(1437) % 10
    train, validation = split(labels, 10, point.data)
    assert sorted(set(range(1437)) - set(train.tolist())) == [5, 7, 1436]
    assert len(validation) == 0


def test_the_order_in_which_the_others_are_taken_stays() -> None:
    labels = torch.arange(200) % 4
    whole = Data(train_size=80, validation_size=20, seed=3)
    train, validation = split(labels, 4, whole)
    unused = sorted(set(range(200)) - set(train.tolist()) - set(validation.tolist()))
    without = Data(train_size=80, validation_size=20, seed=3, left_out=f"{unused[0]},{unused[-1]}")
    assert [part.tolist() for part in split(labels, 4, without)] == [train.tolist(), validation.tolist()]
    taken = int(train[0])
    fewer, _ = split(labels, 4, Data(train_size=80, validation_size=20, seed=3, left_out=str(taken)))
    assert set(train.tolist()) - set(fewer.tolist()) == {taken}
    assert len(fewer) == 80


def test_it_is_part_of_the_key_only_where_it_is_said() -> None:
    plain = resolve(TrialConfig())
    assert resolve(with_fields(plain, {"data.left_out": None})).key() == plain.key()
    keys = {resolve(TrialConfig(data=Data(left_out=text, train_size=1000))).key() for text in ("3", "3,4", "4, 3", "4")}
    assert len(keys) == 3
    assert plain.key() not in keys
    assert (
        resolve(TrialConfig(data=Data(left_out="3", train_size=1000))).signature()
        == resolve(TrialConfig(data=Data(train_size=1000))).signature()
    ), "they train in one pack"


@pytest.mark.parametrize("text", ["", "3;4", "-1", "1437", "a"])
def test_what_are_no_indices_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"data.left_out is .*0 to 1,436"):
        resolve(TrialConfig(data=Data(left_out=text)))


def test_sizes_count_what_is_left() -> None:
    with pytest.raises(ConfigError, match="the 1,435 training samples of digits that are not left out"):
        resolve(TrialConfig(data=Data(left_out="0,1", train_size=1436)))
    assert resolve(TrialConfig(data=Data(left_out="0,1", validation_size=35), corruption=Corruption(level=0.5))).data.train_size == 1400
