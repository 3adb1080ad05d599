"""What a trained network does on each sample: the row of a point in the table `analysis.records.schema.SAMPLES`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from trainables.data.corruption import labels_of
from trainables.data.misclassified import misclassified
from trainables.data.protocol import Images, PointData
from trainables.data.sets.sources import load
from trainables.data.subset import split
from trainables.measures.bundled.memorisation import forgetting_events, learning_epoch, learning_speed
from trainables.point.config import TrialConfig
from trainables.point.fit import is_regression

PER_SAMPLE = "forgetting_events"
"""The measure whose name asks for these rows."""
_ROWS = 1024


def unmeasured(points: Sequence[TrialConfig]) -> str:
    """Why the networks of some of these points have no measures, as the beginning of a sentence; empty if all have."""
    if any(is_regression(point) for point in points):
        return "measures are of classifiers, and here targets are numbers"
    if any(point.data.streamed for point in points):
        return "measures need the training images in memory, which image files are not"
    return ""


def sample_row(point: TrialConfig, data: PointData, module: nn.Module, right: Sequence[Tensor], epochs: Sequence[int]) -> dict[str, Any]:
    """One entry a sample in each column: all training samples of the data set, those that the point left out too, and the test set.

    Where pixels are corrupted there are no images of the samples left out, and the lists hold the ones trained on alone.

    Args:
        point: resolved.
        data: its data.
        module: as trained.
        right: whether each training sample was right, (n,) bool, at each evaluation.
        epochs: of these evaluations.

    Returns:
        The columns of `analysis.records.schema.SAMPLES` but the key, as NumPy arrays.
    """
    dataset = load(point.data)
    trained_on = split(dataset.train_labels, dataset.classes, point.data)[0]
    own_pixels = bool(point.corruption.level) and point.corruption.of_pixels
    index = trained_on if own_pixels else torch.arange(len(dataset.train_labels))
    labels = labels_of(dataset, point.corruption)[1][index]
    losses, correct = _losses(module, data.train.inputs, data.train.index if own_pixels else index, labels)
    test_losses, test_correct = _losses(module, data.test.inputs, data.test.index, data.test.labels)
    positions = (torch.arange(len(index)) if own_pixels else trained_on).numpy()
    history = np.stack([one.cpu().numpy() for one in right])
    at = learning_epoch(history)
    learned = np.where(np.isnan(at), np.nan, np.asarray(epochs)[np.nan_to_num(at).astype(np.int64)])
    of_trained = {"forgotten": forgetting_events(history), "learning_speed": learning_speed(history), "learned": learned}
    trained = np.zeros(len(index), dtype=bool)
    trained[positions] = True
    return {
        "index": index.numpy().astype(np.int32),
        "label": labels.numpy().astype(np.int16),
        "trained": trained,
        "correct": correct,
        "loss": losses,
        **{name: _spread(values, positions, len(index)) for name, values in of_trained.items()},
        "test_correct": test_correct,
        "test_loss": test_losses,
    }


@torch.no_grad()
def _losses(module: nn.Module, inputs: Images, index: Tensor, labels: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Cross-entropy, float32, and whether the largest output is at the label, of each sample."""
    device = next(module.parameters()).device
    module.eval()
    rows = torch.split(index.to(device), _ROWS)
    outputs = torch.cat([module(inputs.gather(some).reshape(-1, *inputs.image_shape)) for some in rows])
    labels = labels.to(device)
    losses = cross_entropy(outputs, labels, reduction="none")
    return losses.cpu().numpy(), misclassified(outputs, labels).logical_not().cpu().numpy()


def _spread(values: np.ndarray, positions: np.ndarray, count: int) -> np.ndarray:
    """An array (count,) float32 with the values at their positions and NaN elsewhere."""
    spread = np.full(count, np.nan, dtype=np.float32)
    spread[positions] = values
    return spread
