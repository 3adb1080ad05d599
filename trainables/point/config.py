"""What determines a result: one point of a study, and its key.

A point is a :class:`TrialConfig`. It is frozen, compares by value and holds nothing of where or how it runs. Every field
says its meaning, its range and what leaving it out (``None``) stands for; the reference page of the docs is made from here.

`resolve` (in `trainables.resolution`) fills in everything left to a default, so that a resolved point is complete;
:meth:`TrialConfig.key` hashes what a resolved point's result depends on, and nothing else (in `trainables.point.key`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cache, lru_cache
from typing import Any, Literal, get_type_hints

from trainables.point.key import key_of
from trainables.point.kinds import PIXEL_KINDS, CorruptionKind
from trainables.point.knobs import Group, check_range, knob, limited
from trainables.point.transitions import OF_GIVEN

IMAGE_FILES = ("imagefolder:", "webdataset:")
"""Beginnings of `data.name` for images that stay in their files (see `trainables.data.sets.image_files`)."""
TABLE_FILES = (".csv", ".parquet")
"""Endings of `data.name` for tables (see `trainables.data.sets.tables`)."""
MADE_UP = {"synthetic": ("dimension", "classes", "separation"), "modular_addition": ("classes",), "parity": ("dimension",)}
"""Sets that are made on the fly, and the fields of `data` that they are made of (see `trainables.data.sets.synthetic`)."""
ImageShape = tuple[int, int, int]
"""Channels, height and width of one input."""
WIDEST = 10_000_000
"""Largest width: beyond any memory, yet small enough that no parameter count overflows."""


@dataclass(frozen=True)
class Data(Group):
    """The data set and the part of it that is used."""

    name: str = knob(
        "digits",
        "`digits`, `breast_cancer`, `wine`, `diabetes` (of scikit-learn), `mnist`, `fashion_mnist`, `cifar10`, `cifar100`, `svhn`, "
        "`small_digits`, `small_mnist`, `small_cifar10` (for many small networks), "
        "`synthetic`, `modular_addition`, `parity`, `npz:PATH`, the path of a table that ends in `.csv` or `.parquet`, or image files: "
        "`imagefolder:PATH` with PATH/train and PATH/val, or `webdataset:PATH` with PATH/train-*.tar and PATH/val-*.tar",
    )
    train_size: int | None = knob(
        None, "training samples used, n: a seeded, class-balanced subset; all that validation leaves by default", low=1
    )
    validation_size: int = knob(
        0,
        "samples cut from the training set for validation, disjoint from the `train_size` trained on (see `corruption.validation`)",
        low=0,
    )
    preprocessing: Literal["standardize", "paper", "unit"] = knob(
        "standardize",
        "`standardize`: mean and standard deviation of each channel over the training set; `unit`: pixels in [0, 1]; "
        "`paper`: centre crop to 28x28, then each image to mean 0 and deviation 1 (Zhang et al. 2017)",
    )
    seed: int | None = knob(None, "subset and split; follows `seed` by default", low=0)
    dimension: int = knob(32, "`synthetic`: input dimension; `parity`: bits of a sequence", low=1)
    classes: int = knob(10, "`synthetic`: number of classes; `modular_addition`: the modulus", low=2)
    separation: float = knob(4.0, "`synthetic` only: distance of two class means, in standard deviations of a class", low=0)
    side: int = knob(224, "image files only: height and width, in pixels, that images are scaled and cropped to", low=1)
    replaced: int | None = knob(
        None,
        "index, in the training subset, of one sample that is exchanged for one left out: uniform stability (Bousquet and Elisseeff 2002)",
        low=0,
    )
    left_out: str | None = knob(None, "indices of samples of the training split that are neither trained nor validated on, such as `3,17`")
    label: str | None = knob(
        None, "tables only: the column of labels; by default the first that is there of `label`, `target` and `y`, else the last column"
    )
    test_fraction: float | None = knob(
        None,
        "tables without a column `split` only: share of each class's rows that are tested; 0.2 by default",
        low=0,
        high=1,
        open_low=True,
        open_high=True,
    )
    test_seed: int | None = knob(
        None, "tables without a column `split` only: which rows are tested, the same for all seeds of a study; 0 by default", low=0
    )
    task: Literal["classification", "regression"] | None = knob(None, "files only: what labels are; floats not whole are of regression")
    digest: str | None = knob(None, "content hash of a file, filled in by gaplab: data is identified by content, not by path")

    @property
    def streamed(self) -> bool:
        """Whether images stay in their files, so that batches are decoded while a network trains."""
        return self.name.startswith(IMAGE_FILES)

    @property
    def made_of(self) -> tuple[str, ...]:
        """The fields that a set which is made on the fly is made of; empty for all others."""
        return MADE_UP.get(self.name, ())

    @property
    def is_table_file(self) -> bool:
        """Whether the name is the path of a CSV or Parquet file."""
        return self.name.lower().endswith(TABLE_FILES)


@dataclass(frozen=True)
class Corruption(Group):
    """One of the randomization tests. Corrupted once, before training, and fixed over epochs."""

    kind: CorruptionKind = knob(  # noqa: RUF009
        "redraw",
        "`redraw`: a label is drawn anew, uniformly over all C classes (Zhang et al. 2017: wrong-label rate level*(C-1)/C), or targets; "
        "`flip`: a label becomes a different class (Nakkiran et al. 2019: wrong-label rate = level); `random_labels`: redraw at level 1; "
        "`random_signs`: two classes, the even labels against the odd, and a label drawn anew is -1 or +1 by a fair coin "
        "(Rademacher complexity); "
        "`shuffled_pixels`: one permutation for all images; `random_pixels`: a permutation per image; "
        "`gaussian`: pixels drawn with the training set's mean and variance; "
        "`given`: the wrong labels that the data came with, of a file that has `y_train_true` beside `y_train`, at level 1 all of them "
        "(without it, such a file trains on its true labels); "
        "`class_conditional`: a label passes through the matrix of `transition`; "
        "`instance`: a label becomes a different class that the sample's features decide, with a probability of the sample's own around "
        "level (Xia et al. 2020, Algorithm 2)",
    )
    level: float | None = knob(
        None,
        "probability of a corrupted label, or fraction of pixels; default: 0 (`redraw`, `flip`), none (`instance`, a named matrix), else 1",
        low=0,
        high=1,
    )
    seed: int | None = knob(None, "which labels or pixels, and into what; follows `seed` by default", low=0)
    validation: Literal["noisy"] | None = knob(
        None,
        "`noisy`: the validation split's labels are corrupted as those trained on; by default they are clean, which only an oracle has",
    )
    transition: str | None = knob(
        None,
        "`class_conditional` only: what a corrupted label of each class becomes. `symmetric`: any other class, as `flip`; `pair_flip`: the "
        "next class (Han et al. 2018); `asymmetric_cifar10`: truck to automobile, bird to airplane, deer to horse, cat to dog and back "
        "(Patrini et al. 2017); a matrix, such as `[[0.9, 0.1], [0.2, 0.8]]`: row i holds the probabilities of what class i becomes; "
        "`given_matrix`, `given_rate`: wrong as often as the given labels (see `labels`) are, class by class, or overall as `symmetric`",
    )
    labels: str | None = knob(
        None,
        "`given` and what is measured from it only: FILE:LIST, labels that people gave to a data set's training samples, such as "
        "`CIFAR-10_human.pt:worse_label` of CIFAR-10N (Wei et al. 2022); `machine:LIST`: of three weak classifiers, with lists of the same "
        "names; by default those that came in the data's own file",
    )
    digest: str | None = knob(None, "hash of the labels of `labels`, filled in by gaplab")

    @property
    def labels_in_force(self) -> str | None:
        """The file and list of the given labels, if there is one and they count."""
        return self.labels if self.of_given else None

    @property
    def of_given(self) -> bool:
        """Whether labels are those that people or machines gave, or drawn to be wrong as often as those."""
        return self.kind == "given" or self.transition_in_force in OF_GIVEN

    @property
    def transition_in_force(self) -> str | None:
        """The transition that labels pass through, if they do."""
        return self.transition if self.kind == "class_conditional" else None

    @property
    def of_pixels(self) -> bool:
        """Whether pixels are replaced, and labels left as they are."""
        return self.kind in PIXEL_KINDS


@dataclass(frozen=True)
class Model(Group):
    """The architecture and its capacity."""

    name: str = knob("mlp", "a family: `gaplab presets --models` lists them; your own joins with `@model_family`")
    width: int | None = knob(None, "the knob that scales all layers; the published size by default", low=1, high=WIDEST)
    depth: int | None = knob(None, "hidden layers (`mlp`), or weight blocks where a family says so", low=0, high=1000)
    parameters_per_sample: float | None = knob(
        None, "p/n to aim at: solved for the width that comes closest, or for `data.train_size` with `hold: width`", low=0, open_low=True
    )
    hold: Literal["train_size", "width"] = knob("train_size", "what stays as given while `parameters_per_sample` is solved")
    batch_norm: bool | None = knob(None, "batch normalization; as published by default")
    kernel_scale: float = knob(
        5.0,
        "`random_features` and kernels: width of the Gaussian kernel; `median`: the median distance between two training samples, of "
        "`random_features` and `gaussian_kernel`",
        low=0,
        open_low=True,
        word="median",
    )
    initialization: Literal["he", "xavier", "lecun", "pytorch"] | None = knob(
        None,
        "weights of linear layers and convolutions at the start: variance 2/fan_in (`he`), 2/(fan_in + fan_out) (`xavier`) or 1/fan_in "
        "(`lecun`), and biases 0; `pytorch`: PyTorch's own, variance 1/(3 fan_in). By default the family's own: `xavier` for the "
        "convolutions of `alexnet_small` and `inception_small`, PyTorch's for all other layers of theirs, and of most other families",
    )
    initialization_scale: float | None = knob(None, "factor on these weights at the start; 1 by default", low=0, open_low=True)
    activation: Literal["relu", "gelu", "silu", "tanh"] | None = knob(
        None, "what hidden units do where their family, or your own model, has rectifiers (`nn.ReLU` layers); `relu` leaves these"
    )
    parameterization: Literal["standard", "mup"] | None = knob(
        None,
        "how start and learning rate of each layer follow the width: `standard`, the default, has one rate for all layers; with `mup` one "
        "rate suits all widths (maximal update: Yang et al. 2021, Table 3); both are the same at `base_width`",
    )
    base_width: int | None = knob(
        None, "`mup` only: the width at which it is the standard parameterization; the family's default by default", low=1, high=WIDEST
    )
    digest: str | None = knob(None, "hash of the source of a model from your own file, filled in by gaplab")


@dataclass(frozen=True)
class Regularizers(Group):
    """Explicit regularization; all off by default."""

    weight_decay: float = knob(0.0, "L2 coefficient w of (w/2)*|theta|^2, added to the gradient (decoupled under `adamw`)", low=0)
    decay_biases: bool = knob(False, "weight decay acts on biases and normalization parameters too")
    dropout: float = knob(0.0, "probability that a hidden unit is dropped", low=0, high=1, open_high=True)
    crop: int = knob(0, "random crop: a window of the input's size, moved by up to this many pixels each way; 0 is off", low=0)
    crop_from: Literal["image"] | None = knob(
        None,
        "`image`: windows of the whole image of which `data.preprocessing: paper` takes the centre, so that `crop: 2` cuts 28x28 out of "
        "CIFAR-10's 32x32 (Zhang et al. 2017); by default of the input with zeros around it",
    )
    flip: bool = knob(False, "random horizontal flip")
    label_smoothing: float = knob(0.0, "weight moved from the label to the uniform distribution", low=0, high=1)
    mixup: float = knob(0.0, "alpha of the Beta(alpha, alpha) that mixes two samples (Zhang et al. 2018); 0 is off", low=0)
    gradient_clip: float | None = knob(None, "largest Euclidean norm of the gradient", low=0, open_low=True)
    early_stopping: int | None = knob(None, "stop after this many evaluations without a lower validation error", low=1)


@dataclass(frozen=True)
class Optimizer(Group):
    """How the loss is minimised. Zhang et al. 2017 use SGD, momentum 0.9, and 0.95 per epoch; the batch size is our choice."""

    name: Literal["sgd", "adam", "adamw", "closed_form"] = knob(
        "sgd",
        "`sgd`, `adam` or `adamw`, with PyTorch's update rules and defaults; `closed_form` solves least squares",
    )
    learning_rate: float = knob(
        0.1,
        "initial learning rate; `auto`: the one at which short runs on random and on true labels end with the lowest train loss",
        low=0,
        open_low=True,
        word="auto",
    )
    momentum: float = knob(0.9, "`sgd`: momentum", low=0, high=1, open_high=True)
    nesterov: bool = knob(False, "`sgd`: Nesterov momentum")
    batch_size: int = knob(128, "samples a step; the last batch of an epoch may be smaller", low=1)
    warmup: int | None = knob(
        None,
        "steps over which the learning rate rises linearly: step s of these has s/warmup of what `schedule` says; none by default",
        low=1,
    )
    schedule: Literal["constant", "exponential", "step", "cosine"] = knob(
        "constant",
        "per epoch: `exponential` multiplies by `decay`; `step` multiplies by `decay` every `decay_every` epochs; `cosine` falls to 0",
    )
    decay: float = knob(0.95, "factor of `exponential` and `step`", low=0, high=1, open_low=True)
    decay_every: int = knob(30, "`step`: epochs between two drops", low=1)
    loss: Literal["cross_entropy", "squared"] = knob("cross_entropy", "`squared`: half the squared distance to the (one-hot) target")


@dataclass(frozen=True)
class Budget(Group):
    """When a run ends."""

    epochs: int = knob(
        100,
        "most epochs; `auto`: three times what the widest networks take to reach their train target, at least 100. A search has 100",
        low=0,
        word="auto",
    )
    stop_at_train_error: float | None = knob(
        0.0, "stop at this train error or less; null trains on. Also the target of interpolation (null: 0; numbers: 0.01)", low=0, high=1
    )
    stop_at_train_loss: float | None = knob(
        None, "stop when the train loss is at most this, and take that as the target in place of `stop_at_train_error`", low=0
    )
    evaluate_every: int = knob(
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
    precision: Literal["float32", "tf32", "bfloat16"] = knob(
        "float32",
        "`tf32` rounds the factors of products on a GPU to 10 bits of mantissa; `bfloat16` runs a model's products under autocast",
    )
    seed: int = knob(0, "initialization, batch order, dropout and augmentation", low=0)

    def __post_init__(self) -> None:
        for name, low, high, field in limited(TrialConfig):
            if not low < getattr(self, name) < high:
                check_range(field, getattr(self, name), name)

    @property
    def is_solved(self) -> bool:
        """Whether the point is solved in closed form, not trained."""
        return self.optimizer.name == "closed_form"

    def key(self) -> str:
        """32 hexadecimal digits: `trainables.point.key.key_of` this resolved point."""
        return key_of(vars(self))

    def signature(self) -> tuple[object, ...]:
        """What resolved points must share to train in one pack: everything that gives their tensors a shape, or their
        loop its length. Seeds, corruption, learning rate, momentum, schedule and regularizer strengths may differ."""
        data, optimizer, budget = self.data, self.optimizer, self.budget
        return (
            (data.digest or data.name, data.train_size, data.validation_size, data.preprocessing),
            self.corruption.kind == "random_signs",  # two outputs
            tuple(getattr(data, name) for name in data.made_of) or None,
            sizes_only(self.model),
            self.model.digest is not None and self.regularizers.dropout > 0,  # an own builder may leave the layer out at rate 0
            (optimizer.name, optimizer.nesterov, optimizer.batch_size, optimizer.loss),
            (budget.epochs, budget.evaluate_every),
            self.precision,
        )


@lru_cache(maxsize=4096)
def sizes_only(model: Model) -> Model:
    """The model without what it was solved from and what it starts from, so that equal architectures are equal."""
    activation = None if model.activation == "relu" else model.activation
    start = replace(model, parameters_per_sample=None, hold="train_size", initialization=None, initialization_scale=None)
    if model.parameterization != "mup":
        start = replace(start, parameterization=None, base_width=None)
    return replace(start, activation=activation)


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


@cache
def left_open_words() -> dict[str, str]:
    """The fields that a spec may leave to a probe of the data, with the word by which it does: ``{"optimizer.learning_rate": "auto"}``."""
    found = ((f"{group}.{field.name}", field.metadata["word"]) for group, kind in GROUPS.items() for field in fields(kind))
    return {name: word for name, word in found if word}


def flatten(point: TrialConfig) -> dict[str, Any]:
    """A point as ``{dotted field: value}``."""
    flat: dict[str, Any] = {}
    for name in (field.name for field in fields(point)):
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
