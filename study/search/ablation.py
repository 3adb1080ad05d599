"""After a search: the best point of each cell, the untuned one, and the best without each of its regularizers, on fresh seeds.

The best of many suggestions looks better on the seeds it was chosen by than it is; seeds that the search never saw say how
good it is. Which recorded points answer which question stands in ``STORAGE/STUDY/tuning.json``.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.records.store import open_store
from study.records.writer import write_whole
from study.search.plan import point_of
from study.search.search import Search
from study.search.suggestion import Cell
from trainables.point.config import Regularizers, TrialConfig, flatten
from trainables.resolution import Point

if TYPE_CHECKING:
    import optuna

FILE = "tuning.json"
FIRST_FRESH_SEED = 10_000
TUNED, UNTUNED, PLAIN = "tuned", "untuned", "without any regularizer"


@dataclass(frozen=True)
class Ablation:
    """What is compared in one cell: name of a variant -> its points, one a fresh seed, in the same order for all."""

    cell: Cell
    best: optuna.trial.FrozenTrial
    variants: dict[str, list[Point]]

    def as_json(self) -> dict[str, Any]:
        return {
            "cell": dict(self.cell.assignment),
            "optuna_study": self.cell.study.study_name,
            "best_trial": self.best.number,
            "values": self.best.values,
            "params": self.best.params,
            "variants": {name: [point.key for point in points] for name, points in self.variants.items()},
        }


def compared(search: Search) -> list[Point]:
    """The points that compare what a finished search has found; which is which is put beside the records.

    There are none if the plan asks for no comparison.
    """
    seeds = search.plan.ablation_seeds
    if not seeds:
        return []
    found = ablations(search, seeds)
    write(search.root, found)
    points = {point.key: point for ablation in found for variant in ablation.variants.values() for point in variant}
    return list(points.values())


def ablations(search: Search, seeds: int) -> list[Ablation]:
    """One for each cell in which a suggestion completed (and kept to the constraints)."""
    fresh = list(itertools.islice((seed for seed in itertools.count(FIRST_FRESH_SEED) if seed not in search.plan.seeds), seeds))
    found = []
    for cell in search.cells:
        if best := best_trial(search.ranked(cell)):
            variants = {
                name: [point_of(cell.trial, fields | {"seed": seed}) for seed in fresh]
                for name, fields in _variants(search, cell, best).items()
            }
            found.append(Ablation(cell, best, variants))
    return found


def best_trial(study: optuna.Study) -> optuna.trial.FrozenTrial | None:
    """The best completed trial that keeps to the constraints; of a Pareto front, the one with the lowest first objective."""
    if len(study.directions) > 1:
        return min(study.best_trials, key=lambda trial: trial.values[0], default=None)
    try:
        return study.best_trial
    except ValueError:  # Optuna's word for none
        return None


def write(root: str, found: Iterable[Ablation]) -> None:
    """Put the answers' keys beside the records."""
    filesystem, path = open_store(root)
    write_whole(filesystem, f"{path}/{FILE}", json.dumps([ablation.as_json() for ablation in found], indent=1).encode())


def _variants(search: Search, cell: Cell, best: optuna.trial.FrozenTrial) -> dict[str, dict[str, Any]]:
    """Name -> the fields that differ from the cell's trial."""
    from optuna.trial import FixedTrial

    tuned = search.plan.ask(FixedTrial(best.params), cell.assignment)
    off = _regularizers_on(point_of(cell.trial, tuned).config)
    if tuned.get("model.batch_norm"):
        off["model.batch_norm"] = False
    without = {f"without {field.rpartition('.')[2]}": tuned | {field: value} for field, value in off.items()}
    plain = {PLAIN: tuned | off} if len(off) > 1 else {}
    return {TUNED: tuned, UNTUNED: {}} | without | plain


def _regularizers_on(point: TrialConfig) -> dict[str, Any]:
    """Field -> its value when off, for every regularizer that is on."""
    values, off = flatten(point), vars(Regularizers())
    on = {f"regularizers.{name}": value for name, value in off.items() if values[f"regularizers.{name}"] != value}
    on.pop("regularizers.decay_biases", None)  # says what weight decay acts on, and does nothing alone
    return on
