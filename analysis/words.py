"""The field's words for the columns, in titles, on axes and in sentences."""

from __future__ import annotations

_WORDS = {
    "parameters": "parameters $p$",
    "parameters_per_sample": "parameters per sample $p/n$",
    "model.width": "width",
    "data.train_size": "training samples $n$",
    "generalization_gap": "generalization gap",
    "train_error": "train error",
    "test_error": "test error",
    "validation_error": "validation error",
    "nmse_gap": "generalization gap in squared error / variance",
    "train_nmse": "train squared error / variance",
    "test_nmse": "test squared error / variance",
    "validation_nmse": "validation squared error / variance",
    "train_loss": "train loss",
    "test_loss": "test loss",
    "corruption.level": "label corruption",
    "corruption.kind": "corruption",
    "model.name": "model",
    "data.name": "data set",
    "optimizer.name": "optimizer",
    "wrong_label_rate": "wrong-label rate",
    "fit_epoch": "epochs to fit",
    "clean_train_error": "train error on samples with a true label",
    "wrong_train_error": "train error on samples with a wrong label",
    "clean_train_loss": "train loss on samples with a true label",
    "wrong_train_loss": "train loss on samples with a wrong label",
}


def words(column: str) -> str:
    """The name of a column on an axis, in the field's words."""
    return _WORDS.get(column) or column.rpartition(".")[2].replace("_", " ")
