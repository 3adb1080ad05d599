"""What names are likely to mean: which split and what kind a metric is of, and which field of a point a param."""

from __future__ import annotations

import re
from dataclasses import dataclass

_SPLITS = {
    "train": ("train", "training", "tr", "fit"),
    "validation": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "eval", "evaluation", "holdout", "heldout"),
}
_ACCURACY = ("acc", "accuracy", "top1", "acc1", "prec1")
_ERROR = ("err", "error", "errors", "misclassification")
_LOSS = ("loss", "nll", "xent", "crossentropy", "logloss", "ce")
_OTHER = ("f1", "precision", "recall", "roc", "auc", "r2", "mse", "mae", "rmse", "squared", "absolute", "std", "top5", "bleu")
_NOT_LAST = ("best", "max", "min", "ema", "avg", "running", "batch", "step")
"""Words of metrics that are not the value at the end of a run: others come first."""
_GROUPS = (
    "config",
    "params",
    "hparams",
    "hp",
    "args",
    "cfg",
    "model",
    "net",
    "network",
    "optimizer",
    "optim",
    "opt",
    "data",
    "dataset",
    "trainer",
    "init",
)
"""Words before or after a name that say where it stands."""
FIELDS: dict[str, tuple[str, ...]] = {
    "parameters": (
        *("parameters", "n_params", "num_params", "nparams", "param_count", "params_count", "num_parameters", "n_parameters"),
        *("total_params", "trainable_params", "model_params", "parameter_count", "number_of_parameters", "trainable_parameters"),
        *("params", "weights", "n_weights", "num_weights", "number_of_weights"),
    ),
    "parameters_per_sample": ("p_n", "p_over_n", "params_per_sample", "parameters_per_sample"),
    "data.train_size": (
        *("train_size", "n_train", "num_train", "n_samples", "num_samples", "train_samples", "training_samples", "dataset_size"),
        *("data_size", "subset_size", "num_train_samples", "n_train_samples", "sample_size", "samples", "training_set_size"),
    ),
    "seed": ("seed", "random_state", "random_seed", "rng_seed", "manual_seed", "torch_seed", "global_seed"),
    "corruption.level": (
        *("noise", "label_noise", "noise_level", "noise_rate", "noise_ratio", "corruption", "corruption_level", "label_corruption"),
        *("corrupt", "corrupt_prob", "corrupt_frac", "random_label_prob", "label_noise_rate", "noisy_fraction", "random_labels"),
        *("label_noise_percent", "noise_percent", "label_noise_pct", "noise_pct", "wrong_labels", "shuffled_labels"),
    ),
    "model.name": ("model", "arch", "architecture", "model_name", "net", "network", "backbone"),
    "model.width": ("width", "hidden", "hidden_size", "n_hidden", "hidden_units", "hidden_dim", "units", "channels", "width_multiplier"),
    "model.depth": ("depth", "layers", "num_layers", "n_layers", "hidden_layers"),
    "data.name": ("dataset", "data", "dataset_name", "data_name", "task"),
    "optimizer.name": ("optimizer", "optim", "optimizer_name", "opt", "solver"),
    "optimizer.learning_rate": ("lr", "learning_rate", "learningrate", "base_lr", "initial_lr", "lr0", "learning_rate_init"),
    "optimizer.momentum": ("momentum",),
    "optimizer.batch_size": ("batch_size", "batchsize", "bs", "train_batch_size"),
    "regularizers.weight_decay": ("weight_decay", "wd", "l2"),
    "regularizers.dropout": ("dropout", "dropout_rate", "drop_rate", "p_drop"),
    "regularizers.label_smoothing": ("label_smoothing", "smoothing"),
    "budget.epochs": ("epochs", "num_epochs", "n_epochs", "max_epochs", "nb_epochs", "max_iter"),
}
"""Names of params by column, as `joined` writes them."""
MEASURED = {
    "epochs": ("epoch", "epochs", "training_iteration", "n_iter"),
    "seconds": ("time_total_s", "runtime", "_runtime", "seconds", "train_time", "training_time", "duration"),
    "training_flops": ("training_flops", "train_flops", "total_flops", "flops"),
}
"""Names of metrics by column, of those that are neither error nor loss."""


@dataclass(frozen=True)
class Role:
    """What a metric is: ``split`` is ``train``, ``validation``, ``test`` or, where its name does not say it, empty."""

    kind: str
    split: str
    doubt: int
    """How unlikely it is to be the value at the end: the least is taken."""


def words(name: str) -> list[str]:
    """The words of a name: ``config/trainAcc`` is config, train, acc."""
    spaced = re.sub(r"([a-z\d])([A-Z])", r"\1 \2", name)
    return [word for word in re.split(r"[^a-z\d]+", spaced.lower()) if word]


def joined(name: str) -> set[str]:
    """A name's words joined, with and without those that only say where it stands."""
    parts = words(name)
    inner = [word for word in parts if word not in _GROUPS]
    return {"_".join(parts), "_".join(inner), "_".join(parts[1:]) if parts and parts[0] in _GROUPS else "_".join(parts)} - {""}


def role(name: str) -> Role | None:
    """What a metric is by its name; None for neither accuracy, error nor loss."""
    parts = words(name)
    if any(word in _OTHER for word in parts):
        return None
    doubt = 10 * sum(word in _NOT_LAST for word in parts) + len(parts)
    split = next((split for split, known in _SPLITS.items() if any(word in known for word in parts)), "")
    kinds = {"accuracy": _ACCURACY, "error": _ERROR, "loss": _LOSS}
    for kind, known in kinds.items():
        if any(word in known for word in parts):
            return Role(kind, split, doubt)
    if "score" in parts:  # scikit-learn: the accuracy of a classifier
        return Role("accuracy", split, doubt + 5)
    return None
