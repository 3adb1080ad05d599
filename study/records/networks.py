"""Trained networks beside the records: ``STORAGE/STUDY/networks/KEY.safetensors``, which say themselves what they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.fs

from analysis.records.networks import ENDING, FOLDER
from analysis.records.store import open_store
from trainables.point.text import dumps

if TYPE_CHECKING:
    from trainables.training.members import Result

NETWORK = "networks"
"""What a point lacks that was recorded before its network was to be kept."""


def in_safetensors(result: Result) -> pa.Buffer:
    """The bytes of a file with the network of a result, and in its header the point, the shape of its images and its classes."""
    from safetensors.torch import save

    network = result.network
    assert network is not None
    about = {"key": result.key, "point": dumps([result.point]), "classes": str(network.classes)}
    about["image_shape"] = ",".join(map(str, network.image_shape))
    return pa.py_buffer(save({name: value.contiguous() for name, value in network.state.items()}, about))


def kept_networks(root: str) -> frozenset[str]:
    """The keys of the points under ``STORAGE/STUDY`` whose networks are kept."""
    filesystem, path = open_store(root)
    found = filesystem.get_file_info(pyarrow.fs.FileSelector(f"{path}/{FOLDER}", allow_not_found=True))
    return frozenset(one.base_name.removesuffix(ENDING) for one in found if one.base_name.endswith(ENDING) and one.base_name[0] != ".")
