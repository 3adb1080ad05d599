"""The plan of a search: what a spec with ``search: {kind: optuna}`` declares, checked before anything starts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from search_spaces.axes import Distribution, Values
from search_spaces.conditional import Asker, suggest
from search_spaces.space import Assignment, Space
from study.search.custom import Custom, is_custom, read
from study.search.objectives import Constraint, parse_constraint, parse_objectives
from study.search.pruning.leaving import LEAST_SEEDS, REDUCTION, Pruning
from study.search.pruning.thawing import epochs_by_default, least_epochs
from study.search.quiet import quiet
from study.search.samplers import Task, chosen
from study.spec.fields import checked_value
from study.spec.reading import Spec
from trainables.models.custom import executed
from trainables.point.config import TrialConfig, flatten, with_fields
from trainables.point.errors import ConfigError, leave_if_stopped, named
from trainables.resolution import Point, resolve

Ask = Callable[[Asker, Mapping[str, Any]], Assignment]
"""Asks a trial for its fields, given those of its cell; the answer holds both."""

PROBES = 32
"""Random points of each cell that must be able to run before a search starts."""


@dataclass(frozen=True)
class CellPlan:
    """One cell of the listed axes: their values, and the trial with these."""

    assignment: Assignment
    trial: TrialConfig


@dataclass(frozen=True)
class SearchPlan:
    """A search as planned: all that is known of it before it starts.

    Attributes:
        cells: one for each Optuna study; a single one without listed axes.
        seeds: every suggestion runs with each of these.
        why: the reason for the sampler, in words.
        custom: the sampler itself, if it is the user's own or of OptunaHub.
        trials: suggestions in each cell.
        at_once: suggestions asked for together.
        start_from: another study, whose records the search begins with; None if there is none.
        pruning: how members leave early; None if none do.
        ask: asks a trial for its fields.
        function: the reference to the user's own function, if one asks.
        text: the text of that function's file.
        storage: `journal`, or the URL of a database.
        measures: what a record must hold to count.
        search_seed: of all that is random in the choice.
        ablation_seeds: fresh seeds of the comparison afterwards; 0 for none.
    """

    study: str
    cells: tuple[CellPlan, ...]
    seeds: tuple[int, ...]
    objectives: tuple[str, ...]
    constraints: tuple[Constraint, ...]
    space: Space
    sampler: str
    why: str
    custom: Custom | None
    trials: int
    at_once: int
    start_from: str | None
    pruning: Pruning | None
    ask: Ask
    function: str | None
    text: str
    storage: str
    measures: tuple[str, ...]
    search_seed: int
    ablation_seeds: int

    @property
    def trained_share(self) -> float:
        """The share of all epochs that is trained at most."""
        whole = self.trials * self.pruning.epochs if self.pruning else 0
        return min(1.0, self.pruning.total_epochs / whole) if self.pruning and self.pruning.total_epochs and whole else 1.0

    def identity(self, trial: TrialConfig) -> str:
        """Eight hex digits of what gives the numbers reported to Optuna their meaning: a study with others learns by itself.

        The bounds of axes are left out, and so are the number of trials and the sampler: these may change on the way.
        """
        axes = {name: (axis.kind, axis.log, axis.choices) for name, axis in self.space.distributions().items()}
        meaning = [self.objectives, [constraint.text for constraint in self.constraints], self.seeds, axes, self.text]
        return hashlib.sha256(json.dumps([flatten(trial), meaning], sort_keys=True).encode()).hexdigest()[:8]

    def study_name(self, cell: CellPlan) -> str:
        """The name of a cell's Optuna study."""
        where = ", ".join(f"{field}={value}" for field, value in cell.assignment.items())
        return f"{self.study}{': ' if where else ''}{where} ({self.identity(cell.trial)})"

    def untuned(self, trial: TrialConfig) -> dict[str, Any]:
        """The trial as written, as far as the space holds it: the first suggestion, so that tuning starts from there."""
        written = flatten(trial) | dict.fromkeys(self.space.switches, False)
        return {name: written[name] for name, axis in self.space.distributions().items() if holds(axis, written[name])}

    def seed(self, cell: int, trials: int) -> int:
        """The sampler's seed: another one for every cell and, when a search is resumed, for every length of its history."""
        return int(np.random.SeedSequence([self.search_seed, cell, trials]).generate_state(1)[0])


def plan_search(spec: Spec) -> SearchPlan:
    """The plan of the search that a spec declares.

    Raises:
        ConfigError: it cannot be done: the sentence says what is wrong.
    """
    section = spec.search
    if section.trials is None:
        raise ConfigError("search.kind optuna needs search.trials, the number of suggestions")
    cells, seeds = _grid(spec)
    objectives = parse_objectives(section.objective, cells[0].trial)
    constraints = tuple(parse_constraint(text, cells[0].trial) for text in section.constraints)
    random = spec.space.distributions()
    if section.function is None and not random:
        raise ConfigError("search.kind optuna needs something to search: an axis such as {log_uniform: {low: 1e-5, high: 0.1}}")
    if section.function is not None and random:
        raise ConfigError(f"search.function is the space, so space.{next(iter(random))} must be a listed axis or stand in the function")
    pruning = _pruning(spec, objectives)
    if pruning and pruning.name == "wilcoxon" and len(seeds) < LEAST_SEEDS:
        raise ConfigError(
            f"search.pruner wilcoxon compares suggestions seed by seed, and {len(seeds)} are too few: set replicates to 4 or more"
        )
    task = Task.of(spec.space, section.trials, len(objectives), len(constraints))
    if section.function is not None:
        task = replace(task, others=1)  # a function may do anything: no sampler that needs to know the axes
    custom = _custom(spec, "sampler")
    sampler, why = (section.sampler, custom.told) if custom else chosen(section.sampler, task)
    text, ask = _asking(spec)
    plan = SearchPlan(
        study=spec.study,
        cells=cells,
        seeds=seeds,
        objectives=objectives,
        constraints=constraints,
        space=spec.space,
        sampler=sampler,
        why=why,
        custom=custom,
        trials=section.trials,
        at_once=section.at_once,
        start_from=section.start_from,
        pruning=pruning,
        ask=ask,
        function=section.function,
        text=text,
        storage=section.storage,
        measures=spec.measures,
        search_seed=section.seed,
        ablation_seeds=section.ablation_seeds,
    )
    for cell in cells:
        _probe(plan, cell)
    return plan


