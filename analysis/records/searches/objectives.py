"""What a search minimises, from the records of a suggestion's seeds: the same number for whoever reports it and whoever checks it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

NEEDED = ("train_error", "validation_error", "seconds", "parameters", "parameters_per_sample", "epochs")
"""Columns of a record that `measured` reads."""
WORST = 1.0
"""The error of a run that diverged: it classifies nothing, and no error is larger."""
ON_VALIDATION = ("validation_error", "validation_gap")


def mean(rows: Sequence[Mapping[str, Any]], name: str) -> float:
    """The mean of an objective over the records of one suggestion's seeds."""
    return sum(measured(row, name) for row in rows) / len(rows)


def measured(row: Mapping[str, Any], name: str) -> float:
    """One record's number. A run that diverged has the error (and the gap) `WORST`."""
    if row["status"] == "diverged" and name in (*ON_VALIDATION, "train_error"):
        return WORST
    if name == "validation_gap":
        return float(row["validation_error"] - row["train_error"])
    return float(row[name])
