"""What is copied to MLflow: of the points of some record files the outcomes that it lacks, or knows worse, with their curves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from analysis.records.fragments import MERGED, read_fragments
from analysis.records.rows import joined
from analysis.records.schema import FINAL
from analysis.records.store import open_store
from study.records.earlier_rows import EarlierRows, in_merged
from study.records.tracking import Standing, StudyRuns, Writer, finished_runs
from study.records.tracking.finished_runs import milliseconds

if TYPE_CHECKING:
    from mlflow import MlflowClient

_OUTCOME = ["key", "status", "finished"]
_FILE = "file"
"""A column added to rows: the file that they come from."""


@dataclass
class Connection:
    """What is known of the server while it answers."""

    client: MlflowClient
    experiment: str
    writer: Writer
    runs: StudyRuns
    standing: dict[str, Standing]
    drawn: int | None

    @property
    def runs_that_stand(self) -> int:
        """How many points have a run."""
        return sum(not run.deleted for run in self.standing.values())

    def lacks(self, row: Mapping[str, Any]) -> bool:
        """Whether the outcome of a point is not the one that stands: as for any reader, the latest final one does."""
        run = self.standing.get(row["key"])
        if run is None or run.deleted or run.parent != self.runs.parent:
            return True
        return (row["status"] in FINAL, milliseconds(row["finished"])) > (run.final, run.end)

    def write(self, records: pa.Table, curves: pa.Table | None) -> None:
        """Write the runs of these records, each key once, in the place of those that stand."""
        runs = list(finished_runs(records, curves, self.runs, self.drawn))
        replaced = {
            run.key: self.standing[run.key].run_id for run in runs if run.key in self.standing and not self.standing[run.key].deleted
        }
        for run, identifier in zip(runs, self.writer.write(runs, replaced), strict=True):
            stood = self.standing.get(run.key)
            if stood and stood.run_id == identifier and stood.parent != self.runs.parent:  # it was written so, and moved since
                self.client.set_tag(identifier, "mlflow.parentRunId", self.runs.parent)
            self.standing[run.key] = Standing(identifier, run.status, run.end, deleted=False, parent=self.runs.parent)


class Copying:
    """Copies the outcomes of one study's record files.

    Args:
        root: ``STORAGE/STUDY``.
    """

    def __init__(self, root: str) -> None:
        self._root = root
        self._earlier = EarlierRows(root)

    def copied(self, connection: Connection, paths: Sequence[str]) -> Iterator[int]:
        """Those points of some record files into MLflow that it lacks, or knows worse; yields how many records were looked at."""
        tables = {}
        for path in paths:
            with suppress(FileNotFoundError):  # merged since they were listed: then the next listing has the merged file
                tables[path] = self._wanted(connection, path)
        records: list[pa.Table] = []
        curves: list[pa.Table] = []
        for path, table in self._outcomes(connection, tables):
            for start in range(0, table.num_rows, connection.writer.batch):
                some = table.slice(start, connection.writer.batch)
                records.append(some)
                curves += self._curves_beside(path, some["key"])
                if sum(part.num_rows for part in records) >= connection.writer.batch:
                    yield _written(connection, records, curves)
                    records, curves = [], []
        if records:
            yield _written(connection, records, curves)

    def _wanted(self, connection: Connection, path: str) -> pa.Table:
        """The rows of those points of a file that MLflow lacks. Of a merged file, most of which it has, first the outcomes are read.

        Raises:
            FileNotFoundError: the file has gone.
        """
        table = read_fragments(self._root, [path], _OUTCOME if in_merged(path) else None)
        lacking = {row["key"] for row in table.select(_OUTCOME).to_pylist() if connection.lacks(row)}
        if in_merged(path) and lacking:
            table = read_fragments(self._root, [path])
        self._earlier.saw(path, table["key"].to_pylist())
        return table.filter(pc.is_in(table["key"], pa.array(lacking, pa.string())))

    def _outcomes(self, connection: Connection, tables: Mapping[str, pa.Table]) -> Iterator[tuple[str, pa.Table]]:
        """The outcomes that MLflow lacks, of the points of some files, one row a key, by the file that has their curves.

        A point that has come again has the measures of all its rows, as for any reader.
        """
        again = {key for table in tables.values() for key in table["key"].to_pylist() if key in connection.standing}
        rows = [*tables.items(), *(self._earlier.of(again, tables.keys()) if again else ())]
        parts = [table.append_column(_FILE, pa.repeat(path, table.num_rows)) for path, table in rows if table.num_rows]
        if parts:
            one = joined(pa.concat_tables(parts, promote_options="default"))
            one = one.filter(pa.array([connection.lacks(row) for row in one.select(_OUTCOME).to_pylist()], pa.bool_()))
            for path in pc.unique(one[_FILE]).to_pylist():
                yield path, one.filter(pc.equal(one[_FILE], path)).drop_columns(_FILE)

    def _curves_beside(self, path: str, keys: pa.ChunkedArray) -> list[pa.Table]:
        """The curves of some records of a file. Of a merged file, which lies in the order of keys, little else is read."""
        filesystem, _ = open_store(self._root)
        folder, _, name = path.rpartition("/records/")
        ends = pc.min_max(keys)
        between = (pc.field("key") >= ends["min"]) & (pc.field("key") <= ends["max"])
        for place in (name, MERGED):  # its curves may be merged already, or there may be none: all its points failed
            with suppress(FileNotFoundError):
                table = pyarrow.parquet.read_table(f"{folder}/curves/{place}", filesystem=filesystem, partitioning=None, filters=between)
                return [table.filter(pc.is_in(table["key"], keys.combine_chunks()))]
        return []


def _written(connection: Connection, records: Sequence[pa.Table], curves: Sequence[pa.Table]) -> int:
    """Write a batch; returns how many points it has."""
    rows = pa.concat_tables(records, promote_options="default")
    connection.write(rows, pa.concat_tables(curves, promote_options="default") if curves else None)
    return int(rows.num_rows)
