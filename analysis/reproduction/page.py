"""Measured beside published as a page in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from analysis.reproduction.checks import HEADS, CheckedClaim
from analysis.reproduction.claims import Claims
from analysis.statistics.selection import outcomes


def study_page(title: str, claims: Claims, checked: Sequence[CheckedClaim], records: pa.Table) -> str:
    """The page of one study: its source, the table, on what and when it was measured, where we differ, what the paper leaves open."""
    lines = [f"# {title}", "", f"Published: {claims.source}. Measured: mean ± 95 % interval (Student) over seeds.", ""]
    lines += [_provenance(records), ""]
    lines += ["| " + " | ".join(HEADS) + " |", "|" + "---|" * len(HEADS)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in one.cells()) + " |" for one in checked]
    differs, ours = "What differs from the paper's protocol:", "What the paper leaves open, and we chose:"
    for heading, choices in ((differs, claims.differs), (ours, claims.ours)):
        if choices:
            lines += ["", heading, "", *(f"- {choice}" for choice in choices)]
    return "\n".join(lines) + "\n"


def combined_page(pages: Sequence[str], head: str) -> str:
    """The pages of several studies as chapters under one head; the page of a single study as it is."""
    if len(pages) == 1:
        return pages[0]
    return "\n".join([head, *(page.replace("# ", "## ", 1) for page in pages)])


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
