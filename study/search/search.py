"""A search that runs: Optuna proposes points, packs of them are trained, their outcomes are reported.

The loop between them, without Ray: `Search.next_pack` asks Optuna for several suggestions at once and gives the points that
must be trained for them; `Search.collect` reports every suggestion whose points are recorded. `study.launch.searcher` lets Ray
Tune turn the crank.

The state is what lies in storage: Optuna's studies, and the records. A suggestion is on disk before its points are trained,
and stays open ("running") until its records are reported; a search that was killed takes open suggestions up again under their
own number, so that none is lost, asked twice or left running. A point whose key is recorded is reported and not trained. Where the
records of a suggestion are gone that was reported, its points are trained again, and it counts again if they come out as reported.
"""

from __future__ import annotations

import warnings
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from optuna.trial import FixedTrial, FrozenTrial

from analysis.records.searches.objectives import mean, measured
from analysis.records.searches.trials import is_brought, is_foreign, keys_of, recorded_under, without_foreign
from search_spaces.conditional import Asker
from study import compat
from study.search.cma_es import GENERATION, CmaEsSampler
from study.search.custom import CustomError
from study.search.outcomes import Answers, Outcomes
from study.search.plan import CellPlan, SearchPlan, point_of
from study.search.pruning.freezer import Freezer, Pause
from study.search.quiet import quiet
from study.search.samplers import build
from study.search.start import EarlierStudy
from study.search.storage import Storage
from study.search.suggestion import Cell, Suggestion
from trainables.point.errors import ConfigError
from trainables.resolution import Point

if TYPE_CHECKING:
    import optuna

    from study.search.pruning.leaving import SuggestionPruner


