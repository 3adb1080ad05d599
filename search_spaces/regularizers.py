"""The explicit regularizers as one documented space: what is searched, in which range, and when.

``space: {regularizers: all}`` in a spec stands for the axes below, with the ranges of its architecture; a list of their
names stands for a part of them, and an axis that the spec writes itself goes before ours. Every strength has a switch, so
that it is asked for only when its regularizer is on and "off" is an answer with a weight of its own.

The ranges are our choice: a decade or two around the values in use. The learning rates reach about a decade to either
side of those that Zhang et al. 2017 publish for these architectures (0.1 for the small Inception, 0.01 for the others).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from trainables.point.config import TrialConfig
from trainables.point.errors import ConfigError

Bounds = tuple[float, float]

_DIGIT_SETS = ("digits", "mnist", "svhn")
_TABLES = ("breast_cancer", "wine", "diabetes")
"""A mirrored digit is another sign or none: `flip` is not in ``all`` for these."""
_DENSE = ("linear", "mlp", "random_features")


@dataclass(frozen=True)
class Strengths:
    """Ranges that depend on the architecture; None for what it does not have."""

    weight_decay: Bounds
    dropout: Bounds | None
    learning_rate: Bounds
    batch_norm: bool


_CONVOLUTIONAL = Strengths(weight_decay=(1e-5, 1e-2), dropout=(0.05, 0.6), learning_rate=(3e-3, 0.3), batch_norm=True)
STRENGTHS = {
    "linear": Strengths(weight_decay=(1e-6, 1e-1), dropout=None, learning_rate=(3e-3, 1.0), batch_norm=False),
    "mlp": Strengths(weight_decay=(1e-5, 1e-1), dropout=(0.05, 0.8), learning_rate=(3e-3, 0.3), batch_norm=True),
    "random_features": Strengths(weight_decay=(1e-8, 1e-2), dropout=(0.05, 0.8), learning_rate=(1e-2, 10.0), batch_norm=False),
    "alexnet_small": Strengths(weight_decay=(1e-5, 1e-2), dropout=(0.05, 0.6), learning_rate=(1e-3, 0.1), batch_norm=True),
    "inception_small": Strengths(weight_decay=(1e-5, 1e-2), dropout=(0.05, 0.6), learning_rate=(1e-2, 0.5), batch_norm=True),
    "cnn5": _CONVOLUTIONAL,
    "resnet18": _CONVOLUTIONAL,
}
"""Ranges by model family; a family that is not named here, such as a custom model, has those of `cnn5`."""

ADAPTIVE_RATE: Bounds = (1e-4, 1e-2)
"""Learning rates under `adam` and `adamw`, whose steps do not scale with the gradient."""
DECOUPLED_DECAY: Bounds = (1e-3, 1.0)
"""Weight decay under `adamw`, where it acts times the learning rate."""


@dataclass(frozen=True)
class Regularizer:
    """One entry of the space.

    Attributes:
        name: what a spec calls it.
        doc: what it does, in a few words.
        axes: makes its axes for a trial, as a spec would write them, or says why the trial cannot have it.
        usual: says whether ``all`` contains it for a trial.
    """

    name: str
    doc: str
    axes: Callable[[TrialConfig], dict[str, Any] | str]
    usual: Callable[[TrialConfig], bool] = lambda trial: True


def _strengths(trial: TrialConfig) -> Strengths:
    return STRENGTHS.get(trial.model.name, _CONVOLUTIONAL)


def _range(kind: str, bounds: Bounds, switch: str | None = None) -> dict[str, Any]:
    axis: dict[str, Any] = {kind: {"low": bounds[0], "high": bounds[1]}}
    return axis | ({"when": switch} if switch else {})


def _weight_decay(trial: TrialConfig) -> dict[str, Any]:
    bounds = DECOUPLED_DECAY if trial.optimizer.name == "adamw" else _strengths(trial).weight_decay
    return {"switches": ["use_weight_decay"], "regularizers.weight_decay": _range("log_uniform", bounds, "use_weight_decay")}


def _dropout(trial: TrialConfig) -> dict[str, Any] | str:
    bounds = _strengths(trial).dropout
    if bounds is None or (trial.model.name == "mlp" and trial.model.depth == 0):
        return f"dropout acts on hidden units, and model {trial.model.name} has none here"
    return {"switches": ["use_dropout"], "regularizers.dropout": _range("uniform", bounds, "use_dropout")}


def _has_no_images(trial: TrialConfig) -> bool:
    return trial.data.name in _TABLES or bool(trial.data.made_of) or trial.data.is_table_file


def _crop(trial: TrialConfig) -> dict[str, Any] | str:
    if _has_no_images(trial):
        return f"crop moves pixels, and data {trial.data.name} has no images"
    if trial.data.name == "digits":
        return {"regularizers.crop": {"choice": [0, 1]}}  # of 8 pixels; the others have 28 or 32
    return {"switches": ["use_crop"], "regularizers.crop": {"int": {"low": 1, "high": 4}, "when": "use_crop"}}


def _flip(trial: TrialConfig) -> dict[str, Any] | str:
    if _has_no_images(trial):
        return f"flip mirrors images, and data {trial.data.name} has none"
    return {"regularizers.flip": {"choice": [False, True]}}


def _label_smoothing(trial: TrialConfig) -> dict[str, Any]:
    return {
        "switches": ["use_label_smoothing"],
        "regularizers.label_smoothing": _range("uniform", (0.02, 0.6), "use_label_smoothing"),
    }


def _mixup(trial: TrialConfig) -> dict[str, Any]:
    return {"switches": ["use_mixup"], "regularizers.mixup": _range("uniform", (0.05, 1.0), "use_mixup")}


def _batch_norm(trial: TrialConfig) -> dict[str, Any] | str:
    if not _strengths(trial).batch_norm:
        return f"model {trial.model.name} has no batch norm"
    return {"model.batch_norm": {"choice": [False, True]}}


def _early_stopping(trial: TrialConfig) -> dict[str, Any] | str:
    evaluations = trial.budget.epochs // trial.budget.evaluate_every
    if evaluations < 6:
        return f"early_stopping needs at least 6 evaluations a run, and there are {evaluations}: raise budget.epochs"
    axis = {"int": {"low": 1, "high": evaluations // 3, "log": True}, "when": "use_early_stopping"}
    return {"switches": ["use_early_stopping"], "regularizers.early_stopping": axis}


def _gradient_clip(trial: TrialConfig) -> dict[str, Any]:
    return {"switches": ["use_gradient_clip"], "regularizers.gradient_clip": _range("log_uniform", (0.03, 3.0), "use_gradient_clip")}


def _learning_rate(trial: TrialConfig) -> dict[str, Any]:
    bounds = _strengths(trial).learning_rate if trial.optimizer.name == "sgd" else ADAPTIVE_RATE
    return {"optimizer.learning_rate": _range("log_uniform", bounds)}


def _schedule(trial: TrialConfig) -> dict[str, Any]:
    return {
        "optimizer.schedule": {"choice": ["constant", "exponential", "cosine"]},
        "optimizer.decay": {"uniform": {"low": 0.85, "high": 0.99}, "when": {"optimizer.schedule": "exponential"}},
    }


REGULARIZERS = {
    regularizer.name: regularizer
    for regularizer in (
        Regularizer("weight_decay", "L2 penalty, logarithmic", _weight_decay),
        Regularizer("dropout", "rate on hidden units", _dropout),
        Regularizer("crop", "pixels of padding, an eighth of the image at most", _crop),
        Regularizer("flip", "horizontal; in `all` unless the images are digits", _flip, lambda trial: trial.data.name not in _DIGIT_SETS),
        Regularizer("label_smoothing", "weight moved to the uniform distribution", _label_smoothing),
        Regularizer("mixup", "alpha of the Beta distribution", _mixup),
        Regularizer(
            "batch_norm",
            "on or off; in `all` unless the network is fully connected, where it would not train in stacks",
            _batch_norm,
            lambda trial: trial.model.name not in _DENSE,
        ),
        Regularizer("early_stopping", "patience in evaluations, logarithmic, a third of a run's at most", _early_stopping),
        Regularizer("gradient_clip", "largest norm of the gradient, logarithmic", _gradient_clip),
        Regularizer("learning_rate", "initial, logarithmic, always asked for", _learning_rate),
        Regularizer("schedule", "constant, cosine, or exponential with its decay", _schedule),
    )
}
"""Every entry by name, in the order of the space."""


def regularizer_axes(wanted: Any, trial: TrialConfig) -> dict[str, Any]:
    """Write out the space of explicit regularizers for a trial, as a spec would.

    Args:
        wanted: ``"all"`` for all that the trial can have, or a list of names from `REGULARIZERS`.
        trial: the architecture, the data and the optimizer that ranges depend on.

    >>> regularizer_axes(["dropout"], TrialConfig())
    {'switches': ['use_dropout'], 'regularizers.dropout': {'uniform': {'low': 0.05, 'high': 0.8}, 'when': 'use_dropout'}}

    Raises:
        ConfigError: a name is none of them, or names what this trial cannot have.
    """
    switches: list[str] = []
    axes: dict[str, Any] = {}
    for regularizer in _chosen(wanted, trial):
        written = regularizer.axes(trial)
        if isinstance(written, str):
            if wanted == "all":
                continue
            raise ConfigError(f"space.regularizers: {written}: leave {regularizer.name} out")
        switches += written.pop("switches", [])
        axes |= written
    return {"switches": switches} | axes


def _chosen(wanted: Any, trial: TrialConfig) -> Sequence[Regularizer]:
    if wanted == "all":
        return [regularizer for regularizer in REGULARIZERS.values() if regularizer.usual(trial)]
    if not isinstance(wanted, list) or not wanted or not all(isinstance(name, str) for name in wanted):
        raise ConfigError(f"space.regularizers must be all, or a list of {', '.join(REGULARIZERS)}; it is {wanted!r}")
    for name in wanted:
        if name not in REGULARIZERS:
            near = difflib.get_close_matches(name, REGULARIZERS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(REGULARIZERS)}"
            raise ConfigError(f"space.regularizers: {name!r} is none of them: {hint}")
    return [REGULARIZERS[name] for name in wanted]
