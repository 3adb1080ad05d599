"""The registry of model families: what a family is called, what its unset fields stand for, how it is built, exact parameter counts."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from trainables.point import families as declared
from trainables.point.config import ImageShape, Model
from trainables.point.errors import ConfigError, leave_if_stopped

if TYPE_CHECKING:
    from torch import nn

    from trainables.least_squares.solving import Solver

Builder = Callable[[Model, float, ImageShape, int], "nn.Module"]
"""(model with width, depth and batch norm filled in, dropout rate, image shape, classes) -> module."""


@dataclass(frozen=True)
class Family:
    """One architecture with a width knob, and what its unset fields stand for."""

    name: str
    build: Builder
    default_width: int
    default_depth: int
    default_batch_norm: bool
    smallest_image: int
    digest: str | None
    reads: tuple[str, ...]
    solver: Solver | None
    has_hidden_units: Callable[[Model], bool]
    is_trained: bool
    has_mup: bool

    def complete(self, model: Model) -> Model:
        """The model with width, depth and batch norm filled in, and for `mup` the base width."""
        base_width = self.default_width if model.parameterization == "mup" and model.base_width is None else model.base_width
        return replace(
            model,
            width=self.default_width if model.width is None else model.width,
            depth=self.default_depth if model.depth is None else model.depth,
            batch_norm=self.default_batch_norm if model.batch_norm is None else model.batch_norm,
            base_width=base_width,
            digest=self.digest,
        )


_FAMILIES: dict[str, Family] = {}
_source: ContextVar[str | None] = ContextVar("source digest", default=None)
_SIZES = ("width", "depth", "batch_norm", "kernel_scale")


@contextmanager
def source_digest(digest: str) -> Iterator[None]:
    """Families registered inside carry this hash of their source, and so do the keys of their points."""
    _import_bundled()  # not inside: a bundled family has no digest
    token = _source.set(digest)
    try:
        yield
    finally:
        _source.reset(token)


def model_family(
    name: str,
    *,
    default_width: int,
    default_depth: int = 0,
    default_batch_norm: bool = False,
    smallest_image: int = 1,
    reads: tuple[str, ...] = _SIZES,
    solver: Solver | None = None,
    has_hidden_units: Callable[[Model], bool] = lambda model: True,
    has_mup: bool = False,
) -> Callable[[Builder], Builder]:
    """Register a builder as the model family ``name``.

    Args:
        name: what a spec calls it.
        default_width: the width of ``model.width: null``; `depth` and `batch_norm` likewise.
        smallest_image: least height and width of an image that it takes, in pixels.
        reads: those of the fields width, depth, batch_norm and kernel_scale that change the network. The others are no part of a
            point's key, so that a bundled family must not change its mind. Of a custom model all are.
        solver: how ``optimizer: {name: closed_form}`` solves it; None where that is not for this family.
        has_hidden_units: whether a model of it has units for dropout to act on.
        has_mup: whether ``parameterization: mup`` is right for it: `width` scales every hidden layer, weights start with a variance of
            1/fan_in, and nothing else in it depends on the width, as the scale of attention does.
    """

    def register(build: Builder) -> Builder:
        _FAMILIES[name] = Family(
            name,
            build,
            default_width,
            default_depth,
            default_batch_norm,
            smallest_image,
            digest=_source.get(),
            reads=reads,
            solver=solver,
            has_hidden_units=has_hidden_units,
            is_trained=build is not _not_trained,
            has_mup=has_mup,
        )
        return build

    return register


def solved_family(name: str, solver: Solver, *, default_width: int = 1, default_depth: int = 0) -> None:
    """Register a family that is solved and never trained (see `model_family`)."""
    model_family(name, default_width=default_width, default_depth=default_depth, solver=solver)(_not_trained)


def _not_trained(model: Model, dropout: float, image_shape: ImageShape, classes: int) -> nn.Module:
    raise ConfigError(f"model.name is {model.name!r}, which is solved, not trained: set optimizer.name to closed_form")


def families() -> dict[str, Family]:
    """Every family known in this process, by name."""
    _import_bundled()
    return dict(_FAMILIES)


@cache
def _import_bundled() -> None:
    """Import every module of the room `bundled`: a family is one file there."""
    room = importlib.import_module(f"{__name__.rpartition('.')[0]}.bundled")
    for module in sorted(found.name for found in pkgutil.iter_modules(room.__path__)):
        importlib.import_module(f"{room.__name__}.{module}")


def solver_of(name: str) -> Solver:
    """How the family of that name is solved.

    Raises:
        ConfigError: there is no such family, or closed_form does not solve it.
    """
    solver = family(name).solver
    if solver is None:
        known = ", ".join(one.name for one in _FAMILIES.values() if one.solver)
        raise ConfigError(f"optimizer.name is closed_form, which does not solve model {name}: it solves {known}")
    return solver


def _unread(name: str) -> tuple[str, ...]:
    """The fields of a model that the family does not read. Of a name that nobody knows it is taken to read all."""
    _import_bundled()
    return tuple(field for field in _SIZES if field not in _FAMILIES[name].reads) if name in _FAMILIES else ()


declared.say_unread(_unread)


def family(name: str) -> Family:
    """The family of that name.

    Raises:
        ConfigError: there is none; the message suggests the nearest name.
    """
    _import_bundled()
    if name in _FAMILIES:
        return _FAMILIES[name]
    near = difflib.get_close_matches(name, _FAMILIES, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(_FAMILIES))}"
    raise ConfigError(f"model.name is {name!r}, which is no model family: {hint}")


def build(model: Model, dropout: float, image_shape: ImageShape, classes: int, *, seed: int) -> nn.Module:
    """The module on the CPU, initialised from ``seed`` alone (the global random state is left as it was).

    Raises:
        ConfigError: the images are too small for the family.
    """
    import torch

    chosen = _fitting(model, image_shape)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would note a stack trace for a GPU not started yet
        module = _built(chosen, model, dropout, image_shape, classes)
        if model.initialization is not None or model.initialization_scale is not None:
            from trainables.models.initialization import initialize

            initialize(module, model)
        if model.parameterization == "mup":
            from trainables.models.initialization import scale_to_width

            with torch.device("meta"):
                base = _built(chosen, at_base_width(model), dropout, image_shape, classes)
            scale_to_width(module, base)
        return module


def at_base_width(model: Model) -> Model:
    """The network at the width at which both parameterizations are the same."""
    return replace(model, width=model.base_width, parameterization=None, base_width=None)


@lru_cache(maxsize=100_000)
def parameter_count(model: Model, image_shape: ImageShape, classes: int) -> int:
    """Trainable parameters of a model, counted on the meta device: no memory is taken.

    >>> parameter_count(Model(name="mlp", width=512, depth=1, batch_norm=False), (3, 28, 28), 10)
    1209866
    """
    import torch

    with torch.device("meta"):
        module = _built(_fitting(model, image_shape), model, 0.0, image_shape, classes)
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


@lru_cache(maxsize=100_000)
def multiply_adds(model: Model, image_shape: ImageShape, classes: int) -> int:
    """Multiply-adds of one image's forward pass: the entries of a chain of matrices, else PyTorch's flop counter on the meta device."""
    import torch

    from trainables.models.chains import stackable

    with torch.device("meta"), torch.no_grad():
        module = _built(_fitting(model, image_shape), model, 0.0, image_shape, classes).eval()
        if stackable(module):
            return sum(tensor.numel() for tensor in module.state_dict().values() if tensor.dim() == 2)
        from torch.utils.flop_counter import FlopCounterMode  # takes a second to import

        with FlopCounterMode(display=False) as counter:
            module(torch.empty(1, *image_shape))
    operations: int = counter.get_total_flops()
    return operations // 2


@lru_cache(maxsize=10_000)
def check_outputs(model: Model, image_shape: ImageShape, classes: int) -> None:
    """Run a custom model once on the shapes of two images (the meta device), before anything trains.

    What it raises there is left to training, which records it: not every operation works on shapes alone.

    Raises:
        ConfigError: it does not give one number a class for each image.
    """
    import torch

    chosen = _fitting(model, image_shape)
    if chosen.digest is None:
        return  # bundled families are tested
    name = f"model.name is {model.name!r}, a custom model"
    try:
        with torch.device("meta"), torch.no_grad():
            found = _built(chosen, model, 0.0, image_shape, classes).eval()(torch.empty(2, *image_shape))
    except BaseException as error:
        leave_if_stopped(error)
        return
    if not isinstance(found, torch.Tensor) or tuple(found.shape) != (2, classes):
        given = f"a tensor of shape {tuple(found.shape)}" if isinstance(found, torch.Tensor) else type(found).__name__
        raise ConfigError(f"{name}: it gives {given} for two images of {classes} classes, and must give one of shape (2, {classes})")


def _built(chosen: Family, model: Model, dropout: float, image_shape: ImageShape, classes: int) -> nn.Module:
    """The module of a family with the activation that the model names."""
    module = chosen.build(model, dropout, image_shape, classes)
    if model.activation is not None:
        from trainables.models.activations import activate

        activate(module, model)
    return module


def _fitting(model: Model, image_shape: ImageShape) -> Family:
    chosen = family(model.name)
    if min(image_shape[1:]) < chosen.smallest_image:
        least, (height, width) = chosen.smallest_image, image_shape[1:]
        needs = f"model.name is {model.name!r}, which needs images of at least {least}x{least}"
        raise ConfigError(f"{needs}; the data has {height}x{width}: use mlp or linear")
    return chosen
