"""The registry of model families: what a family is called, what its unset fields stand for, how it is built, exact parameter counts."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from trainables.point.config import ConfigError, ImageShape, Model

if TYPE_CHECKING:
    from torch import nn

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

    def complete(self, model: Model) -> Model:
        """The model with width, depth and batch norm filled in."""
        return replace(
            model,
            width=self.default_width if model.width is None else model.width,
            depth=self.default_depth if model.depth is None else model.depth,
            batch_norm=self.default_batch_norm if model.batch_norm is None else model.batch_norm,
            digest=self.digest,
        )


_FAMILIES: dict[str, Family] = {}
_source: ContextVar[str | None] = ContextVar("source digest", default=None)
_BUNDLED = ("dense", "random_features", "alexnet_small", "inception_small", "cnn5", "nin", "resnet18", "fixed", "imagenet")


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
    name: str, *, default_width: int, default_depth: int = 0, default_batch_norm: bool = False, smallest_image: int = 1
) -> Callable[[Builder], Builder]:
    """Register a builder as the model family ``name``.

    Args:
        name: what a spec calls it.
        default_width: the width of ``model.width: null``; `depth` and `batch_norm` likewise.
        smallest_image: least height and width of an image that it takes, in pixels.
    """

    def register(build: Builder) -> Builder:
        _FAMILIES[name] = Family(name, build, default_width, default_depth, default_batch_norm, smallest_image, _source.get())
        return build

    return register


def families() -> dict[str, Family]:
    """Every family known in this process, by name."""
    _import_bundled()
    return dict(_FAMILIES)


@cache
def _import_bundled() -> None:
    for module in _BUNDLED:
        importlib.import_module(f"trainables.models.{module}")


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
        return chosen.build(model, dropout, image_shape, classes)


@lru_cache(maxsize=100_000)
def parameter_count(model: Model, image_shape: ImageShape, classes: int) -> int:
    """Trainable parameters of a model, counted on the meta device: no memory is taken.

    >>> parameter_count(Model(name="mlp", width=512, depth=1, batch_norm=False), (3, 28, 28), 10)
    1209866
    """
    import torch

    with torch.device("meta"):
        module = _fitting(model, image_shape).build(model, 0.0, image_shape, classes)
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


@lru_cache(maxsize=100_000)
def multiply_adds(model: Model, image_shape: ImageShape, classes: int) -> int:
    """Multiply-adds of one image's forward pass: the entries of a chain of matrices, else PyTorch's flop counter on the meta device."""
    import torch

    from trainables.models.chains import stackable

    with torch.device("meta"), torch.no_grad():
        module = _fitting(model, image_shape).build(model, 0.0, image_shape, classes).eval()
        if stackable(module):
            return sum(tensor.numel() for tensor in module.state_dict().values() if tensor.dim() == 2)
        from torch.utils.flop_counter import FlopCounterMode  # takes a second to import

        with FlopCounterMode(display=False) as counter:
            module(torch.empty(1, *image_shape))
    return counter.get_total_flops() // 2


def _fitting(model: Model, image_shape: ImageShape) -> Family:
    chosen = family(model.name)
    if min(image_shape[1:]) < chosen.smallest_image:
        least, (height, width) = chosen.smallest_image, image_shape[1:]
        needs = f"model.name is {model.name!r}, which needs images of at least {least}x{least}"
        raise ConfigError(f"{needs}; the data has {height}x{width}: use mlp or linear")
    return chosen
