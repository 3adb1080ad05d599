"""Network inputs of one point: its subset, its labels, its corrupted pixels, preprocessed when they are gathered.

Images in memory are a data source of tensors on the device; those in files are streamed (`trainables.data.streamed`).

Points that use the same images in the same preprocessing share one copy; only corrupted pixels are a point's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from trainables.data.augmentation import augment, augments, crops_the_image
from trainables.data.corruption import classes_of, corrupt_pixels, labels_of, within_classes
from trainables.data.device_augmentation import DeviceAugmentation
from trainables.data.protocol import Images, PointData, Samples, Source
from trainables.data.sets.dataset import Dataset
from trainables.data.sets.image_files import ImageFiles
from trainables.data.sets.sources import load
from trainables.data.streamed import FileInputs, channel_statistics
from trainables.data.subset import split
from trainables.data.windows import Windows, per_image_standardization
from trainables.point.config import Corruption, Data, ImageShape, TrialConfig
from trainables.point.streams import generator

CROP = 28
"""Side of the centre crop of the `paper` preprocessing (Zhang et al. 2017, appendix A); smaller images stay whole."""
_FLOAT_BYTES = 256 * 2**20
"""Sets that take up to this much as float32 are converted once; larger ones stay uint8 until gathered."""


class Inputs:
    """Images gathered by index as ``pixels * scale + shift``, float32. See `trainables.data.protocol.Images`.

    Args:
        pixels: (n, C*H*W), uint8 or float32.
        scale, shift: (n, 1) for each image, (1, C*H*W) for each pixel or (1, 1) for all, float32.
    """

    members_at_once: int | None = None
    top_five = False

    def __init__(self, pixels: Tensor, scale: Tensor, shift: Tensor, image_shape: ImageShape) -> None:
        self.image_shape = image_shape
        self.windows: Windows | None = None
        """The whole images, of which these are the centres."""
        self._pixels, self._scale, self._shift = pixels, scale, shift
        self._ready = pixels.numel() * 4 <= _FLOAT_BYTES
        if self._ready:
            self._pixels = pixels.float() * scale + shift

    def __len__(self) -> int:
        return len(self._pixels)

    @property
    def width(self) -> int:
        """Inputs of an image: C*H*W."""
        return self._pixels.shape[1]

    @property
    def ready(self) -> Tensor | None:
        """All of them, (n, C*H*W) float32, unless they are made when they are gathered."""
        return self._pixels if self._ready else None

    def gather(self, index: Tensor) -> Tensor:
        """(*index.shape, C*H*W) float32."""
        found = torch.empty(index.numel(), self.width, device=index.device)
        self.gather_into(found, index.reshape(-1))
        return found.reshape(*index.shape, -1)

    def gather_into(self, out: Tensor, index: Tensor) -> None:
        """Fill `out` (b, C*H*W) float32 with the images of `index` (b,)."""
        if self._ready:
            torch.index_select(self._pixels, 0, index, out=out)
        else:
            per_image = len(self._scale) > 1
            scale, shift = (part.index_select(0, index) if per_image else part for part in (self._scale, self._shift))
            torch.mul(self._pixels.index_select(0, index), scale, out=out).add_(shift)

    def source(self, several: Sequence[Images]) -> Source:
        """See `trainables.data.protocol.Images`."""
        inputs = [one for one in several if isinstance(one, Inputs)]
        assert len(inputs) == len(several)
        return StackedInputs(inputs)


class StackedInputs:
    """Batches of K members, row k of an index (K, b) from source k, in memory that the next batch of that size overwrites.

    See `trainables.data.protocol.Source`. Memory that is used again stays in the cache: fresh memory makes a step of small networks a
    tenth longer.
    """

    def __init__(self, sources: Sequence[Inputs]) -> None:
        self._sources = sources[:1] if all(source is sources[0] for source in sources) else sources
        self._memory: dict[torch.Size, tuple[Tensor, list[Tensor]]] = {}
        self._points: Sequence[TrialConfig] = ()
        self._draws: list[torch.Generator] = []  # of each member's augmentation on a CPU; empty where nobody augments
        self._augmentation: DeviceAugmentation | None = None  # on a GPU

    @property
    def shared(self) -> Tensor | None:
        """See `trainables.data.protocol.Source`; also None for a set that is converted when it is gathered, and while it is augmented."""
        return self._sources[0].ready if len(self._sources) == 1 and not self._draws and self._augmentation is None else None

    def announce(self, index: Tensor, size: int) -> None:
        """See `trainables.data.protocol.Source`: all is ready already."""

    def begin_epoch(self, points: Sequence[TrialConfig], epochs: Sequence[int], index: Tensor, size: int) -> None:
        """See `trainables.data.protocol.Source`."""
        self._points, self._draws, self._augmentation = points, [], None
        if not any(augments(point) for point in points):
            return
        if index.is_cuda:
            windows, steps = [source.windows for source in self._sources], -(-index.shape[1] // size)
            shape = self._sources[0].image_shape
            self._augmentation = DeviceAugmentation(points, epochs, shape, windows, steps, index.device)
        else:
            self._draws = [generator(point.seed, "augmentation", epoch) for point, epoch in zip(points, epochs, strict=True)]

    def training_batch(self, index: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """See `trainables.data.protocol.Source`."""
        inputs = self.gather(index)
        if self._augmentation is not None:
            return self._augmentation.next(index, inputs, targets)
        if not self._draws:
            return inputs, targets
        for member, (point, draw) in enumerate(zip(self._points, self._draws, strict=True)):
            windows = self._sources[member if len(self._sources) > 1 else 0].windows
            if windows is not None and crops_the_image(point):
                inputs[member] = windows.cut(index[member], point.regularizers.crop, draw)
        return augment(inputs, targets, self._points, self._draws, self._sources[0].image_shape)

    def gather(self, index: Tensor) -> Tensor:
        """(K, b, C*H*W) float32."""
        if index.shape not in self._memory:
            whole = torch.empty(*index.shape, self._sources[0].width, device=index.device)
            self._memory[index.shape] = whole, [whole.flatten(0, 1)] if len(self._sources) == 1 else list(whole)
        whole, parts = self._memory[index.shape]
        rows = [index.reshape(-1)] if len(parts) == 1 else index
        for source, part, own in zip(self._sources, parts, rows, strict=True):
            source.gather_into(part, own)
        return whole


def point_data(point: TrialConfig, device: torch.device, loaders: int = 0) -> PointData:
    """The data of one resolved point on its device: corrupted once, before training.

    Args:
        loaders: processes that decode images which stay in their files.
    """
    return _point_data(point.data, point.corruption, device, loaders)


def input_shape(dataset: Dataset, preprocessing: str) -> ImageShape:
    """Channels, height and width of a network's input after preprocessing."""
    channels, height, width = dataset.image_shape
    if preprocessing == "paper":
        return channels, min(height, CROP), min(width, CROP)
    return dataset.image_shape


