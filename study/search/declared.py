"""What a spec with ``search: {kind: optuna}`` declares: cells, seeds, objectives, sampler; checked before anything starts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from search_spaces.axes import Distribution, Values
from search_spaces.conditional import Asker, suggest
from search_spaces.space import Assignment, Space
from study.search.objectives import Constraint, parse_constraint, parse_objectives
from study.search.samplers import Task, chosen
from study.spec.reading import Spec, checked_value
from trainables.point.config import ConfigError, TrialConfig, flatten, with_fields
from trainables.resolution import resolve

Ask = Callable[[Asker, Mapping[str, Any]], Assignment]
"""Asks a trial for its fields, given those of its cell; the answer holds both."""

PROBES = 32
"""Random points of each cell that must be able to run before a search starts."""


@dataclass(frozen=True)
class Declared:
    """A search, understood.

    Attributes:
        cells: an assignment of the listed axes for each Optuna study; one empty one without such axes.
        seeds: every suggestion runs with each of these.
        why: the reason for the sampler, in words.
        trials: suggestions in each cell.
        ask: asks a trial for its fields.
        text: of the user's own function, if one asks.
        ablation_seeds: fresh seeds of the comparison afterwards; 0 for none.
    """

    cells: tuple[Assignment, ...]
    seeds: tuple[int, ...]
    objectives: tuple[str, ...]
    constraints: tuple[Constraint, ...]
    space: Space
    sampler: str
    why: str
    trials: int
    ask: Ask
    text: str
    search_seed: int
    ablation_seeds: int

    def identity(self, trial: TrialConfig) -> str:
        """Eight hex digits of what gives the numbers told to Optuna their meaning: a study with others learns by itself.

        The bounds of axes are left out, and so are the number of trials and the sampler: these may change on the way.
        """
        axes = {name: (axis.kind, axis.log, axis.choices) for name, axis in self.space.distributions().items()}
        told = [self.objectives, [constraint.text for constraint in self.constraints], self.seeds, axes, self.text]
        return hashlib.sha256(json.dumps([flatten(trial), told], sort_keys=True).encode()).hexdigest()[:8]

    def study_name(self, study: str, trial: TrialConfig, cell: Assignment) -> str:
        """Of the Optuna study of a cell."""
        where = ", ".join(f"{field}={value}" for field, value in cell.items())
        return f"{study}{': ' if where else ''}{where} ({self.identity(trial)})"

    def untuned(self, trial: TrialConfig) -> dict[str, Any]:
        """The trial as written, as far as the space holds it: the first suggestion, so that tuning starts from there."""
        written = flatten(trial) | dict.fromkeys(self.space.switches, False)
        return {name: written[name] for name, axis in self.space.distributions().items() if _holds(axis, written[name])}

    def seed(self, cell: int, trials: int) -> int:
        """The sampler's seed: another one for every cell and, when a search is resumed, for every length of its history."""
        return int(np.random.SeedSequence([self.search_seed, cell, trials]).generate_state(1)[0])


def declared(spec: Spec) -> Declared:
    """The search of a spec.

    Raises:
        ConfigError: it cannot be done: the sentence says what is wrong.
    """
    search = spec.search
    if search.trials is None:
        raise ConfigError("search.kind optuna needs search.trials, the number of suggestions")
    cells, seeds = _grid(spec)
    trials = [with_fields(spec.trial, cell) for cell in cells]
    objectives = parse_objectives(search.objective, trials[0])
    constraints = tuple(parse_constraint(text, trials[0]) for text in search.constraints)
    random = spec.space.distributions()
    if search.function is None and not random:
        raise ConfigError("search.kind optuna needs something to search: an axis such as {log_uniform: {low: 1e-5, high: 0.1}}")
    if search.function is not None and random:
        raise ConfigError(f"search.function is the space, so space.{next(iter(random))} must be a listed axis or stand in the function")
    if search.pruner != "none" and (len(objectives) > 1 or objectives[0] not in ("validation_error", "validation_gap")):
        raise ConfigError("search.pruner needs one objective on the validation split: no other is reported while a point trains")
    task = Task.of(spec.space, search.trials, len(objectives), len(constraints))
    if search.function is not None:
        task = replace(task, others=1)  # a function may do anything: no sampler that needs to know the axes
    sampler, why = chosen(search.sampler, task)
    text, ask = _asking(spec)
    found = Declared(
        cells, seeds, objectives, constraints, spec.space, sampler, why, search.trials, ask, text, search.seed, search.ablation_seeds
    )
    for cell, trial in zip(cells, trials, strict=True):
        _probe(found, cell, trial)
    return found


