"""CMA-ES for Optuna whose state is the completed trials, and nothing else.

Optuna's own sampler keeps its optimizer as a pickle among the attributes of trials, and unpickles what it finds there: whoever
can write the journal could run code. This one tells a new optimizer, generation by generation, what the trials of the study
came to; a trial says of which generation it is in its attribute `GENERATION`, a number.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from math import exp, log
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.search_space import IntersectionSearchSpace
from optuna.trial import TrialState

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

    Numeric = FloatDistribution | IntDistribution

GENERATION = "cma-es generation"
_FIRST_DEVIATION = 1 / 6
"""Of the first generation, in the unit cube: what Optuna takes."""


class CmaEsSampler(BaseSampler):
    """CMA-ES (Hansen 2016) in the unit cube of the axes that are numbers in every trial; others are drawn at random.

    Whoever asks for a trial writes `generation` into its attribute `GENERATION` if that is a number.

    Args:
        seed: of all that is drawn; the same trials and the same seed give the same suggestion.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._others = RandomSampler(seed=seed)
        self._space = IntersectionSearchSpace()
        self._optimizer: Any = None
        self._names: tuple[str, ...] = ()
        self.generation: int | None = None
        """Of the trial that was asked for last; None if it was drawn at random."""

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        self.generation = None
        space = self._space.calculate(study)
        return {name: axis for name, axis in space.items() if isinstance(axis, FloatDistribution | IntDistribution) and not axis.single()}

    def sample_relative(self, study: Study, trial: FrozenTrial, search_space: dict[str, Any]) -> dict[str, Any]:
        if len(search_space) < 2:
            return {}
        if self._optimizer is None or self._names != tuple(search_space):
            self._optimizer, self._names = self._new(len(search_space)), tuple(search_space)
        self._catch_up(self._optimizer, study, search_space)
        self.generation = self._optimizer.generation
        asked = self._optimizer.ask()
        return {name: _from_unit(float(unit), axis) for unit, (name, axis) in zip(asked, search_space.items(), strict=True)}

    def sample_independent(self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution) -> Any:
        return self._others.sample_independent(study, trial, param_name, param_distribution)

    def reseed_rng(self) -> None:
        self._others.reseed_rng()

    def _new(self, dimensions: int) -> Any:
        """A `cmaes.CMA`, which has no types."""
        from cmaes import CMA  # type: ignore[import-untyped]

        bounds = np.tile([0.0, 1.0], (dimensions, 1))
        seed = self._seed % (2**32)
        return CMA(np.full(dimensions, 0.5), _FIRST_DEVIATION, bounds=bounds, n_max_resampling=10 * dimensions, seed=seed)

    @staticmethod
    def _catch_up(optimizer: Any, study: Study, space: Mapping[str, Numeric]) -> None:
        """Tell the optimizer every generation that is complete by now and that it does not know yet."""
        generations: dict[int, list[FrozenTrial]] = defaultdict(list)
        for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            generation = trial.user_attrs.get(GENERATION)
            if type(generation) is int and generation >= optimizer.generation and space.keys() <= trial.params.keys():
                generations[generation].append(trial)
        size = optimizer.population_size
        while len(trials := generations[optimizer.generation]) >= size:
            optimizer.tell(
                [
                    (np.array([_to_unit(trial.params[name], axis) for name, axis in space.items()]), float(trial.values[0]))
                    for trial in trials[:size]
                ]
            )


def _to_unit(value: float, axis: Numeric) -> float:
    low, high = _ends(axis)
    value = min(high, max(low, value))
    return (log(value) - log(low)) / (log(high) - log(low)) if axis.log else (value - low) / (high - low)


def _from_unit(unit: float, axis: Numeric) -> float | int:
    low, high = _ends(axis)
    value = exp(log(low) + unit * (log(high) - log(low))) if axis.log else low + unit * (high - low)
    if isinstance(axis, IntDistribution) or axis.step is not None:
        step = axis.step or 1
        value = axis.low + round((value - axis.low) / step) * step
    value = min(axis.high, max(axis.low, value))
    return int(value) if isinstance(axis, IntDistribution) else value


def _ends(axis: Numeric) -> tuple[float, float]:
    """The axis's ends; of one with steps, half a step further out, so that each step has its share."""
    half = (axis.step or 0) / 2
    return axis.low - half, axis.high + half
