"""Families that are solved (`trainables.least_squares`) and not trained: kernels, fixed features, Theorem 1."""

from __future__ import annotations

from torch import nn

from trainables.models.registry import model_family
from trainables.point.config import ConfigError, ImageShape, Model


def _solved_only(model: Model, dropout: float, image_shape: ImageShape, classes: int) -> nn.Module:
    raise ConfigError(f"model.name is {model.name!r}, which is solved, not trained: set optimizer.name to closed_form")


FAMILIES = {
    "gaussian_kernel": (1, 0),
    "gabor_kernel": (1, 0),
    "gabor": (1, 0),
    "random_patches": (1000, 0),
    "theorem1": (1, 2),
    "ridgeless": (1, 0),
}
"""Name -> default width and depth."""
for _name, (_width, _depth) in FAMILIES.items():
    model_family(_name, default_width=_width, default_depth=_depth)(_solved_only)
