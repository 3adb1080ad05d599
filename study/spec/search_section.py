"""The section ``search:`` of a spec, as written."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from search_spaces.axes import MOST_VALUES

_COMMON = {"kind", "seed"}
_DRAWN = {"samples"}


class Search(BaseModel):
    """How points are chosen from the space.

    Attributes:
        kind: `grid` takes every point, `random` and `quasi_random` draw `samples`, `optuna` searches.
        samples: draws of the random axes.
        seed: of all that is random in the choice.
        trials: suggestions that Optuna makes in each cell of the listed axes.
        objective: what it minimises: one of `study.search.objectives.OBJECTIVES`, or a list of them for a Pareto front.
        constraints: bounds such as ``train_error <= 0.01``; only what keeps to them is compared.
        sampler: `auto` follows Optuna's table of samplers.
        pruner: which members leave their pack early, by their validation error at every evaluation.
        min_epochs: what no member leaves before; a ninth of the epochs by default.
        at_once: suggestions asked for together, and trained in one pack where their shapes agree.
        storage: `journal` (a file beside the results), or the URL of a database.
        function: ``FILE.py:NAME`` of a define-by-run space: a function of an `optuna.Trial` that returns fields.
        ablation_seeds: fresh seeds on which the best point, the untuned one, and the best without each of its
            regularizers are compared afterwards; 0 for none.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    kind: Literal["grid", "random", "quasi_random", "optuna"] = "grid"
    samples: Annotated[int, Field(ge=1, le=MOST_VALUES)] | None = None
    seed: Annotated[int, Field(ge=0)] = 0
    trials: Annotated[int, Field(ge=1, le=MOST_VALUES)] | None = None
    objective: str | list[str] = "validation_error"
    constraints: list[str] = []
    sampler: Literal["auto", "tpe", "gp", "cma_es", "nsga2", "nsga3", "qmc", "random"] = "auto"
    pruner: Literal["none", "successive_halving", "hyperband", "median"] = "none"
    min_epochs: Annotated[int, Field(ge=1)] | None = None
    at_once: Annotated[int, Field(ge=1, le=10_000)] = 8
    storage: str = "journal"
    function: str | None = None
    ablation_seeds: Annotated[int, Field(ge=0, le=1000)] = 0

    def misplaced(self) -> list[str]:
        """Fields that are set and have no meaning for this kind."""
        own = {"grid": set(), "random": _DRAWN, "quasi_random": _DRAWN}.get(self.kind, set(type(self).model_fields) - _DRAWN)
        return sorted(self.model_fields_set - own - _COMMON)
