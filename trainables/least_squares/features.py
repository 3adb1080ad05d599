"""Fixed features of images, for the closed-form models of Zhang et al. 2017, Section 5: random patches, and Gabor wavelets.

The paper names 32,000 random filters on CIFAR-10 and Gabor wavelets on MNIST, and says no more. What it leaves open is our choice
here: for the filters, the random patches of Coates and Ng (2012) with sizes, whitening, rectifier and pooling as KeystoneML's
RandomPatchCifar sets them; for the wavelets, what is said below.
"""

from __future__ import annotations

from math import cos, pi, sin

import torch
from torch import Tensor, nn
from torch.nn import functional

_FILTERS = 64
"""Filters multiplied at a time: with few images, their products stay in the processor's cache."""
_SAMPLE = 100_000
"""Patches drawn; the whitening is estimated from all of them, and the filters are the first."""


class PatchFeatures(nn.Module):
    """Fixed features by random patches: (batch, channels, height, width) in [0, 1] -> (batch, 8 * filters).

    Every patch is brought to mean 0 and deviation 1, whitened, and multiplied with each filter, itself a whitened patch of length 1;
    max(r - t, 0) and max(-r - t, 0) of the result r are averaged over the 2 x 2 quarters of the image (14 x 14 of 27 x 27 patches).

    Args:
        filters: filters of a normalised patch, whitening folded in, (filters, channels * patch * patch).
        shift: product of each filter with the mean patch, (filters,).
        threshold: t, of the rectifier.
        patch: height and width of a patch.
    """

    filters: Tensor
    shift: Tensor

    def __init__(self, filters: Tensor, shift: Tensor, threshold: float, patch: int) -> None:
        super().__init__()
        self.register_buffer("filters", filters)
        self.register_buffer("shift", shift)
        self.threshold, self.patch = threshold, patch

    def forward(self, images: Tensor) -> Tensor:
        deviation = _patch_deviation(images, self.patch)
        positions = deviation.shape[-2:]
        # A patch's own mean is taken off by the filters, which sum to zero.
        patches = functional.unfold(images, self.patch) / deviation.flatten(2)
        quarters = functional.adaptive_avg_pool2d(torch.eye(patches.shape[2]).to(patches).view(-1, 1, *positions), 2).flatten(1)
        pooled = []
        for filters, shift in zip(torch.split(self.filters, _FILTERS), torch.split(self.shift, _FILTERS), strict=True):
            response = torch.baddbmm(-shift[:, None], filters.expand(len(images), -1, -1), patches)
            pooled.append(((response - self.threshold).relu_() @ quarters).flatten(1))
            pooled.append((response.neg_().sub_(self.threshold).relu_() @ quarters).flatten(1))
        return torch.cat(pooled, dim=1)


def patch_features(
    images: Tensor, filters: int, *, patch: int = 6, threshold: float = 0.25, whitening: float = 0.1, seed: int = 0
) -> PatchFeatures:
    """Make features whose filters are random patches of the given (training) images, (n, channels, height, width) in [0, 1].

    Args:
        images: the training images.
        filters: number of filters.
        patch: height and width of a patch in pixels.
        threshold: threshold of the rectifier.
        whitening: number added to the eigenvalues of the patches' covariance.
        seed: seed of the 100,000 patches drawn; the whitening is estimated from all of them, and the filters are the first.

    Raises:
        ValueError: the images are smaller than a patch, or there are more filters than patches.
    """
    height, width = images.shape[2:]
    if min(height, width) < patch or filters > _SAMPLE:
        raise ValueError(
            f"{filters} patches of {patch}x{patch} were asked for: at most {_SAMPLE} are drawn, of images ({height}x{width}) that hold one"
        )
    generator = torch.Generator().manual_seed(seed)
    image, top, left = (
        torch.randint(high, (_SAMPLE,), generator=generator) for high in (len(images), height - patch + 1, width - patch + 1)
    )
    steps = torch.arange(patch)
    rows, columns = (top[:, None] + steps)[:, :, None], (left[:, None] + steps)[:, None, :]
    patches = images.cpu()[image[:, None, None], :, rows, columns].permute(0, 3, 1, 2).double()
    normal = ((patches - patches.mean((1, 2, 3), keepdim=True)) / _patch_deviation(patches, patch)).flatten(1)
    mean = normal.mean(0)
    eigenvalues, vectors = torch.linalg.eigh(torch.cov(normal.T))
    whitener = vectors @ torch.diag((eigenvalues + whitening).rsqrt()) @ vectors.T
    own = functional.normalize((normal[:filters] - mean) @ whitener) @ whitener
    shift = own @ mean
    own = own - own.mean(1, keepdim=True)
    return PatchFeatures(own.to(images), shift.to(images), threshold, patch)


def _patch_deviation(images: Tensor, patch: int) -> Tensor:
    """Standard deviation of each patch over space and channels, of 0..255 with 10 added to the variance (Coates and Ng 2012)."""
    mean = functional.avg_pool2d(images.mean(1, keepdim=True), patch, stride=1)
    square = functional.avg_pool2d(images.square().mean(1, keepdim=True), patch, stride=1)
    return ((square - mean.square()).clamp(min=0) + 10 / 255**2).sqrt()


class GaborFeatures(nn.Module):
    """Fixed features (batch, 1, height, width) -> (batch, wavelengths * orientations * cells): local energy of edges by size and direction.

    They are the modulus of the image's convolution with complex Gabor wavelets (a plane wave under a round Gaussian of deviation half a
    wavelength, mean removed), averaged over squares two cells wide, one every cell.

    Args:
        wavelengths: wavelengths in pixels.
        orientations: number of directions of the wave, evenly over half a circle.
        cell: side of a cell in pixels.
    """

    wavelets: Tensor

    def __init__(self, wavelengths: tuple[float, ...] = (4.0, 8.0), orientations: int = 8, cell: int = 4) -> None:
        super().__init__()
        angles = [pi * step / orientations for step in range(orientations)]
        radius = int(max(wavelengths)) + 1
        waves = [_gabor(wavelength, angle, radius) for wavelength in wavelengths for angle in angles]
        self.register_buffer("wavelets", torch.stack([part for wave in waves for part in (wave.real, wave.imag)])[:, None].float())
        self.cell = cell

    def forward(self, images: Tensor) -> Tensor:
        parts = functional.conv2d(images, self.wavelets, padding=self.wavelets.shape[-1] // 2)
        modulus = torch.unflatten(parts, 1, (-1, 2)).square().sum(2).sqrt()
        return functional.avg_pool2d(modulus, 2 * self.cell, stride=self.cell, padding=self.cell // 2).flatten(1)


def _gabor(wavelength: float, angle: float, radius: int) -> Tensor:
    """Complex wavelet, (2 radius + 1, 2 radius + 1): columns are x, rows y."""
    steps = torch.arange(-radius, radius + 1, dtype=torch.float64)
    phase = 2 * pi / wavelength * (cos(angle) * steps + sin(angle) * steps[:, None])
    envelope = torch.exp(-(steps.square() + steps[:, None].square()) / (wavelength**2 / 2))
    envelope /= envelope.sum()
    wave = torch.polar(envelope, phase)
    return wave - envelope * wave.sum()


@torch.no_grad()
def extract(features: nn.Module, images: Tensor, *, batch: int = 10) -> Tensor:
    """Compute the features of all images, (n, features), a batch at a time."""
    first: Tensor = features(images[:batch])
    rows = first.new_empty(len(images), first.shape[1])
    for start in range(0, len(images), batch):
        rows[start : start + batch] = features(images[start : start + batch])
    return rows
