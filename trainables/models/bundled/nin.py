"""Network in network (Lin et al. 2014) of any width and depth, the family on which complexity measures are compared."""

from __future__ import annotations

from torch import nn

from trainables.models.registry import model_family
from trainables.point.config import ImageShape, Model


@model_family(
    "nin",
    default_width=200,
    default_depth=2,
    default_batch_norm=True,
    smallest_image=4,
    reads=("width", "depth", "batch_norm"),
    has_mup=True,
)
def nin(model: Model, dropout: float, image_shape: ImageShape, classes: int) -> nn.Module:
    """Build `depth` blocks of a 3x3 convolution of stride 2 and two 1x1 convolutions, `width` channels each, then a readout.

    The readout is a 1x1 convolution to `classes` channels and their means. Each convolution but that one has batch norm and ReLU, and
    a bias where it has no batch norm. After Dziugaite et al. 2020, whose width 8 is 200 channels; dropout stands after each block,
    where Jiang et al. 2020 have it.
    """
    layers: list[nn.Module] = []
    channels = image_shape[0]
    for _ in range(model.depth or 0):
        for kernel, stride in ((3, 2), (1, 1), (1, 1)):
            layers.append(nn.Conv2d(channels, model.width or 1, kernel, stride, padding=kernel // 2, bias=not model.batch_norm))
            if model.batch_norm:
                layers.append(nn.BatchNorm2d(model.width or 1))
            layers.append(nn.ReLU())
            channels = model.width or 1
        layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers, nn.Conv2d(channels, classes, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
