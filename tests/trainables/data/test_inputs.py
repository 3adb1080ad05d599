"""Preprocessing against explicit loops, and one copy of the images for all points that use the same."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.trainables.made_up_points import CPU, point
from trainables.data import inputs as module
from trainables.data.corruption import corrupt_pixels
from trainables.data.inputs import PointData, StackedInputs, input_shape, point_data
from trainables.data.sets.sources import load

EPSILON = 2.0**-23
"""float32: an input is x * scale + shift, each rounded once, of numbers no larger than a few deviations of an image."""


def stored(tmp_path: Path, shape: tuple[int, ...], *, floats: bool = False, name: str = "set") -> str:
    """`data.name` of a file of 30 training and 12 test images of that shape; the first one is constant."""
    draw = np.random.default_rng(3)
    images = draw.integers(0, 256, (42, *shape), dtype=np.uint8)
    images[0] = 77
    if floats:
        images = (images / 255).astype(np.float32)
    np.savez(tmp_path / f"{name}.npz", x_train=images[:30], y_train=np.arange(30) % 3, x_test=images[30:], y_test=np.arange(12) % 3)
    return f"npz:{tmp_path / f'{name}.npz'}"


def gathered(data: PointData) -> tuple[torch.Tensor, torch.Tensor]:
    """The training and test inputs as images, (n, C, H, W)."""
    shape = data.image_shape
    return tuple(part.inputs.gather(part.index).reshape(-1, *shape) for part in (data.train, data.test))  # type: ignore[return-value]


def whitened(image: np.ndarray, full_range: float) -> np.ndarray:
    """Zhang et al. 2017, appendix A, one pixel after another: (H, W, C) as stored to (C, 28, 28) or less."""
    height, width, channels = image.shape
    rows, columns = min(height, 28), min(width, 28)
    top, left = (height - rows) // 2, (width - columns) // 2
    pixels = [
        float(image[top + row, left + column, channel]) / full_range
        for channel in range(channels)
        for row in range(rows)
        for column in range(columns)
    ]
    mean = math.fsum(pixels) / len(pixels)
    deviation = math.sqrt(math.fsum((pixel - mean) ** 2 for pixel in pixels) / len(pixels))
    adjusted = max(deviation, 1 / math.sqrt(len(pixels)))
    return np.array([(pixel - mean) / adjusted for pixel in pixels]).reshape(channels, rows, columns)


@pytest.mark.parametrize("floats", [False, True])
@pytest.mark.parametrize("shape", [(32, 32, 3), (29, 30, 1), (28, 28, 1), (20, 35, 3), (8, 8, 2)])
def test_paper_crops_the_centre_and_standardizes_each_image(tmp_path: Path, shape: tuple[int, int, int], floats: bool) -> None:
    resolved = point({"data.name": stored(tmp_path, shape, floats=floats), "data.preprocessing": "paper", "model.name": "linear"})
    dataset = load(resolved.data)
    for found, images in zip(gathered(point_data(resolved, CPU)), (dataset.train_images, dataset.test_images), strict=True):
        for place in range(0, len(images), 5):
            expected = whitened(images[place].permute(1, 2, 0).numpy(), 1.0 if floats else 255.0)
            largest = max(1.0, np.abs(expected).max()) * 255  # the constant image is scaled most, by sqrt(D) < 64
            np.testing.assert_allclose(found[place].numpy(), expected, rtol=0, atol=4 * EPSILON * largest)
            if expected.std() > 0.5:
                assert float(found[place].mean()) == pytest.approx(0, abs=1e-5)
                assert float(found[place].std(correction=0)) == pytest.approx(1, abs=1e-5)
    assert input_shape(dataset, "paper") == (shape[2], min(28, shape[0]), min(28, shape[1]))


@pytest.mark.parametrize("floats", [False, True])
def test_standardize_gives_each_channel_of_the_training_set_mean_0_and_deviation_1(tmp_path: Path, floats: bool) -> None:
    resolved = point({"data.name": stored(tmp_path, (9, 7, 3), floats=floats), "model.name": "linear"})
    dataset = load(resolved.data)
    train, test = (part.double() for part in gathered(point_data(resolved, CPU)))
    assert input_shape(dataset, "standardize") == (3, 9, 7)
    for channel in range(3):
        assert float(train[:, channel].mean()) == pytest.approx(0, abs=1e-6)
        assert float(train[:, channel].std(correction=0)) == pytest.approx(1, abs=1e-6)
        pixels = dataset.train_images[:, channel].double()
        expected = (dataset.test_images[:, channel].double() - pixels.mean()) / pixels.std(correction=0)
        assert torch.allclose(test[:, channel], expected, rtol=0, atol=8 * EPSILON * float(expected.abs().max()))


def test_unit_leaves_pixels_between_0_and_1(tmp_path: Path) -> None:
    for floats in (False, True):
        name = stored(tmp_path, (9, 7, 3), floats=floats, name=f"floats {floats}")
        resolved = point({"data.name": name, "data.preprocessing": "unit", "model.name": "linear"})
        expected = load(resolved.data).train_images.double() / (1 if floats else 255)
        train, _ = gathered(point_data(resolved, CPU))
        assert torch.allclose(train.double(), expected, rtol=0, atol=EPSILON)
        assert float(train.max()) <= 1


def test_statistics_are_of_the_whole_training_set_however_few_are_used(tmp_path: Path) -> None:
    name = stored(tmp_path, (9, 7, 3))
    whole, some = (point_data(point({"data.name": name, "data.train_size": size, "model.name": "linear"}), CPU) for size in (30, 3))
    assert torch.equal(gathered(some)[0], gathered(whole)[0][some.train.index])
    assert torch.equal(gathered(some)[1], gathered(whole)[1])


def test_a_constant_channel_becomes_zero(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (12, 4, 4, 2), dtype=np.uint8)
    images[..., 1] = 200
    np.savez(tmp_path / "set.npz", x_train=images, y_train=np.arange(12) % 2, x_test=images, y_test=np.arange(12) % 2)
    train, _ = gathered(point_data(point({"data.name": f"npz:{tmp_path / 'set.npz'}", "model.name": "linear"}), CPU))
    assert torch.equal(train[:, 1], torch.zeros(12, 4, 4))
    assert bool(train[:, 0].any())


@pytest.mark.parametrize("kind", ["redraw", "gaussian"])
@pytest.mark.parametrize("preprocessing", ["paper", "standardize", "unit"])
def test_large_sets_give_the_same_bits_as_small_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, preprocessing: str
) -> None:
    found = []
    for name, limit in (("small", 10**9), ("large", 0)):
        monkeypatch.setattr(module, "_FLOAT_BYTES", limit)
        fields = {"data.name": stored(tmp_path, (9, 30, 3), name=name), "data.preprocessing": preprocessing, "corruption.kind": kind}
        found.append(gathered(point_data(point(fields), CPU)))
    for small, large in zip(*found, strict=True):
        assert torch.equal(small, large)


@pytest.mark.parametrize("preprocessing", ["paper", "standardize"])
@pytest.mark.parametrize("level", [0.02, 0.5, 1.0])
def test_gaussian_pixels_are_preprocessed_in_the_unit_of_the_stored_ones(tmp_path: Path, preprocessing: str, level: float) -> None:
    """The paper's smallest divisor is 1/sqrt(D) of the full range: it matters for the constant image with few pixels changed."""
    name = stored(tmp_path, (32, 29, 1))
    fields = {"data.name": name, "data.preprocessing": preprocessing, "corruption.kind": "gaussian", "corruption.level": level}
    resolved = point(fields)
    dataset = load(resolved.data)
    crop = dataset.train_images[:, :, 2:30, :28] if preprocessing == "paper" else dataset.train_images
    mean, deviation = crop.double().mean().reshape(1), crop.double().std(correction=0).reshape(1)
    pixels = corrupt_pixels(crop, resolved.corruption, "train", mean.float(), deviation.float()).double()
    train, _ = gathered(point_data(resolved, CPU))
    for place in range(0, 30, 5):
        if preprocessing == "paper":
            expected = whitened(pixels[place].permute(1, 2, 0).numpy(), 255.0)
        else:
            expected = ((pixels[place] - mean) / deviation).numpy()
        np.testing.assert_allclose(train[place].numpy(), expected, rtol=0, atol=1e-4)


