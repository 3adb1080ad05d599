"""What a study found, as MLflow's front page says it: metrics of the study's run, and a description in Markdown."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

import analysis
from analysis.statistics.tasks import gap_among
from study.records.tracking.finished_runs import Series, point_name

FITTED, UNFITTED, THRESHOLD = "gap", "gap without fit", "threshold"
"""Before the slash in a metric's name: MLflow's pages have a section for each."""
MOST_LINES = 64
"""Lines of a study that its run has metrics of: MLflow's pages draw a chart for each."""

MOST_SAID = 6
"""Lines whose gap the first sentence of the description says, which is all that a collapsed one shows."""


@dataclass(frozen=True)
class Overview:
    """What the study's run says of its points.

    Attributes:
        metrics: ``gap/LINE`` over capacity, with the number of parameters as step and so the largest capacity as the latest value, of
            seeds that reached their train target; ``gap without fit/LINE`` of those that did not; ``threshold/LINE``, the interpolation
            threshold, in parameters; ``points/STATUS``.
        description: in Markdown.
        regression: whether the points' errors are those of regression.
    """

    metrics: Mapping[str, Series] = field(default_factory=dict)
    description: str = ""
    regression: bool = False

    def curves(self) -> dict[str, list[str]]:
        """The metrics over capacity, by the title of the chart that they are drawn in."""
        titles = {FITTED: "Generalization gap against parameters", UNFITTED: "Gap of seeds that did not reach their train target"}
        found = {title: [name for name in self.metrics if name.startswith(f"{group}/")] for group, title in titles.items()}
        return {title: names for title, names in found.items() if names}


def overview_of(study: str, records: pa.Table, spec: str = "") -> Overview:
    """The overview of a study's records.

    Args:
        study: its name.
        records: those that count.
        spec: the YAML that declares it: the description begins with the comment at its head.
    """
    counts = {row["values"]: row["counts"] for row in pc.value_counts(records["status"]).to_pylist()}
    metrics: dict[str, Series] = {f"points/{status}": ([0], [float(count)]) for status, count in sorted(counts.items())}
    said = ", ".join(f"{count:,} {status}" for status, count in sorted(counts.items()))
    parts = [_head(spec), f"**{records.num_rows:,} points** of `{study}`: {said}."]
    try:
        cells = analysis.gap_table(records, capacity="parameters")
        thresholds = analysis.threshold_table(records, capacity="parameters")
    except analysis.NothingToShow:
        return Overview(metrics, "\n\n".join(part for part in parts if part))
    by = cells.column_names[: cells.column_names.index("parameters")]
    gap = gap_among(cells.column_names)
    rows = [row for row in cells.to_pylist() if row[gap] is not None]
    reached = {_line(row, by): row for row in thresholds.to_pylist()}
    lines = dict.fromkeys(_line(row, by) for row in rows)
    if len(lines) <= MOST_LINES:
        metrics |= _over_capacity(rows, by, gap)
        metrics |= {f"{THRESHOLD}/{line}": ([0], [row["threshold"]]) for line, row in reached.items() if row["threshold"] is not None}
    last = _at_largest_capacity(rows, by)
    shown = [f"{line}: {row[gap]:.3f}" for line, several in last.items() for row in several if row["interpolated"]]
    parts[1] += f" Gap at the largest capacity: {', '.join(shown[:MOST_SAID])}{', ...' if len(shown) > MOST_SAID else ''}." if shown else ""
    parts.append(_table({line: last[line] for line in list(lines)[:MOST_LINES]}, reached, gap))
    return Overview(metrics, "\n\n".join(part for part in parts if part), regression=gap != "generalization_gap")


def _over_capacity(rows: Sequence[Mapping[str, Any]], by: Sequence[str], gap: str) -> dict[str, Series]:
    found: dict[str, tuple[list[int], list[float]]] = {}
    for row in sorted(rows, key=lambda row: row["parameters"]):
        steps, values = found.setdefault(f"{FITTED if row['interpolated'] else UNFITTED}/{_line(row, by)}", ([], []))
        steps.append(row["parameters"])
        values.append(row[gap])
    return dict(found)


def _at_largest_capacity(rows: Sequence[Mapping[str, Any]], by: Sequence[str]) -> dict[str, list[Mapping[str, Any]]]:
    """The cells of most parameters, by line: of seeds that reached their train target, and of those that did not."""
    last: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        several = last.setdefault(_line(row, by), [])
        if several and several[0]["parameters"] < row["parameters"]:
            several.clear()
        if not several or several[0]["parameters"] == row["parameters"]:
            several.append(row)
    return last


def _table(last: Mapping[str, Sequence[Mapping[str, Any]]], reached: Mapping[str, Mapping[str, Any]], gap: str) -> str:
    """The gap of each line at its largest capacity."""
    error = "error" if gap == "generalization_gap" else "squared error / variance"
    text = f"Generalization gap (test {error} - train {error}) at the largest capacity, mean over seeds and 95 % interval:\n\n"
    text += "| line | parameters | gap | seeds | interpolation threshold |\n|---|---|---|---|---|\n"
    for line, rows in last.items():
        for row in rows:
            note = "" if row["interpolated"] else " (train target not reached)"
            text += f"| {line} | {row['parameters']:,} | {_with_interval(row, gap)}{note} | {row['seeds']} | "
            text += f"{_threshold(reached.get(line))} |\n"
    return text


def _threshold(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return ""
    if row["threshold"] is None:
        return "below every capacity" if row["always"] else "above every capacity"
    return f"{row['threshold']:,.0f} parameters"


def _with_interval(row: Mapping[str, Any], gap: str) -> str:
    low, high = row[f"{gap}.low"], row[f"{gap}.high"]
    mean = f"{row[gap]:.3f}"
    return mean if low is None or high is None else f"{mean} [{low:.3f}, {high:.3f}]"


def _line(row: Mapping[str, Any], by: Sequence[str]) -> str:
    """The name of a line, of the characters that names of metrics may have."""
    named = point_name(dict.fromkeys(["key"], "all") | dict(row), by).replace("p/n", "p per n")
    return re.sub(r"\s+", " ", re.sub(r"[^\w.\-: ]", " ", named)).strip()


def _head(spec: str) -> str:
    """The comment that a spec begins with."""
    lines = []
    for line in spec.splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").strip())
    return "\n".join(lines).strip()
