"""Image files as a data source: decoded and augmented by torchvision's transforms v2 when a batch needs them, by processes of a DataLoader.

An image's shorter side is scaled to 8/7 of `data.side`, then its centre is cropped: 256 for 224. `unit` leaves pixels in [0, 1].
`standardize` brings each channel to mean 0 and deviation 1 over the training images so cropped: over all of them, or over
`STATISTICS_IMAGES` evenly spaced ones of a larger set. These statistics are kept in the data folder, by digest and side. Earlier
versions took ImageNet's constants instead, whatever the data set. Keys say nothing of that: a study begun with such a version that is
to go on should be run anew.

Augmentation acts on pixels before that, with draws from the point's seed, the epoch and the sample's index. So neither the number of
decoding processes nor their order changes an image.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, nullcontext, suppress
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from trainables.data.protocol import Images, Source
from trainables.data.sets.image_files import ImageFiles, Stored, read_image
from trainables.data.sets.named import data_folder
from trainables.point.config import ImageShape, TrialConfig
from trainables.point.streams import derive

STATISTICS_IMAGES = 10_000
"""Training images from which the statistics of a large set are taken: they are then known to about a hundredth of a deviation."""

Statistics = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation of each channel, of pixels in [0, 1]."""


class FileInputs:
    """Images of one split that stay in their files. See `trainables.data.protocol.Images`.

    Args:
        files: of which an index counts.
        side: height and width that images are brought to.
        statistics: to standardize by; None leaves pixels in [0, 1].
        device: that batches are moved to.
        loaders: processes that decode; 0 for this one.
    """

    members_at_once: int | None = 1
    top_five = True

    def __init__(self, files: Sequence[Stored], side: int, statistics: Statistics | None, device: torch.device, loaders: int = 0) -> None:
        self.files, self.side, self.statistics, self.device, self.loaders = files, side, statistics, device, loaders
        self.image_shape: ImageShape = (3, side, side)

    def __len__(self) -> int:
        return len(self.files)

    def gather(self, index: Tensor) -> Tensor:
        """See `trainables.data.protocol.Images`."""
        return StreamedInputs(self).gather(index.reshape(1, -1)).reshape(*index.shape, -1)

    def source(self, several: Sequence[Images]) -> Source:
        """See `trainables.data.protocol.Images`."""
        assert len(several) == 1
        return StreamedInputs(self)


class StreamedInputs:
    """Batches of one member, read ahead in the order that was announced. See `trainables.data.protocol.Source`."""

    shared: Tensor | None = None

    def __init__(self, inputs: FileInputs) -> None:
        self._inputs = inputs
        self._batches: Iterator[Tensor] = iter(())
        self._coming = 0

    def announce(self, index: Tensor, size: int) -> None:
        """See `trainables.data.protocol.Source`."""
        self._read_ahead(_Decoded(self._inputs, None), index, size, 0)

    def begin_epoch(self, points: Sequence[TrialConfig], epochs: Sequence[int], index: Tensor, size: int) -> None:
        """See `trainables.data.protocol.Source`."""
        self._read_ahead(_Decoded(self._inputs, points[0]), index, size, epochs[0])

    def gather(self, index: Tensor) -> Tensor:
        """See `trainables.data.protocol.Source`."""
        if not self._coming:
            self.announce(index, index.shape[1])
        self._coming -= 1
        batch = next(self._batches)
        assert len(batch) == index.shape[1], "batches are gathered in the order that was announced"
        if not self._coming:
            self._batches = iter(())  # lets the decoding processes go
        return batch.flatten(1)[None]

    def training_batch(self, index: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """See `trainables.data.protocol.Source`."""
        return self.gather(index), targets

    def _read_ahead(self, images: _Decoded, index: Tensor, size: int, epoch: int) -> None:
        device = self._inputs.device
        keys = [(number, epoch) for number in index[0].tolist()]
        batches = [keys[start : start + size] for start in range(0, len(keys), size)]
        loader = DataLoader(images, batch_sampler=batches, num_workers=self._inputs.loaders, pin_memory=device.type == "cuda")
        self._coming = len(batches)
        self._batches = (batch.to(device, non_blocking=True) for batch in loader)


class _Decoded(Dataset[Tensor]):
    """Decoded, transformed images; an item's key is its index and the epoch. A point to train augments them as it says."""

    def __init__(self, inputs: FileInputs, trained: TrialConfig | None) -> None:
        from torchvision.transforms import v2

        side = inputs.side
        parts: list[nn.Module] = [v2.Resize(side + side // 7, antialias=True), v2.CenterCrop(side)]
        if trained and trained.regularizers.crop:
            parts.append(v2.RandomCrop(side, padding=trained.regularizers.crop))
        if trained and trained.regularizers.flip:
            parts.append(v2.RandomHorizontalFlip())
        self._random, self._seed = len(parts) > 2, trained.seed if trained else 0
        parts.append(v2.ToDtype(torch.float32, scale=True))
        if inputs.statistics:
            parts.append(v2.Normalize(*inputs.statistics))
        self._files, self._transform = inputs.files, v2.Compose(parts)

    def __getitem__(self, key: tuple[int, int]) -> Tensor:
        index, epoch = key
        image = read_image(self._files[index])
        with torch.random.fork_rng(devices=[]) if self._random else nullcontext():
            if self._random:
                torch.default_generator.manual_seed(derive(self._seed, "augmentation", epoch, index))
            transformed: Tensor = self._transform(image)
            return transformed


@lru_cache(maxsize=8)
def channel_statistics(dataset: ImageFiles, side: int, loaders: int) -> Statistics:
    """The statistics that `standardize` uses (see above), computed once on a machine that keeps them.

    Raises:
        ConfigError: an image cannot be decoded; the sentence says which.
    """
    from filelock import FileLock  # here alone: data in memory does without

    path = data_folder() / "statistics" / f"{dataset.digest}-{side}.json"
    with ExitStack() as locked:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            locked.enter_context(FileLock(path.with_suffix(".lock")))
        except OSError:  # a folder that cannot be written to keeps nothing
            return _computed(dataset, side, loaders)
        with suppress(OSError, ValueError, TypeError):
            mean, deviation = json.loads(path.read_text())
            return tuple(mean), tuple(deviation)
        found = _computed(dataset, side, loaders)
        with suppress(OSError):
            temporary = path.with_suffix(f".{os.getpid()}")
            temporary.write_text(json.dumps(found))
            temporary.replace(path)
        return found


def _computed(dataset: ImageFiles, side: int, loaders: int) -> Statistics:
    files = dataset.train_files
    count = min(len(files), STATISTICS_IMAGES)
    index = torch.arange(count) * len(files) // count
    source = StreamedInputs(FileInputs(files, side, None, torch.device("cpu"), loaders))
    source.announce(index[None], 256)
    total, squares = torch.zeros(2, 3, dtype=torch.float64)
    for start in range(0, count, 256):
        pixels = source.gather(index[None, start : start + 256]).double().reshape(-1, 3, side * side)
        total += pixels.sum((0, 2))
        squares += pixels.square().sum((0, 2))
    mean = total / (count * side * side)
    deviation = (squares / (count * side * side) - mean.square()).clamp_min(0).sqrt()
    deviation = deviation.where(deviation > 0, 1.0)  # a constant channel becomes 0, not NaN
    return tuple(mean.tolist()), tuple(deviation.tolist())
