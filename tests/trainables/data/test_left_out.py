"""Samples that are left out: of the subset, of the key, and of what is refused."""

from __future__ import annotations

import pytest
import torch

from trainables.data.subset import split
from trainables.point.config import Corruption, Data, TrialConfig, with_fields
from trainables.point.errors import ConfigError
from trainables.resolution import resolve


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
