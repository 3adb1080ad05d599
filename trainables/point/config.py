"""What determines a result: one point of a study, and its key.

A point is a :class:`TrialConfig`. It is frozen, compares by value and holds nothing of where or how it runs. Every field
says its meaning, its range and what leaving it out (``None``) stands for; the reference page of the docs is made from here.

`resolve` (in `trainables.resolution`) fills in everything left to a default, so that a resolved point is complete;
:meth:`TrialConfig.key` hashes what a resolved point's result depends on, and nothing else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache, lru_cache
from math import inf, isfinite
from typing import Any, Literal, get_type_hints

from trainables.point.families import unread_fields
from trainables.redaction import redacted

KEY_VERSION = 1
"""Part of every key. Raised when a change to the code changes what a point computes."""

CorruptionKind = Literal["redraw", "flip", "random_labels", "random_signs", "shuffled_pixels", "random_pixels", "gaussian", "given"]
LABEL_KINDS = ("redraw", "flip", "random_labels", "random_signs", "given")
PIXEL_KINDS = ("shuffled_pixels", "random_pixels", "gaussian")
IMAGE_FILES = ("imagefolder:", "webdataset:")
"""Beginnings of `data.name` for images that stay in their files (see `trainables.data.sets.image_files`)."""
ImageShape = tuple[int, int, int]
"""Channels, height and width of one input."""
WIDEST = 10_000_000
"""Largest width: beyond any memory, yet small enough that no parameter count overflows."""


RAISED = (Exception, SystemExit)
"""What the user's own code may raise while a study is planned: a `sys.exit()` in it ends that code, not gaplab."""
_LONGEST_SENTENCE = 1500


class ConfigError(ValueError):
    """A point that cannot be run, said in one sentence for the user: which field, what is wrong, what would be right.

    A sentence that quotes something long is cut in its middle; secrets of URIs are not quoted.
    """

    def __init__(self, sentence: str) -> None:
        if len(sentence) > _LONGEST_SENTENCE:
            sentence = f"{sentence[: _LONGEST_SENTENCE // 2]} ... {sentence[-_LONGEST_SENTENCE // 2 :]}"
        super().__init__(redacted(sentence))


def _knob(
    default: Any, doc: str, *, low: float | None = None, high: float | None = None, open_low: bool = False, open_high: bool = False
) -> Any:
    """A field with its documentation and its range [low, high]; ``open_*`` excludes that end."""
    limits = {"low": low, "high": high, "open_low": open_low, "open_high": open_high}
    return field(default=default, metadata={"doc": doc, **limits})