@lru_cache(maxsize=8)
def _point_data(data: Data, corruption: Corruption, device: torch.device, loaders: int) -> PointData:
    dataset = load(data)
    classes = classes_of(dataset.classes, corruption)
    train_index, validation_index = _subset(data, device)
    used = torch.cat([train_index, validation_index]).cpu()
    true, labels = (each[used] for each in labels_of(dataset, corruption))
    differ = (labels != true).reshape(len(used), -1).any(1)
    train_inputs: Images
    if isinstance(dataset, ImageFiles):
        train_inputs, test = _files(dataset, data, device, loaders)
    elif corruption.level and corruption.of_pixels:
        train_inputs, test = _corrupted_images(dataset, data.preprocessing, corruption, used, device)
        train_index, validation_index = torch.split(torch.arange(len(used), device=device), [len(train_index), len(validation_index)])
    else:
        train_inputs, test = _shared_images(dataset, data.preprocessing, classes, device)
    size = len(train_index)
    train = Samples(train_inputs, train_index, labels[:size].to(device), differ[:size].to(device))
    validation = None
    if size < len(used):
        noisy = corruption.validation == "noisy"
        shown, wrong = (labels, differ) if noisy else (true, torch.zeros_like(differ))
        validation = Samples(train_inputs, validation_index, shown[size:].to(device), wrong[size:].to(device))
    return PointData(train, validation, test, classes)


