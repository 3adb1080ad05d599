"""Pruning: which suggestions are left off early, by Optuna's own pruners.

The members of a pack report their validation error at every evaluation. Once all seeds of a suggestion have reported an
epoch, the pruner sees their mean; if it says so, they leave, and their slots go to the next points. Optuna's pruners compare
with all suggestions that came before, in whatever pack, so packs of one are pruned as well. They are asynchronous (Li et
al. 2020): who is first at a rung goes on, and the order in which packs run has a say. Wilcoxon's asks whether the seeds of a suggestion are
worse than the same seeds of the best one so far, at the same epoch; it looks at every one, so that the error of its test adds up.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from analysis.records.searches.objectives import measured
from study.search.custom import Custom
from study.search.quiet import quiet

if TYPE_CHECKING:
    import optuna

Suggested = tuple[str, int]
"""An Optuna study's name and the number of a trial in it."""
LEAST_SEEDS = 4
"""Of fewer the rank test could not tell: with four, of which all are worse, p is 1/16."""
SURE = 0.1
"""Below which p a suggestion is worse than the best one, for Wilcoxon's test: Optuna's own default."""
REDUCTION = 3
"""One in three goes on from a rung to the next (Li et al. 2018 advise 3 or 4)."""


@dataclass(frozen=True)
class Pruning:
    """How a search prunes.

    Attributes:
        name: of Optuna's pruner: "successive_halving", "hyperband", "median" or "wilcoxon"; "freeze_thaw" (see
            `study.search.pruning.thawing`); or as `custom` is referred to.
        objective: what members are compared by.
        epochs: of a run that is not pruned.
        min_epochs: before which no member leaves.
        custom: the pruner itself, if it is the user's own or of OptunaHub.
        total_epochs: that freeze_thaw may train of each cell's suggestions in all.
    """

    name: str
    objective: str
    epochs: int
    min_epochs: int
    custom: Custom | None = None
    total_epochs: int | None = None

    @property
    def freezes(self) -> bool:
        """Whether suggestions are frozen and thawed, and none is asked about in its pack."""
        return self.name == "freeze_thaw"

    def build(self) -> optuna.pruners.BasePruner:
        """Optuna's pruner itself."""
        from optuna import exceptions, pruners

        if self.custom:
            return self.custom.build()  # type: ignore[no-any-return]  # it has looked
        if self.name == "wilcoxon":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", exceptions.ExperimentalWarning)
                return pruners.WilcoxonPruner(p_threshold=SURE)
        if self.name == "successive_halving":
            return pruners.SuccessiveHalvingPruner(min_resource=self.min_epochs, reduction_factor=REDUCTION)
        if self.name == "hyperband":
            return pruners.HyperbandPruner(min_resource=self.min_epochs, max_resource=self.epochs, reduction_factor=REDUCTION)
        return pruners.MedianPruner(n_warmup_steps=self.min_epochs)


@dataclass
class _Case:
    """A suggestion in training: what each of its members has reported (epoch -> value), who has ended, and the seeds of all."""

    study: str
    trial: optuna.Trial
    reports: dict[str, dict[int, float]] = field(default_factory=dict)
    seeds: tuple[int, ...] = ()
    ended: set[str] = field(default_factory=set)
    shown: set[int] = field(default_factory=set)
    pruned: bool = False

    def complete_epochs(self) -> list[int]:
        """Epochs that every member has reported that has not ended, and that the pruner has not seen."""
        going_on = [epochs for key, epochs in self.reports.items() if key not in self.ended]
        return sorted(set.intersection(*(set(epochs) for epochs in going_on)) - self.shown) if going_on else []

    def mean(self, epoch: int) -> float:
        """The mean of the members' values at that epoch; one that ended counts with its last."""
        values = [value for epochs in self.reports.values() if (value := last_by(epochs, epoch)) is not None]
        return sum(values) / len(values)

    def runs(self) -> dict[int, dict[int, float]]:
        """What was reported by each seed."""
        return dict(zip(self.seeds, self.reports.values(), strict=True)) if self.seeds else {}


def last_by(epochs: Mapping[int, float], epoch: int) -> float | None:
    """The last value that was reported by that epoch; None if there was none."""
    seen = [one for one in epochs if one <= epoch]
    return epochs[max(seen)] if seen else None


