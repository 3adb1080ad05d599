"""The tables of the report, and its facts in a few words: what ran, what it gave, what failed, and with what it was made."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from analysis.errors import NothingToShow
from analysis.figures.drawing.lines import label_of, title_of
from analysis.report.measures import ranked_rows
from analysis.report.scaling import scaling_rows
from analysis.report.search import SearchedCell, ablation_rows
from analysis.statistics.aggregate import ERRORS, gap_table
from analysis.statistics.interpolation import line_thresholds
from analysis.statistics.moments import moment_of
from analysis.statistics.selection import SETTINGS, codes, lines_over, outcomes, varying_fields
from analysis.statistics.tasks import gap_among, named
from analysis.words import words

MOST_ROWS = 300
"""The most rows of a table."""
MOST_DATA = 20_000
"""The most records that the page carries for download."""
_ENDS = ("95 % from", "to")
_ORIGIN = ("gaplab_version", "git_commit", "torch_version", "python_version", "device", "engine", "host", "bits", "key_version")


def facts(table: pa.Table) -> list[tuple[str, list[str]]]:
    """The study in a few facts, (name, what there is to say of it): what ran, what varied, how long it took."""
    facts = [("Points", [f"{table.num_rows:,} ({outcomes(table)})"])]
    varied = [f"{words(name).replace('$', '')}: {_values(table[name])}" for name in varying_fields(table)]
    if varied:
        facts.append(("What varied", varied))
    if moment_of(table):
        facts.append(("Errors", [f"taken {moment_of(table)}"]))
    facts.append(("Seeds", [f"{pc.count_distinct(table['seed']).as_py():,}"]))
    seconds = pc.sum(table["seconds"]).as_py()
    if seconds:
        facts.append(("Training time", [f"{seconds / 3600:,.1f} hours" if seconds >= 7200 else f"{seconds / 60:,.1f} minutes"]))
    ends = pc.min_max(table["finished"]).as_py()
    if ends["max"]:
        first, last = (f"{ends[end]:%Y-%m-%d %H:%M}" for end in ("min", "max"))
        facts.append(("Finished", [f"{first} UTC" if first == last else f"{first} to {last} UTC"]))
    return facts


def origin(table: pa.Table) -> list[tuple[str, str]]:
    """The provenance of the results: every value of each of its columns."""
    origin = []
    for name in _ORIGIN:
        values = sorted(str(value) for value in table[name].unique().drop_null().to_pylist())
        if values:
            origin.append((name.replace("_", " "), ", ".join(values[:8]) + (" ..." if len(values) > 8 else "")))
    return origin


def gap_part(table: pa.Table) -> dict[str, Any] | None:
    """The means behind the main figure, or None without a completed record."""
    try:
        cells = gap_table(table)
    except NothingToShow:
        return None
    by = cells.column_names[: cells.column_names.index("parameters_per_sample")]
    regression = gap_among(cells.column_names) != ERRORS[0]
    gap, train, test = named(ERRORS, regression=regression)
    rows = []
    for cell in cells.slice(0, MOST_ROWS).to_pylist():
        fit = {True: "yes", False: "no", None: "unknown"}[cell["interpolated"]]
        where = [label_of(by, [cell[name] for name in by]), cell["parameters_per_sample"], fit]
        rows.append([*where, *(cell[f"{gap}{end}"] for end in (".seeds", "", ".low", ".high")), cell[train], cell[test]])
    head = [title_of(by, table), "p/n", "fit", "seeds", "gap", "95 % from", "to", words(train), words(test)]
    how = "by Student's t" if regression else "in [-1, 1], by Student's t on the logit scale"
    caption = (
        f"Means over seeds with 95 % intervals{',' if not how.startswith('in') else ''} {how}. "
        "Seeds that reached their train target and others are two rows."
    )
    caption += f" The first {MOST_ROWS:,} of {cells.num_rows:,} rows." if cells.num_rows > MOST_ROWS else ""
    return _part("Gap by capacity and corruption", caption, head, rows)


def threshold_part(table: pa.Table) -> dict[str, Any] | None:
    """The interpolation threshold of each line, or None without a completed record."""
    try:
        runs, by = lines_over(table, "parameters_per_sample")
    except NothingToShow:
        return None
    line = codes(runs, by)
    located = line_thresholds(runs.filter(pa.array(line < MOST_ROWS)), by, "parameters_per_sample")  # of 100,000 it takes minutes
    numbers = ("threshold", "threshold.low", "threshold.high", "seeds", "never", "always", "mixed")
    rows = [[label_of(by, [row[name] for name in by]), *(row[name] for name in numbers)] for row in located.to_pylist()]
    head = [title_of(by, table), "p/n", "95 % from", "to", "seeds", "never", "always", "mixed"]
    caption = (
        "Parameters per sample from which on runs reach their train target: the geometric mean over seeds, located between the capacities "
        "that were run; the grid's error is in the interval. Never, always: seeds that no capacity, or that every capacity, brought there. "
        "Mixed: seeds with a capacity that did below one that did not."
    )
    of = int(line.max()) + 1
    return _part("Interpolation threshold", caption + (f" {MOST_ROWS:,} of {of:,} lines." if of > MOST_ROWS else ""), head, rows)


def scaling_part(table: pa.Table) -> dict[str, Any] | None:
    """The scaling laws and their forecasts, or None without a law."""
    found = scaling_rows(table)
    caption = (
        "Test error over parameters, training samples or both, fitted on one side of the interpolation threshold at a time; the form is "
        "chosen by the held-out largest decade. Prediction intervals for one new run."
    )
    return _part("Scaling laws", caption, found[0], found[1][:MOST_ROWS]) if found else None


def ranked_part(table: pa.Table) -> dict[str, Any] | None:
    """The measures by how well they predict the gap, or None where few were computed.

    Raises:
        TooManyRuns: of more runs than are compared pair by pair.
    """
    caption = (
        "By granulated psi over the runs that reached their train target; the oracle is the gap itself, random is noise. Sign-error: mean "
        "over environments whose gaps differ by more than the test set's sampling error. Ends of 95 % bootstrap intervals."
    )
    rows = ranked_rows(table)
    head = ["measure", "runs", "tau", *_ENDS, "psi", *_ENDS, "sign-error", *_ENDS, "environments"]
    return _part("Which measure predicts the gap?", caption, head, rows) if rows else None


def ablation_part(source: str) -> dict[str, Any] | None:
    """The comparison at the end of a search, or None for a study without one."""
    rows = ablation_rows(source)
    caption = (
        "On seeds that the search never saw, of which some may not have reached the train target (fit says how many did); differences to "
        "the tuned point are paired over seeds, p after Holm's correction."
    )
    head = ["cell", "variant", "seeds", "fit", "test error", *_ENDS, "more than tuned", *_ENDS, "p"]
    return _part("Tuned, untuned, and without each regularizer", caption, head, rows) if rows else None


def best_part(cell: SearchedCell) -> dict[str, Any]:
    """The best suggestions of one cell of a search."""
    return _part("", "", ["trial", *cell.objectives, "suggestion"], cell.best)


def problems_part(table: pa.Table) -> dict[str, Any] | None:
    """Points that are not completed, by status and reason, with a few keys."""
    others = table.filter(pc.not_equal(table["status"], "completed"))
    if not others.num_rows:
        return None
    groups = others.group_by(["status", "reason"]).aggregate([("key", "list"), ("key", "count")]).sort_by([("key_count", "descending")])
    rows = []
    for row in groups.to_pylist()[:MOST_ROWS]:
        rows.append([row["status"], row["reason"] or "no reason given", row["key_count"], ", ".join(sorted(row["key_list"])[:3])])
    return _part("What did not complete", "", ["status", "reason", "points", "keys (at most 3)"], rows)


def _part(title: str, caption: str, head: Sequence[str], rows: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """A table of the page; each cell has its text, and the number by which it is sorted if it is one."""
    cells = [[{"text": _text(one), "sort": one if type(one) in (int, float) else None} for one in row] for row in rows]
    return {"title": title, "caption": caption, "head": [name.replace("$", "") for name in head], "rows": cells}


def as_csv(table: pa.Table) -> str | None:
    """The records as CSV, without the columns that are empty; None if there are too many to carry."""
    if table.num_rows > MOST_DATA:
        return None
    kept = [name for name in table.column_names if table[name].null_count < table.num_rows or name in SETTINGS]
    buffer = io.BytesIO()
    pyarrow.csv.write_csv(table.select(kept), buffer)
    return buffer.getvalue().decode()


def _values(column: pa.ChunkedArray) -> str:
    values = column.unique().drop_null().to_pylist()
    if len(values) <= 6:
        return ", ".join(_text(value) for value in sorted(values))
    return f"{len(values):,} values from {_text(min(values))} to {_text(max(values))}"


def _text(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else f"{value:,}" if type(value) is int else str(value)
