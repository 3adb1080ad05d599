"""Pruning: which members leave their pack early, by Optuna's own pruners.

A member reports its validation error at every evaluation, and leaves when the pruner says so; the seat goes to the next
point. Optuna's pruners compare with all members that came before, in whatever pack, so packs of one are pruned as well.
They are asynchronous (Li et al. 2020): who is first at a rung goes on, and the order in which packs run has a say. Members
with different seeds are compared seed by seed; a suggestion is pruned as soon as one of its seeds is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import TYPE_CHECKING, Any

from study.objectives import measured

if TYPE_CHECKING:
    import optuna

    from study.search_section import Search
    from trainables.config import Budget

Suggested = tuple[str, int]
"""An Optuna study's name and the number of a trial in it."""
REDUCTION = 3
"""One in three goes on from a rung to the next (Li et al. 2018 advise 3 or 4)."""


def build_pruner(name: str, epochs: int, min_epochs: int) -> optuna.pruners.BasePruner:
    """Optuna's pruner of that name.

    Args:
        name: "successive_halving", "hyperband" or "median".
        epochs: of a run that is not pruned.
        min_epochs: before which nobody leaves.
    """
    from optuna import pruners

    if name == "successive_halving":
        return pruners.SuccessiveHalvingPruner(min_resource=min_epochs, reduction_factor=REDUCTION)
    if name == "hyperband":
        return pruners.HyperbandPruner(min_resource=min_epochs, max_resource=epochs, reduction_factor=REDUCTION)
    return pruners.MedianPruner(n_warmup_steps=min_epochs - 1)


class Jury:
    """Decides who leaves. It lives in one process, for all workers, and forgets nothing while that lives.

    >>> jury = Jury("successive_halving", "validation_error", epochs=9, min_epochs=1)
    >>> for number, error in enumerate((0.1, 0.2, 0.3)):
    ...     jury.enter(str(number), ("study", number), 0)
    ...     print(jury.judge([(str(number), 1, {"validation_error": error, "train_error": 0.0})]))
    []
    ['1']
    ['2']
    """

    def __init__(self, pruner: str, objective: str, epochs: int, min_epochs: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._objective = objective
        self._make = lambda: build_pruner(pruner, epochs, min_epochs)
        self._studies: dict[tuple[str, int], optuna.Study] = {}
        self._members: dict[str, tuple[Suggested, optuna.Trial]] = {}
        self._latest: dict[str, float] = {}
        self._out: set[Suggested] = set()

    @staticmethod
    def of(search: Search, objective: str, budget: Budget) -> tuple[str, str, int, int]:
        """The arguments for the jury of a search; by default nobody leaves before a ninth of the epochs."""
        return search.pruner, objective, budget.epochs, search.min_epochs or max(1, ceil(budget.epochs / REDUCTION**2))

    def enter(self, key: str, suggestion: Suggested, seed: int) -> None:
        """A member begins: its key, the suggestion that it is a seed of, and the place of that seed."""
        import optuna

        comparable = (suggestion[0], seed)
        if comparable not in self._studies:
            self._studies[comparable] = optuna.create_study(study_name=f"{comparable}", pruner=self._make())
        self._members[key] = (suggestion, self._studies[comparable].ask())

    def judge(self, reports: Sequence[tuple[str, int, Mapping[str, Any]]]) -> list[str]:
        """The keys of the members that leave now.

        Args:
            reports: a member's key, its epoch, and its train and validation error.
        """
        leaving = []
        for key, epoch, row in reports:
            suggestion = self._members[key][0]
            leaves = self._report(key, epoch, measured({"status": "running", **row}, self._objective))
            if leaves or suggestion in self._out:
                self._out.add(suggestion)
                self.close(key, pruned=True)
                leaving.append(key)
        return leaving

    def close(self, key: str, *, pruned: bool) -> None:
        """A member has ended; nothing happens to one that never entered."""
        import optuna

        if key in self._members:
            trial = self._members[key][1]
            state = optuna.trial.TrialState.PRUNED if pruned or key not in self._latest else optuna.trial.TrialState.COMPLETE
            trial.study.tell(trial, None if state.name == "PRUNED" else self._latest[key], state=state, skip_if_finished=True)

    def remember(self, suggestion: Suggested, seeds: int, values: Mapping[int, float]) -> None:
        """A suggestion of an earlier run, which reported these values (epoch -> mean over its seeds)."""
        for seed in range(seeds):
            key = f"{suggestion}, seed {seed}"
            self.enter(key, suggestion, seed)
            for epoch, value in sorted(values.items()):
                self._report(key, epoch, value)
            self.close(key, pruned=False)

    def _report(self, key: str, epoch: int, value: float) -> bool:
        """Whether the pruner lets the member go."""
        trial = self._members[key][1]
        self._latest[key] = value
        trial.report(value, epoch)
        return trial.should_prune()
