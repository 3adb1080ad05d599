"""Random windows of whole images, standardized one by one: the random crop of Zhang et al. 2017, 28x28 out of 32x32."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Windows:
    """Images before their centre is cut out.

    Attributes:
        pixels: (n, C, H, W) as stored, on the device.
        size: height and width of a window.
        full_range: the largest value of a pixel.
    """

    pixels: Tensor
    size: tuple[int, int]
    full_range: float

    @property
    def reach(self) -> int:
        """How far a window can move from the centre in every direction, in pixels."""
        return min((whole - part) // 2 for whole, part in zip(self.pixels.shape[2:], self.size, strict=True))

    def cut(self, index: Tensor, reach: int, draw: torch.Generator) -> Tensor:
        """Cut a window out of each image, up to `reach` pixels from its centre each way, uniformly, on a CPU, and standardize it.

        Args:
            index: (B,) int64.
            reach: at most `self.reach`.
            draw: of the places.

        Returns:
            (B, C*h*w) float32, each row of mean 0 and deviation 1.
        """
        return self.at(index, torch.randint(0, 2 * reach + 1, (len(index), 2), generator=draw) - reach)

    def at(self, index: Tensor, moves: Tensor) -> Tensor:
        """Cut a window out of each image, moved from its centre, and standardize it.

        Args:
            index: (B,) int64, on the pixels' device.
            moves: (B, 2) int64: down and to the right, in pixels, each at most `reach` in size.

        Returns:
            (B, C*h*w) float32, each row of mean 0 and deviation 1.
        """
        device, images = index.device, self.pixels[index]
        rows, columns = (
            torch.arange((whole - part) // 2, (whole - part) // 2 + part, device=device) + move[:, None]
            for whole, part, move in zip(images.shape[2:], self.size, moves.T, strict=True)
        )
        each = torch.arange(len(images), device=device)[:, None, None]
        window = images[each, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
        flat = window.reshape(len(images), -1)
        scale, shift = per_image_standardization(flat, self.full_range)
        return flat.float() * scale + shift


def per_image_standardization(flat: Tensor, full_range: float) -> tuple[Tensor, Tensor]:
    """(x - mean) / max(deviation, 1/sqrt(D)) of x in [0, 1], over all D pixels of an image (TensorFlow's per_image_whitening).

    Args:
        flat: (n, D) pixels as stored.
        full_range: the largest value of a pixel.

    Returns:
        The factors (n, 1) and the summands (n, 1) that do it, float32.
    """
    scales, shifts = [], []
    for part in torch.split(flat, 4096):
        part = part.double() / full_range
        deviation, mean = torch.std_mean(part, dim=1, correction=0, keepdim=True)
        divisor = deviation.clamp_min(part.shape[1] ** -0.5)
        scales.append(1 / (divisor * full_range))
        shifts.append(-mean / divisor)
    return torch.cat(scales).float(), torch.cat(shifts).float()
