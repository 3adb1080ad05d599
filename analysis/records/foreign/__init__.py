"""Anyone's experiment as records: runs that gaplab did not write, read from MLflow, W&B exports and Tune's result folders.

`open_foreign` reads the runs, `propose` writes a mapping for them as YAML to edit, `read_mapping` reads it back, and
`foreign_records` and `foreign_curves` are what the runs say by it, in the columns of `analysis.records.schema`.
"""

from analysis.records.foreign.curves import foreign_curves
from analysis.records.foreign.mapping import ForeignMapping, read_mapping
from analysis.records.foreign.proposal import propose
from analysis.records.foreign.records import foreign_records
from analysis.records.foreign.runs import ForeignRuns
from analysis.records.foreign.sources import open_foreign

__all__ = ["ForeignMapping", "ForeignRuns", "foreign_curves", "foreign_records", "open_foreign", "propose", "read_mapping"]
