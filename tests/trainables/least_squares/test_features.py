"""Fixed image features against their definitions, patch by patch and pixel by pixel."""

from __future__ import annotations

from math import pi

import numpy as np
import pytest
import torch
from torch import Tensor

from trainables.least_squares import features as features_module
from trainables.least_squares.features import GaborFeatures, extract, patch_features


@pytest.fixture(autouse=True)
def fewer_patches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features_module, "_SAMPLE", 2000)


def images(n: int, channels: int, size: int, seed: int = 0) -> Tensor:
    return torch.rand(n, channels, size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_patch_features_by_explicit_patches() -> None:
    """Contrast, whitening, filters, rectifier, quarters, each written out with loops on 12 x 12 images (7 x 7 patches of 6)."""
    train, size, patch = images(40, 2, 12), 12, 6
    features = patch_features(train, 5, seed=3)
    generator = torch.Generator().manual_seed(3)
    image, top, left = (torch.randint(high, (2000,), generator=generator).numpy() for high in (40, 7, 7))

    def normal(patches: np.ndarray) -> np.ndarray:
        flat = 255 * patches.reshape(len(patches), -1)
        return (flat - flat.mean(1, keepdims=True)) / np.sqrt(flat.var(1, keepdims=True) + 10)

    drawn = normal(np.stack([train[i].numpy()[:, a : a + patch, b : b + patch] for i, a, b in zip(image, top, left, strict=True)]))
    mean = drawn.mean(0)
    eigenvalues, vectors = np.linalg.eigh(np.cov(drawn.T))
    whitener = vectors @ np.diag(1 / np.sqrt(eigenvalues + 0.1)) @ vectors.T
    filters = (drawn[:5] - mean) @ whitener
    filters /= np.linalg.norm(filters, axis=1, keepdims=True)

    fresh = images(3, 2, size, seed=1)
    positions = size - patch + 1
    for index in range(3):
        response = np.empty((5, positions, positions))
        for row in range(positions):
            for column in range(positions):
                one = normal(fresh[index : index + 1].numpy()[:, :, row : row + patch, column : column + patch])[0]
                response[:, row, column] = filters @ (whitener @ (one - mean))
        quarters = [(rows, columns) for rows in (slice(0, 4), slice(3, 7)) for columns in (slice(0, 4), slice(3, 7))]
        sides = [np.maximum(sign * response - 0.25, 0) for sign in (1, -1)]
        expected = np.array([[side[number][quarter].mean() for quarter in quarters] for side in sides for number in range(5)])
        np.testing.assert_allclose(features(fresh)[index].numpy(), expected.ravel(), rtol=0, atol=1e-9)


def test_patch_features_have_eight_numbers_a_filter() -> None:
    train = images(20, 3, 32).float()
    features = patch_features(train, 300, seed=0)
    assert extract(features, train, batch=7).shape == (20, 2400)
    torch.testing.assert_close(extract(features, train, batch=7), features(train), rtol=0, atol=1e-5)


def test_patch_features_of_a_brighter_or_flat_image() -> None:
    """A patch's brightness plays no part; flat images give one and the same answer."""
    train = images(20, 3, 12)
    features = patch_features(train, 10)
    fresh = images(2, 3, 12, seed=1) / 2
    torch.testing.assert_close(features(fresh + 0.3), features(fresh), rtol=0, atol=1e-9)
    flat = torch.ones(1, 3, 12, 12, dtype=torch.float64)
    torch.testing.assert_close(features(0.9 * flat), features(0.1 * flat), rtol=0, atol=1e-9)


def test_filters_are_seeded() -> None:
    train = images(20, 1, 12)
    again, other = patch_features(train, 4, seed=1), patch_features(train, 4, seed=2)
    assert torch.equal(patch_features(train, 4, seed=1).filters, again.filters)
    assert not torch.equal(again.filters, other.filters)


def test_errors_are_said_in_a_sentence() -> None:
    with pytest.raises(ValueError, match="4 patches of 6x6 were asked for"):
        patch_features(images(3, 1, 5), 4)
    with pytest.raises(ValueError, match="at most 2000 are drawn"):
        patch_features(images(3, 1, 8), 2001)


def test_gabor_energy_by_explicit_sums() -> None:
    """Modulus of each complex response, then its mean over 8 x 8 squares, zeros beyond the edge, written out."""
    features = GaborFeatures(wavelengths=(4.0,), orientations=3, cell=4)
    image = images(1, 1, 16).float()
    steps = np.arange(-5, 6)
    envelope = np.exp(-(steps[:, None] ** 2 + steps**2) / (2 * 2.0**2))
    envelope /= envelope.sum()
    expected = []
    for turn in range(3):
        angle = pi * turn / 3
        wave = envelope * np.exp(2j * pi / 4 * (np.cos(angle) * steps + np.sin(angle) * steps[:, None]))
        wave -= envelope * wave.sum()
        padded = np.pad(image[0, 0].numpy(), 5)
        modulus = np.array([[abs((padded[r : r + 11, c : c + 11] * wave).sum()) for c in range(16)] for r in range(16)])
        padded = np.pad(modulus, 2)
        expected.append([[padded[r : r + 8, c : c + 8].mean() for c in range(0, 16, 4)] for r in range(0, 16, 4)])
    np.testing.assert_allclose(features(image)[0].numpy(), np.ravel(expected), rtol=0, atol=1e-5)


def test_gabor_features_answer_to_their_own_waves() -> None:
    """Of stripes, the feature of their wavelength and direction is the largest; flat images have none."""
    wavelengths, orientations = (3.0, 6.0), 4
    features = GaborFeatures(wavelengths, orientations, cell=4)
    steps = torch.arange(28.0)
    for size, wavelength in enumerate(wavelengths):
        for turn in range(orientations):
            angle = torch.tensor(pi * turn / orientations)
            stripes = torch.cos(2 * pi / wavelength * (torch.cos(angle) * steps + torch.sin(angle) * steps[:, None]))
            energy = features(stripes[None, None]).view(len(wavelengths) * orientations, -1)
            middle = energy.shape[1] // 2
            assert int(energy[:, middle].argmax()) == size * orientations + turn
    flat = features(torch.ones(1, 1, 28, 28)).view(8, 7, 7)
    assert float(flat[:, 3, 3].max()) < 1e-6
