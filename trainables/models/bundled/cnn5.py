"""The 5-layer convolutional network of Nakkiran et al. 2019 ("Deep double descent"), of width k."""

from __future__ import annotations

from torch import nn

from trainables.models.registry import model_family
from trainables.point.config import ImageShape, Model


@model_family("cnn5", default_width=64, default_batch_norm=True, smallest_image=8, reads=("width", "batch_norm"), has_mup=True)
def cnn5(model: Model, dropout: float, image_shape: ImageShape, classes: int) -> nn.Module:
    """Build 3x3 convolutions with k, 2k, 4k and 8k channels (k = `width`), each with bias, batch norm and ReLU, then a linear layer.

    Max pooling by 2 follows all but the first, and at the end max pooling over all that is left: 4x4 on the 32x32 images
    of the paper.
    """
    k = model.width or 0
    channels, height, width = image_shape
    layers: list[nn.Module] = []
    for block, (inputs, outputs) in enumerate([(channels, k), (k, 2 * k), (2 * k, 4 * k), (4 * k, 8 * k)]):
        layers.append(nn.Conv2d(inputs, outputs, 3, padding=1))
        if model.batch_norm:
            layers.append(nn.BatchNorm2d(outputs))
        layers.append(nn.ReLU())
        if block:
            layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.MaxPool2d((height // 8, width // 8)), nn.Flatten(), nn.Dropout(dropout), nn.Linear(8 * k, classes))
