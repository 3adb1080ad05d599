"""The randomization tests: rates by their sampling error, what stays fixed, and which seed decides what."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from tests.trainables.made_up_points import CPU, point, train
from trainables.data.corruption import corrupt_labels, corrupt_pixels
from trainables.data.inputs import PointData, point_data
from trainables.data.sets.sources import load
from trainables.point.config import Corruption
from trainables.point.kinds import LABEL_KINDS, PIXEL_KINDS

RARE = 1e-4
"""Draws are seeded, so a test that passes goes on passing; a correct one fails with this probability when it is first run."""
MANY = torch.arange(20_000) % 10


# Labels


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("level", [0.0, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("kind", ["redraw", "flip"])
def test_the_wrong_label_rate_is_the_kinds(kind: Any, level: float, classes: int, seed: int) -> None:
    labels = MANY % classes
    wrong = int((corrupt_labels(labels, classes, Corruption(kind, level, seed)) != labels).sum())
    rate = level if kind == "flip" else level * (classes - 1) / classes
    low, high = stats.binom.interval(1 - RARE, len(labels), rate)
    assert low <= wrong <= high


def test_random_labels_redraw_every_label() -> None:
    assert torch.equal(
        corrupt_labels(MANY, 10, Corruption("random_labels", 1.0, 3)), corrupt_labels(MANY, 10, Corruption("redraw", 1.0, 3))
    )


def table(labels: Tensor, new: Tensor, classes: int) -> Tensor:
    """How often each true label (row) became each label (column)."""
    return torch.bincount(labels * classes + new, minlength=classes**2).reshape(classes, classes)


def test_redrawn_labels_are_uniform_whatever_the_true_one() -> None:
    counts = table(MANY, corrupt_labels(MANY, 10, Corruption("redraw", 1.0, 5)), 10)
    assert stats.chisquare(counts.sum(0).numpy()).pvalue > RARE
    assert stats.chisquare(counts.flatten().numpy()).pvalue > RARE


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_a_flipped_label_is_never_the_true_one_and_uniform_over_the_others(classes: int) -> None:
    labels = torch.arange(20_000) % classes
    counts = table(labels, corrupt_labels(labels, classes, Corruption("flip", 1.0, 5)), classes)
    assert int(counts.diagonal().sum()) == 0
    others = counts[~torch.eye(classes, dtype=torch.bool)].reshape(classes, classes - 1)
    assert torch.equal(others.sum(1), torch.bincount(labels))
    if classes > 2:
        assert stats.chisquare(others.numpy(), axis=1).pvalue.min() > RARE / classes


@given(
    st.sampled_from(["redraw", "flip"]),
    st.integers(0, 2**40),
    st.lists(st.floats(0, 1, allow_subnormal=False), min_size=2, max_size=2).map(sorted),
    st.integers(2, 12),
)
def test_a_higher_level_corrupts_the_same_labels_alike_and_more(kind: Any, seed: int, levels: list[float], classes: int) -> None:
    labels = torch.arange(200) % classes
    low, high = (corrupt_labels(labels, classes, Corruption(kind, level, seed)) for level in levels)
    changed = low != labels
    assert torch.equal(high[changed], low[changed])
    assert bool(((high >= 0) & (high < classes)).all())
    assert torch.equal(low, corrupt_labels(labels, classes, Corruption(kind, levels[0], seed)))


def test_level_zero_and_pixel_kinds_leave_labels_alone() -> None:
    for kind in LABEL_KINDS[:2]:
        assert torch.equal(corrupt_labels(MANY, 10, Corruption(kind, 0.0, 1)), MANY)
    for kind in PIXEL_KINDS:
        assert torch.equal(corrupt_labels(MANY, 10, Corruption(kind, 1.0, 1)), MANY)


# A point's labels


def trained_on(**fields: Any) -> PointData:
    return point_data(point({name.replace("__", "."): value for name, value in fields.items()}), CPU)


def test_the_recorded_rate_is_the_measured_one(blobs: str) -> None:
    fields = {"data.name": blobs, "corruption.kind": "flip", "corruption.level": 0.4, "budget.epochs": 0}
    data = point_data(point(fields), CPU)
    true = load(point(fields).data).train_labels[data.train.index]
    mistaken = sum(int(label) != int(truth) for label, truth in zip(data.train.labels, true, strict=True))
    (result,) = train([point(fields)]).values()
    assert result.outcome["wrong_label_rate"] == mistaken / 90
    assert int(data.train.wrong.sum()) == mistaken > 0


@pytest.mark.parametrize("kind", ["redraw", "flip", "random_labels"])
def test_only_training_labels_are_corrupted(blobs: str, kind: str) -> None:
    fields = {"data.name": blobs, "data.validation_size": 30, "corruption.kind": kind}
    resolved = point(fields if kind == "random_labels" else fields | {"corruption.level": 1.0})
    data, dataset = point_data(resolved, CPU), load(resolved.data)
    assert data.validation is not None
    assert bool(data.train.wrong.any())
    for clean, images in ((data.validation, dataset.train_labels), (data.test, dataset.test_labels)):
        assert torch.equal(clean.labels, images[clean.index])
        assert not bool(clean.wrong.any())
    assert torch.equal(data.test.index, torch.arange(45))


def test_labels_are_fixed_over_epochs() -> None:
    """Labels that changed from epoch to epoch could not be memorised: chance would be 90 % error."""
    fields = {"data.train_size": 100, "corruption.kind": "random_labels", "model.width": 256, "budget.epochs": 100}
    (result,) = train([point(fields)]).values()
    assert result.outcome["train_error"] == 0
    assert result.outcome["test_error"] > 0.75


def test_three_seeds_decide_three_things(blobs: str) -> None:
    base = {"data__name": blobs, "data__train_size": 40, "data__seed": 1, "corruption__seed": 1, "corruption__level": 0.6, "seed": 1}
    first = trained_on(**base)
    same = trained_on(**base | {"seed": 2})
    assert torch.equal(same.train.index, first.train.index)
    assert torch.equal(same.train.labels, first.train.labels)
    corrupted = trained_on(**base | {"corruption__seed": 2})
    assert torch.equal(corrupted.train.index, first.train.index)
    assert not torch.equal(corrupted.train.labels, first.train.labels)
    drawn = trained_on(**base | {"data__seed": 2})
    assert not torch.equal(drawn.train.index, first.train.index)
    label_of = dict(zip(first.train.index.tolist(), first.train.labels.tolist(), strict=True))
    shared = [place for place, sample in enumerate(drawn.train.index.tolist()) if sample in label_of]
    assert shared
    assert all(int(drawn.train.labels[place]) == label_of[int(drawn.train.index[place])] for place in shared)


def test_data_and_corruption_follow_the_seed_unless_set(blobs: str) -> None:
    base = {"data__name": blobs, "data__train_size": 40, "corruption__level": 0.6}
    following, stated = trained_on(**base, seed=7), trained_on(**base, seed=8, data__seed=7, corruption__seed=7)
    assert torch.equal(following.train.index, stated.train.index)
    assert torch.equal(following.train.labels, stated.train.labels)
    assert not torch.equal(trained_on(**base, seed=8).train.index, following.train.index)


def test_the_order_in_which_all_samples_stand_has_no_seed(blobs: str) -> None:
    first, second = (trained_on(data__name=blobs, data__seed=seed) for seed in (1, 2))
    assert torch.equal(first.train.index, second.train.index)


# Pixels

HEIGHT, WIDTH, CHANNELS = 5, 6, 3
POSITIONS = HEIGHT * WIDTH
ZERO, ONE = torch.zeros(CHANNELS), torch.ones(CHANNELS)


def numbered(count: int) -> Tensor:
    """Images in which a pixel tells its image, position and channel: image * 1000 + position * 10 + channel."""
    positions = torch.arange(POSITIONS).reshape(HEIGHT, WIDTH) * 10
    return (torch.arange(count)[:, None, None, None] * 1000 + positions + torch.arange(CHANNELS)[:, None, None]).float()


def sources(images: Tensor) -> Tensor:
    """(n, positions): where each pixel of `numbered` images came from; fails if channels or images were mixed."""
    flat = images.flatten(2).long()
    assert torch.equal(flat % 10, torch.arange(CHANNELS)[:, None].expand(flat.shape))
    assert torch.equal(flat // 1000, torch.arange(len(flat))[:, None, None].expand(flat.shape))
    found = flat % 1000 // 10
    assert torch.equal(found, found[:, :1].expand(found.shape))  # a pixel's channels move together
    return found[:, 0]


def shuffled(kind: Any, level: float, count: int, split: str = "train", seed: int = 4) -> Tensor:
    return sources(corrupt_pixels(numbered(count), Corruption(kind, level, seed), split, ZERO, ONE))


@pytest.mark.parametrize("kind", ["shuffled_pixels", "random_pixels"])
@pytest.mark.parametrize("level", [0.0, 0.3, 1.0])
def test_shuffling_keeps_each_images_pixels(kind: str, level: float) -> None:
    found = shuffled(kind, level, 50)
    assert torch.equal(found.sort(1).values, torch.arange(POSITIONS).expand(50, -1))


@pytest.mark.parametrize("level", [0.3, 1.0])
def test_one_permutation_for_all_images_of_both_splits(level: float) -> None:
    train, test = (shuffled("shuffled_pixels", level, 20, split) for split in ("train", "test"))
    assert torch.equal(train, train[:1].expand(20, -1))
    assert torch.equal(test, train)
    assert not torch.equal(train[0], torch.arange(POSITIONS))
    assert not torch.equal(shuffled("shuffled_pixels", level, 20, seed=5), train)


def test_each_image_has_its_own_permutation() -> None:
    train, test = (shuffled("random_pixels", 1.0, 3000, split) for split in ("train", "test"))
    assert len({tuple(row) for row in [*train.tolist(), *test.tolist()]}) == 6000


def test_permutations_are_uniform() -> None:
    images = torch.arange(4.0).reshape(1, 1, 2, 2).expand(4800, 1, 2, 2)
    found = corrupt_pixels(images, Corruption("random_pixels", 1.0, 6), "train", ZERO[:1], ONE[:1])
    counts = Counter(map(tuple, found.flatten(1).tolist()))
    assert len(counts) == 24
    assert stats.chisquare(list(counts.values())).pvalue > RARE


@pytest.mark.parametrize("level", [0.1, 0.3, 0.5, 0.99])
def test_a_level_moves_that_fraction_of_the_pixels(level: float) -> None:
    """A uniform permutation of m >= 2 positions has a number of fixed points of mean 1 and variance 1."""
    affected = round(level * POSITIONS)
    moved = (shuffled("random_pixels", level, 4000) != torch.arange(POSITIONS)).sum(1)
    assert int(moved.max()) == affected
    assert abs(float(moved.double().mean()) - (affected - 1)) < 5 / 4000**0.5
    assert int((shuffled("shuffled_pixels", level, 1) != torch.arange(POSITIONS)).sum()) <= affected


@pytest.mark.parametrize("level", [0.0, 0.1, 0.5, 1.0])
def test_a_level_of_gaussian_pixels_is_exact_in_each_image(level: float) -> None:
    images = numbered(200)
    changed = corrupt_pixels(images, Corruption("gaussian", level, 4), "train", ZERO, ONE) != images
    assert torch.equal(changed.any(1), changed.all(1))  # a pixel's channels are replaced together
    assert torch.equal(changed.any(1).flatten(1).sum(1), torch.full((200,), round(level * POSITIONS)))


@given(
    st.sampled_from(["gaussian", "random_pixels", "shuffled_pixels"]),
    st.integers(0, 99),
    st.lists(st.integers(0, 30), min_size=2, max_size=2),
)
def test_a_higher_level_corrupts_the_same_pixels_and_more(kind: Any, seed: int, affected: list[int]) -> None:
    low, high = sorted(affected)
    images = numbered(3)
    less, more = (
        (corrupt_pixels(images, Corruption(kind, count / POSITIONS, seed), "train", ZERO, ONE) != images).any(1).flatten(1)
        for count in (low, high)
    )
    # Those corrupted less and not more may only be fixed points of the larger permutation.
    fixed = (less & ~more).sum(1)
    assert int((less | more).sum(1).max()) <= high
    if kind == "gaussian":
        assert int(fixed.max()) == 0


def test_gaussian_pixels_have_the_sets_mean_and_variance() -> None:
    mean, deviation = torch.tensor([10.0, 120.0, 200.0]), torch.tensor([1.0, 40.0, 70.0])
    count = 3000
    images = torch.zeros(count, CHANNELS, HEIGHT, WIDTH, dtype=torch.uint8)
    found = {
        split: corrupt_pixels(images, Corruption("gaussian", 1.0, 8), split, mean, deviation).transpose(0, 1).flatten(1).double()
        for split in ("train", "test")
    }
    samples = count * POSITIONS
    for pixels in found.values():
        for channel in range(CHANNELS):
            own = pixels[channel]
            assert abs(float(own.mean() - mean[channel])) < 5 * float(deviation[channel]) / samples**0.5
            # The variance of n normal draws has a standard error of sigma^2 * sqrt(2/n).
            assert abs(float(own.var() / deviation[channel] ** 2) - 1) < 5 * (2 / samples) ** 0.5
            assert stats.kstest(own[:5000].numpy(), "norm", args=(float(mean[channel]), float(deviation[channel]))).pvalue > RARE
        correlations = torch.corrcoef(pixels) - torch.eye(CHANNELS)
        assert float(correlations.abs().max()) < 5 / samples**0.5
    assert not torch.equal(found["train"], found["test"])


@pytest.mark.parametrize("kind", PIXEL_KINDS)
def test_pixels_are_corrupted_alike_each_time(kind: Any) -> None:
    images = numbered(10).to(torch.uint8)
    first, second = (corrupt_pixels(images, Corruption(kind, 0.5, 3), "train", ZERO, ONE) for _ in range(2))
    assert torch.equal(first, second)
    assert first.dtype == (torch.float32 if kind == "gaussian" else torch.uint8)
    assert not torch.equal(corrupt_pixels(images, Corruption(kind, 0.5, 4), "train", ZERO, ONE), first)


@pytest.mark.parametrize("kind", PIXEL_KINDS)
def test_a_points_images_are_corrupted_in_train_validation_and_test(blobs: str, kind: str) -> None:
    """The same samples with the same labels as without corruption, in other pixels."""
    fields = {"data.name": blobs, "data.validation_size": 30, "data.train_size": 40, "seed": 3}
    plain, changed = (point_data(point(fields | more), CPU) for more in ({}, {"corruption.kind": kind}))
    assert plain.validation is not None
    assert changed.validation is not None
    for clean, corrupted in ((plain.train, changed.train), (plain.validation, changed.validation), (plain.test, changed.test)):
        assert torch.equal(clean.labels, corrupted.labels)
        assert not bool(corrupted.wrong.any())
        before, after = clean.inputs.gather(clean.index), corrupted.inputs.gather(corrupted.index)
        assert before.shape == after.shape
        rows = (before != after).any(1)
        assert bool(rows.all())
        if kind != "gaussian":  # standardized by channel, so that shuffling keeps each channel's values
            values = [images.reshape(len(images), 2, 20).sort(2).values for images in (before, after)]
            assert torch.equal(*values)


def test_a_shuffle_reaches_train_and_test_by_one_permutation(blobs: str) -> None:
    fields = {"data.name": blobs, "seed": 3}
    plain, changed = (point_data(point(fields | more), CPU) for more in ({}, {"corruption.kind": "shuffled_pixels"}))
    before, after = (data.train.inputs.gather(data.train.index) for data in (plain, changed))
    order = [next(old for old in range(40) if torch.equal(before[:, old], after[:, new])) for new in range(40)]
    assert order[20:] == [place + 20 for place in order[:20]]
    assert torch.equal(plain.test.inputs.gather(plain.test.index)[:, order], changed.test.inputs.gather(changed.test.index))
