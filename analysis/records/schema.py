"""The one Arrow schema of records, curves and samples: every column with its type and its meaning."""

from __future__ import annotations

import types
import typing
from typing import Any

import pyarrow as pa

from trainables.point.config import field_types

FINAL = ("completed", "diverged", "pruned")
"""These are outcomes of the point itself, which is not run again. A failed point (a bug, no memory) runs again on the next start."""
STATUSES = (*FINAL, "failed")
"""All that may stand in the column ``status``."""
MEASURE = "measure."
"""The prefix of the float64 columns that a study's measures add to `RECORDS`."""

_OUTCOME: dict[str, tuple[pa.DataType, str]] = {
    "parameters": (pa.int64(), "trainable parameters p: the capacity"),
    "parameters_per_sample": (pa.float64(), "p/n reached, with n the training samples actually used"),
    "wrong_label_rate": (pa.float64(), "fraction of training labels that differ from the true ones, measured"),
    "train_error": (pa.float64(), "1 - accuracy on the training set with the labels trained on, at the end"),
    "train_loss": (pa.float64(), "mean loss on the training set with the labels trained on, at the end, without penalties"),
    "validation_error": (pa.float64(), "1 - accuracy on the validation split, clean labels, at the end; null without one"),
    "test_error": (pa.float64(), "1 - accuracy on the test set, clean labels, at the end"),
    "test_loss": (pa.float64(), "mean loss on the test set, at the end"),
    "generalization_gap": (pa.float64(), "test_error - train_error"),
    "train_nmse": (
        pa.float64(),
        "of regression, in place of train_error: mean squared error on the training set with the targets trained on, at the end, in units"
        " of each target's variance over the data set's (true) training samples, mean over targets; 1 is that of always saying the mean",
    ),
    "validation_nmse": (pa.float64(), "of regression: the same on the validation split, clean targets; null without one"),
    "test_nmse": (pa.float64(), "of regression: the same on the test set, clean targets; may exceed 1"),
    "nmse_gap": (pa.float64(), "of regression: test_nmse - train_nmse"),
    "epochs": (pa.int32(), "epochs trained"),
    "fit_epoch": (pa.int32(), "first evaluated epoch whose train error (or loss, if that is the target) reached the target; null if none"),
    "interpolated": (pa.bool_(), "whether the target was reached"),
    "multiply_adds": (pa.int64(), "multiply-adds of one sample's forward pass; null where they cannot be counted, and in older records"),
    "training_flops": (
        pa.float64(),
        "floating-point operations of training, 6 * multiply_adds * training samples * epochs; null as multiply_adds is, and of a point"
        " that is solved the order of its factorization's",
    ),
    "seconds": (pa.float64(), "training time of the pack divided by its members at each epoch"),
}
_PROVENANCE: dict[str, tuple[pa.DataType, str]] = {
    "key_version": (pa.int32(), "version of the meaning of fields, part of the key"),
    "finished": (pa.timestamp("ms", tz="UTC"), "when the point finished"),
    "gaplab_version": (pa.string(), "package versions"),
    "torch_version": (pa.string(), ""),
    "python_version": (pa.string(), ""),
    "git_commit": (
        pa.string(),
        "commit of the checkout that the worker imported gaplab from, else (driver) of the folder of the start",
    ),
    "device": (pa.string(), "what it was trained on"),
    "host": (pa.string(), "on which machine"),
    "engine": (pa.string(), "what trained it (docs/engines.md); null of a point that is solved, and in older records"),
    "slots": (pa.int32(), "how many members it trains side by side there; null as engine is"),
    "bits": (
        pa.string(),
        "mode of MKL, and vector instructions, that its bits come from (docs/engines.md); null where no bits are promised",
    ),
}
_CURVE: dict[str, tuple[pa.DataType, str]] = {
    "key": (pa.string(), "the point"),
    "epoch": (pa.int32(), "epochs trained so far"),
    "learning_rate": (pa.float64(), "in that epoch, in its last step while it warms up"),
    "train_loss": (pa.float64(), "as in the record"),
    "train_error": (pa.float64(), "as in the record"),
    "validation_error": (pa.float64(), "as in the record"),
    "test_loss": (pa.float64(), "as in the record"),
    "test_error": (pa.float64(), "as in the record"),
    "clean_train_error": (pa.float64(), "train error on the samples whose label is true; null if there are none"),
    "wrong_train_error": (
        pa.float64(),
        "train error, against the wrong label, on the samples whose label is wrong; null if there are none",
    ),
    "clean_train_loss": (pa.float64(), "train loss on the samples whose label is true; null if there are none"),
    "wrong_train_loss": (pa.float64(), "train loss, against the wrong label, on the samples whose label is wrong; null if there are none"),
    "train_nmse": (pa.float64(), "of regression, as in the record"),
    "validation_nmse": (pa.float64(), "of regression, as in the record"),
    "test_nmse": (pa.float64(), "of regression, as in the record"),
}
_SAMPLES: dict[str, tuple[pa.DataType, str]] = {
    "key": (pa.string(), "the point"),
    "index": (
        pa.list_(pa.int32()),
        "which samples of the data set's training split the lists are of: all, but only those trained on under pixel corruption",
    ),
    "label": (pa.list_(pa.int16()), "the label trained on, or that would have been"),
    "trained": (pa.list_(pa.bool_()), "whether the point was trained on it"),
    "correct": (pa.list_(pa.bool_()), "whether the trained network predicts that label"),
    "loss": (pa.list_(pa.float32()), "the trained network's cross-entropy of that label, in nats"),
    "forgotten": (pa.list_(pa.float32()), "forgetting events over the evaluated epochs (Toneva et al. 2019); NaN if not trained on"),
    "learning_speed": (pa.list_(pa.float32()), "share of the evaluated epochs at which it was right; NaN if not trained on"),
    "learned": (pa.list_(pa.float32()), "first evaluated epoch from which on it stayed right; NaN if none, or not trained on"),
    "test_correct": (pa.list_(pa.bool_()), "of each test sample: whether its prediction is the true label"),
    "test_loss": (pa.list_(pa.float32()), "of each test sample: the cross-entropy of the true label, in nats"),
}


