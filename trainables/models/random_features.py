"""Random Fourier features with a trained linear readout (Rahimi and Recht 2007; Belkin et al. 2019).

phi(x) = sqrt(2/N) * cos(W x / scale + b), W ~ N(0, 1), b ~ U[0, 2 pi): N random cosines that approximate the Gaussian
kernel exp(-|x - x'|^2 / (2 scale^2)). W and b are fixed; the readout has N weights a class and no bias, so that the
interpolation threshold of least squares lies at N = n.
"""

from __future__ import annotations

from math import prod

from torch import nn

from trainables.models.fourier import FourierFeatures
from trainables.models.registry import model_family
from trainables.point.config import ImageShape, Model


@model_family("random_features", default_width=1000)
def random_features(model: Model, dropout: float, image_shape: ImageShape, classes: int) -> nn.Module:
    """Build `width` random features with a readout; only the readout is trained."""
    features = model.width or 0
    fixed = FourierFeatures(prod(image_shape), features, model.kernel_scale)
    return nn.Sequential(nn.Flatten(), fixed, nn.Dropout(dropout), nn.Linear(features, classes, bias=False))
