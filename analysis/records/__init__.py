"""Records of a study: the one room that knows what is stored and how it is read.

`schema` has every column. `store` opens the folder or bucket in which results lie. `soundness` defines what is recorded, with the help
of `checksums`; `fragments` says which points are.
`reader` is the front door, `analysis.load`: it reads Parquet (the room `parquet`) or MLflow (`mlflow`), or, by a mapping, what others
wrote (`foreign`); `searches` knows the trials of a search. `rows` keeps one row a key; `export_file` writes
tables for other tools.
"""

from typing import TYPE_CHECKING

from analysis.lazy import lazy_exports

if TYPE_CHECKING:
    from analysis.records.export_file import export
    from analysis.records.fragments import Recorded, recorded, statuses
    from analysis.records.parquet.samples import load_samples
    from analysis.records.reader import load, load_curves
    from analysis.records.schema import CURVES, FINAL, MEASURE, OUTCOMES, RECORDS, SAMPLES, STATUSES
    from analysis.records.store import open_store, study_root

__all__ = [
    "CURVES",
    "FINAL",
    "MEASURE",
    "OUTCOMES",
    "RECORDS",
    "SAMPLES",
    "STATUSES",
    "Recorded",
    "export",
    "load",
    "load_curves",
    "load_samples",
    "open_store",
    "recorded",
    "statuses",
    "study_root",
]

__getattr__, __dir__ = lazy_exports(__name__)
