"""What a spec must be for its points to be an atlas: asked before the first of them is trained."""

from __future__ import annotations

from analysis.atlas.population import CAPACITY, GROUPS
from study.spec.reading import Spec
from trainables.point.errors import ConfigError


def check_population(spec: Spec) -> None:
    """Raise ConfigError where an atlas could not be written of a spec's points once they are trained.

    >>> from study.spec.reading import understand
    >>> check_population(understand({"study": "mine", "space": {"model.width": {"values": [8, 16]}}}))
    Traceback (most recent call last):
      ...
    trainables.point.errors.ConfigError: an atlas goes by model.parameters_per_sample: let the space vary it, in place of model.width
    """
    fields = spec.space.fields()
    if spec.search.kind == "optuna":
        raise ConfigError("an atlas is a declared population: search.kind optuna chooses its points by what comes of them")
    if CAPACITY not in fields and spec.trial.model.parameters_per_sample is None:
        instead = ", in place of model.width" if "model.width" in fields else ""
        raise ConfigError(f"an atlas goes by {CAPACITY}: let the space vary it{instead}")
    if spec.trial.model.hold != "train_size" or "model.hold" in fields:
        raise ConfigError("the capacities of an atlas differ by width: model.hold width, which varies the samples, is none of its axes")
    if beside := sorted(name for name in fields if not name.startswith(tuple(GROUPS.values())) and name != "seed"):
        raise ConfigError(f"the cells of an atlas agree in all but seeds and the axes that it tells apart: keep one value of {beside[0]}")
