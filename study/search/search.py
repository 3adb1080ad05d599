"""A search: Optuna proposes points, packs of them are trained, their outcomes are told.

The loop between them, without Ray: `Search.next_pack` asks Optuna for several suggestions at once and gives the points that
must be trained for them; `Search.collect` tells every suggestion whose points are recorded. `study.search.searcher` lets Ray Tune
turn the crank.

The state is what lies in storage: Optuna's studies, and the records. A suggestion is on disk before its points are trained,
and stays open ("running") until its records are told; a search that was killed takes open suggestions up again under their
own number, so that none is lost, asked twice or left running. A point whose key is recorded is told and not trained.
"""

from __future__ import annotations

import warnings
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from study import compat
from study.plan.points import Point
from study.search.declared import declared
from study.search.objectives import mean
from study.search.outcomes import Outcomes
from study.search.samplers import build
from study.search.storage import Storage
from study.spec.reading import Spec
from trainables.point.config import ConfigError, TrialConfig, with_fields
from trainables.resolution import resolve

if TYPE_CHECKING:
    import optuna

    from study.search.pruning import Pruner


@dataclass
class Cell:
    """One cell of the grid with its own Optuna study."""

    trial: TrialConfig
    assignment: Mapping[str, Any]
    study: optuna.Study
    left: int
    """Suggestions that are still to be asked for."""


@dataclass(frozen=True)
class Suggestion:
    """What Optuna proposed: one point a seed, and the trial that is told their mean."""

    cell: Cell
    trial: optuna.Trial
    points: tuple[Point, ...]


