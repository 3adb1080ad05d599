"""Draws on a GPU against SplitMix64 in Python's whole numbers, its published numbers, and chance."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from trainables.point.device_streams import Keys, keys, permutations, uniform, words
from trainables.point.streams import derive

CPU = torch.device("cpu")
RARE = 1e-4
WORD = 2**64


class SplitMix64:
    """As Steele, Lea and Flood write it (2014, figure 17), number by number."""

    def __init__(self, seed: int) -> None:
        self.state = seed

    def next(self) -> int:
        self.state = (self.state + 0x9E3779B97F4A7C15) % WORD
        mixed = self.state
        mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 % WORD
        mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB % WORD
        return mixed ^ mixed >> 31


def expected(key: int, step: int, count: int) -> list[int]:
    """The draws of a step: a generator that starts at the step-th number of the one that starts at the key."""
    outer = SplitMix64(key)
    for _ in range(step):
        outer.next()
    inner = SplitMix64(outer.next())
    return [inner.next() for _ in range(count)]


def found(key: int, step: int, count: int) -> list[int]:
    return [word % WORD for word in words(torch.tensor([key]), step, count)[0].tolist()]


def test_this_splitmix_is_the_published_one() -> None:
    """https://rosettacode.org/wiki/Pseudo-random_numbers/Splitmix64"""
    generator = SplitMix64(1234567)
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821]
    assert [generator.next() for _ in published] == published


@settings(max_examples=50)
@given(st.integers(0, 2**63 - 1), st.integers(0, 50), st.integers(1, 9))
def test_words_are_by_definition(key: int, step: int, count: int) -> None:
    assert found(key, step, count) == expected(key, step, count)


@pytest.mark.parametrize("shape", [(5,), (2, 3), (1,)])
def test_uniform_numbers_are_the_upper_bits_of_half_words(shape: tuple[int, ...]) -> None:
    size = int(np.prod(shape))
    drawn = uniform(torch.tensor([3, 2**62]), 4, *shape)
    assert drawn.shape == (2, *shape)
    for key, own in zip((3, 2**62), drawn, strict=True):
        halves = [half for word in expected(key, 4, size) for half in (word % 2**32, word >> 32)]
        assert own.flatten().tolist() == [(half >> 8) / 2**24 for half in halves[:size]]


def test_permutations_sort_the_words_as_signed_numbers() -> None:
    drawn = permutations(torch.tensor([8, 9]), 2, 40)
    for key, own in zip((8, 9), drawn.tolist(), strict=True):
        signed = [word - WORD if word >= WORD // 2 else word for word in expected(key, 2, 40)]
        assert own == sorted(range(40), key=signed.__getitem__)


def test_keys_are_those_of_the_named_streams_and_uploaded_once_an_epoch() -> None:
    streams = [(7, "dropout", 3), (8, "dropout", 3)]
    assert keys(streams, CPU).tolist() == [derive(*stream) for stream in streams]
    kept = Keys()
    first, step = kept.of([(*stream, 5) for stream in streams], CPU)
    again, later = kept.of([(*stream, 6) for stream in streams], CPU)
    assert (step, later) == (5, 6)
    assert again is first
    other, _ = kept.of([(*stream[:2], 4, 0) for stream in streams], CPU)
    assert other.tolist() == [derive(7, "dropout", 4), derive(8, "dropout", 4)]


def test_draws_are_uniform_whatever_the_key_and_step() -> None:
    for key, step in ((0, 0), (1, 0), (0, 1), (derive(0, "dropout", 0), 10**6)):
        drawn = uniform(torch.tensor([key]), step, 100_000)[0].numpy()
        assert stats.chisquare(np.bincount((drawn * 256).astype(int), minlength=256)).pvalue > RARE
        assert stats.chisquare(np.bincount((drawn * 2**24).astype(int) % 256, minlength=256)).pvalue > RARE


def test_neighbouring_keys_and_steps_have_nothing_to_do_with_each_other() -> None:
    """Of two words half of the bits agree, at each of the 64 places and over all."""
    count = 20_000
    several = words(torch.arange(4), 0, count)
    steps = torch.cat([words(torch.tensor([5]), step, count) for step in range(4)])
    shifted = torch.stack([several[0, :-1], several[0, 1:]])
    for drawn in (several, steps, shifted):
        for one, other in pairwise(drawn):
            differing = (one ^ other)[:, None] >> torch.arange(64) & 1
            total = int(differing.sum())
            assert stats.binomtest(total, differing.numel(), 0.5).pvalue > RARE
            assert stats.chisquare(differing.sum(0).numpy(), np.full(64, total / 64)).pvalue > RARE
    assert len(torch.unique(torch.cat([several.flatten(), steps.flatten()]))) == 8 * count


def test_every_permutation_is_as_likely() -> None:
    drawn = permutations(torch.arange(6000), 0, 3)
    counts = np.unique(drawn.numpy(), axis=0, return_counts=True)[1]
    assert len(counts) == 6
    assert stats.chisquare(counts).pvalue > RARE
