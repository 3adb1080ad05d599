"""The maximal update parameterization: how start and learning rate of each layer follow the width, so that one rate suits all widths.

Yang et al. 2021 ("Tensor Programs V", arXiv 2203.03466), Table 3. The inputs and the outputs of a layer grow with the width, or do not; by
which factor is found beside the same network at `model.base_width`. With r times as many inputs, and s times as many outputs (a bias, or
the scale of a normalization, has one input at any width):

- learning rates are those of the point times s/r under SGD, and times 1/r under Adam and AdamW;
- weights of the last layer, whose outputs do not grow, start 1/sqrt(r) times as large as in the standard parameterization, and biases that
  are drawn start as large as at the base width; all else as it is.

At the base width r = s = 1: nothing changes. Weight decay is divided by the factor of the rate, as in the package `mup`, so that a step
takes the same share of each weight. Inside Adam, which normalizes the decay with the gradient, no such rule is known: that is refused.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import torch

from trainables.models.initialization import growth
from trainables.models.registry import at_base_width, build, families, family
from trainables.point.config import ImageShape, Model, TrialConfig
from trainables.point.errors import ConfigError

_FIELD = "model.parameterization is mup"


def check(point: TrialConfig) -> None:
    """Raise ConfigError for a resolved point whose parameterization is not for its model, optimizer or initialization."""
    model = point.model
    if model.parameterization != "mup":
        return
    if point.is_solved:
        raise ConfigError(f"{_FIELD}, which is for networks that are trained, and closed_form solves this point: leave it out")
    if not family(model.name).has_mup:
        known = ", ".join(sorted(one.name for one in families().values() if one.has_mup))
        raise ConfigError(f"{_FIELD}, which is not for model {model.name}: it is for {known}, and for your own with has_mup")
    if model.initialization == "xavier":
        raise ConfigError(f"{_FIELD}, and xavier starts the first layer smaller in wider networks: use he, lecun or pytorch")
    if point.optimizer.name == "adam" and point.regularizers.weight_decay:
        raise ConfigError(f"{_FIELD}, which has no rule for weight decay inside of Adam: use optimizer.name adamw, or sgd")


@lru_cache(maxsize=1024)
def rate_factors(model: Model, rule: str, image_shape: ImageShape, classes: int) -> tuple[float, ...]:
    """The factor on the learning rate of each trained parameter, in the order of ``module.parameters()``; empty for all 1.

    Args:
        model: of a resolved point.
        rule: `optimizer.name`.
        image_shape: of an input.
    """
    if model.parameterization != "mup":
        return ()
    here, base = (_shapes(one, image_shape, classes) for one in (replace(model, parameterization=None), at_base_width(model)))
    grown = [growth(*shapes) for shapes in zip(here, base, strict=True)]
    return tuple(outputs / inputs if rule == "sgd" else 1 / inputs for inputs, outputs in grown)


def _shapes(model: Model, image_shape: ImageShape, classes: int) -> list[torch.Size]:
    """The shapes of the trained parameters."""
    with torch.device("meta"):
        module = build(model, 0.0, image_shape, classes, seed=0)
    return [parameter.shape for parameter in module.parameters() if parameter.requires_grad]
