"""The scaling laws of a study as a table of the report."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from analysis.errors import AnalysisError
from analysis.scaling.forecasts import forecast_table
from analysis.scaling.studies import lines_of, plain, scaling_laws, sizes_that_vary

_MOST_LINES = 24
"""A study of more lines is no scaling study, and its laws would take long."""
_RESAMPLES = 200


def scaling_rows(table: pa.Table) -> tuple[list[str], list[list[Any]]] | None:
    """The head and the rows of a table of laws and of what they forecast at ten times each size; None where no line has a law."""
    try:
        runs, lines = lines_of(table, sizes_that_vary(table))
        if runs.group_by(lines).aggregate([]).num_rows > _MOST_LINES:
            return None
        laws = [law for law in scaling_laws(table, resamples=_RESAMPLES) if law.scaling.law is not None]
        forecasts = [forecast_table([law]).to_pylist() for law in laws]
    except AnalysisError:
        return None
    rows = []
    for law, some in zip(laws, forecasts, strict=True):
        for row in some:
            numbers = [row[f"{law.value}{end}"] for end in ("", ".low", ".high")]
            rows.append(
                [
                    law.label,
                    law.scaling.sentence(plain(law.value), [plain(size) for size in law.sizes]),
                    row["at"],
                    *numbers,
                    row["note"] or "",
                ]
            )
    return (["line", "law", "at", "forecast", "95 % from", "to", ""], rows) if rows else None
