"""Export of a table to a file that other tools read."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from analysis.errors import AnalysisError
from analysis.whole_files import whole_file


def export(table: pa.Table, path: str | Path) -> Path:
    """Write a table as Parquet or CSV, by the suffix of the path. The folder is made, and the file appears whole or not at all.

    Raises:
        AnalysisError: the suffix is neither ``.parquet`` nor ``.csv``.
    """
    path = Path(path)
    if path.suffix not in (".parquet", ".csv"):
        raise AnalysisError(f"{path.name!r} ends in neither .parquet nor .csv, the formats that can be exported")
    with whole_file(path) as unfinished:
        if path.suffix == ".parquet":
            import pyarrow.parquet

            pyarrow.parquet.write_table(table, unfinished, compression="zstd")
        else:
            import pyarrow.csv

            pyarrow.csv.write_csv(table, unfinished)
    return path
