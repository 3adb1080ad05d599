"""Random crop, flip and mixup on a GPU: what `trainables.data.augmentation` does, for all members at once, with draws made there."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from trainables.data.augmentation import beta, crops_the_image
from trainables.data.windows import Windows
from trainables.gpu_memory import uploaded
from trainables.point import device_streams
from trainables.point.config import ImageShape, TrialConfig
from trainables.point.streams import generator


class DeviceAugmentation:
    """Augments the batches of one epoch of K members, in order. All that it needs is on the device before the first.

    Args:
        points: of the members.
        epochs: that each of them has behind.
        image_shape: of an input.
        windows: of each member's whole images, or one for all members; None where there are none.
        steps: batches of the epoch.
        device: a GPU.
    """

    def __init__(
        self,
        points: Sequence[TrialConfig],
        epochs: Sequence[int],
        image_shape: ImageShape,
        windows: Sequence[Windows | None],
        steps: int,
        device: torch.device,
    ) -> None:
        regularizers = [point.regularizers for point in points]
        from_image = [crops_the_image(point) for point in points]
        self._shape, self._windows, self._step = image_shape, windows, 0

        def column(values: Sequence[float]) -> Tensor | None:
            return uploaded([[value] for value in values], torch.float32, device) if any(values) else None

        self._crops = column([0 if whole else one.crop for whole, one in zip(from_image, regularizers, strict=True)])
        self._reaches = column([one.crop if whole else 0 for whole, one in zip(from_image, regularizers, strict=True)])
        self._flips = column([one.flip / 2 for one in regularizers])
        seeds = [(point.seed, epoch) for point, epoch in zip(points, epochs, strict=True)]
        self._moves = device_streams.keys([(seed, "augmentation", epoch) for seed, epoch in seeds], device)
        self._mixes = None
        if any(one.mixup for one in regularizers):
            self._mixes = device_streams.keys([(seed, "mixup", epoch) for seed, epoch in seeds], device)
            draws = [generator(seed, "mixup weights", epoch) for seed, epoch in seeds]
            alphas = [one.mixup for one in regularizers]
            weights = [beta(alpha, draw, steps).tolist() if alpha else [1.0] * steps for alpha, draw in zip(alphas, draws, strict=True)]
            self._weights = uploaded(weights, torch.float32, device)

    def next(self, index: Tensor, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Augment the next batch.

        Args:
            index: (K, B) int64, of its images.
            inputs: these, (K, B, C*H*W).
            targets: (K, classes, B).
        """
        step, self._step = self._step, self._step + 1
        if self._crops is not None or self._reaches is not None or self._flips is not None:
            down, right, side = device_streams.uniform(self._moves, step, 3, index.shape[1]).unbind(1)
            if self._reaches is not None:
                cut = self._cut(index, _shifts(down, self._reaches), _shifts(right, self._reaches))
                inputs = torch.where(self._reaches[:, :, None] > 0, cut, inputs)
            if self._crops is not None or self._flips is not None:
                none = torch.zeros_like(index)
                moves = (none, none) if self._crops is None else (_shifts(down, self._crops), _shifts(right, self._crops))
                mirrored = none.bool() if self._flips is None else side < self._flips
                inputs = _moved(inputs.reshape(*index.shape, *self._shape), *moves, mirrored).flatten(2)
        if self._mixes is not None:
            order = device_streams.permutations(self._mixes, step, index.shape[1])
            weight = self._weights[:, step, None, None]
            inputs = weight * inputs + (1 - weight) * inputs.gather(1, order[:, :, None].expand_as(inputs))
            targets = weight * targets + (1 - weight) * targets.gather(2, order[:, None].expand_as(targets))
        return inputs, targets

    def _cut(self, index: Tensor, down: Tensor, right: Tensor) -> Tensor:
        """Windows (K, B, C*h*w) of whole images, moved from their centres by (K, B) pixels."""
        moves = torch.stack([down, right], 2)
        (*others, last) = self._windows
        if not others and last is not None:
            return last.at(index.reshape(-1), moves.flatten(0, 1)).reshape(*index.shape, -1)
        parts = zip(self._windows, index, moves, strict=True)
        size = self._shape[0] * self._shape[1] * self._shape[2]
        return torch.stack([one.at(*own) if one else torch.zeros(index.shape[1], size, device=index.device) for one, *own in parts])


def _shifts(draws: Tensor, furthest: Tensor) -> Tensor:
    """Whole numbers (K, B) from -furthest (K, 1) to furthest, equally likely: draws are at most 1 - 2**-24, which an odd factor keeps."""
    return draws.mul(2 * furthest + 1).long() - furthest.long()


def _moved(images: Tensor, down: Tensor, right: Tensor, mirrored: Tensor) -> Tensor:
    """Images (K, B, C, H, W) mirrored or not, then seen through a window that is moved by (K, B) pixels; outside there is nothing, 0."""
    height, width = images.shape[3:]
    columns = torch.arange(width, device=images.device)
    columns = torch.where(mirrored[:, :, None], width - 1 - columns, columns) + right[:, :, None]
    rows = torch.arange(height, device=images.device) + down[:, :, None]
    inside = ((rows >= 0) & (rows < height))[..., None] & ((columns >= 0) & (columns < width))[:, :, None]
    places = rows.clamp(0, height - 1)[..., None] * width + columns.clamp(0, width - 1)[:, :, None]
    flat = images.flatten(3)
    moved = flat.gather(3, places.flatten(2)[:, :, None].expand_as(flat))
    return moved.mul_(inside.flatten(2)[:, :, None]).reshape(images.shape)
