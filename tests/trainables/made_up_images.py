"""A tiny data set of coloured noise as a tree of files and as shards: 4 classes, 16x16 images and larger, PNG."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torchvision.transforms.v2.functional import to_pil_image

CLASSES, TRAIN, TEST = 4, 40, 12


@pytest.fixture(scope="module", autouse=True)
def data_folder_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for the statistics of made-up images, imported by tests that train on them: the user's stays as it is."""
    folder = tmp_path_factory.mktemp("data folder")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GAPLAB_DATA", str(folder))
        yield folder


def image(label: int, draw: torch.Generator) -> torch.Tensor:
    """(3, height, width) uint8: noise about a brightness of the class's own, of a shape of its own."""
    height, width = (int(size) for size in torch.randint(16, 24, (2,), generator=draw))
    return (torch.randint(0, 64, (3, height, width), generator=draw) + 48 * label).to(torch.uint8)


def write_tree(root: Path) -> Path:
    """ROOT/{train,val}/CLASS/NUMBER.png; in order of names, sample i of train is of class i // (TRAIN / CLASSES)."""
    draw = torch.Generator().manual_seed(0)
    for split, count in (("train", TRAIN), ("val", TEST)):
        for number in range(count):
            label = number * CLASSES // count
            folder = root / split / f"class{label}"
            folder.mkdir(parents=True, exist_ok=True)
            to_pil_image(image(label, draw)).save(folder / f"{number:04d}.png")
    return root


def write_shards(tree: Path, root: Path, shards: int = 3) -> Path:
    """The same samples in the same order as WebDataset shards."""
    root.mkdir()
    for split in ("train", "val"):
        files = sorted((tree / split).glob("*/*.png"))
        for shard in range(shards):
            with tarfile.open(root / f"{split}-{shard:06d}.tar", "w") as archive:
                for file in files[shard * len(files) // shards : (shard + 1) * len(files) // shards]:
                    label = file.parent.name.removeprefix("class").encode()
                    for name, content in ((f"{file.stem}.png", file.read_bytes()), (f"{file.stem}.cls", label)):
                        member = tarfile.TarInfo(name)
                        member.size = len(content)
                        archive.addfile(member, io.BytesIO(content))
    return root