def _grid(spec: Spec) -> tuple[tuple[Assignment, ...], tuple[int, ...]]:
    """The cells that the listed axes make, and the seeds of every suggestion."""
    space = spec.space
    if space.added:
        raise ConfigError("space.add has no meaning for search.kind optuna, which chooses the points")
    seeds = space.axes.get("seed", Values((spec.trial.seed,)))
    if not isinstance(seeds, Values):
        raise ConfigError("space.seed is searched, but a seed is no choice: give replicates, whose mean is told")
    listed = {name: axis for name, axis in space.axes.items() if isinstance(axis, Values) and name != "seed"}
    crossed = {*listed, *(name for group in space.zipped for name in group)}
    if depending := [name for name, condition in space.conditions.items() if name in crossed and not set(condition) <= crossed]:
        raise ConfigError(
            f"space.{depending[0]} is listed, so its values are cells, which no condition on a searched axis can make: use choice"
        )
    if wider := {name for pattern in space.excluded for name in pattern} - crossed:
        raise ConfigError(f"space.exclude names {sorted(wider)[0]}, which Optuna chooses: only cells can be excluded")
    conditions = {name: condition for name, condition in space.conditions.items() if name in crossed}
    cells = tuple(Space(dict(listed), space.zipped, (), space.excluded, conditions).assignments())
    if not cells:
        raise ConfigError("the space is empty: every cell of it is excluded")
    return cells, seeds.values


def _asking(spec: Spec) -> tuple[str, Ask]:
    """How a trial is asked, and the text that says so if the user wrote it."""
    if spec.search.function is None:
        space = spec.space
        axes = {name: axis for name, axis in space.axes.items() if name != "seed"}
        return "", lambda trial, cell: suggest(trial, axes, space.conditions, space.switches, cell)
    text, function = _function(spec.search.function, spec.source.parent if spec.source else Path())

    def ask(trial: Asker, cell: Mapping[str, Any]) -> Assignment:
        try:
            fields = function(trial)
        except Exception as error:
            raise ConfigError(f"search.function {spec.search.function} raises {type(error).__name__}: {error}") from None
        if not isinstance(fields, Mapping) or "seed" in fields or not fields.keys().isdisjoint(cell):
            taken = ", ".join(["seed", *cell])
            raise ConfigError(f"search.function must return a mapping of fields other than {taken}; it returned {fields!r}")
        return {name: checked_value(name, value, "search.function: ") for name, value in fields.items()} | dict(cell)

    return text, ask


def _function(reference: str, folder: Path) -> tuple[str, Callable[[Asker], Mapping[str, Any]]]:
    file, colon, name = reference.rpartition(":")
    path = folder / file
    if not colon or not path.is_file():
        raise ConfigError(f"search.function is {reference!r}: it must be FILE.py:NAME of a function, relative to the spec")
    text = path.read_text(encoding="utf-8")
    module: dict[str, Any] = {"__name__": path.stem, "__file__": str(path)}
    try:
        exec(compile(text, str(path), "exec"), module)
    except Exception as error:
        raise ConfigError(f"search.function: {path} raises {type(error).__name__}: {error}") from None
    if not callable(module.get(name)):
        raise ConfigError(f"search.function: {path} has no function {name}")
    return text, module[name]


def _probe(search: Declared, cell: Assignment, trial: TrialConfig) -> None:
    """Raise ConfigError if the trial, or one of some random points of its cell, cannot be run."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(PROBES):
        chosen_fields = search.ask(study.ask(), cell)
        try:
            resolve(with_fields(trial, chosen_fields))
        except ConfigError as error:
            place = ", ".join(f"{name} = {value}" for name, value in chosen_fields.items())
            raise ConfigError(f"{error} (at {place})") from None


def _holds(axis: Distribution, value: Any) -> bool:
    if axis.kind == "choice":
        return value in axis.choices
    return isinstance(value, int | float) and axis.low <= value <= axis.high