class SuggestionPruner:
    """Decides which suggestions leave. It lives in one process, for all workers, and forgets nothing while that lives.

    >>> pruner = SuggestionPruner(Pruning("successive_halving", "validation_error", epochs=9, min_epochs=1))
    >>> for number, error in enumerate((0.1, 0.2, 0.05)):
    ...     pruner.enter(("study", number), [str(number)])
    ...     print(pruner.judge([(str(number), 1, {"validation_error": error, "train_error": 0.0})]))
    []
    ['1']
    []
    """

    def __init__(self, pruning: Pruning) -> None:
        self._pruning = pruning
        self._studies: dict[str, optuna.Study] = {}
        self._cases: dict[Suggested, _Case] = {}
        self._of: dict[str, Suggested] = {}
        self._best: dict[str, tuple[float, dict[int, dict[int, float]]]] = {}
        """Of each study, the least final value, and what its suggestion reported: seed -> epoch -> value."""

    def enter(self, suggestion: Suggested, keys: Sequence[str], seeds: Sequence[int] = ()) -> None:
        """A suggestion begins, with the keys of its members, one a seed; the seeds are needed where they are compared one by one."""
        self._cases[suggestion] = _Case(suggestion[0], self._trial(suggestion[0]), {key: {} for key in keys}, tuple(seeds))
        self._of |= dict.fromkeys(keys, suggestion)

    def judge(self, reports: Sequence[tuple[str, int, Mapping[str, Any]]]) -> list[str]:
        """The keys of the members that leave now; none that never entered.

        Args:
            reports: a member's key, its epoch, and its train and validation error.
        """
        reports = [report for report in reports if report[0] in self._of]
        for key, epoch, row in reports:
            case = self._cases[self._of[key]]
            case.reports[key][epoch] = measured({"status": "running", **row}, self._pruning.objective)
            self._show(case)
        return [key for key, _, _ in reports if self._cases[self._of[key]].pruned]

    def close(self, key: str) -> None:
        """A member has ended by itself; nothing happens for one that never entered."""
        import optuna

        if key not in self._of:
            return
        case = self._cases[self._of[key]]
        case.ended.add(key)
        self._show(case)
        if case.shown and not case.pruned and len(case.ended) == len(case.reports):
            value = case.mean(max(case.shown))
            case.trial.study.tell(case.trial, value, state=optuna.trial.TrialState.COMPLETE, skip_if_finished=True)
            self._note(case.study, value, case.runs())

    def remember(
        self, study: str, values: Mapping[int, float], value: float | None, runs: Mapping[int, Mapping[int, float]] = MappingProxyType({})
    ) -> None:
        """A suggestion of an earlier run.

        Args:
            values: what it reported: epoch -> mean over seeds.
            value: its final one, if it was not pruned.
            runs: what each seed reported: seed -> epoch -> value.
        """
        import optuna

        if value is not None:
            self._note(study, value, runs)
        trial = self._trial(study)
        for epoch, reported in sorted(values.items()):
            trial.report(reported, epoch)
            self._says(trial)  # notes the rung
        state = optuna.trial.TrialState.PRUNED if value is None else optuna.trial.TrialState.COMPLETE
        trial.study.tell(trial, value, state=state)

    def _leaves(self, case: _Case, epoch: int) -> bool:
        return self._is_worse(case, epoch) if self._pruning.name == "wilcoxon" else self._says(case.trial)

    def _says(self, trial: optuna.Trial) -> bool:
        """What the pruner says of the means over seeds."""
        with self._pruning.custom.blamed() if self._pruning.custom else nullcontext():
            return trial.should_prune()

    def _is_worse(self, case: _Case, epoch: int) -> bool:
        """Whether a suggestion's seeds are worse at that epoch than the same seeds of the best one, by Optuna's test with a step a seed."""
        import optuna

        best = self._best.get(case.study, (0.0, {}))[1]
        pairs = {seed: (last_by(run, epoch), last_by(best[seed], epoch)) for seed, run in case.runs().items() if seed in best}
        both = {seed: (ours, theirs) for seed, (ours, theirs) in pairs.items() if ours is not None and theirs is not None}
        if len(both) < LEAST_SEEDS:
            return False
        with quiet():
            compared = optuna.create_study(pruner=self._pruning.build())
            compared.add_trial(
                optuna.trial.create_trial(value=0.0, intermediate_values={seed: theirs for seed, (_, theirs) in both.items()})
            )
            trial = compared.ask()
            for seed, (ours, _) in both.items():
                trial.report(ours, seed)
            return trial.should_prune()

    def _note(self, study: str, value: float, runs: Mapping[int, Mapping[int, float]]) -> None:
        """Keep what the best suggestion has reported."""
        if study not in self._best or value < self._best[study][0]:
            self._best[study] = (value, {seed: dict(run) for seed, run in runs.items()})

    def _trial(self, study: str) -> optuna.Trial:
        import optuna

        if study not in self._studies:
            with quiet():
                self._studies[study] = optuna.create_study(study_name=study, pruner=self._pruning.build())
        return self._studies[study].ask()

    def _show(self, case: _Case) -> None:
        """Show the pruner the epochs that are complete now."""
        import optuna

        for epoch in case.complete_epochs():
            if case.pruned:
                return
            case.shown.add(epoch)
            case.trial.report(case.mean(epoch), epoch)
            if self._leaves(case, epoch) and epoch >= self._pruning.min_epochs:
                case.pruned = True
                case.trial.study.tell(case.trial, state=optuna.trial.TrialState.PRUNED)
