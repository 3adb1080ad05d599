"""What MLflow has of a point already."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Standing:
    """The run of a point as it stands in MLflow.

    Attributes:
        run_id: its id there.
        status: as MLflow says it; that of a run whose writing was interrupted is ``RUNNING``.
        end: in milliseconds since 1970.
        deleted: whether somebody deleted it; MLflow keeps such a run, hidden, until it is collected.
        parent: id of the run that it is nested in; empty for none.
    """

    run_id: str
    status: str
    end: int
    deleted: bool
    parent: str = ""

    @property
    def final(self) -> bool:
        """Whether the outcome is the point's own: a failed point runs again."""
        return self.status in ("FINISHED", "KILLED")

    @property
    def rank(self) -> tuple[bool, bool, int]:
        """The greatest is the one that stands, as for any reader of records: the latest final outcome, else the latest failure."""
        return not self.deleted, self.final, self.end


def best_and_surplus(found: Iterable[tuple[str, Standing]]) -> tuple[dict[str, Standing], list[str]]:
    """The standing of each key, and the runs that no reader should meet: unfinished ones, and all but the best of a key."""
    best: dict[str, Standing] = {}
    surplus: list[str] = []
    for key, one in found:
        if one.status == "RUNNING":
            surplus += [] if one.deleted else [one.run_id]
            continue
        other = best.setdefault(key, one)
        if other is not one:
            best[key], worse = (one, other) if one.rank > other.rank else (other, one)
            surplus += [] if worse.deleted else [worse.run_id]
    return best, surplus