class Search:
    """The search that a spec declares, as far as it has come.

    Args:
        root: ``STORAGE/STUDY``, where records and (unless in a database) Optuna's journal lie.

    Raises:
        ConfigError: the storage cannot be opened, or the space has points that cannot be run.
    """

    def __init__(self, spec: Spec, root: str) -> None:
        self.declared = declared(spec)
        self.outcomes = Outcomes(root, spec.measures)
        self.root, self._spec = root, spec
        self._pruner: Pruner | None = None
        self._storage = Storage(spec.search.storage, root)
        self._ready: deque[list[Point]] = deque()
        self._open: dict[str, list[Suggestion]] = defaultdict(list)
        """Key of a point to be recorded -> the suggestions that wait for it."""
        self.cells = [self._cell(place, assignment) for place, assignment in enumerate(self.declared.cells)]
        for cell in self.cells:
            self._take_up(cell)
        self._storage.flush()

    @property
    def finished(self) -> bool:
        """Whether everything is asked for and told."""
        return not (self._open or self._ready or any(cell.left for cell in self.cells))

    @property
    def left(self) -> int:
        """Points that are still to be trained, as far as none is recorded already."""
        seeds = len(self.declared.seeds)
        return len(self._open) + sum(cell.left for cell in self.cells) * seeds

    def keys(self) -> set[str]:
        """Of all points that were ever asked for."""
        return {key for cell in self.cells for trial in cell.study.get_trials(deepcopy=False) for key in trial.user_attrs.get("keys", ())}

    def followed_by(self) -> list[Point]:
        """The points that compare what a finished search has found; none before. See `study.search.ablation`."""
        from study.search.ablation import compared

        return compared(self, self.root) if self.finished else []

    def refill(self, pruner: Pruner) -> None:
        """Let a pruner prune members of packs; it is told what happened so far."""
        self._pruner = pruner
        for cell in self.cells:
            for trial in cell.study.get_trials(deepcopy=False, states=(_states().COMPLETE, _states().PRUNED)):
                pruned = trial.state == _states().PRUNED
                pruner.remember(cell.study.study_name, trial.intermediate_values, None if pruned else trial.values[0])

    def next_pack(self) -> list[Point] | None:
        """Points of equal signature to be trained together; None if nothing can be asked for now.

        The cell that is furthest behind is asked next. Points that are recorded or in training are left out.
        """
        while not self._ready:
            cell = max(self.cells, key=lambda cell: cell.left)
            if not cell.left:
                return None
            self._ask(cell)
        pack = self._ready.popleft()
        if self._pruner:
            for suggestion in {id(one): one for one in (self._open[point.key][0] for point in pack)}.values():
                keys = [point.key for point in suggestion.points if point in pack]
                self._pruner.enter((suggestion.cell.study.study_name, suggestion.trial.number), keys)
        return pack

    def collect(self) -> None:
        """Tell Optuna every suggestion whose points are all recorded by now."""
        self.outcomes.refresh()
        done = [key for key in self._open if key in self.outcomes]
        for suggestion in {id(one): one for key in done for one in self._open[key]}.values():
            self._told(suggestion)
        for key in done:
            del self._open[key]
        self._storage.flush()

    def give_up(self, pack: Sequence[Point]) -> bool:
        """A worker died with this pack, again and again: its points are tried one by one. False if it was one already."""
        if len(pack) == 1:
            return False
        self._ready.extend([point] for point in pack if point.key in self._open)
        return True

    def _cell(self, place: int, assignment: Mapping[str, Any]) -> Cell:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        trial = with_fields(self._spec.trial, assignment)
        study = optuna.create_study(
            study_name=self.declared.study_name(self._spec.study, trial, dict(assignment)),
            storage=self._storage.optuna,
            directions=["minimize"] * len(self.declared.objectives),
            load_if_exists=True,
        )
        if "objectives" not in study.user_attrs:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                study.set_metric_names(list(self.declared.objectives))
            study.set_user_attr("objectives", list(self.declared.objectives))
            study.set_user_attr("cell", dict(assignment))
        before = study.get_trials(deepcopy=False)
        state = optuna.trial.TrialState
        if not before and (untuned := self.declared.untuned(trial)):
            study.enqueue_trial(untuned)
        resumed = 0 if self.declared.sampler == "qmc" else len(before)  # QMC goes on in one sequence, which the seed names
        study.sampler = build(self.declared.sampler, self.declared.seed(place, resumed))
        kept = sum(trial.state in (state.COMPLETE, state.PRUNED, state.RUNNING) for trial in before)
        return Cell(trial, assignment, study, max(0, self.declared.trials - kept))

    def _take_up(self, cell: Cell) -> None:
        """Go on with suggestions that an earlier run left open: under their own number, with the values they have."""
        import optuna

        running = cell.study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,))
        opened = [self._suggestion(cell, compat.reopened(cell.study, trial)) for trial in running]
        self._pack([suggestion for suggestion in opened if suggestion and not self._told(suggestion)])

    def _ask(self, cell: Cell) -> None:
        """Ask for as many suggestions as make up a pack, and queue their points."""
        opened: list[Suggestion] = []
        while cell.left and len(opened) < self._spec.search.at_once:
            cell.left -= 1
            suggestion = self._suggestion(cell, cell.study.ask())
            if suggestion and not self._told(suggestion):
                opened.append(suggestion)
        self._pack(opened)
        self._storage.flush()

    def _suggestion(self, cell: Cell, trial: optuna.Trial) -> Suggestion | None:
        """The suggestion of a trial, with its points; None for one that cannot be run: it is told as failed."""
        try:
            chosen = self.declared.ask(trial, cell.assignment)
            points = tuple(point_of(cell.trial, chosen | {"seed": seed}) for seed in self.declared.seeds)
        except ConfigError as error:
            trial.set_user_attr("reason", str(error))
            cell.study.tell(trial, state=_states().FAIL)
            return None
        trial.set_user_attr("keys", [point.key for point in points])
        return Suggestion(cell, trial, points)

    def _pack(self, suggestions: Sequence[Suggestion]) -> None:
        """Queue the points that nothing else trains or has trained, by signature."""
        groups: dict[tuple[object, ...], list[Point]] = defaultdict(list)
        for suggestion in suggestions:
            for point in suggestion.points:
                if point.key in self.outcomes:
                    continue
                if point.key not in self._open:
                    groups[point.config.signature()].append(point)
                self._open[point.key].append(suggestion)
        self._ready.extend(groups.values())

    def _told(self, suggestion: Suggestion) -> bool:
        """Whether all its points are recorded; then Optuna is told."""
        if any(point.key not in self.outcomes for point in suggestion.points):
            return False
        self._tell(suggestion)
        return True

    def _tell(self, suggestion: Suggestion) -> None:
        rows = [self.outcomes[point.key] for point in suggestion.points]
        statuses = {row["status"] for row in rows}
        study, trial, states = suggestion.cell.study, suggestion.trial, _states()
        if self._pruner:
            self._report(suggestion)
            for point in suggestion.points:
                self._pruner.close(point.key)
        if "failed" in statuses:
            trial.set_user_attr("reason", next(row["reason"] for row in rows if row["status"] == "failed"))
            study.tell(trial, state=states.FAIL)
        elif "pruned" in statuses:
            study.tell(trial, state=states.PRUNED)
        else:
            for constraint in self.declared.constraints:
                trial.set_constraint(constraint.text, constraint.violation(rows))
            study.tell(trial, [mean(rows, name) for name in self.declared.objectives])

    def _report(self, suggestion: Suggestion) -> None:
        """Intermediate values: the mean over the seeds at every epoch that all of them reached."""
        curves = [self.outcomes.curve(point.key) for point in suggestion.points]
        objective = self.declared.objectives[0]
        for epoch in sorted(set.intersection(*(set(curve) for curve in curves))):
            rows = [{"status": "running", **curve[epoch]} for curve in curves]
            suggestion.trial.report(mean(rows, objective), epoch)


def point_of(trial: TrialConfig, chosen: Mapping[str, Any]) -> Point:
    """The resolved point of a trial with some fields chosen."""
    config = resolve(with_fields(trial, chosen))
    return Point(config.key(), config)


def _states() -> Any:
    import optuna

    return optuna.trial.TrialState
