"""Crop and flip against explicit loops, mixup's weights by their distribution, smoothed targets against PyTorch."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor

from trainables.data.augmentation import augment, augments, soft_targets
from trainables.point.config import TrialConfig, with_fields
from trainables.point.streams import generator

RARE = 1e-4
SHAPE = (2, 5, 7)


def member(**fields: Any) -> TrialConfig:
    return with_fields(TrialConfig(), {f"regularizers.{name}": value for name, value in fields.items()})


def augmented(points: list[TrialConfig], inputs: Tensor, targets: Tensor, seeds: list[int]) -> tuple[Tensor, Tensor]:
    return augment(inputs.clone(), targets.clone(), points, [generator(seed, "augmentation", 0) for seed in seeds], SHAPE)


def images(count: int, seed: int = 0) -> Tensor:
    """(1, count, D): no two pixels are equal, and none is 0."""
    draw = torch.Generator().manual_seed(seed)
    return (torch.randperm(count * 70, generator=draw).float() + 1).reshape(1, count, 70)


def targets(count: int) -> Tensor:
    return torch.nn.functional.one_hot(torch.arange(count) % 4, 4).float().T[None]


def moved(image: Tensor, down: int, right: int, mirrored: bool) -> Tensor:
    """Pixel (r, c) of the window is pixel (r + down, c + right) of the image, mirrored or not, or 0 outside."""
    channels, height, width = SHAPE
    window = torch.zeros(SHAPE)
    for channel in range(channels):
        for row in range(height):
            for column in range(width):
                from_row, from_column = row + down, (width - 1 - column if mirrored else column) + right
                if 0 <= from_row < height and 0 <= from_column < width:
                    window[channel, row, column] = image[channel, from_row, from_column]
    return window


def move_of(image: Tensor, found: Tensor, pad: int) -> tuple[int, int, bool]:
    """The one move that gives the image found."""
    every = [(down, right, mirrored) for down in range(-pad, pad + 1) for right in range(-pad, pad + 1) for mirrored in (False, True)]
    fitting = [move for move in every if torch.equal(moved(image, *move), found)]
    assert len(fitting) == 1
    return fitting[0]


@pytest.mark.parametrize(("crop", "flip"), [(2, True), (2, False), (1, True), (0, True)])
def test_each_image_is_cropped_and_flipped_by_itself(crop: int, flip: bool) -> None:
    before = images(60)
    after, unchanged = augmented([member(crop=crop, flip=flip)], before, targets(60), [1])
    moves = [move_of(image, found, crop) for image, found in zip(before.reshape(-1, *SHAPE), after.reshape(-1, *SHAPE), strict=True)]
    assert torch.equal(unchanged, targets(60))
    assert len({(down, right) for down, right, _ in moves}) > (1 if crop else 0)
    assert {mirrored for _, _, mirrored in moves} == ({True, False} if flip else {False})


def test_moves_are_uniform() -> None:
    """A single bright pixel in the middle shows where it goes, one of 5 x 5 places; the pixel beside it shows a flip."""
    count = 4000
    before = torch.zeros(1, count, *SHAPE)
    before[:, :, 0, 2, 3], before[:, :, 0, 2, 4] = 2, 1
    after, _ = augmented([member(crop=2, flip=True)], before.flatten(2), targets(count), [5])
    after = after.reshape(count, *SHAPE)[:, 0]
    places = (after == 2).flatten(1).nonzero()
    assert len(places) == count
    counts = Counter(places[:, 1].tolist())
    assert set(counts) == {row * 7 + column for row in range(5) for column in range(1, 6)}
    assert stats.chisquare(list(counts.values())).pvalue > RARE
    rows, columns = (after == 1).nonzero()[:, 1:].unbind(1)
    assert torch.equal(rows * 7, places[:, 1] // 7 * 7)
    flipped = int((columns < places[:, 1] % 7).sum())
    low, high = stats.binom.interval(1 - RARE, count, 0.5)
    assert low <= flipped <= high


# Mixup


def mixed(alpha: float, seed: int, batch: int = 4) -> tuple[float, list[int]]:
    """The weight and the permutation, read off inputs that are unit vectors; targets must be mixed alike."""
    inputs = torch.eye(batch, 70)[None]
    labels = torch.eye(batch)[None]  # (1, classes, B): sample b has class b
    inputs, labels = augmented([member(mixup=alpha)], inputs, labels, [seed])
    rows = inputs[0, :, :batch]
    assert torch.equal(labels[0].T, rows)
    weights = rows.sum(1)
    assert torch.allclose(weights, torch.ones(batch), atol=1e-6)
    others = [place for place in range(batch) if float(rows[place, place]) != 1.0]
    if not others:
        return 1.0, list(range(batch))
    weight = float(rows[others[0], others[0]])
    order = [
        place if place not in others else next(other for other in range(batch) if other != place and float(rows[place, other]))
        for place in range(batch)
    ]
    for place, other in enumerate(order):
        expected = torch.zeros(batch)
        expected[place] += weight
        expected[other] += 1 - weight
        assert torch.allclose(rows[place], expected, atol=1e-6)
    return weight, order


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_mixups_weight_is_a_beta_draw(alpha: float) -> None:
    draws = [mixed(alpha, seed) for seed in range(1500)]
    weights = [weight for weight, order in draws if order != [0, 1, 2, 3]]
    assert stats.kstest(weights, "beta", args=(alpha, alpha)).pvalue > RARE
    clear = [tuple(order) for weight, order in draws if 0.01 < weight < 0.99]
    counts = Counter(clear)
    assert stats.chisquare([counts[order] for order in counts]).pvalue > RARE
    assert len(counts) == 23  # of 24: where the permutation is the identity, nothing shows


def test_a_tiny_alpha_mixes_nothing() -> None:
    """Beta(alpha, alpha) tends to a fair coin between 0 and 1 as alpha goes to 0."""
    weights = [mixed(1e-3, seed)[0] for seed in range(400)]
    inside = stats.beta(1e-3, 1e-3).cdf(0.99) - stats.beta(1e-3, 1e-3).cdf(0.01)
    assert sum(0.01 < weight < 0.99 for weight in weights) <= stats.binom.ppf(1 - RARE, 400, inside)
    low, high = stats.binom.interval(1 - RARE, 400, 0.5 * 23 / 24)  # a weight of 0 does not show where nothing is permuted
    assert low <= sum(weight < 0.5 for weight in weights) <= high


# Smoothing


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7, 1.0])
def test_smoothed_targets_give_pytorchs_smoothed_loss(smoothing: float) -> None:
    draw = torch.Generator().manual_seed(0)
    labels, logits = torch.randint(0, 5, (2, 30), generator=draw), torch.randn(2, 30, 5, generator=draw)
    soft = soft_targets(labels, 5, torch.tensor([smoothing, 0.3]))
    assert soft.shape == (2, 5, 30)
    for place, each in enumerate((smoothing, 0.3)):
        expected = torch.nn.functional.cross_entropy(logits[place], labels[place], label_smoothing=each)
        found = -(soft[place].T * logits[place].log_softmax(1)).sum(1).mean()
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_targets_without_smoothing_are_one_hot() -> None:
    labels = torch.tensor([[2, 0, 1]])
    expected = torch.tensor([[[0.0, 1, 0], [0, 0, 1], [1, 0, 0]]])
    assert torch.equal(soft_targets(labels, 3, None), expected)
    both = soft_targets(labels.expand(2, -1), 3, torch.tensor([0.0, 0.5]))
    assert torch.equal(both[:1], expected)


# Members


def test_a_members_augmentation_does_not_depend_on_its_neighbours() -> None:
    points = [member(crop=2, flip=True), member(), member(mixup=0.4), member(flip=True, mixup=1.0), member(crop=1, flip=True)]
    inputs, labels = images(9).expand(5, -1, -1), targets(9).expand(5, -1, -1)
    together = augmented(points, inputs, labels, [1, 2, 3, 4, 1])
    for place, point in enumerate(points):
        own = slice(place, place + 1)
        alone = augmented([point], inputs[own], labels[own], [[1, 2, 3, 4, 1][place]])
        assert torch.equal(together[0][own], alone[0])
        assert torch.equal(together[1][own], alone[1])
    assert torch.equal(together[0][1], inputs[1])
    assert not torch.equal(together[0][0], together[0][4])


def test_which_points_augment() -> None:
    assert not augments(member(dropout=0.5, weight_decay=0.1, label_smoothing=0.1))
    assert all(augments(member(**{name: value})) for name, value in {"crop": 1, "flip": True, "mixup": 0.1}.items())
