"""The trained networks of points, as a study with ``keep: [networks]`` saves them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from analysis.errors import NothingToShow
from analysis.records.store import open_store

if TYPE_CHECKING:
    from torch import nn

FOLDER, ENDING = "networks", ".safetensors"


def load_network(source: str, key: str) -> nn.Module:
    """The network of a point as it was trained, in evaluation mode, on the CPU.

    Args:
        source: ``STORAGE/STUDY``, a local path or any URI that `pyarrow.fs` knows.
        key: of the point.

    Returns:
        A module from inputs (n, C, H, W) float32, preprocessed as for training, to outputs (n, classes).

    Raises:
        NothingToShow: the study keeps no network of this point.
        ConfigError: the point has a model of the user's own, which this process has not registered.
    """
    from safetensors.torch import load

    from trainables.models import build
    from trainables.point.config import sizes_only
    from trainables.point.text import loads

    filesystem, path = open_store(source)
    try:
        with filesystem.open_input_stream(f"{path}/{FOLDER}/{key}{ENDING}") as stream:
            content = stream.read()
    except FileNotFoundError:
        raise NothingToShow(f"{source} keeps no network of {key}: a spec does that says keep: [networks]") from None
    about = _header(content)
    point = loads(about["point"])[0]
    channels, height, width = map(int, about["image_shape"].split(","))
    module = build(sizes_only(point.model), point.regularizers.dropout, (channels, height, width), int(about["classes"]), seed=0)
    module.load_state_dict(load(content))
    return module.eval()


def _header(content: bytes) -> dict[str, str]:
    """What a file of safetensors says of itself: its first 8 bytes are the length of the JSON that follows, little-endian."""
    length = int.from_bytes(content[:8], "little")
    return dict(json.loads(content[8 : 8 + length])["__metadata__"])
