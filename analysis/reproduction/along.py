"""What a claim says of the course of a training: columns of a record that follow from its curve."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Floats = NDArray[np.float64]
TO_LOSS = (0.1, 0.01)
ALONG = {
    "curve.best_test_error": "the least test error at any evaluation, which only an oracle can stop at",
    "curve.highest_after_best": "the largest test error from there on",
    "curve.epochs_to_0.1": "epochs until the train loss is 0.1 nats, its logarithm a straight line between two evaluations",
    "curve.epochs_to_0.01": "the same for 0.01 nats",
}
"""The columns, and what they are."""


def with_curves(records: pa.Table, curves: pa.Table) -> pa.Table:
    """The records with the columns of `ALONG`, null where a curve does not say."""
    order = curves.sort_by([("key", "ascending"), ("epoch", "ascending")])
    columns = [order["key"].to_pylist(), *(_numbers(order, name) for name in ("epoch", "test_error", "train_loss"))]
    found: dict[str, list[tuple[float, float, float]]] = {}
    for key, *numbers in zip(*columns, strict=True):
        found.setdefault(key, []).append((numbers[0], numbers[1], numbers[2]))
    rows = [_along(np.asarray(found.get(key, [])).reshape(-1, 3)) for key in records["key"].to_pylist()]
    for name in ALONG:
        values = [row[name] for row in rows]
        records = records.append_column(name, pa.array([None if np.isnan(one) else one for one in values], pa.float64()))
    return records


def _along(curve: Floats) -> dict[str, float]:
    """The columns of one point, from its (epoch, test error, train loss) rows."""
    epochs, errors, losses = curve.T
    known = errors[np.isfinite(errors)]
    best = int(known.argmin()) if len(known) else 0
    test = (float(known[best]), float(known[best:].max())) if len(known) else (np.nan, np.nan)
    return dict(zip(ALONG, (*test, *(_epochs_to(loss, epochs, losses) for loss in TO_LOSS)), strict=True))


def _epochs_to(target: float, epochs: Floats, losses: Floats) -> float:
    """When the loss first is at most the target; NaN if never."""
    before: tuple[float, float] | None = None
    for epoch, loss in zip(epochs, losses, strict=True):
        if loss <= target:
            if before is None or loss <= 0:
                return float(epoch)
            share = np.log(before[1] / target) / np.log(before[1] / loss)
            return float(before[0] + share * (epoch - before[0]))
        before = (epoch, loss)
    return float("nan")


def _numbers(table: pa.Table, column: str) -> list[float]:
    return [np.nan if value is None else float(value) for value in table[column].to_pylist()]
