"""Each published claim checked against the records of a study, with its interval and a verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from operator import and_
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from analysis.errors import NothingToShow, unknown_column
from analysis.records.reader import load
from analysis.records.schema import MEASURE, RECORDS
from analysis.reproduction.claims import Claims, NumberClaim, OrderClaim
from analysis.statistics.aggregate import seed_means

HEADS = ("", "published", "measured", "difference", "tolerance", "seeds", "verdict")
"""The headings of the cells of a checked claim."""


@dataclass(frozen=True)
class CheckedClaim:
    """One published claim and what was measured.

    Attributes:
        published: the number or order as published.
        measured: mean over seeds, its 95 % Student interval where there are several, or the order found.
        verdict: "inside", "outside" (of the stated tolerance), "holds", "does not hold" or "not run".
    """

    name: str
    published: str
    measured: str
    difference: str
    tolerance: str
    seeds: int
    verdict: str

    def cells(self) -> tuple[str, ...]:
        """The texts under `HEADS`."""
        return self.name, self.published, self.measured, self.difference, self.tolerance, str(self.seeds or ""), self.verdict


def records_of(source: str) -> pa.Table:
    """The records of a study; an empty table if there are none, for then nothing was run."""
    try:
        return load(source)
    except NothingToShow:
        return RECORDS.empty_table()


def check_claims(records: pa.Table, claims: Claims) -> list[CheckedClaim]:
    """Every published number and order, in this order."""
    return [*(check_number(records, one) for one in claims.numbers), *(check_order(records, one) for one in claims.orders)]


def check_number(records: pa.Table, claim: NumberClaim) -> CheckedClaim:
    """The mean over the completed points that a claim is about, beside the published value."""
    chosen, tolerance = _chosen(records, claim.where, claim.column), claim.tolerance
    published = f"{claim.value:.4g}"
    if not chosen.num_rows:
        return CheckedClaim(claim.name, published, "", "", "± 4 s.e." if tolerance is None else f"± {tolerance:g}", 0, "not run")
    mean, half = _mean(chosen, claim.column)
    measured = _decimals(mean) + ("" if half is None else f" ± {half:.4f}")
    if tolerance is None:
        tolerance = 4 * float(np.std(chosen[claim.column].to_numpy(), ddof=1)) / chosen.num_rows**0.5 if chosen.num_rows > 1 else 0.0
    verdict = "inside" if abs(mean - claim.value) <= tolerance else "outside"
    difference = _decimals(mean - claim.value, "+")
    return CheckedClaim(claim.name, published, measured, difference, f"± {tolerance:.4g}", chosen.num_rows, verdict)


def check_order(records: pa.Table, claim: OrderClaim) -> CheckedClaim:
    """Whether the mean rises from each group of a claim to the next."""
    groups = [_chosen(records, where, claim.column) for where in claim.rising]
    labels = [", ".join(str(value) for value in where.values()) for where in claim.rising]
    published = " < ".join(labels)
    if not all(group.num_rows for group in groups):
        missing = ", ".join(label for label, group in zip(labels, groups, strict=True) if not group.num_rows)
        return CheckedClaim(claim.name, published, f"no point with {claim.column} for {missing}", "", "", 0, "not run")
    means = [_mean(group, claim.column)[0] for group in groups]
    found = ", ".join(f"{label} {mean:.4g}" for label, mean in zip(labels, means, strict=True))
    verdict = "holds" if all(first < second for first, second in pairwise(means)) else "does not hold"
    return CheckedClaim(claim.name, published, found, "", "", min(group.num_rows for group in groups), verdict)


def _decimals(value: float, sign: str = "") -> str:
    """The value with four decimals, or with two digits where four decimals would show 0."""
    return f"{value:{sign}.2g}" if 1e-15 < abs(value) < 1e-4 else f"{value:{sign}.4f}"


def _chosen(records: pa.Table, where: Mapping[str, Any], column: str) -> pa.Table:
    if column.startswith(MEASURE) and column not in records.column_names:
        return records.slice(0, 0)  # nothing that was run has it
    for name in (column, *where):
        if name not in records.column_names:
            raise unknown_column(name, records.column_names)
    parts = [pc.field("status") == "completed", pc.field(column).is_valid()]
    parts += [pc.field(name).is_null() if value is None else pc.field(name) == value for name, value in where.items()]
    return records.filter(reduce(and_, parts))


def _mean(chosen: pa.Table, column: str) -> tuple[float, float | None]:
    """The mean, and half the width of its interval if there are two values or more."""
    row = seed_means(chosen, [], [column], interval="student").to_pylist()[0]
    high = row[f"{column}.high"]
    mean = float(np.asarray(row[column]))
    return mean, None if high is None else high - mean