@lru_cache(maxsize=64)
def _subset(data: Data, device: torch.device) -> tuple[Tensor, Tensor]:
    """See `trainables.data.subset.split`: the same tensors for all points that train on the same images, so that these share batches."""
    dataset = load(data)
    train, validation = split(dataset.train_labels, dataset.classes, data)
    return train.to(device), validation.to(device)


def _clean_samples(inputs: Images, index: Tensor, labels: Tensor) -> Samples:
    device = index.device
    return Samples(inputs, index, labels.to(device), torch.zeros(len(labels), dtype=torch.bool, device=device))


def _files(dataset: ImageFiles, data: Data, device: torch.device, loaders: int) -> tuple[FileInputs, Samples]:
    """All training images as inputs, and the test samples, which stay in their files."""
    statistics = channel_statistics(dataset, data.side, loaders) if data.preprocessing == "standardize" else None
    train, test = (FileInputs(files, data.side, statistics, device, loaders) for files in (dataset.train_files, dataset.test_files))
    return train, _clean_samples(test, torch.arange(len(test), device=device), dataset.test_labels)


@lru_cache(maxsize=8)
def _shared_images(dataset: Dataset, preprocessing: str, classes: int, device: torch.device) -> tuple[Inputs, Samples]:
    """All training images as inputs, and the test samples: one copy for all points of a process."""
    statistics = _channel_statistics(_cropped(dataset.train_images, preprocessing))
    train, test = (
        _preprocess(_cropped(images, preprocessing), preprocessing, *statistics, _full_range(dataset), device)
        for images in (dataset.train_images, dataset.test_images)
    )
    if preprocessing == "paper":
        train.windows = Windows(dataset.train_images.to(device), train.image_shape[1:], _full_range(dataset))
    return train, _clean_samples(test, torch.arange(len(test), device=device), within_classes(dataset.test_labels, classes))


def _corrupted_images(
    dataset: Dataset, preprocessing: str, corruption: Corruption, used: Tensor, device: torch.device
) -> tuple[Inputs, Samples]:
    """A point's own pixels: its `used` training images as inputs, and its test samples."""
    statistics = _channel_statistics(_cropped(dataset.train_images, preprocessing))
    corrupted = (
        corrupt_pixels(_cropped(images, preprocessing), corruption, name, *statistics)
        for images, name in ((dataset.train_images[used], "train"), (dataset.test_images, "test"))
    )
    train, test = (_preprocess(images, preprocessing, *statistics, _full_range(dataset), device) for images in corrupted)
    return train, _clean_samples(test, torch.arange(len(test), device=device), dataset.test_labels)


def _cropped(images: Tensor, preprocessing: str) -> Tensor:
    if preprocessing != "paper":
        return images
    top, left = (max(0, (size - CROP) // 2) for size in images.shape[2:])
    return images[:, :, top : top + CROP, left : left + CROP]


def _channel_statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel over all images and positions, (C,) float32."""
    total = torch.zeros(images.shape[1], dtype=torch.float64)
    squares = torch.zeros_like(total)
    for part in torch.split(images, 4096):
        part = part.double()
        total += part.sum((0, 2, 3))
        squares += part.square().sum((0, 2, 3))
    count = images.numel() / images.shape[1]
    mean = total / count
    return mean.float(), (squares / count - mean.square()).clamp_min(0).sqrt().float()


def _full_range(dataset: Dataset) -> float:
    """The largest value of a pixel as stored; Gaussian pixels of a uint8 set are floats in the same unit."""
    return 255.0 if dataset.train_images.dtype == torch.uint8 else 1.0


def _preprocess(images: Tensor, preprocessing: str, mean: Tensor, deviation: Tensor, full_range: float, device: torch.device) -> Inputs:
    count, channels, height, width = images.shape
    flat = images.reshape(count, -1)
    if preprocessing == "paper":
        scale, shift = per_image_standardization(flat, full_range)
    elif preprocessing == "unit":
        scale, shift = torch.full((1, 1), 1 / full_range), torch.zeros(1, 1)
    else:
        safe = torch.where(deviation > 0, deviation, torch.ones_like(deviation))  # a constant channel becomes 0, not NaN
        scale, shift = ((1 / safe), (-mean / safe))
        scale, shift = (part.repeat_interleave(height * width)[None] for part in (scale, shift))
    return Inputs(flat.contiguous().to(device), scale.to(device), shift.to(device), (channels, height, width))
