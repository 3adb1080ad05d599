"""Optuna's samplers by name: what each can do, which one a search gets by default, and why.

The budgets are those of the table in Optuna's documentation of its samplers (TPE 100 to 1,000 trials, GP up to 500, CMA-ES
1,000 to 10,000, NSGA-II 100 to 10,000, QMC and random any).
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from search_spaces.space import Space
from trainables.point.errors import ConfigError

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

GP_BY_DEFAULT = 100
"""Most trials for which GP is chosen unasked: it then takes 0.4 s an ask, at 200 trials 0.6 s (6 axes, one core)."""


@dataclass(frozen=True)
class Sampler:
    """What a sampler is good for.

    Attributes:
        most_trials: more cannot be asked of it.
        learns_choices: whether it learns from categorical and conditional axes, or draws them at random.
        objectives: how many at most.
        constraints: whether it heeds them.
    """

    label: str
    most_trials: int = 1_000_000
    learns_choices: bool = True
    objectives: int = 10
    constraints: bool = True


SAMPLERS = {  # `study.spec.sections` lists the same names, for a spec to be checked against
    "tpe": Sampler("TPE", most_trials=10_000),
    "gp": Sampler("GP", most_trials=500, learns_choices=False),
    "cma_es": Sampler("CMA-ES", most_trials=100_000, learns_choices=False, objectives=1, constraints=False),
    "nsga2": Sampler("NSGA-II", most_trials=100_000),
    "nsga3": Sampler("NSGA-III", most_trials=100_000),
    "qmc": Sampler("QMC (Sobol)"),
    "random": Sampler("random"),
}


@dataclass(frozen=True)
class Task:
    """What a sampler is asked to do.

    Attributes:
        numbers: axes that are numbers and always asked for.
        others: choices, and axes under a condition.
    """

    trials: int
    objectives: int
    constraints: int
    numbers: int
    others: int

    @staticmethod
    def of(space: Space, trials: int, objectives: int, constraints: int) -> Task:
        axes = space.distributions()
        numbers = sum(axis.kind != "choice" and name not in space.conditions for name, axis in axes.items())
        return Task(trials, objectives, constraints, numbers, len(axes) - numbers)


def chosen(name: str, task: Task) -> tuple[str, str]:
    """The sampler for a task and the reason in words; ``"auto"`` follows Optuna's table.

    >>> chosen("auto", Task(trials=300, objectives=1, constraints=0, numbers=3, others=2))
    ('tpe', 'up to 1,000 trials')

    Raises:
        ConfigError: the sampler that is named cannot do this.
    """
    if name != "auto":
        _check(name, task)
        return name, "as the spec says"
    simple = task.objectives == 1 and not task.others and task.numbers > 0
    if simple and task.trials <= GP_BY_DEFAULT:
        return "gp", f"numbers only, up to {GP_BY_DEFAULT} trials"
    if task.trials <= 1000:
        return "tpe", "up to 1,000 trials"
    if task.trials > 10_000:
        return "qmc", "more than 10,000 trials: covering the space evenly beats learning"
    if simple and not task.constraints and task.numbers > 1 and importlib.util.find_spec("cmaes"):
        return "cma_es", "numbers only, 1,000 to 10,000 trials"
    return ("nsga3" if task.objectives > 3 else "nsga2"), "1,000 to 10,000 trials, or several objectives"


def _check(name: str, task: Task) -> None:
    sampler = SAMPLERS[name]
    if task.trials > sampler.most_trials:
        raise ConfigError(
            f"search.sampler {name} is asked for {task.trials:,} trials, but {sampler.label} takes at most "
            f"{sampler.most_trials:,}: use auto, qmc or random"
        )
    if task.objectives > sampler.objectives:
        raise ConfigError(f"search.sampler {name} minimises one objective, and there are {task.objectives}: use tpe, nsga2 or nsga3")
    if task.constraints and not sampler.constraints:
        raise ConfigError(f"search.sampler {name} does not heed search.constraints: use tpe, gp, nsga2 or nsga3")
    if name == "cma_es" and task.numbers < 2:
        raise ConfigError(
            f"search.sampler cma_es needs at least two axes that are numbers and always asked for, and the space has "
            f"{task.numbers}: choices and conditional axes mean nothing to it; use tpe"
        )
    if name == "gp" and not task.numbers:
        raise ConfigError("search.sampler gp needs an axis that is a number and always asked for, and the space has none: use tpe")
    if name == "cma_es" and not importlib.util.find_spec("cmaes"):
        raise ConfigError("search.sampler cma_es needs the package cmaes: pip install cmaes")


def label(name: str) -> str:
    """What a sampler is called; one that is not gaplab's has no other name than its reference."""
    return SAMPLERS[name].label if name in SAMPLERS else "custom"


def drawn_at_random(name: str, space: Space) -> list[str]:
    """The axes that the sampler does not learn from, as far as that is known."""
    if name not in SAMPLERS or SAMPLERS[name].learns_choices:
        return []
    return [axis for axis, given in space.distributions().items() if given.kind == "choice" or axis in space.conditions]


def build(name: str, seed: int) -> BaseSampler:
    """The sampler itself, with Optuna's defaults; CMA-ES is our own, since Optuna's unpickles what lies in the storage.

    TPE keeps them for conditional axes too: its option `group` gained nothing measurable there, at twice the time.
    """
    import optuna

    from study.search.cma_es import CmaEsSampler

    samplers = optuna.samplers
    made: dict[str, Callable[[], BaseSampler]] = {
        "tpe": lambda: samplers.TPESampler(seed=seed),
        "gp": lambda: samplers.GPSampler(seed=seed, warn_independent_sampling=False),
        "cma_es": lambda: CmaEsSampler(seed),
        "nsga2": lambda: samplers.NSGAIISampler(seed=seed),
        "nsga3": lambda: samplers.NSGAIIISampler(seed=seed),
        "qmc": lambda: samplers.QMCSampler(seed=seed, scramble=True, warn_independent_sampling=False),
        "random": lambda: samplers.RandomSampler(seed=seed),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return made[name]()
