"""What PyTorch rounds in the products of float32 numbers on a GPU.

By itself it rounds the factors of convolutions to TF32, a format with 10 bits of mantissa instead of 23, and those of matrix products not:
then `float32` would be one thing in a convolutional network and another in a fully connected one.
"""

from __future__ import annotations

from typing import Any

import torch

from trainables.point.errors import ConfigError


def set_products(precision: str, device: torch.device) -> None:
    """Have products and convolutions of float32 computed as the point says, for all of this process.

    Args:
        precision: of a point: "tf32" rounds the factors to TF32; "float32" and, for what autocast leaves in float32, "bfloat16" do not.
        device: where the point trains.

    Raises:
        ConfigError: TF32 on a CPU, which would be float32 under another name.
    """
    if precision == "tf32" and device.type == "cpu":
        raise ConfigError("precision tf32 is a format of GPUs, and a CPU would train in float32: set resources.gpus, or precision float32")
    of_products = "tf32" if precision == "tf32" else "ieee"
    convolutions: Any = torch.backends.cudnn  # PyTorch makes its attributes when it is imported
    for backend in (torch.backends.cuda.matmul, convolutions.conv, convolutions.rnn):
        backend.fp32_precision = of_products
