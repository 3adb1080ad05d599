"""The networks of ImageNet's size: AlexNet, VGG, ResNet and Inception as torchvision and timm build them.

They have one width; `regularizers.dropout` replaces the rate that a network was published with. Parameters with 1,000 classes: AlexNet
61,100,840, VGG-11 132,863,336, VGG-19 143,667,240, ResNet-18 11,689,512, ResNet-152 60,192,808, Inception v3 23,834,568 (without its
auxiliary classifier, which only training has: 27,161,264 with it), Inception v4 42,679,816, or 42,681,353 with 1,001 classes.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from trainables.models.registry import model_family
from trainables.point.config import ImageShape, Model
from trainables.point.errors import ConfigError

_TORCHVISION = {"alexnet": ("alexnet", 63), "vgg11": ("vgg11", 32), "vgg19": ("vgg19", 32), "inception_v3": ("inception_v3", 75)}
_RESIDUAL = {"resnet18_imagenet": "resnet18", "resnet152": "resnet152"}


def _from_torchvision(builder: str, **options: object) -> Callable[[Model, float, ImageShape, int], nn.Module]:
    def build(model: Model, dropout: float, image_shape: ImageShape, classes: int) -> nn.Module:
        import torchvision.models

        _check_colours(model, image_shape)
        rate = {} if builder.startswith("resnet") else {"dropout": dropout}
        if dropout and not rate:
            raise ConfigError(f"regularizers.dropout is {dropout}, but model {model.name} has no hidden layer that it acts on")
        module: nn.Module = getattr(torchvision.models, builder)(weights=None, num_classes=classes, **rate, **options)
        return module

    return build


for _name, (_builder, _smallest) in _TORCHVISION.items():
    _options = {"aux_logits": False, "init_weights": True} if _name == "inception_v3" else {}
    model_family(_name, default_width=1, default_batch_norm=_name == "inception_v3", smallest_image=_smallest, reads=())(
        _from_torchvision(_builder, **_options)
    )
for _name, _builder in _RESIDUAL.items():
    model_family(_name, default_width=1, default_batch_norm=True, smallest_image=32, reads=())(_from_torchvision(_builder))


@model_family("inception_v4", default_width=1, default_batch_norm=True, smallest_image=75, reads=())
def inception_v4(model: Model, dropout: float, image_shape: ImageShape, classes: int) -> nn.Module:
    """Build the network of Szegedy et al. 2017 with timm; TensorFlow's has 1,001 classes, one of them for the background."""
    try:
        import timm
    except ImportError:
        raise ConfigError("model.name is 'inception_v4', which is built by timm: install it with pip install 'gaplab[imagenet]'") from None
    _check_colours(model, image_shape)
    module: nn.Module = timm.create_model("inception_v4", pretrained=False, num_classes=classes, drop_rate=dropout)
    return module


def _check_colours(model: Model, image_shape: ImageShape) -> None:
    if image_shape[0] != 3:
        raise ConfigError(f"model.name is {model.name!r}, which takes images of three colours; the data has {image_shape[0]}")
