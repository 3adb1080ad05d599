"""A warm start: what another study has recorded of a search's points is told to its sampler before anything is asked of it.

A configuration of which every seed is recorded there under the very keys that the search would give it is told with its values, as if it
had been suggested: nothing is trained for it, and it counts neither among the search's trials nor among what it found, for its records
are another study's. The best of them is suggested as well, so that the search finds nothing worse. A configuration that lies in the space
by its axes, and differs elsewhere (in its seeds, its budget), would have other values here: the best of these are suggested first, and
trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any

from analysis.records.fragments import fragments
from analysis.records.reader import load
from analysis.records.searches.objectives import NEEDED, mean
from analysis.records.searches.trials import BROUGHT
from analysis.records.store import study_root
from analysis.statistics.selection import SEEDS
from search_spaces.axes import Distribution
from search_spaces.space import Space
from study.search.plan import CellPlan, SearchPlan, holds, point_of
from trainables.point.config import field_types
from trainables.point.errors import ConfigError
from trainables.point.key import KEY_VERSION

if TYPE_CHECKING:
    import optuna

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Brought:
    """How many configurations of another study a search begins with.

    Attributes:
        told: to the sampler, with their values.
        queued: to be suggested first.
        others: that lie outside of the space, or were worse than those that are queued.
    """

    told: int = 0
    queued: int = 0
    others: int = 0

    def sentence(self, name: str) -> str:
        """What there was to begin with."""
        return (
            f"warm start from {name}: {self.told:,} of its configurations are points of this search and told to the sampler; the best of "
            f"these, and {self.queued:,} more that lie in the space, are tried first; {self.others:,} are left out"
        )


class EarlierStudy:
    """The records of another study.

    Args:
        reference: the name of a study in the same storage as this one, or a folder or URI.
        root: ``STORAGE/STUDY`` of this one.

    Raises:
        ConfigError: there are none, or it is the study itself.
    """

    def __init__(self, reference: str, root: str) -> None:
        self.name = reference
        where = _root(reference, root)
        if where == root:
            raise ConfigError(f"search.start_from: {reference} is this study itself, which goes on from its records anyway")
        columns = list(dict.fromkeys(["key", "status", "key_version", *NEEDED, *field_types()]))
        rows = load(where, columns=columns).to_pylist() if fragments(where) else []
        usable = [row for row in rows if row["status"] in ("completed", "diverged") and row["key_version"] == KEY_VERSION]
        if not usable:
            raise ConfigError(f"search.start_from: {where} holds no finished points (with keys of version {KEY_VERSION}) to start from")
        groups: dict[tuple[Any, ...], list[Row]] = {}
        for row in sorted(usable, key=lambda row: str(row["key"])):
            groups.setdefault(tuple(row[name] for name in field_types() if name not in SEEDS), []).append(row)
        self.configurations = list(groups.values())

    def begin(self, plan: SearchPlan, cell: CellPlan, study: optuna.Study) -> Brought:
        """Tell a cell's Optuna study, which has no trial yet, what is recorded of its points, and queue the best of what is like them."""
        told, near = list[tuple[float, dict[str, Any]]](), list[tuple[float, dict[str, Any]]]()
        for rows in self.configurations:
            answers = _Recalled(rows[0], plan.space)
            try:
                chosen = plan.ask(answers, cell.assignment)
                points = [point_of(cell.trial, chosen | {"seed": seed}) for seed in plan.seeds]
            except (ConfigError, LookupError):
                continue
            if any(rows[0][name] != value for name, value in cell.assignment.items()):
                continue
            by_key = {row["key"]: row for row in rows}
            if all(point.key in by_key for point in points):
                known = [by_key[point.key] for point in points]
                self._tell(plan, cell, study, answers.given, known)
                allowed = all(constraint.violation(known) <= 0 for constraint in plan.constraints)
                told.append((mean(known, plan.objectives[0]) if allowed else inf, answers.given))
            elif (value := _value(rows, plan.objectives[0])) is not None:
                near.append((value, answers.given))
        like = sorted(near, key=_first)[: plan.at_once]
        for _, parameters in [*sorted(told, key=_first)[:1], *like]:
            study.enqueue_trial(parameters)
        return Brought(len(told), len(like), len(self.configurations) - len(told) - len(like))

    def _tell(self, plan: SearchPlan, cell: CellPlan, study: optuna.Study, parameters: dict[str, Any], rows: Sequence[Row]) -> None:
        """As a suggestion that has ended, which says whose it is."""
        study.enqueue_trial(parameters)
        trial = study.ask()
        plan.ask(trial, cell.assignment)
        trial.set_user_attr(BROUGHT, self.name)
        trial.set_user_attr("keys", [row["key"] for row in rows])
        for constraint in plan.constraints:
            trial.set_constraint(constraint.text, constraint.violation(rows))
        study.tell(trial, [mean(rows, name) for name in plan.objectives])


class _Recalled:
    """Answers a search's questions with the values that a record has.

    A switch, of which a record knows nothing, is on if all that it switches could be searched for.

    Attributes:
        given: what was asked for, and answered.
    """

    def __init__(self, row: Row, space: Space) -> None:
        self._row, self._space, self._axes = row, space, space.distributions()
        self.given: dict[str, Any] = {}

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        return float(self._answer(name, Distribution("uniform", low, high)))

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        return int(self._answer(name, Distribution("int", low, high)))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self._answer(name, Distribution("choice", choices=tuple(choices)))

    def _answer(self, name: str, axis: Distribution) -> Any:
        value = self._on(name) if name in self._space.switches else self._row.get(name)
        if not holds(axis, value):
            raise LookupError(name)
        self.given[name] = value
        return value

    def _on(self, switch: str) -> bool:
        switched = [name for name, condition in self._space.conditions.items() if switch in condition]
        return all(holds(self._axes[name], self._row[name]) for name in switched)


def _first(one: tuple[float, Any]) -> float:
    return one[0]


def _value(rows: Sequence[Row], objective: str) -> float | None:
    """The mean of an objective over what is recorded of a configuration; None if it was not measured."""
    try:
        return mean(rows, objective)
    except TypeError:  # trained without a validation split
        return None


def _root(reference: str, root: str) -> str:
    """``STORAGE/STUDY`` of the other study."""
    if "/" in reference:
        storage, _, name = reference.rstrip("/").rpartition("/")
        return study_root(storage or "/", name)
    path, mark, options = root.partition("?")  # s3://BUCKET/PATH?region=...
    return study_root(f"{path.rpartition('/')[0]}{mark}{options}", reference)
