"""Random Fourier features as a fixed layer (Rahimi and Recht 2007)."""

from __future__ import annotations

from math import pi, sqrt

import torch
from torch import Tensor, nn


class FourierFeatures(nn.Module):
    """A fixed layer (batch, inputs) -> (batch, features): cosines of random frequencies and phases."""

    frequencies: Tensor
    phases: Tensor

    def __init__(self, inputs: int, features: int, scale: float) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.randn(features, inputs) / scale)
        self.register_buffer("phases", 2 * pi * torch.rand(features))
        self.amplitude = sqrt(2 / features)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.amplitude * torch.cos(nn.functional.linear(inputs, self.frequencies, self.phases))
