"""The pre-activation ResNet-18 (He et al. 2016) of width k, as Nakkiran et al. 2019 ("Deep double descent") vary it."""

from __future__ import annotations

from torch import Tensor, nn

from trainables.models.registry import model_family
from trainables.point.config import ImageShape, Model


class PreActivationBlock(nn.Module):
    """A block x + conv(relu(norm(conv(relu(norm(x)))))), with a 1x1 convolution of relu(norm(x)) for x where the shape changes.

    (batch, inputs, height, width) -> (batch, outputs, height / stride, width / stride), rounded up. Without batch norm the
    convolutions have biases.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, batch_norm: bool) -> None:
        super().__init__()
        bias = not batch_norm
        self.first_norm = nn.BatchNorm2d(inputs) if batch_norm else nn.Identity()
        self.first = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=bias)
        self.second_norm = nn.BatchNorm2d(outputs) if batch_norm else nn.Identity()
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=bias)
        self.relu = nn.ReLU()
        keeps_shape = stride == 1 and inputs == outputs
        self.shortcut = None if keeps_shape else nn.Conv2d(inputs, outputs, 1, stride=stride, bias=bias)

    def forward(self, inputs: Tensor) -> Tensor:
        active = self.relu(self.first_norm(inputs))
        straight: Tensor = inputs if self.shortcut is None else self.shortcut(active)
        residual: Tensor = self.second(self.relu(self.second_norm(self.first(active))))
        return straight + residual


@model_family("resnet18", default_width=64, default_batch_norm=True, smallest_image=8, reads=("width", "batch_norm"), has_mup=True)
def resnet18(model: Model, dropout: float, image_shape: ImageShape, classes: int) -> nn.Module:
    """Build four stages of two blocks with k, 2k, 4k and 8k channels, then the mean over all positions and a linear layer.

    k is `width`, 64 in the standard network.
    """
    k, batch_norm = model.width or 0, bool(model.batch_norm)
    layers: list[nn.Module] = [nn.Conv2d(image_shape[0], k, 3, padding=1, bias=not batch_norm)]
    channels = k
    for outputs, stride in ((k, 1), (2 * k, 2), (4 * k, 2), (8 * k, 2)):
        layers += [
            PreActivationBlock(channels, outputs, stride, batch_norm),
            PreActivationBlock(outputs, outputs, 1, batch_norm),
        ]
        channels = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(8 * k, classes))
