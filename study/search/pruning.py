"""Pruning: which suggestions are left off early, by Optuna's own pruners.

The members of a pack report their validation error at every evaluation. Once all seeds of a suggestion have reported an
epoch, the pruner sees their mean; if it says so, they leave, and their slots go to the next points. Optuna's pruners compare
with all suggestions that came before, in whatever pack, so packs of one are pruned as well. They are asynchronous (Li et
al. 2020): who is first at a rung goes on, and the order in which packs run has a say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from analysis.records.searches.objectives import measured
from study.search.quiet import quiet

if TYPE_CHECKING:
    import optuna

Suggested = tuple[str, int]
"""An Optuna study's name and the number of a trial in it."""
REDUCTION = 3
"""One in three goes on from a rung to the next (Li et al. 2018 advise 3 or 4)."""


@dataclass(frozen=True)
class Pruning:
    """How a search prunes.

    Attributes:
        name: of Optuna's pruner: "successive_halving", "hyperband" or "median".
        objective: what members are compared by.
        epochs: of a run that is not pruned.
        min_epochs: before which no member leaves.
    """

    name: str
    objective: str
    epochs: int
    min_epochs: int

    def build(self) -> optuna.pruners.BasePruner:
        """Optuna's pruner itself."""
        from optuna import pruners

        if self.name == "successive_halving":
            return pruners.SuccessiveHalvingPruner(min_resource=self.min_epochs, reduction_factor=REDUCTION)
        if self.name == "hyperband":
            return pruners.HyperbandPruner(min_resource=self.min_epochs, max_resource=self.epochs, reduction_factor=REDUCTION)
        return pruners.MedianPruner(n_warmup_steps=self.min_epochs - 1)


@dataclass
class _Case:
    """A suggestion in training: what each of its members has reported (epoch -> value), and who has ended."""

    trial: optuna.Trial
    reports: dict[str, dict[int, float]] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    shown: set[int] = field(default_factory=set)
    pruned: bool = False

    def complete_epochs(self) -> list[int]:
        """Epochs that every member has reported that has not ended, and that the pruner has not seen."""
        going_on = [epochs for key, epochs in self.reports.items() if key not in self.ended]
        return sorted(set.intersection(*(set(epochs) for epochs in going_on)) - self.shown) if going_on else []

    def mean(self, epoch: int) -> float:
        """The mean of the members' values at that epoch; one that ended counts with its last."""
        values = [epochs[max(seen)] for epochs in self.reports.values() if (seen := [one for one in epochs if one <= epoch])]
        return sum(values) / len(values)


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

    def enter(self, suggestion: Suggested, keys: Sequence[str]) -> None:
        """A suggestion begins, with the keys of its members, one a seed."""
        self._cases[suggestion] = _Case(self._trial(suggestion[0]), {key: {} for key in keys})
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
            case.trial.study.tell(case.trial, case.mean(max(case.shown)), state=optuna.trial.TrialState.COMPLETE, skip_if_finished=True)

    def remember(self, study: str, values: Mapping[int, float], value: float | None) -> None:
        """A suggestion of an earlier run: what it reported (epoch -> mean over seeds), and its final value if it was not pruned."""
        import optuna

        trial = self._trial(study)
        for epoch, reported in sorted(values.items()):
            trial.report(reported, epoch)
            trial.should_prune()  # notes the rung
        state = optuna.trial.TrialState.PRUNED if value is None else optuna.trial.TrialState.COMPLETE
        trial.study.tell(trial, value, state=state)

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
            if case.trial.should_prune():
                case.pruned = True
                case.trial.study.tell(case.trial, state=optuna.trial.TrialState.PRUNED)
