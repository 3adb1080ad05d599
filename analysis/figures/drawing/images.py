"""Images of a data set, as they are drawn in figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from analysis.errors import NothingToShow
from analysis.statistics.selection import data_sets

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def images_of(table: pa.Table, part: Literal["train", "test"]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The images of the records' data set, (n, H, W, 3) in [0, 255], and their true labels, (n,).

    Raises:
        NothingToShow: the records are of several data sets, or theirs is not to be had here, or has no images.
    """
    from trainables.data.sets.sources import load
    from trainables.point.errors import ConfigError

    names = table["data.name"].unique().to_pylist()
    if len(names) > 1:
        raise NothingToShow(f"the points have several data sets ({', '.join(names)}): show one")
    try:
        dataset = load(data_sets(table)[0])
    except ConfigError as error:
        raise NothingToShow(f"the images of {names[0]} cannot be shown: {error}") from None
    if dataset.is_table:
        raise NothingToShow(f"{names[0]} has no images: its samples are rows of numbers")
    images = dataset.train_images if part == "train" else dataset.test_images
    labels = dataset.train_labels if part == "train" else dataset.test_labels
    return pixels(images.numpy()), labels.numpy()


def draw_image(panel: Axes, image: NDArray[np.uint8], text: str) -> None:
    """One image (H, W, 3) with a text above it."""
    panel.imshow(image, interpolation="nearest")
    panel.set_title(text, fontsize=8, loc="center")


def pixels(images: NDArray[Any]) -> NDArray[np.uint8]:
    """Images (k, C, H, W) as stored, uint8 or floating point, as (k, H, W, 3) in [0, 255]; of two channels the first is shown."""
    if images.dtype != np.uint8:
        low, high = images.min(), images.max()
        images = ((images - low) * (255 / max(high - low, 1e-12))).astype(np.uint8)
    if images.shape[1] != 3:
        images = np.repeat(images[:, :1], 3, axis=1)
    return np.moveaxis(images, 1, 3)
