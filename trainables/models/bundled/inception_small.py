"""The small Inception of Zhang et al. 2017: 1,649,402 parameters on 28x28x3 inputs and 10 classes, with batch norm or without.

3x3 convolution, Inception modules in three stages, mean over all positions, linear layer. An Inception module stacks a
1x1 and a 3x3 convolution of its input; a halving stacks a 3x3 convolution with stride 2 and max pooling.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trainables.models.registry import model_family
from trainables.models.slim import convolution, halved, max_pool, zero_padding
from trainables.point.config import ImageShape, Model

FIRST = 96
"""Channels of the first convolution at the published size."""
STAGES: tuple[tuple[tuple[int, int], ...], ...] = (
    ((32, 32), (32, 48)),
    ((112, 48), (96, 64), (80, 80), (48, 96)),
    ((176, 160), (176, 160)),
)
"""Channels of the 1x1 and the 3x3 convolutions of each Inception module; the size is halved between two stages."""
DOWN = (80, 96)
"""Channels of the convolution in each halving."""


class Branches(nn.ModuleList):
    """Several modules on the same input, their outputs stacked along the channels."""

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.cat([branch(inputs) for branch in self], dim=1)


@model_family("inception_small", default_width=FIRST, default_batch_norm=True, smallest_image=8, reads=("width", "batch_norm"))
def inception_small(model: Model, dropout: float, image_shape: ImageShape, classes: int) -> nn.Module:
    """`width` channels in the first convolution (96 as published); all others in proportion, rounded, at least 1."""
    batch_norm = bool(model.batch_norm)
    channels, height, width = image_shape

    def scaled(published: int) -> int:
        return max(1, round(published * (model.width or 0) / FIRST))

    layers: list[nn.Module] = [convolution(channels, scaled(FIRST), 3, batch_norm=batch_norm)]
    channels = scaled(FIRST)
    for stage, modules in enumerate(STAGES):
        if stage:
            down = scaled(DOWN[stage - 1])
            strided = convolution(channels, down, 3, stride=2, padding=0, batch_norm=batch_norm)
            layers.append(Branches([nn.Sequential(zero_padding(height, width), strided), max_pool(height, width)]))
            channels, height, width = channels + down, halved(height), halved(width)
        for narrow, wide in modules:
            sizes = ((scaled(narrow), 1), (scaled(wide), 3))
            layers.append(Branches([convolution(channels, outputs, kernel, batch_norm=batch_norm) for outputs, kernel in sizes]))
            channels = sum(outputs for outputs, _ in sizes)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(channels, classes))