_UNIONS = (types.UnionType, typing.Union)
"""``X | None`` of a class and of a Literal."""


def _arrow_type(hint: Any) -> pa.DataType:
    options = [kind for kind in typing.get_args(hint) if kind is not type(None)] if typing.get_origin(hint) in _UNIONS else [hint]
    kind = options[0]
    if typing.get_origin(kind) is typing.Literal:
        return pa.string()
    return {str: pa.string(), bool: pa.bool_(), int: pa.int64(), float: pa.float64()}[kind]


def _record_schema() -> pa.Schema:
    head = [pa.field("key", pa.string()), pa.field("study", pa.string()), pa.field("status", pa.string()), pa.field("reason", pa.string())]
    config = [pa.field(name, _arrow_type(hint)) for name, hint in field_types().items()]
    outcome = [pa.field(name, kind, metadata={"doc": doc}) for name, (kind, doc) in (_OUTCOME | _PROVENANCE).items()]
    return pa.schema([*head, *config, *outcome])


RECORDS = _record_schema()
"""One row a point: key, study, status, reason, every dotted config field, the outcome, provenance. Measures add ``measure.*``."""
CURVES = pa.schema([pa.field(name, kind, metadata={"doc": doc}) for name, (kind, doc) in _CURVE.items()])
"""One row a point and evaluated epoch."""
SAMPLES = pa.schema([pa.field(name, kind, metadata={"doc": doc}) for name, (kind, doc) in _SAMPLES.items()])
"""One row a point of a study that names the measure `forgetting_events`; each list has an entry a sample."""
OUTCOMES = tuple(_OUTCOME)
"""The columns that a training run gives, without key, config and provenance."""
