"""Writing finished points into MLflow: what a run says, and how many runs reach a tracking store at once.

`finished_runs` turns records and curves into plain descriptions. `open_writer` chooses who writes them: `BulkWriter`, straight into
an SQLite or PostgreSQL database of the schema that the installed MLflow has, or `ClientWriter`, by MLflow's public client. Both
write the same runs, and neither writes one twice.
"""

from study.records.tracking.bulk import BulkWriter
from study.records.tracking.client import ClientWriter
from study.records.tracking.finished_runs import FinishedRun, StudyRuns, common_and_varying, finished_runs, point_name
from study.records.tracking.opening import Writer, make_database, open_writer
from study.records.tracking.standing import Standing

__all__ = [
    "BulkWriter",
    "ClientWriter",
    "FinishedRun",
    "Standing",
    "StudyRuns",
    "Writer",
    "common_and_varying",
    "finished_runs",
    "make_database",
    "open_writer",
    "point_name",
]
