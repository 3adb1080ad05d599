"""TF-slim's conventions in PyTorch: `SAME` padding, and a convolution whose batch norm only shifts.

Zhang et al. 2017 trained in TensorFlow, and their parameter counts come out only with these: each output channel of a
convolution has one trainable number besides its weights, the shift of its batch norm or, without batch norm, its bias.

`SAME` padding of a window of 3 moved by 2 adds one row (column) at the end, and one at the start where the size is odd.
PyTorch's ``padding=1`` has the same shapes, but on even sizes its windows lie one pixel off.
"""

from __future__ import annotations

from torch import nn


def halved(size: int) -> int:
    """Length of an axis after a `SAME` window moved by 2: size / 2, rounded up."""
    return (size + 1) // 2


def max_pool(height: int, width: int) -> nn.MaxPool2d:
    """`SAME` max pooling of 3x3 windows moved by 2: (batch, channels, height, width) to the halved height and width."""
    return nn.MaxPool2d(3, stride=2, padding=(height % 2, width % 2), ceil_mode=True)


def zero_padding(height: int, width: int) -> nn.ZeroPad2d:
    """Padding that turns an unpadded 3x3 convolution with stride 2 into TensorFlow's `SAME` convolution."""
    return nn.ZeroPad2d((width % 2, 1, height % 2, 1))


def convolution(inputs: int, outputs: int, kernel: int, *, batch_norm: bool, stride: int = 1, padding: int | None = None) -> nn.Sequential:
    """Build a convolution, a shift-only batch norm or else a bias, and ReLU: outputs * (inputs * kernel**2 + 1) trainable parameters.

    The size is kept by default (`SAME` at stride 1, odd kernels). Weights start as slim's do, Xavier uniform, and biases at 0.
    The paper states no initialization; under PyTorch's, which is narrower, the outputs of Inception without batch norm
    hardly depend on the image at first, and in our trials on random labels its loss stayed at ln 10.
    """
    keep = kernel // 2 if padding is None else padding
    layer = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=keep, bias=not batch_norm)
    nn.init.xavier_uniform_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return nn.Sequential(layer, shift_batch_norm(outputs) if batch_norm else nn.Identity(), nn.ReLU())


def shift_batch_norm(channels: int) -> nn.BatchNorm2d:
    """Batch norm with a trained shift and a scale fixed at 1, slim's default (``scale=False``, epsilon 0.001).

    The paper states no decay of the running statistics. Ours is PyTorch's 0.9 a step: slim's 0.999 averages over about a
    thousand steps, more than a small training set takes, and would test such a run with the statistics of its start.
    """
    norm = nn.BatchNorm2d(channels, eps=1e-3, momentum=0.1)
    norm.weight.requires_grad_(False)
    return norm