def _pruning(spec: Spec, objectives: tuple[str, ...]) -> Pruning | None:
    """How members leave early; by default none leaves before a ninth of the epochs."""
    section, epochs = spec.search, spec.trial.budget.epochs
    if section.total_epochs is not None and section.pruner != "freeze_thaw":
        raise ConfigError("search.total_epochs is the budget of pruner freeze_thaw: set search.pruner to that, or leave it out")
    if section.pruner == "none":
        return None
    if len(objectives) > 1 or objectives[0] not in ("validation_error", "validation_gap"):
        raise ConfigError("search.pruner needs one objective on the validation split: no other is reported while a point trains")
    least = section.min_epochs or max(1, ceil(epochs / REDUCTION**2))
    pruning = Pruning(section.pruner, objectives[0], epochs, least, _custom(spec, "pruner"))
    return _with_budget(pruning, spec) if pruning.freezes else pruning


def _with_budget(pruning: Pruning, spec: Spec) -> Pruning:
    """The epochs that freeze_thaw may train in each cell.

    Raises:
        ConfigError: they are too few, or processes train points together, which cannot be frozen one by one.
    """
    every = spec.trial.budget.evaluate_every
    pruning = replace(pruning, min_epochs=every * ceil(pruning.min_epochs / every))  # none pauses between two evaluations
    trials, shape = spec.search.trials or 0, (pruning.epochs, pruning.min_epochs)
    least = least_epochs(trials, *shape)
    if spec.search.total_epochs is not None and spec.search.total_epochs < least:
        raise ConfigError(
            f"search.total_epochs is {spec.search.total_epochs:,}, and freeze_thaw needs {least:,} at least: {trials:,} suggestions train "
            f"for {min(shape):,} epochs each, and one to its end"
        )
    if spec.resources.processes:
        raise ConfigError("search.pruner freeze_thaw keeps points of single processes: leave out resources.processes")
    return replace(pruning, total_epochs=spec.search.total_epochs or epochs_by_default(trials, *shape))


def _custom(spec: Spec, field: str) -> Custom | None:
    """The user's own sampler or pruner, or OptunaHub's; None if the spec names one of gaplab's."""
    reference = str(getattr(spec.search, field))
    if not is_custom(reference):
        return None
    return read(f"search.{field}", reference, spec.source.parent if spec.source else Path())


def _grid(spec: Spec) -> tuple[tuple[CellPlan, ...], tuple[int, ...]]:
    """The cells that the listed axes make, and the seeds of every suggestion."""
    space = spec.space
    if space.added:
        raise ConfigError("space.add has no meaning for search.kind optuna, which chooses the points")
    seeds = space.axes.get("seed", Values((spec.trial.seed,)))
    if not isinstance(seeds, Values):
        raise ConfigError("space.seed is searched, but a seed is no choice: give replicates, whose mean is reported")
    listed = {name: axis for name, axis in space.axes.items() if isinstance(axis, Values) and name != "seed"}
    crossed = {*listed, *(name for group in space.zipped for name in group)}
    if depending := [name for name, condition in space.conditions.items() if name in crossed and not set(condition) <= crossed]:
        raise ConfigError(
            f"space.{depending[0]} is listed, so its values are cells, which no condition on a searched axis can make: use choice"
        )
    if wider := {name for pattern in space.excluded for name in pattern} - crossed:
        raise ConfigError(f"space.exclude names {sorted(wider)[0]}, which Optuna chooses: only cells can be excluded")
    conditions = {name: condition for name, condition in space.conditions.items() if name in crossed}
    assignments = Space(dict(listed), space.zipped, (), space.excluded, conditions).assignments()
    cells = tuple(CellPlan(assignment, with_fields(spec.trial, assignment)) for assignment in assignments)
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
        except BaseException as error:
            leave_if_stopped(error)
            raise ConfigError(f"search.function {spec.search.function} raises {named(error)}") from None
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
    function = getattr(executed(str(path), text, "search.function"), name, None)
    if not callable(function):
        raise ConfigError(f"search.function: {path} has no function {name}")
    return text, function


def _probe(plan: SearchPlan, cell: CellPlan) -> None:
    """Raise ConfigError if the trial, or one of some random points of its cell, cannot be run."""
    import optuna

    with quiet():
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        for _ in range(PROBES):
            fields = plan.ask(study.ask(), cell.assignment)
            try:
                resolve(with_fields(cell.trial, fields))
            except ConfigError as error:
                where = ", ".join(f"{name} = {value}" for name, value in fields.items())
                raise ConfigError(f"{error} (at {where})") from None


def point_of(trial: TrialConfig, chosen: Mapping[str, Any]) -> Point:
    """The resolved point of a trial with some fields chosen."""
    config = resolve(with_fields(trial, chosen))
    return Point(config.key(), config)


def holds(axis: Distribution, value: Any) -> bool:
    """Whether the axis could be asked for that value."""
    if axis.kind == "choice":
        return value in axis.choices
    return isinstance(value, int | float) and axis.low <= value <= axis.high
