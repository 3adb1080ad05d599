"""Measured beside published: one row a number or an order, with its interval and the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from operator import and_
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from analysis.errors import unknown_column
from analysis.statistics.aggregate import outcomes, over_seeds


@dataclass(frozen=True)
class Comparison:
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


def compare_number(
    records: pa.Table, name: str, where: Mapping[str, Any], column: str, value: float, tolerance: float | None = None
) -> Comparison:
    """The mean of `column` over completed points that agree with `where`, beside the published `value`.

    Without a tolerance it is four standard errors of that mean: 1 in 10,000 true values lie outside, with many seeds.
    """
    chosen = _chosen(records, where, column)
    shown = f"{value:.4g}"
    if not chosen.num_rows:
        return Comparison(name, shown, "", "", "± 4 s.e." if tolerance is None else f"± {tolerance:g}", 0, "not run")
    mean, half = _mean(chosen, column)
    interval = "" if half is None else f" ± {half:.4f}"
    if tolerance is None:
        tolerance = 4 * float(np.std(chosen[column].to_numpy(), ddof=1)) / chosen.num_rows**0.5 if chosen.num_rows > 1 else 0.0
    verdict = "inside" if abs(mean - value) <= tolerance else "outside"
    return Comparison(name, shown, _decimals(mean) + interval, _decimals(mean - value, "+"), f"± {tolerance:.4g}", chosen.num_rows, verdict)


def compare_order(records: pa.Table, name: str, column: str, rising: Sequence[Mapping[str, Any]]) -> Comparison:
    """Whether the mean of `column` rises from each group to the next."""
    groups = [_chosen(records, where, column) for where in rising]
    labels = [", ".join(str(value) for value in where.values()) for where in rising]
    published = " < ".join(labels)
    if not all(group.num_rows for group in groups):
        missing = [label for label, group in zip(labels, groups, strict=True) if not group.num_rows]
        return Comparison(name, published, f"no point with {column} for {', '.join(missing)}", "", "", 0, "not run")
    means = [_mean(group, column)[0] for group in groups]
    found = ", ".join(f"{label} {mean:.4g}" for label, mean in zip(labels, means, strict=True))
    holds = all(first < second for first, second in pairwise(means))
    return Comparison(name, published, found, "", "", min(group.num_rows for group in groups), "holds" if holds else "does not hold")


def _decimals(value: float, sign: str = "") -> str:
    """Four decimals, or two digits of what they would show as 0."""
    return f"{value:{sign}.2g}" if 1e-15 < abs(value) < 1e-4 else f"{value:{sign}.4f}"


def _provenance(records: pa.Table) -> str:
    """On what, when and with what the records were made, and what became of points that have no result."""
    if not records.num_rows:
        return "No point of it was run."
    first, last = (pc.min_max(records["finished"]).as_py()[end].date().isoformat() for end in ("min", "max"))
    parts = [
        f"{records.num_rows:,} points ({outcomes(records)})",
        ", ".join(_each(records, "device")),
        first if first == last else f"{first} to {last}",
        f"{(pc.sum(records['seconds']).as_py() or 0.0) / 60:,.1f} minutes of training in all",
        f"torch {', '.join(_each(records, 'torch_version'))}",
        f"commit {', '.join(commit[:9] for commit in _each(records, 'git_commit', 'unknown'))}",
    ]
    return "; ".join(part for part in parts if part) + "."


def _each(records: pa.Table, column: str, missing: str | None = None) -> list[str]:
    """The distinct values; for null the word `missing`, if there is one."""
    values = {missing if value is None else value for value in records[column].unique().to_pylist()}
    return sorted(value for value in values if value is not None)


def _chosen(records: pa.Table, where: Mapping[str, Any], column: str) -> pa.Table:
    if column.startswith("measure.") and column not in records.column_names:
        return records.slice(0, 0)  # nothing that was run has it
    for name in (column, *where):
        if name not in records.column_names:
            raise unknown_column(name, records.column_names)
    parts = [pc.field("status") == "completed", pc.field(column).is_valid()]
    parts += [pc.field(name).is_null() if value is None else pc.field(name) == value for name, value in where.items()]
    return records.filter(reduce(and_, parts))


def _mean(chosen: pa.Table, column: str) -> tuple[float, float | None]:
    """Mean, and half the width of its interval if there are two values or more."""
    row = over_seeds(chosen, [], [column]).to_pylist()[0]
    high = row[f"{column}.high"]
    mean = float(np.asarray(row[column]))
    return mean, None if high is None else high - mean


def as_markdown(
    title: str, comparisons: Sequence[Comparison], source: str, records: pa.Table, ours: Sequence[str] = (), differs: Sequence[str] = ()
) -> str:
    """The comparison as a page: its source, the table, on what and when it was measured, what the paper leaves open, where we differ."""
    heads = ("", "published", "measured", "difference", "tolerance", "seeds", "verdict")
    lines = [f"# {title}", "", f"Published: {source}. Measured: mean ± 95 % interval (Student) over seeds.", ""]
    lines += [_provenance(records), ""]
    lines += ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for one in comparisons:
        cells = (one.name, one.published, one.measured, one.difference, one.tolerance, str(one.seeds or ""), one.verdict)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    for words, choices in (("What differs from the paper's protocol:", differs), ("What the paper leaves open, and we chose:", ours)):
        if choices:
            lines += ["", words, "", *(f"- {choice}" for choice in choices)]
    return "\n".join(lines) + "\n"