def test_a_corrupted_pixel_lands_in_its_own_image(tmp_path: Path) -> None:
    name = stored(tmp_path, (9, 7, 3))
    fields = {"data.name": name, "data.train_size": 12, "data.validation_size": 6, "model.name": "linear"}
    plain = point_data(point(fields), CPU)
    changed = point_data(point(fields | {"corruption.kind": "gaussian", "corruption.level": 0.1}), CPU)
    for before, after in zip(gathered(plain), gathered(changed), strict=True):
        same = (before == after).all(1).flatten(1).sum(1)
        assert torch.equal(same, torch.full((len(before),), 63 - round(6.3)))


def test_points_with_the_same_pixels_share_one_copy(blobs: str) -> None:
    base: dict[str, Any] = {"data.name": blobs}
    first, second, own = (
        point_data(point(base | more), CPU)
        for more in ({"seed": 1, "data.train_size": 10}, {"seed": 2, "corruption.level": 0.5}, {"corruption.kind": "random_pixels"})
    )
    assert first.train.inputs is second.train.inputs
    assert first.test is second.test
    assert own.train.inputs is not first.train.inputs


def test_gather_and_stacked_inputs_follow_the_index(blobs: str) -> None:
    first, own = (point_data(point({"data.name": blobs, "corruption.kind": kind}), CPU).train.inputs for kind in ("redraw", "gaussian"))
    index = torch.tensor([[3, 0, 3], [1, 2, 89]])
    for sources in ([first, first], [first, own], [own, own]):
        inputs = StackedInputs(sources)
        inputs.gather(index.flip(1))  # the memory of an earlier batch is overwritten
        found = inputs.gather(index)
        assert found.shape == (2, 3, 40)
        for member, sample in np.ndindex(2, 3):
            assert torch.equal(found[member, sample], sources[member].gather(index[member, sample : sample + 1])[0])
    assert first.gather(index).shape == (2, 3, 40)


