"""Images that stay in their files until a batch needs them: an ImageFolder tree or WebDataset shards, as for ImageNet.

``data: {name: imagefolder:PATH}`` has PATH/train/CLASS/*.jpg and PATH/val/CLASS/*.jpg (torchvision's `ImageFolder`, classes numbered in
order of their names). ``data: {name: webdataset:PATH}`` has PATH/train-*.tar and PATH/val-*.tar, uncompressed: of each sample KEY.jpg (or
.jpeg, .png, .webp) and KEY.cls, the number of its class in digits. Sample i is the i-th in the order of names; labels are corrupted by that
index, with the same draws as everywhere (`trainables.data.corruption`).

The digest is of names and sizes, not of content: reading 150 GB to name a data set would take longer than many a study.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from trainables.data.sets.dataset import Dataset
from trainables.point.config import IMAGE_FILES, Data, TrialConfig
from trainables.point.errors import ConfigError

_SUFFIXES = ("jpg", "jpeg", "png", "webp")


class Stored(NamedTuple):
    """The location of an encoded image: a whole file (size None), or a part of one, in bytes."""

    path: str
    offset: int = 0
    size: int | None = None


@dataclass(frozen=True, eq=False)
class ImageFiles(Dataset):
    """A data set without pixels: its image tensors have the right shape and no memory; the files say where the images lie."""

    train_files: Sequence[Stored] = ()
    test_files: Sequence[Stored] = ()


def open_files(data: Data) -> ImageFiles:
    """The data set that `data` names, listed once a process.

    Raises:
        ConfigError: there is no such folder, or what lies there is not as said above.
    """
    kind, _, path = data.name.partition(":")
    root = Path(path).expanduser()
    (train, train_labels, digest), (test, test_labels, _) = _listed(kind, root)
    classes = int(train_labels.max()) + 1
    if int(test_labels.max()) >= classes:
        raise ConfigError(f"{root}: val has the class {int(test_labels.max())}, but train only 0 to {classes - 1}")

    def blank(count: int) -> Tensor:
        return torch.zeros((), dtype=torch.uint8).expand(count, 3, data.side, data.side)

    return ImageFiles(blank(len(train)), train_labels, blank(len(test)), test_labels, classes, digest, train_files=train, test_files=test)


def check(point: TrialConfig) -> None:
    """Raise ConfigError for what a point on image files does not have."""
    unfit = {
        "optimizer.name": point.is_solved,
        "data.preprocessing": point.data.preprocessing == "paper",
        "corruption.kind": point.corruption.kind not in ("redraw", "flip", "random_labels", "class_conditional"),
        "corruption.transition": point.corruption.of_given,
        "regularizers.mixup": bool(point.regularizers.mixup),
    }
    for name, found in unfit.items():
        if found:
            raise ConfigError(f"{name} has a value that {point.data.name.partition(':')[0]} data, read from its files, does not take")


def read_image(stored: Stored) -> Tensor:
    """(3, height, width), uint8.

    Raises:
        ConfigError: it cannot be decoded; the sentence says which.
    """
    from PIL import Image
    from torchvision.transforms.v2.functional import pil_to_tensor

    with open(stored.path, "rb") as file:
        file.seek(stored.offset)
        encoded = file.read() if stored.size is None else file.read(stored.size)
    try:
        image: Tensor = pil_to_tensor(Image.open(BytesIO(encoded)).convert("RGB"))
        return image
    except (OSError, SyntaxError, ValueError) as error:
        raise ConfigError(f"{stored.path}: the image at byte {stored.offset} cannot be decoded: {str(error).splitlines()[0]}") from None


_Part = tuple[list[Stored], Tensor, str]
"""Files, labels (n,) int64, and a digest."""


@cache
def _listed(kind: str, root: Path) -> tuple[_Part, _Part]:
    if not root.is_dir():
        raise ConfigError(f"data.name is {kind}:{root}, but there is no folder {root}")
    lists = IMAGE_FILES.index(f"{kind}:")
    parts = [(_tree, _shards)[lists](root, split) for split in ("train", "val")]
    digest = hashlib.sha256("".join(part[2] for part in parts).encode()).hexdigest()[:32]
    (train, train_labels, _), (test, test_labels, _) = parts
    return (train, train_labels, digest), (test, test_labels, digest)


def _tree(root: Path, split: str) -> _Part:
    from torchvision.datasets import ImageFolder

    try:
        found = ImageFolder(str(root / split))
    except (OSError, FileNotFoundError) as error:
        raise ConfigError(f"{root / split} is no tree of images, a folder a class: {str(error).splitlines()[0]}") from None
    digest = hashlib.sha256(repr(found.classes).encode())
    for path, _ in found.samples:
        digest.update(f"{Path(path).relative_to(root).as_posix()} {Path(path).stat().st_size}\n".encode())
    return [Stored(path) for path, _ in found.samples], torch.tensor(found.targets, dtype=torch.int64), digest.hexdigest()


def _shards(root: Path, split: str) -> _Part:
    shards = sorted(root.glob(f"{split}-*.tar"))
    if not shards:
        raise ConfigError(f"{root} has no shard {split}-*.tar")
    files, labels, digest = [], [], hashlib.sha256()
    for shard in shards:
        digest.update(f"{shard.name} {shard.stat().st_size}\n".encode())
        for key, (image, label) in _samples(shard).items():
            if image is None or label is None:
                raise ConfigError(f"{shard}: sample {key} needs an image ({', '.join(_SUFFIXES)}) and a class, {key}.cls")
            files.append(image)
            labels.append(label)
    return files, torch.tensor(labels, dtype=torch.int64), digest.hexdigest()


def _samples(shard: Path) -> dict[str, tuple[Stored | None, int | None]]:
    """Image and class of each sample of a shard, by key: its name up to the first dot of the last part."""
    found: dict[str, tuple[Stored | None, int | None]] = {}
    try:
        with tarfile.open(shard, "r:") as archive:
            for member in archive:
                folder, slash, name = member.name.rpartition("/")
                key, _, suffix = name.partition(".")
                image, label = found.get(folder + slash + key, (None, None))
                if suffix.lower() in _SUFFIXES:
                    image = Stored(str(shard), member.offset_data, member.size)
                elif suffix == "cls":
                    content = archive.extractfile(member)
                    label = int(content.read()) if content else None
                else:
                    continue
                found[folder + slash + key] = (image, label)
    except (tarfile.TarError, OSError, ValueError) as error:
        raise ConfigError(f"{shard} is no uncompressed tar of KEY.jpg and KEY.cls: {str(error).splitlines()[0]}") from None
    return dict(sorted(found.items()))
