"""The small AlexNet of Zhang et al. 2017: 1,387,786 parameters on 28x28x3 inputs and 10 classes.

Two blocks of a 5x5 convolution, max pooling and local response normalization, then fully connected layers of 384 and 192.
The paper does not give the constants of the normalization. Ours are those of TensorFlow's CIFAR-10 tutorial, whose network
has these sizes: ``lrn(x, 4, bias=1, alpha=0.001 / 9, beta=0.75)``; PyTorch counts the window in channels and divides alpha by it.
"""

from __future__ import annotations

from torch import nn

from trainables.models.bundled.dense import dense_stack
from trainables.models.registry import model_family
from trainables.models.slim import convolution, halved, max_pool
from trainables.point.config import ImageShape, Model


@model_family("alexnet_small", default_width=64, smallest_image=8, reads=("width", "batch_norm"))
def alexnet_small(model: Model, dropout: float, image_shape: ImageShape, classes: int) -> nn.Module:
    """Build it with `width` channels in both convolutions (64 as published), 6 and 3 times as many units in the fully connected layers.

    Dropout acts on both fully connected layers. Batch norm, which the published network does not have, stands after each
    convolution and takes the place of local response normalization.
    """
    filters = model.width or 0
    channels, height, width = image_shape
    layers: list[nn.Module] = []
    for inputs in (channels, filters):
        layers += [convolution(inputs, filters, 5, batch_norm=bool(model.batch_norm)), max_pool(height, width)]
        if not model.batch_norm:
            layers.append(nn.LocalResponseNorm(9, alpha=0.001, beta=0.75, k=1.0))
        height, width = halved(height), halved(width)
    sizes = [filters * height * width, 6 * filters, 3 * filters, classes]
    return nn.Sequential(*layers, dense_stack(sizes, dropout, batch_norm=False))
