"""What is left of a study, forecast from what its own records took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.records.fragments import fragments
from analysis.records.reader import load
from analysis.records.schema import FINAL
from analysis.statistics.selection import SEEDS
from study.plan.plan import Plan
from study.simulation.cost import RecordedCosts, held_out
from study.simulation.replay import forecast
from trainables.point.config import TrialConfig, flatten
from trainables.point.errors import ConfigError

MOST_RECORDS = 2_000
"""More are not looked at, so that a forecast takes seconds: every so many of them are, by their keys, which is at random."""
_DRAWS = 1_000
_LEVEL = 0.95


@dataclass(frozen=True)
class Outlook:
    """A forecast of what is left of a study.

    Attributes:
        seconds: from the first pack to the last.
        workers: at once.
        records: that it rests on.
        off_by: in 95 of 100 groups of as many recorded configurations, held out, the total was off by less, as a fraction; None if too few
            are recorded to say.
        beyond: how many of the points lie outside of what is recorded (see `RecordedCosts.covers`): there nothing was tested.
    """

    seconds: float
    workers: int
    records: int
    off_by: float | None
    beyond: int

    def sentences(self, duration: str) -> list[str]:
        """The forecast, and what it rests on.

        Args:
            duration: the seconds, in words.
        """
        at_once = "1 worker" if self.workers == 1 else f"{self.workers:,} workers"
        sure = "" if self.off_by is None else f" (± {self.off_by:.0%})"
        points = "1 recorded point" if self.records == 1 else f"{self.records:,} recorded points"
        rests = [f"Forecast, not measured: about {duration} on {at_once}{sure}, from {points} of this study."]
        if self.off_by is None:
            rests.append("Too few configurations are recorded to test it.")
        else:
            rests.append("Of groups of as many recorded configurations, held out, 95 % were off by less than the ±.")
        if self.beyond:
            rests.append(f"{self.beyond:,} of the points to run lie outside of what is recorded, where nothing is tested.")
        rests.append("Workers are taken to be those of the records; Ray's start, waiting and the loading of data are left out.")
        return rests


def outlook(plan: Plan, workers: int) -> Outlook | None:
    """Forecast the missing points of a plan with its records; None if nothing is missing, or no record says anything of costs."""
    missing = plan.missing
    if not missing:
        return None
    try:
        recorded = RecordedCosts.read(plan.root, MOST_RECORDS)
    except ConfigError:
        return None
    beyond = sum(not recorded.covers(point.config) for point in missing)
    off_by = error_of_totals(recorded, configurations([point.config for point in missing]))
    return Outlook(3600 * forecast(missing, recorded, workers).hours, workers, len(recorded.rows), off_by, beyond)


def configurations(points: Sequence[TrialConfig]) -> int:
    """How many there are, all seeds of one taken together."""
    return len({tuple((name, value) for name, value in flatten(point).items() if name not in SEEDS) for point in points})


def error_of_totals(recorded: RecordedCosts, count: int) -> float | None:
    """The amount by which the predicted total of `count` configurations is off, in 95 of 100 random groups of held-out ones at most.

    A group is at most as large as a fold: in what is wrong with all records alike, larger ones are no better.

    Returns:
        A fraction of the recorded total; None if fewer than five configurations are recorded.
    """
    folds = held_out(recorded)
    if not folds:
        return None
    totals = np.array([(predicted.sum(), actual.sum()) for fold in folds for predicted, actual in fold])
    drawn = np.random.default_rng(0).integers(len(totals), size=(_DRAWS, min(count, len(folds[-1]))))
    predicted, actual = totals[drawn].sum(1).T
    return float(np.quantile(np.abs(predicted / actual - 1), _LEVEL))


def pace(root: str) -> tuple[float, int] | None:
    """The mean seconds of the points that a search has recorded, pruned ones included, and how many these are; None if there are none."""
    rows = load(root, columns=["status", "seconds"]).to_pylist() if fragments(root) else []
    seconds = [row["seconds"] for row in rows if row["status"] in FINAL and row["seconds"]]
    return (sum(seconds) / len(seconds), len(seconds)) if seconds else None
