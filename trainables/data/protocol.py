"""What a point reads, whatever it is read from: its samples with their labels, and the protocol of a data source.

There are two sources: tensors on the device (`trainables.data.inputs`) and image files (`trainables.data.streamed`). Whoever trains or
evaluates knows these protocols alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from trainables.point.config import ImageShape, TrialConfig


class Images(Protocol):
    """The images of a data set as a network sees them, before augmentation."""

    image_shape: ImageShape
    members_at_once: int | None
    """How many members can read them side by side; None for any number."""
    top_five: bool
    """Whether records say how often the label is not among the five largest outputs."""

    def gather(self, index: Tensor) -> Tensor:
        """(*index.shape, C*H*W) float32."""
        ...

    def source(self, several: Sequence[Images]) -> Source:
        """The batches of members that read `several`, of which this is the first."""
        ...


class Source(Protocol):
    """The inputs of K members, batch by batch: row k of an index (K, b) is of member k."""

    @property
    def shared(self) -> Tensor | None:
        """All inputs (n, C*H*W) float32, where every member reads the same as they are; None if batches must be gathered."""
        ...

    def gather(self, index: Tensor) -> Tensor:
        """(K, b, C*H*W) float32, not augmented; the next batch may overwrite it."""
        ...

    def announce(self, index: Tensor, size: int) -> None:
        """Say that the samples `index` (K, n) are gathered next, `size` a batch, so that they can be made ready."""
        ...

    def begin_epoch(self, points: Sequence[TrialConfig], epochs: Sequence[int], index: Tensor, size: int) -> None:
        """Say that members train on the samples `index` (K, n) next, `size` a batch.

        Args:
            points: of the members, which say how their inputs are augmented.
            epochs: that each of them has behind; the draws of an augmentation follow from this and the point's seed.
        """
        ...

    def training_batch(self, index: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The inputs (K, b, C*H*W) of the next batch of the epoch that was begun, and its targets (K, classes, b), both augmented."""
        ...


@dataclass(frozen=True, eq=False)
class Samples:
    """Some of the images with labels: what a point trains on, validates on or is tested on.

    `index` (n,) int64 into `inputs`; `labels` (n,) int64, or of regression (n, T) float32; `wrong` (n,) bool marks labels that differ from
    the true ones.
    """

    inputs: Images
    index: Tensor
    labels: Tensor
    wrong: Tensor


@dataclass(frozen=True, eq=False)
class PointData:
    """All that a point reads: validation is None without a validation split; of regression `classes` is the number of targets, T."""

    train: Samples
    validation: Samples | None
    test: Samples
    classes: int

    @property
    def is_regression(self) -> bool:
        """Whether labels are numbers and no classes."""
        return self.train.labels.is_floating_point()

    @property
    def image_shape(self) -> ImageShape:
        return self.train.inputs.image_shape