def test_validation_is_none_without_a_split(blobs: str) -> None:
    assert point_data(point({"data.name": blobs}), CPU).validation is None
    data = point_data(point({"data.name": blobs, "data.validation_size": 30}), CPU)
    assert data.validation is not None
    assert not set(data.validation.index.tolist()) & set(data.train.index.tolist())
    assert data.classes == 3


@pytest.mark.parametrize("kind", ["redraw", "flip", "gaussian"])
def test_noisy_validation_labels_are_those_of_the_corrupted_set(blobs: str, kind: str) -> None:
    fields = {"data.name": blobs, "data.validation_size": 20, "corruption.kind": kind, "corruption.level": 1.0}
    clean, noisy = (point_data(point(fields | {"corruption.validation": validation}), CPU) for validation in (None, "noisy"))
    assert clean.validation is not None
    assert noisy.validation is not None
    assert not clean.validation.wrong.any()
    assert torch.equal(noisy.validation.wrong, noisy.validation.labels != clean.validation.labels)
    assert torch.equal(noisy.validation.index, clean.validation.index)
    assert torch.equal(noisy.train.labels, clean.train.labels)
    assert torch.equal(noisy.test.labels, clean.test.labels)
    if kind == "flip":
        assert noisy.validation.wrong.all()
    else:
        assert bool(noisy.validation.wrong.any()) == (kind == "redraw")
