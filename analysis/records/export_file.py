"""Records or curves as a file for other tools."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from analysis.errors import AnalysisError


def export(table: pa.Table, path: str | Path) -> Path:
    """Write a table as Parquet or CSV, by the suffix of the path; its folder is made. The file appears whole or not at all.

    Raises:
        AnalysisError: the suffix is neither ``.parquet`` nor ``.csv``.
    """
    path = Path(path)
    if path.suffix not in (".parquet", ".csv"):
        raise AnalysisError(f"{path.name!r} ends in neither .parquet nor .csv, the formats that can be exported")
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.tmp")
    try:
        if path.suffix == ".parquet":
            import pyarrow.parquet

            pyarrow.parquet.write_table(table, unfinished, compression="zstd")
        else:
            import pyarrow.csv

            pyarrow.csv.write_csv(table, unfinished)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path
