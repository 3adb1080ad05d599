"""Random crop, flip and mixup of stacked batches, label smoothing, each member from its own stream."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from trainables.compat import standard_gamma
from trainables.point.config import ImageShape, TrialConfig


def soft_targets(labels: Tensor, classes: int, smoothing: Tensor | None) -> Tensor:
    """(K, classes, B): the one-hot labels (K, B), `smoothing` (K,) of whose weight is spread over all classes, None for none.

    Targets of regression (K, B, T) stay as they are, as (K, T, B).
    """
    if labels.is_floating_point():
        return labels.transpose(1, 2).contiguous()
    targets = torch.zeros(labels.shape[0], classes, labels.shape[1], device=labels.device)
    targets.scatter_(1, labels[:, None, :], 1.0)
    if smoothing is not None:
        targets.mul_(1 - smoothing[:, None, None]).add_((smoothing / classes)[:, None, None])
    return targets


def augments(point: TrialConfig) -> bool:
    """Whether the point changes its training inputs at random."""
    return bool(point.regularizers.crop or point.regularizers.flip or point.regularizers.mixup)


def crops_the_image(point: TrialConfig) -> bool:
    """Whether the point's random crops are cut out of the whole image, which is done before all else (see `trainables.data.windows`)."""
    return bool(point.regularizers.crop) and point.regularizers.crop_from == "image"


def augment(
    inputs: Tensor, targets: Tensor, points: Sequence[TrialConfig], draws: Sequence[torch.Generator], image_shape: ImageShape
) -> tuple[Tensor, Tensor]:
    """Inputs (K, B, D) and targets (K, classes, B) after each member's crop, flip and mixup.

    Crop pads with zeros (the mean, after preprocessing) and cuts a window of the same size, unless that was cut out of the whole image
    already; mixup (Zhang et al. 2018)
    draws one weight a batch, lambda ~ Beta(alpha, alpha), and a permutation of the batch.
    """
    for member, (point, draw) in enumerate(zip(points, draws, strict=True)):
        regularizers = point.regularizers
        if regularizers.flip or (regularizers.crop and not crops_the_image(point)):
            images = inputs[member].reshape(-1, *image_shape)
            pad = 0 if crops_the_image(point) else regularizers.crop
            inputs[member] = _moved(images, pad, regularizers.flip, draw).flatten(1)
        if regularizers.mixup:
            weight = beta(regularizers.mixup, draw, 1).item()
            order = torch.randperm(inputs.shape[1], generator=draw).to(inputs.device)
            inputs[member] = weight * inputs[member] + (1 - weight) * inputs[member][order]
            targets[member] = weight * targets[member] + (1 - weight) * targets[member][:, order]
    return inputs, targets


def _moved(images: Tensor, pad: int, flip: bool, draw: torch.Generator) -> Tensor:
    """(B, C, H, W), each image shifted by up to `pad` pixels each way and, with `flip`, mirrored half the time."""
    batch, _, height, width = images.shape
    shifts = torch.randint(0, 2 * pad + 1, (batch, 2), generator=draw)
    mirrored = torch.rand(batch, generator=draw) < 0.5 if flip else torch.zeros(batch, dtype=torch.bool)
    columns = torch.arange(width).expand(batch, -1)
    columns = torch.where(mirrored[:, None], width - 1 - columns, columns) + shifts[:, 1:]
    rows = torch.arange(height) + shifts[:, :1]
    padded = torch.nn.functional.pad(images, (pad, pad, pad, pad))
    rows, columns, which = (part.to(images.device) for part in (rows[:, :, None], columns[:, None, :], torch.arange(batch)[:, None, None]))
    return padded[which, :, rows, columns].permute(0, 3, 1, 2)


def beta(alpha: float, draw: torch.Generator, count: int) -> Tensor:
    """Draws (count,) float64 of Beta(alpha, alpha): A / (A + B) for two Gamma(alpha), each a Gamma(alpha + 1) times U^(1/alpha).

    Taken from their logarithms, because for a small alpha both powers underflow (Marsaglia and Tsang 2000, section 6).
    """
    gammas = standard_gamma(torch.full((2, count), alpha + 1, dtype=torch.float64), draw)
    logs = gammas.log() + torch.rand(2, count, generator=draw, dtype=torch.float64).log() / alpha
    return (logs[0] - logs[1]).sigmoid()
