"""The comparison of measured with published as a page in Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from analysis.reproduction.checks import HEADS, CheckedClaim, reproduced
from analysis.reproduction.claims import Claims
from analysis.statistics.selection import outcomes

_OUTCOMES = ("holds", "does not hold", "undecided", "not run")


def study_page(title: str, claims: Claims, checked: Sequence[CheckedClaim], records: pa.Table, declared: int | None = None) -> str:
    """The page of one study: its source, the table, on what and when it was measured, where we differ, what the paper leaves open.

    Args:
        declared: how many points the study declares; None if nobody says.
    """
    lines = [f"# {title}", "", f"Published: {claims.source}. Measured: mean over seeds, and its 95 % interval where there are several.", ""]
    lines += [_provenance(records, declared), ""]
    lines += ["| " + " | ".join(HEADS) + " |", "|" + "---|" * len(HEADS)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in one.cells()) + " |" for one in checked]
    whys = [f"{one.name}: {one.why}" for one in checked if one.why]
    why, differs, ours = "Why:", "What differs from the paper's protocol:", "What the paper leaves open, and we chose:"
    for heading, choices in ((why, whys), (differs, claims.differs), (ours, claims.ours)):
        if choices:
            lines += ["", heading, "", *(f"- {choice}" for choice in choices)]
    return "\n".join(lines) + "\n"


def combined_page(pages: Sequence[str], head: str, checked: Sequence[CheckedClaim] = ()) -> str:
    """The pages of several studies as chapters under one head, which counts the verdicts; the page of a single study as it is."""
    if len(pages) == 1:
        return pages[0]
    return "\n".join([head, _counts(checked), *(page.replace("# ", "## ", 1) for page in pages)])


def _counts(checked: Sequence[CheckedClaim]) -> str:
    """What came of all claims, by protocol; a stand-in never counts as reproduced."""
    same = reproduced(checked)
    orders = Counter(one.verdict for one in checked if one.protocol == "stand-in")
    controls = Counter(one.verdict for one in checked if one.protocol == "control")

    def named(counts: Counter[str], names: Sequence[str]) -> str:
        return ", ".join(f"{counts[name]} {name}" for name in names)

    return "\n".join(
        [
            f"- Measured by the published protocol: {named(same, _OUTCOMES)}.",
            f"- On stand-ins, which never count as reproduced: {named(orders, (*_OUTCOMES, 'not compared'))}.",
            f"- Controls, which cannot fail unless gaplab is broken: {named(controls, ('passes', 'fails', 'not run'))}.",
            "",
        ]
    )


def _provenance(records: pa.Table, declared: int | None) -> str:
    """A sentence on how many points were run, how they ended, and on what, when and with what the records were made."""
    if not records.num_rows:
        return "No point of it was run."
    first, last = (pc.min_max(records["finished"]).as_py()[end].date().isoformat() for end in ("min", "max"))
    parts = [
        f"{records.num_rows:,} points{'' if declared is None else f' of {declared:,} declared'} ({outcomes(records)})",
        ", ".join(_each(records, "device")),
        first if first == last else f"{first} to {last}",
        f"{(pc.sum(records['seconds']).as_py() or 0.0) / 60:,.1f} minutes of training in all",
        f"torch {', '.join(_each(records, 'torch_version'))}",
        f"commit {', '.join(commit[:9] for commit in _each(records, 'git_commit', 'unknown'))}",
    ]
    return "; ".join(part for part in parts if part) + "."


def _each(records: pa.Table, column: str, missing: str | None = None) -> list[str]:
    """The distinct values of a column; null is replaced by the word `missing`, if there is one."""
    values = {missing if value is None else value for value in records[column].unique().to_pylist()}
    return sorted(value for value in values if value is not None)
