"""Augmentation on a GPU, which any device can do, against images moved one by one, and chance."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from trainables.data.device_augmentation import DeviceAugmentation
from trainables.data.windows import Windows
from trainables.point.config import TrialConfig, with_fields
from trainables.point.device_streams import keys, permutations, uniform

CPU = torch.device("cpu")
SHAPE = (2, 4, 5)
RARE = 1e-4
Values = dict[str, Any]


def member(seed: int, **regularizers: Any) -> TrialConfig:
    return with_fields(TrialConfig(seed=seed), {f"regularizers.{name}": value for name, value in regularizers.items()})


def augmentation(points: list[TrialConfig], windows: list[Windows | None] | None = None, steps: int = 3) -> DeviceAugmentation:
    return DeviceAugmentation(points, [7] * len(points), SHAPE, windows or [None], steps, CPU)


def batch(members: int, size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    index = torch.randint(0, 30, (members, size), generator=draw)
    return index, torch.randn(members, size, 40, generator=draw), torch.rand(members, 3, size, generator=draw)


def moved(image: np.ndarray, down: int, right: int, mirrored: bool) -> np.ndarray:
    """One image (C, H, W), pixel by pixel."""
    found = np.zeros_like(image)
    _, height, width = image.shape
    for row in range(height):
        for column in range(width):
            source = row + down, (width - 1 - column if mirrored else column) + right
            if 0 <= source[0] < height and 0 <= source[1] < width:
                found[:, row, column] = image[:, source[0], source[1]]
    return found


def test_every_member_is_cropped_and_flipped_as_it_says() -> None:
    points = [member(0, crop=2, flip=True), member(1), member(2, crop=1), member(3, flip=True)]
    augmented = augmentation(points)
    for step in range(2):
        index, inputs, targets = batch(4, 6)
        after, same = augmented.next(index, inputs.clone(), targets)
        assert torch.equal(same, targets)
        draws = uniform(keys([(point.seed, "augmentation", 7) for point in points], CPU), step, 3, 6)
        for place, point in enumerate(points):
            pad = point.regularizers.crop
            for sample in range(6):
                down, right, side = draws[place, :, sample].tolist()
                expected = moved(
                    inputs[place, sample].reshape(SHAPE).numpy(),
                    int(down * (2 * pad + 1)) - pad,
                    int(right * (2 * pad + 1)) - pad,
                    point.regularizers.flip and side < 0.5,
                )
                assert np.array_equal(after[place, sample].reshape(SHAPE).numpy(), expected)


def test_windows_are_cut_out_of_the_whole_image() -> None:
    draw = torch.Generator().manual_seed(3)
    windows = [Windows(torch.randint(0, 256, (30, 2, 8, 9), dtype=torch.uint8, generator=draw), (4, 5), 255.0) for _ in range(2)]
    points = [member(0, crop=2, crop_from="image"), member(1, crop=1, crop_from="image", flip=True), member(2, crop=1)]
    index, inputs, targets = batch(3, 6)
    draws = uniform(keys([(point.seed, "augmentation", 7) for point in points], CPU), 0, 3, 6)
    for given in ([windows[0]], [windows[0], windows[1], None]):
        after, _ = augmentation(points, given).next(index, inputs.clone(), targets)
        for place, reach in ((0, 2), (1, 1)):
            moves = (draws[place, :2] * (2 * reach + 1)).long().T - reach
            cut = given[place if len(given) > 1 else 0].at(index[place], moves).reshape(6, *SHAPE)
            if place:
                cut = torch.stack([one.flip(2) if side < 0.5 else one for one, side in zip(cut, draws[place, 2], strict=True)])
            assert torch.equal(after[place], cut.flatten(1))
        assert not torch.equal(after[2], inputs[2])


def test_mixup_mixes_inputs_and_targets_alike() -> None:
    points = [member(0, mixup=0.3), member(1)]
    augmented = augmentation(points)
    for step in range(3):
        index, inputs, targets = batch(2, 6)
        after, aims = augmented.next(index, inputs.clone(), targets.clone())
        assert torch.equal(after[1], inputs[1])
        assert torch.equal(aims[1], targets[1])
        order = permutations(keys([(0, "mixup", 7)], CPU), step, 6)[0]
        partners, other_targets = inputs[0, order], targets[0][:, order]
        apart = (inputs[0] - partners).abs().argmax()
        weight = ((after[0] - partners) / (inputs[0] - partners)).flatten()[apart]
        assert 0 <= weight <= 1
        torch.testing.assert_close(after[0], weight * inputs[0] + (1 - weight) * partners, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(aims[0], weight * targets[0] + (1 - weight) * other_targets, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_mixups_weights_are_beta_draws(alpha: float) -> None:
    weights = augmentation([member(0, mixup=alpha)], steps=2000)._weights[0]
    assert stats.kstest(weights.numpy(), "beta", args=(alpha, alpha)).pvalue > RARE


def test_windows_and_sides_are_equally_likely() -> None:
    size = 9000
    inputs = torch.zeros(1, size, *SHAPE)
    inputs[:, :, 0, 2, 2], inputs[:, :, 0, 2, 3] = 2, 1
    after, _ = augmentation([member(5, crop=1, flip=True)]).next(
        torch.zeros(1, size, dtype=torch.int64), inputs.flatten(2), torch.zeros(1, 3, size)
    )
    images = after.reshape(size, *SHAPE)[:, 0]
    places = (images == 2).nonzero()[:, 1:]
    sides = (images == 1).nonzero()[:, 2] > places[:, 1]
    counts = Counter((row, column, side) for (row, column), side in zip(places.tolist(), sides.tolist(), strict=True))
    assert len(counts) == 18
    assert stats.chisquare(list(counts.values())).pvalue > RARE