class Search:
    """The search of a plan, as far as it has come.

    Args:
        root: ``STORAGE/STUDY``, where records and (unless in a database) Optuna's journal lie.
        outcomes: what is recorded, if that is not read from `root`.

    Attributes:
        told: in sentences, what the search has begun with.

    Raises:
        ConfigError: the storage cannot be opened, or there is no study to start from.
    """

    def __init__(self, plan: SearchPlan, root: str, outcomes: Answers | None = None) -> None:
        self.plan, self.root = plan, root
        self.outcomes = Outcomes(root, plan.measures) if outcomes is None else outcomes
        self._recorded = recorded_under(root)
        self._pruner: SuggestionPruner | None = None
        self._freezer = Freezer(plan.pruning, plan.trials, self.outcomes) if plan.pruning and plan.pruning.freezes else None
        self._storage = Storage(plan.storage, root)
        self._ready: deque[list[Point]] = deque()
        self._open: dict[str, list[Suggestion]] = defaultdict(list)
        """Key of a point to be recorded -> the suggestions that wait for it."""
        self._earlier: EarlierStudy | None = None
        self.told: list[str] = []
        self.cells = [self._cell(index, cell) for index, cell in enumerate(plan.cells)]
        for cell in self.cells:
            self._take_up(cell)
        if self._storage.begun:  # a new search leaves nothing behind before it asks
            self._storage.flush()

    @property
    def finished(self) -> bool:
        """Whether everything is asked for and reported."""
        return not (self._open or self._ready or any(cell.left for cell in self.cells))

    @property
    def left(self) -> int:
        """Points that are still to be trained, as far as none is recorded already."""
        seeds = len(self.plan.seeds)
        return len(self._open) + sum(cell.left for cell in self.cells) * seeds

    def keys(self) -> set[str]:
        """The keys of all points that were ever asked for."""
        asked = (trial for cell in self.cells for trial in cell.study.get_trials(deepcopy=False) if not is_brought(trial))
        return {key for trial in asked for key in keys_of(trial)}

    def ranked(self, cell: Cell) -> optuna.Study:
        """The cell's study to read, in which only trials count whose points are recorded."""
        return without_foreign(cell.study, self._rows_of)[0]

    def refill(self, pruner: SuggestionPruner) -> None:
        """Let a pruner prune members of packs; it learns what happened so far."""
        self._pruner = pruner
        for cell in self.cells:
            for trial in cell.study.get_trials(deepcopy=False, states=(_states().COMPLETE, _states().PRUNED)):
                pruned = trial.state == _states().PRUNED
                if is_foreign(trial, self._rows_of, self.plan.objectives):
                    continue
                runs = self._runs(trial) if self.plan.pruning and self.plan.pruning.name == "wilcoxon" else {}
                pruner.remember(cell.study.study_name, trial.intermediate_values, None if pruned else trial.values[0], runs)

    def _runs(self, trial: FrozenTrial) -> dict[int, dict[int, float]]:
        """What each seed of a suggestion has reported: seed -> epoch -> value."""
        curves = {seed: self.outcomes.curve(key) for seed, key in zip(self.plan.seeds, keys_of(trial), strict=False)}
        objective = self.plan.objectives[0]
        return {
            seed: {epoch: measured({"status": "running", **row}, objective) for epoch, row in curve.items()}
            for seed, curve in curves.items()
        }

    def next_pack(self) -> list[Point] | None:
        """Points of equal signature to be trained together; None if nothing can be asked for now.

        The cell that is furthest behind is asked next. Points that are recorded or in training are left out.
        """
        while not self._ready:
            if self._freezer and (thawed := self._freezer.thawed(self.cells, self.plan.at_once)):
                self._queue(thawed)
                continue
            cell = max(self.cells, key=lambda cell: cell.left)
            if not cell.left:
                return None
            self._ask(cell)
        pack = self._ready.popleft()
        if self._pruner:
            for suggestion in {id(one): one for one in (self._open[point.key][0] for point in pack)}.values():
                if isinstance(suggestion.trial, FrozenTrial) and suggestion.trial.state == _states().COMPLETE:
                    continue  # it was not pruned then
                members = [point for point in suggestion.points if point in pack]
                asked = (suggestion.cell.study.study_name, suggestion.trial.number)
                self._pruner.enter(asked, [point.key for point in members], [point.config.seed for point in members])
        return pack

    def pauses(self, pack: Sequence[Point]) -> dict[str, Pause]:
        """When each point of a pack pauses, where suggestions are frozen and thawed."""
        return self._freezer.pauses(pack) if self._freezer else {}

    def share(self, key: str) -> float:
        """The share of its epochs that a point is given out for."""
        return self._freezer.share(key) if self._freezer else 1.0

    def paused(self, curves: Mapping[str, Mapping[int, Mapping[str, Any]]]) -> None:
        """Points have paused, by key, with their train and validation error at each epoch so far."""
        if self._freezer:
            self._freezer.paused(curves)

    def collect(self) -> None:
        """Report to Optuna every suggestion whose points are all recorded by now."""
        self.outcomes.refresh()
        done = [key for key in self._open if key in self.outcomes]
        for suggestion in {id(one): one for key in done for one in self._open[key]}.values():
            self._reported(suggestion)
        for key in done:
            del self._open[key]
        if self._freezer:
            self._freezer.settle(done)
        self._storage.flush()

    def give_up(self, pack: Sequence[Point]) -> bool:
        """A worker died with this pack, again and again: its points are tried one by one. False if it was one already."""
        if len(pack) == 1:
            return False
        self._ready.extend([point] for point in pack if point.key in self._open)
        return True

    def queue_again(self) -> int:
        """Queue, once more, all points that were given out and are not recorded, for nobody trains them any more; how many they are."""
        waiting = {key: suggestions[0] for key, suggestions in self._open.items() if not (self._freezer and self._freezer.holds(key))}
        self._queue([point for key, suggestion in waiting.items() for point in suggestion.points if point.key == key])
        return len(waiting)

    def _rows_of(self, key: str) -> Sequence[Mapping[str, Any]]:
        """Also without measures that are asked for now: what was asked once is not asked again for their sake."""
        return [*([self.outcomes[key]] if key in self.outcomes else []), *self._recorded(key)]

    def _cell(self, index: int, cell: CellPlan) -> Cell:
        import optuna

        with quiet():
            study = optuna.create_study(
                study_name=self.plan.study_name(cell),
                storage=self._storage.optuna,
                directions=["minimize"] * len(self.plan.objectives),
                load_if_exists=True,
            )
        if "objectives" not in study.user_attrs:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                study.set_metric_names(list(self.plan.objectives))
            study.set_user_attr("objectives", list(self.plan.objectives))
            study.set_user_attr("cell", dict(cell.assignment))
        before = study.get_trials(deepcopy=False)
        state = optuna.trial.TrialState
        if not before:
            self._begin(cell, study)
        resumed = 0 if self.plan.sampler == "qmc" else len(before)  # QMC goes on in one sequence, which the seed names
        seed = self.plan.seed(index, resumed)
        if custom := self.plan.custom:
            study.sampler = custom.build(seed=seed)
            if study.user_attrs.get("sampler") != custom.told:
                study.set_user_attr("sampler", custom.told)
        else:
            study.sampler = build(self.plan.sampler, seed)
        states = (state.COMPLETE, state.PRUNED)
        ended = [trial for trial in before if trial.state in states and not is_foreign(trial, self._rows_of, self.plan.objectives)]
        if self._freezer:
            for trial in ended:
                self._freezer.remember(study.study_name, trial)
        kept = len(ended) + sum(trial.state == state.RUNNING for trial in before)
        return Cell(cell.trial, cell.assignment, study, max(0, self.plan.trials - kept))

    def _begin(self, cell: CellPlan, study: optuna.Study) -> None:
        """What a new cell starts from: the trial as written, and what another study has recorded of its points."""
        import optuna

        if self.plan.start_from is not None:
            study.sampler = optuna.samplers.RandomSampler(seed=0)  # nothing is asked of it
            self._earlier = self._earlier or EarlierStudy(self.plan.start_from, self.root)
            self.told.append(self._earlier.begin(self.plan, cell, study).sentence(self._earlier.name))
        if untuned := self.plan.untuned(cell.trial):
            study.enqueue_trial(untuned, skip_if_exists=True)

    def _take_up(self, cell: Cell) -> None:
        """Go on with suggestions that an earlier run left open, or whose records are gone: under their own number, with their values."""
        import optuna

        running = cell.study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,))
        if self._freezer:
            self._freezer.recall(cell.study.study_name, running)
        opened = [self._suggestion(cell, compat.reopened(cell.study, trial)) for trial in running]
        again = self._lost(cell)[: cell.left]
        cell.left -= len(again)
        numbers = {suggestion.trial.number for suggestion in again}
        if again:
            warnings.warn(_trained_again(len(again)), stacklevel=2)
        if said := without_foreign(cell.study, self._rows_of, numbers)[1]:
            warnings.warn(said, stacklevel=2)
        self._pack([*again, *(suggestion for suggestion in opened if suggestion and not self._reported(suggestion))])

    def _lost(self, cell: Cell) -> list[Suggestion]:
        """The suggestions that were reported and whose records are gone, as far as they can be made again with the same keys."""
        found = []
        for trial in cell.study.get_trials(deepcopy=False, states=(_states().COMPLETE, _states().PRUNED)):
            if is_brought(trial) or all(self._rows_of(key) for key in keys_of(trial)):
                continue
            try:
                points = self._points(cell, FixedTrial(trial.params, trial.number))
            except (ConfigError, ValueError):  # parameters are missing: somebody else's
                continue
            if [point.key for point in points] == keys_of(trial):
                found.append(Suggestion(cell, trial, points))
        return found

    def _ask(self, cell: Cell) -> None:
        """Ask for as many suggestions as make up a pack, and queue their points."""
        opened: list[Suggestion] = []
        while cell.left and len(opened) < self.plan.at_once:
            cell.left -= 1
            with self._blamed():
                trial = _asked(cell.study)
            suggestion = self._suggestion(cell, trial)
            if suggestion and not self._reported(suggestion):
                opened.append(suggestion)
        self._pack(opened)
        self._storage.flush()

    def _suggestion(self, cell: Cell, trial: optuna.Trial) -> Suggestion | None:
        """The suggestion of a trial, with its points; None for one that cannot be run: it is reported as failed."""
        try:
            points = self._points(cell, trial)
        except CustomError:
            raise
        except ConfigError as error:
            trial.set_user_attr("reason", str(error))
            cell.study.tell(trial, state=_states().FAIL)
            return None
        trial.set_user_attr("keys", [point.key for point in points])
        return Suggestion(cell, trial, points)

    def _points(self, cell: Cell, trial: Asker) -> tuple[Point, ...]:
        """The points that are asked of a trial.

        Raises:
            ConfigError: one of them cannot be run.
        """
        with self._blamed():
            chosen = self.plan.ask(trial, cell.assignment)
        return tuple(point_of(cell.trial, chosen | {"seed": seed}) for seed in self.plan.seeds)

    def _blamed(self) -> AbstractContextManager[None]:
        """What a sampler of the user's own raises meanwhile is said to be its."""
        return self.plan.custom.blamed() if self.plan.custom else nullcontext()

    def _pack(self, suggestions: Sequence[Suggestion]) -> None:
        """Queue the points that nothing else trains or has trained, by signature."""
        queued: list[Point] = []
        for suggestion in suggestions:
            points = [point for point in suggestion.points if point.key not in self.outcomes]
            new = [point for point in points if point.key not in self._open]
            if not (new and self._freezer and self._freezer.enters(suggestion)):
                queued += new
            for point in points:
                self._open[point.key].append(suggestion)
        self._queue(queued)

    def _queue(self, points: Sequence[Point]) -> None:
        """Make packs of points, by signature."""
        groups: dict[tuple[object, ...], list[Point]] = defaultdict(list)
        for point in points:
            groups[point.config.signature()].append(point)
        self._ready.extend(groups.values())

    def _reported(self, suggestion: Suggestion) -> bool:
        """Whether all its points are recorded; then that is reported to Optuna, unless it was."""
        if any(point.key not in self.outcomes for point in suggestion.points):
            return False
        self._tell(suggestion)
        return True

    def _tell(self, suggestion: Suggestion) -> None:
        rows = [self.outcomes[point.key] for point in suggestion.points]
        statuses = {row["status"] for row in rows}
        study, trial, states = suggestion.cell.study, suggestion.trial, _states()
        if self._pruner:
            for point in suggestion.points:
                self._pruner.close(point.key)
        if isinstance(trial, FrozenTrial):
            if is_foreign(trial, self._rows_of, self.plan.objectives):  # they came out otherwise: another is asked for in its place
                suggestion.cell.left += 1
            return
        if self._pruner or self._freezer:
            self._report_curve(suggestion, trial)
        if self._freezer:
            whole = statuses <= {"completed", "diverged"}
            self._freezer.ended(suggestion, mean(rows, self.plan.objectives[0]) if whole else None)
        if "failed" in statuses:
            trial.set_user_attr("reason", next(row["reason"] for row in rows if row["status"] == "failed"))
            study.tell(trial, state=states.FAIL)
        elif "pruned" in statuses:
            study.tell(trial, state=states.PRUNED)
        else:
            for constraint in self.plan.constraints:
                trial.set_constraint(constraint.text, constraint.violation(rows))
            with self._blamed():  # whose after_trial it calls
                study.tell(trial, [mean(rows, name) for name in self.plan.objectives])

    def _report_curve(self, suggestion: Suggestion, trial: optuna.Trial) -> None:
        """Intermediate values: the mean over the seeds at every epoch that all of them reached."""
        curves = [self.outcomes.curve(point.key) for point in suggestion.points]
        objective = self.plan.objectives[0]
        told = self._freezer.told(suggestion) if self._freezer else ()
        for epoch in sorted(set.intersection(*(set(curve) for curve in curves)).difference(told)):
            rows = [{"status": "running", **curve[epoch]} for curve in curves]
            trial.report(mean(rows, objective), epoch)


def _trained_again(trials: int) -> str:
    if trials == 1:
        return "1 Optuna trial was reported and has no record here: its points are trained again, under its number"
    return f"{trials:,} Optuna trials were reported and have no records here: their points are trained again, under their numbers"


def _asked(study: optuna.Study) -> optuna.Trial:
    """A new trial; of CMA-ES, which has no other memory, with its generation."""
    trial = study.ask()
    if isinstance(study.sampler, CmaEsSampler) and study.sampler.generation is not None:
        trial.set_user_attr(GENERATION, study.sampler.generation)
    return trial


def _states() -> Any:
    import optuna

    return optuna.trial.TrialState
