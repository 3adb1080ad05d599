"""A declared point becomes a complete one: subset size, seeds, published sizes, and the width for a given p/n."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

from trainables.compute import PASSES
from trainables.data.corruption import OF_NUMBERS, classes_of
from trainables.data.inputs import input_shape
from trainables.data.label_noise import transition_matrix
from trainables.data.sets import image_files
from trainables.data.sets.dataset import Dataset
from trainables.data.sets.given_labels import given_labels
from trainables.data.sets.sources import load
from trainables.data.subset import left_out
from trainables.least_squares import solving
from trainables.models import check_outputs, family, multiply_adds, parameter_count, parameterization, solver_of
from trainables.point.config import WIDEST, Corruption, Data, ImageShape, Model, TrialConfig, sizes_only
from trainables.point.errors import ConfigError
from trainables.point.fit import NUMBERS_FIT
from trainables.point.kinds import LABEL_KINDS
from trainables.point.transitions import NAMED, OF_GIVEN, canonical

REACH = 2.0
"""`parameters_per_sample` is out of reach when even the closest size misses it by more than this factor."""


@dataclass(frozen=True)
class Point:
    """A resolved point with its key, both computed once."""

    key: str
    config: TrialConfig


def resolve(point: TrialConfig) -> TrialConfig:
    """The point with everything filled in that it leaves to a default. Resolving twice changes nothing.

    Raises:
        ConfigError: the data set cannot be had, the sizes do not fit it, or no width reaches `parameters_per_sample`.
    """
    if point.is_solved:
        solving.check(point, solver_of(point.model.name))
    dataset = load(point.data)
    if dataset.is_regression:
        point = _of_regression(point)
    data = _complete_data(point.data, dataset, point.seed)
    available = len(dataset.train_labels) - len(left_out(data, len(dataset.train_labels)))
    shape, classes = input_shape(dataset, data.preprocessing), classes_of(dataset.classes, point.corruption)
    model = family(point.model.name).complete(point.model)
    if point.is_solved and (model.initialization, model.initialization_scale) != (None, None):
        raise ConfigError("model.initialization is for networks that are trained, and closed_form solves this point: leave it out")
    parameterization.check(replace(point, model=model))
    if point.is_solved and model.activation is not None:
        raise ConfigError("model.activation is for networks that are trained, and closed_form solves this point: leave it out")
    if model.parameters_per_sample is not None:
        model, data = _solve(model, data, shape, classes, available)
    resolved = replace(point, data=data, model=model, corruption=_complete_corruption(point.corruption, point.seed))
    if isinstance(dataset, image_files.ImageFiles):
        image_files.check(resolved)
    if not resolved.is_solved:
        parameter_count(sizes_only(model), shape, classes)  # says now if the family cannot take these images
        check_outputs(sizes_only(model), shape, classes)
    if resolved.corruption.labels_in_force is not None:
        found = given_labels(resolved.corruption.labels_in_force, dataset)[1]
        resolved = replace(resolved, corruption=replace(resolved.corruption, digest=found))
    elif resolved.corruption.of_given and dataset.given_labels is None:
        transition = resolved.corruption.transition_in_force
        raise ConfigError(
            f"corruption.{f'transition is {transition}' if transition else 'kind is given'}, but {data.name} has no labels beside the true "
            "ones: corruption.labels names a file of them, or the data's own file has y_train_true"
        )
    if resolved.corruption.transition_in_force not in (None, *OF_GIVEN):
        transition_matrix(resolved.corruption.transition_in_force, classes)  # says now if it is for other classes
    _check_together(resolved, shape)
    _check_window(resolved, dataset.image_shape, shape)
    _check_replaced(data, available)
    return resolved


def capacity(point: TrialConfig) -> int:
    """Trainable parameters p of a resolved point."""
    dataset = load(point.data)
    shape, classes = input_shape(dataset, point.data.preprocessing), classes_of(dataset.classes, point.corruption)
    if point.is_solved:
        return solver_of(point.model.name).parameters(point, shape, classes)
    return parameter_count(sizes_only(point.model), shape, classes)


def work(point: TrialConfig) -> float:
    """Multiply-adds of a resolved point if it spends all its epochs; a backward pass costs two forward passes."""
    dataset = load(point.data)
    shape = input_shape(dataset, point.data.preprocessing)
    if point.is_solved:
        return solver_of(point.model.name).multiply_adds(point, shape)
    forward = multiply_adds(sizes_only(point.model), shape, classes_of(dataset.classes, point.corruption))
    return PASSES * forward * (point.data.train_size or 1) * point.budget.epochs


def _complete_data(data: Data, dataset: Dataset, seed: int) -> Data:
    missing = left_out(data, len(dataset.train_labels))
    available = len(dataset.train_labels) - len(missing)
    train_size = available - data.validation_size if data.train_size is None else data.train_size
    if train_size < 1 or train_size + data.validation_size > available:
        those = " that are not left out" if missing else ""
        raise ConfigError(
            f"data.train_size {data.train_size or 'null'} and data.validation_size {data.validation_size} ask for more than "
            f"the {available:,} training samples of {data.name}{those}: they are disjoint parts of these"
        )
    named = ",".join(map(str, missing)) or None
    task: Literal["regression"] | None = "regression" if dataset.is_regression else None
    data = replace(data, digest=dataset.digest, left_out=named, task=task)
    return replace(data, train_size=train_size, seed=seed if data.seed is None else data.seed)


def _of_regression(point: TrialConfig) -> TrialConfig:
    """The point with the loss and the train target that numbers have.

    Raises:
        ConfigError: it has what only classes can have.
    """
    name = point.data.name
    if point.corruption.kind in LABEL_KINDS and point.corruption.kind not in OF_NUMBERS:
        raise ConfigError(
            f"corruption.kind is {point.corruption.kind}, which is for classes, but the targets of {name} are numbers: "
            f"use {', '.join(OF_NUMBERS)}, or a corruption of pixels"
        )
    if point.corruption.labels_in_force is not None:
        raise ConfigError(f"corruption.labels is for classes, but the targets of {name} are numbers: leave it out")
    if point.regularizers.label_smoothing:
        raise ConfigError(f"regularizers.label_smoothing is for classes, but the targets of {name} are numbers: leave it out")
    if point.is_solved and not solver_of(point.model.name).of_numbers:
        raise ConfigError(f"model.name is {point.model.name}, which is for classes, but the targets of {name} are numbers")
    budget = point.budget
    if budget.stop_at_train_error == 0:
        budget = replace(budget, stop_at_train_error=NUMBERS_FIT)
    return replace(point, optimizer=replace(point.optimizer, loss="squared"), budget=budget)


def _complete_corruption(corruption: Corruption, seed: int) -> Corruption:
    level = corruption.level
    if corruption.kind == "random_labels" and level not in (None, 1):
        raise ConfigError(f"corruption.level is {level}, but random_labels redraws every label: use kind redraw for a level")
    transition = corruption.transition_in_force
    if corruption.kind == "class_conditional" and transition is None:
        raise ConfigError(
            f"corruption.kind is class_conditional, which needs corruption.transition: {', '.join((*NAMED, *OF_GIVEN))}, or a matrix"
        )
    if level is None and (corruption.kind == "instance" or transition in NAMED):
        raise ConfigError(f"corruption.level is left out: {transition or corruption.kind} needs the probability that a label is corrupted")
    if level is None:
        level = 0.0 if corruption.kind in ("redraw", "flip") else 1.0
    if transition is not None:
        corruption = replace(corruption, transition=canonical(transition))
    return replace(corruption, level=level, seed=seed if corruption.seed is None else corruption.seed)


def _solve(model: Model, data: Data, shape: ImageShape, classes: int, available: int) -> tuple[Model, Data]:
    """The width, or the number of samples out of the available ones, that comes closest to the p/n asked for."""
    wanted = model.parameters_per_sample
    assert wanted is not None
    assert data.train_size is not None
    if model.hold == "train_size":
        width = _closest_width(replace(sizes_only(model), width=1), shape, classes, wanted * data.train_size)
        model = replace(model, width=width)
    else:
        parameters = parameter_count(sizes_only(model), shape, classes)
        most = available - data.validation_size
        data = replace(data, train_size=min(most, max(1, round(parameters / wanted))))
    reached = parameter_count(sizes_only(model), shape, classes) / (data.train_size or 1)
    if not wanted / REACH <= reached <= wanted * REACH:
        changed = "width" if model.hold == "train_size" else "data.train_size"
        raise ConfigError(
            f"model.parameters_per_sample is {wanted:g}, but no {changed} of {model.name} reaches it on this data: "
            f"the closest gives {reached:.3g}"
        )
    return model, data


@lru_cache(maxsize=100_000)
def _closest_width(model: Model, shape: ImageShape, classes: int, parameters: float) -> int:
    """Capacity grows with width: double until it is enough (or the widest is not), then bisect."""

    def count(width: int) -> int:
        return parameter_count(replace(model, width=width), shape, classes)

    low, high = 1, 2
    if count(1) == count(2):  # a family without a width knob has one capacity
        return 1
    while high < WIDEST and count(high) < parameters:
        low, high = high, min(WIDEST, 2 * high)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count(middle) < parameters else (low, middle)
    return min((low, high), key=lambda width: abs(count(width) - parameters))


def _check_replaced(data: Data, available: int) -> None:
    assert data.train_size is not None
    if data.replaced is None:
        return
    if data.replaced >= data.train_size:
        raise ConfigError(f"data.replaced is {data.replaced}: it must be less than the {data.train_size:,} training samples used")
    if data.train_size + data.validation_size >= available:
        raise ConfigError(
            f"data.replaced takes a sample that is left out, but all {available:,} training samples of {data.name} are used: "
            "set data.train_size to fewer"
        )


def _check_window(point: TrialConfig, whole: ImageShape, shape: ImageShape) -> None:
    """Raise ConfigError for random crops of a whole image of which there is no more than what is trained on."""
    crop = point.regularizers.crop
    if not crop or point.regularizers.crop_from is None:
        return
    if point.data.preprocessing != "paper" or (point.corruption.level and point.corruption.of_pixels):
        raise ConfigError("regularizers.crop_from is image, which is for data.preprocessing: paper and pixels as they are: leave it out")
    reach = min((large - small) // 2 for large, small in zip(whole[1:], shape[1:], strict=True))
    if crop > reach:
        raise ConfigError(
            f"regularizers.crop is {crop}, but a window of {shape[1]}x{shape[2]} moves by at most {reach} each way in an image of "
            f"{point.data.name} ({whole[1]}x{whole[2]})"
        )


def _check_together(point: TrialConfig, shape: ImageShape) -> None:
    """Fields that are each fine but not together."""
    regularizers, height, width = point.regularizers, *shape[1:]
    if regularizers.early_stopping is not None and not point.data.validation_size:
        raise ConfigError("regularizers.early_stopping needs a validation split: set data.validation_size")
    if (regularizers.crop or regularizers.flip) and min(height, width) < 2:
        raise ConfigError(f"regularizers.crop and flip need images, but {point.data.name} has none")
    if regularizers.dropout and not family(point.model.name).has_hidden_units(point.model):
        raise ConfigError(f"regularizers.dropout acts on hidden units, and model {point.model.name} has none here")