def check_range(knob: Any, value: Any, name: str) -> None:
    """Raise ConfigError when a number lies outside the range that its field states."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    if isinstance(value, float) and not isfinite(value):
        raise ConfigError(f"{name} is {value}: it must be a finite number")
    limits = knob.metadata
    low, high = limits.get("low"), limits.get("high")
    below = low is not None and (value <= low if limits["open_low"] else value < low)
    above = high is not None and (value >= high if limits["open_high"] else value > high)
    if below or above:
        raise ConfigError(f"{name} is {value}: it must be {range_of(knob)}")


def range_of(knob: Any) -> str:
    """The range of a field in words, empty for none."""
    limits = knob.metadata
    low, high = limits.get("low"), limits.get("high")
    if low is None and high is None:
        return ""
    above = "" if low is None else f"greater than {low}" if limits["open_low"] else f"at least {low}"
    below = "" if high is None else f"less than {high}" if limits["open_high"] else f"at most {high}"
    return " and ".join(part for part in (above, below) if part)


@cache
def _limited(group: type) -> tuple[tuple[str, float, float, Any], ...]:
    """The fields of a group that have a range: name, what lies between these ends is right, and the field itself."""
    knobs = [knob for knob in fields(group) if range_of(knob)]
    ends = [tuple(inf * sign if knob.metadata[end] is None else knob.metadata[end] for end, sign in _ENDS) for knob in knobs]
    return tuple((knob.name, low, high, knob) for knob, (low, high) in zip(knobs, ends, strict=True))


_ENDS = (("low", -1), ("high", 1))


class _Group:
    """Shared by the groups of fields: the check of their ranges. Points are made by the hundred thousand, so most are let through."""

    def __post_init__(self) -> None:
        for name, low, high, knob in _limited(type(self)):  # type: ignore[arg-type]
            value = getattr(self, name)
            if value is not None and not low < value < high:
                check_range(knob, value, f"{type(self).__name__.lower()}.{name}")


@dataclass(frozen=True)
class Data(_Group):
    """The data set and the part of it that is used."""

    name: str = _knob(
        "digits",
        "`digits` (bundled with scikit-learn), `mnist`, `fashion_mnist`, `cifar10`, `cifar100`, `svhn`, `synthetic`, `npz:PATH`, or image "
        "files: `imagefolder:PATH` with PATH/train and PATH/val, or `webdataset:PATH` with PATH/train-*.tar and PATH/val-*.tar",
    )
    train_size: int | None = _knob(
        None, "training samples used, n: a seeded, class-balanced subset; all that validation leaves by default", low=1
    )
    validation_size: int = _knob(
        0,
        "samples cut from the training set for validation, disjoint from the `train_size` trained on (see `corruption.validation`)",
        low=0,
    )
    preprocessing: Literal["standardize", "paper", "unit"] = _knob(
        "standardize",
        "`standardize`: mean and standard deviation of each channel over the training set; `unit`: pixels in [0, 1]; "
        "`paper`: centre crop to 28x28, then each image to mean 0 and deviation 1 (Zhang et al. 2017)",
    )
    seed: int | None = _knob(None, "subset and split; follows `seed` by default", low=0)
    dimension: int = _knob(32, "`synthetic` only: input dimension", low=1)
    classes: int = _knob(10, "`synthetic` only: number of classes", low=2)
    separation: float = _knob(4.0, "`synthetic` only: distance of two class means, in standard deviations of a class", low=0)
    side: int = _knob(224, "image files only: height and width, in pixels, that images are scaled and cropped to", low=1)
    replaced: int | None = _knob(
        None,
        "place, in the training subset, of one sample that is exchanged for one left out: uniform stability (Bousquet and Elisseeff 2002)",
        low=0,
    )
    digest: str | None = _knob(None, "content hash of an npz file, filled in by gaplab: data is identified by content, not by path")

    @property
    def streamed(self) -> bool:
        """Whether images stay in their files, so that batches are decoded while a network trains."""
        return self.name.startswith(IMAGE_FILES)


@dataclass(frozen=True)
class Corruption(_Group):
    """One of the randomization tests. Corrupted once, before training, and fixed over epochs."""

    kind: CorruptionKind = _knob(  # noqa: RUF009
        "redraw",
        "`redraw`: a label is drawn anew, uniformly over all C classes (Zhang et al. 2017: wrong-label rate level*(C-1)/C); "
        "`flip`: a label becomes a different class (Nakkiran et al. 2019: wrong-label rate = level); `random_labels`: redraw at level 1; "
        "`random_signs`: two classes, the even labels against the odd, and a label drawn anew is -1 or +1 by a fair coin "
        "(Rademacher complexity); "
        "`shuffled_pixels`: one permutation for all images; `random_pixels`: a permutation per image; "
        "`gaussian`: pixels drawn with the training set's mean and variance; "
        "`given`: the wrong labels that the data came with, of a file that has `y_train_true` beside `y_train`, at level 1 all of them "
        "(without it, such a file trains on its true labels)",
    )
    level: float | None = _knob(
        None,
        "probability that a label is corrupted, or the fraction of pixels; 0 for `redraw` and `flip` by default, else 1",
        low=0,
        high=1,
    )
    seed: int | None = _knob(None, "which labels or pixels, and into what; follows `seed` by default", low=0)
    validation: Literal["noisy"] | None = _knob(
        None,
        "`noisy`: the validation split's labels are corrupted as those trained on; by default they are clean, which only an oracle has",
    )


@dataclass(frozen=True)
class Model(_Group):
    """The architecture and its capacity."""

    name: str = _knob("mlp", "a family: `gaplab presets --models` lists them; your own joins with `@model_family`")
    width: int | None = _knob(None, "the knob that scales all layers; the published size by default", low=1, high=WIDEST)
    depth: int | None = _knob(None, "hidden layers (`mlp`), or weight blocks where a family says so", low=0, high=1000)
    parameters_per_sample: float | None = _knob(
        None, "p/n to aim at: solved for the width that comes closest, or for `data.train_size` with `hold: width`", low=0, open_low=True
    )
    hold: Literal["train_size", "width"] = _knob("train_size", "what stays as given while `parameters_per_sample` is solved")
    batch_norm: bool | None = _knob(None, "batch normalization; as published by default")
    kernel_scale: float = _knob(5.0, "`random_features` only: width of the Gaussian kernel that they approximate", low=0, open_low=True)
    initialization: Literal["he", "xavier", "lecun", "pytorch"] | None = _knob(
        None,
        "weights of linear layers and convolutions at the start: variance 2/fan_in (`he`), 2/(fan_in + fan_out) (`xavier`) or 1/fan_in "
        "(`lecun`), and biases 0; `pytorch`: PyTorch's own, variance 1/(3 fan_in). By default the family's own: `xavier` for the "
        "convolutions of `alexnet_small` and `inception_small`, PyTorch's for all other layers of theirs, and of most other families",
    )
    initialization_scale: float | None = _knob(None, "factor on these weights at the start; 1 by default", low=0, open_low=True)
    digest: str | None = _knob(None, "hash of the source of a model from your own file, filled in by gaplab")


@dataclass(frozen=True)
class Regularizers(_Group):
    """Explicit regularization; all off by default."""

    weight_decay: float = _knob(0.0, "L2 coefficient w of (w/2)*|theta|^2, added to the gradient (decoupled under `adamw`)", low=0)
    decay_biases: bool = _knob(False, "weight decay acts on biases and normalization parameters too")
    dropout: float = _knob(0.0, "probability that a hidden unit is dropped", low=0, high=1, open_high=True)
    crop: int = _knob(0, "random crop: a window of the input's size, moved by up to this many pixels each way; 0 is off", low=0)
    crop_from: Literal["image"] | None = _knob(
        None,
        "`image`: windows of the whole image of which `data.preprocessing: paper` takes the centre, so that `crop: 2` cuts 28x28 out of "
        "CIFAR-10's 32x32 (Zhang et al. 2017); by default of the input with zeros around it",
    )
    flip: bool = _knob(False, "random horizontal flip")
    label_smoothing: float = _knob(0.0, "weight moved from the label to the uniform distribution", low=0, high=1)
    mixup: float = _knob(0.0, "alpha of the Beta(alpha, alpha) that mixes two samples (Zhang et al. 2018); 0 is off", low=0)
    gradient_clip: float | None = _knob(None, "largest Euclidean norm of the gradient", low=0, open_low=True)
    early_stopping: int | None = _knob(None, "stop after this many evaluations without a lower validation error", low=1)


@dataclass(frozen=True)
class Optimizer(_Group):
    """How the loss is minimised. Zhang et al. 2017 use SGD, momentum 0.9, and 0.95 per epoch; the batch size is our choice."""

    name: Literal["sgd", "adam", "adamw", "closed_form"] = _knob(
        "sgd",
        "`sgd`, `adam` or `adamw`, with PyTorch's update rules and defaults; `closed_form` solves least squares",
    )
    learning_rate: float = _knob(0.1, "initial learning rate", low=0, open_low=True)
    momentum: float = _knob(0.9, "`sgd`: momentum", low=0, high=1, open_high=True)
    nesterov: bool = _knob(False, "`sgd`: Nesterov momentum")
    batch_size: int = _knob(128, "samples a step; the last batch of an epoch may be smaller", low=1)
    schedule: Literal["constant", "exponential", "step", "cosine"] = _knob(
        "constant",
        "per epoch: `exponential` multiplies by `decay`; `step` multiplies by `decay` every `decay_every` epochs; `cosine` falls to 0",
    )
    decay: float = _knob(0.95, "factor of `exponential` and `step`", low=0, high=1, open_low=True)
    decay_every: int = _knob(30, "`step`: epochs between two drops", low=1)
    loss: Literal["cross_entropy", "squared"] = _knob("cross_entropy", "`squared`: half the squared distance to the one-hot target")


@dataclass(frozen=True)
class Budget(_Group):
    """When a run ends."""

    epochs: int = _knob(100, "most epochs", low=0)
    stop_at_train_error: float | None = _knob(
        0.0, "stop when the train error is at most this; null trains on. Also the target of interpolation (0 when null)", low=0, high=1
    )
    stop_at_train_loss: float | None = _knob(
        None, "stop when the train loss is at most this, and take that as the target in place of `stop_at_train_error`", low=0
    )
    evaluate_every: int = _knob(
        1, "epochs between two evaluations of train, validation and test error; the last epoch always has one", low=1
    )


@dataclass(frozen=True)
class TrialConfig:
    """One fully specified training run.

    >>> point = TrialConfig(seed=3)
    >>> with_fields(point, {"corruption.level": 0.5}).corruption.level
    0.5
    """

    data: Data = Data()
    corruption: Corruption = Corruption()
    model: Model = Model()
    regularizers: Regularizers = Regularizers()
    optimizer: Optimizer = Optimizer()
    budget: Budget = Budget()
    precision: Literal["float32", "bfloat16"] = _knob("float32", "`bfloat16` runs the products of a model under autocast")
    seed: int = _knob(0, "initialization, batch order, dropout and augmentation", low=0)

    def __post_init__(self) -> None:
        for name, low, high, knob in _limited(TrialConfig):
            if not low < getattr(self, name) < high:
                check_range(knob, getattr(self, name), name)

    @property
    def is_solved(self) -> bool:
        """Whether the point is solved in closed form, not trained."""
        return self.optimizer.name == "closed_form"

    def key(self) -> str:
        """32 hexadecimal digits: the hash of all that can change this resolved point's result.

        Fields without effect are left out (the level and seed of no corruption, Adam's momentum, a synthetic set's
        shape for real data), so two spellings of one run share a key.

        Raises:
            ConfigError: the point is not resolved (see `trainables.resolution.resolve`).
        """
        return hashlib.sha256(json.dumps(_what_counts(self), sort_keys=True).encode()).hexdigest()[:32]

    def signature(self) -> tuple[object, ...]:
        """What resolved points must share to train in one pack: everything that gives their tensors a shape, or their
        loop its length. Seeds, corruption, learning rate, momentum, schedule and regularizer strengths may differ."""
        data, optimizer, budget = self.data, self.optimizer, self.budget
        return (
            (data.digest or data.name, data.train_size, data.validation_size, data.preprocessing),
            self.corruption.kind == "random_signs",  # two outputs
            (data.dimension, data.classes, data.separation) if data.name == "synthetic" else None,
            sizes_only(self.model),
            self.model.digest is not None and self.regularizers.dropout > 0,  # an own builder may leave the layer out at rate 0
            (optimizer.name, optimizer.nesterov, optimizer.batch_size, optimizer.loss),
            (budget.epochs, budget.evaluate_every),
            self.precision,
        )


@lru_cache(maxsize=4096)
def sizes_only(model: Model) -> Model:
    """The model without what it was solved from and what it starts from, so that equal architectures are equal."""
    return replace(model, parameters_per_sample=None, hold="train_size", initialization=None, initialization_scale=None)


def _what_counts(point: TrialConfig) -> dict[str, Any]:
    """The part of a resolved point that its result depends on, in canonical form."""
    data, model, corruption = point.data, point.model, point.corruption
    if data.seed is None or corruption.seed is None or data.train_size is None or model.width is None or corruption.level is None:
        raise ConfigError("this point is not resolved: trainables.resolution.resolve(point) fills in what it leaves to defaults")
    counts: dict[str, Any] = {name: dict(_plain(getattr(point, name))) for name in GROUPS}
    counts |= {"precision": point.precision, "seed": point.seed, "version": KEY_VERSION}
    if data.digest:
        counts["data"]["name"] = "npz"
    if data.name != "synthetic":
        for unused in ("dimension", "classes", "separation"):
            del counts["data"][unused]
    if data.replaced is None:
        del counts["data"]["replaced"]
    if not data.streamed:
        del counts["data"]["side"]
    unread = unread_fields(model.name) if model.digest is None else ()  # a custom model may read them all
    for unused in ("parameters_per_sample", "hold", *unread):
        del counts["model"][unused]
    if model.initialization is None:
        del counts["model"]["initialization"]
    if model.initialization_scale in (None, 1):
        del counts["model"]["initialization_scale"]
    if corruption.level == 0:
        counts["corruption"] = corruption.kind if corruption.kind == "random_signs" else None
    else:
        if corruption.kind == "random_labels":
            counts["corruption"]["kind"] = "redraw"
        if corruption.validation is None or not data.validation_size or corruption.kind in PIXEL_KINDS:
            del counts["corruption"]["validation"]
    if point.regularizers.crop == 0 or point.regularizers.crop_from is None:
        del counts["regularizers"]["crop_from"]
    if point.regularizers.weight_decay == 0:
        del counts["regularizers"]["decay_biases"]
    optimizer = counts["optimizer"]
    if point.is_solved:
        counts["optimizer"], counts["budget"] = {"name": "closed_form"}, {"target": point.budget.stop_at_train_error or 0}
        return counts
    if point.optimizer.name != "sgd":
        del optimizer["momentum"]
    if point.optimizer.name != "sgd" or point.optimizer.momentum == 0:
        del optimizer["nesterov"]
    if point.optimizer.schedule not in ("exponential", "step"):
        del optimizer["decay"]
    if point.optimizer.schedule != "step":
        del optimizer["decay_every"]
    if point.budget.stop_at_train_loss is not None:
        del counts["budget"]["stop_at_train_error"]
    return counts


@lru_cache(maxsize=4096)
def _plain(group: Any) -> dict[str, Any]:
    """The fields of a group. Values that are equal hash equally: 1.0 and 1 are one learning rate, True and 1 one switch."""
    return {name: int(value) if isinstance(value, bool | float) and value == int(value) else value for name, value in vars(group).items()}


GROUPS: dict[str, type] = {
    "data": Data,
    "corruption": Corruption,
    "model": Model,
    "regularizers": Regularizers,
    "optimizer": Optimizer,
    "budget": Budget,
}


@cache
def field_types() -> dict[str, Any]:
    """Every dotted field of a point with its type, in declaration order: ``{"data.name": str, ..., "seed": int}``."""
    types: dict[str, Any] = {}
    for name, hint in get_type_hints(TrialConfig).items():
        if name in GROUPS:
            types |= {f"{name}.{inner}": kind for inner, kind in get_type_hints(GROUPS[name]).items()}
        else:
            types[name] = hint
    return types


def flatten(point: TrialConfig) -> dict[str, Any]:
    """A point as ``{dotted field: value}``."""
    flat: dict[str, Any] = {}
    for name in (knob.name for knob in fields(point)):
        value = getattr(point, name)
        if name in GROUPS:
            flat |= {f"{name}.{inner.name}": getattr(value, inner.name) for inner in fields(value)}
        else:
            flat[name] = value
    return flat


def with_fields(point: TrialConfig, values: Mapping[str, Any]) -> TrialConfig:
    """The point with some dotted fields replaced.

    Raises:
        ConfigError: a value lies outside its field's range.
    """
    groups: dict[str, dict[str, Any]] = {}
    changes: dict[str, Any] = {}
    for name, value in values.items():
        group, dot, inner = name.partition(".")
        if dot:
            groups.setdefault(group, {})[inner] = value
        else:
            changes[name] = value
    for group, inner_values in groups.items():
        changes[group] = replace(getattr(point, group), **inner_values)
    return replace(point, **changes)
