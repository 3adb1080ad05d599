"""Runs into MLflow's database itself, some hundred in one transaction: thirty times as fast as through MLflow's store.

The tables are MLflow's own models. They are internal to it, so a database is written only if its schema is that of the installed
MLflow and its tables have the columns known here; else `BulkWriter.open` says why not, and the public client writes.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from study import compat
from study.records.tracking.finished_runs import FinishedRun
from study.records.tracking.rows import COLUMNS, columns_of, insert, insert_metrics, series_of
from study.records.tracking.standing import Standing, best_and_surplus

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, Table

LOCK_SECONDS = 20
"""How long a lock is waited for: as long as MLflow waits."""
_LOCK = 0x6761706C
"""The first half of the number of a lock in PostgreSQL; the second is the experiment's."""
_RUNS_AT_ONCE = 500
"""Runs a transaction: it locks an SQLite database for half a second."""
_IDS_AT_ONCE = 500
"""Ids in one question."""


class BulkWriter:
    """Writes finished runs into the tables of an SQLite or PostgreSQL database; see `Writer`."""

    batch = _RUNS_AT_ONCE

    def __init__(self, engine: Engine, tables: Mapping[str, Table], experiment_id: str, origin: str) -> None:
        self._engine, self._tables, self._origin = engine, tables, origin
        self._experiment, self._experiment_id = int(experiment_id), experiment_id

    @classmethod
    def open(cls, tracking_uri: str, experiment_id: str, origin: str) -> BulkWriter | str:
        """A writer, or in words why the tables of this database are left to MLflow."""
        import sqlalchemy

        try:
            url = sqlalchemy.make_url(tracking_uri)
        except sqlalchemy.exc.ArgumentError:
            return "it is no database"
        kind = url.get_backend_name()
        if kind not in ("sqlite", "postgresql") or not url.database or url.database == ":memory:" or url.database.startswith("file:"):
            return "it is no SQLite file or PostgreSQL database"
        if kind == "sqlite" and not Path(url.database).exists():
            return "it is not made yet"
        tables, head = compat.mlflow_tables(COLUMNS)
        if not tables:
            return head
        engine = _engine(url)
        try:
            with engine.connect() as connection:
                revision = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
        except sqlalchemy.exc.SQLAlchemyError as error:
            return f"its schema cannot be read ({type(error).__name__})"
        if revision != head:
            return f"its schema is {revision}, that of the installed MLflow {head}"
        return cls(engine, tables, experiment_id, origin)

    def reconcile(self) -> dict[str, Standing]:
        """The standing of every point of the experiment, once runs that no reader should meet are deleted."""
        from sqlalchemy import select

        runs, tags, nested = self._tables["runs"], self._tables["tags"], self._tables["tags"].alias("nested")
        query = select(tags.c.value, runs.c.run_uuid, runs.c.status, runs.c.end_time, runs.c.lifecycle_stage, nested.c.value)
        query = query.select_from(
            runs.join(tags, (runs.c.run_uuid == tags.c.run_uuid) & (tags.c.key == "gaplab.key")).outerjoin(
                nested, (runs.c.run_uuid == nested.c.run_uuid) & (nested.c.key == "mlflow.parentRunId")
            )
        ).where(runs.c.experiment_id == self._experiment)
        with self._transaction() as connection:
            rows = connection.execute(query).all()
            best, surplus = best_and_surplus(
                (key, Standing(run_id, status, end or 0, stage == "deleted", parent or ""))
                for key, run_id, status, end, stage, parent in rows
            )
            self._mark(connection, surplus, deleted=True)
        return best

    def write(self, runs: Sequence[FinishedRun], replaced: Mapping[str, str] | None = None) -> list[str]:
        """Write these runs and delete those that they replace, by key; returns their ids. See `Writer.write`."""
        replaced = replaced or {}
        written: list[str] = []
        for start in range(0, len(runs), _RUNS_AT_ONCE):
            some = runs[start : start + _RUNS_AT_ONCE]
            ids = [run.identifier(self._experiment_id, self._origin) for run in some]
            gone = [replaced[run.key] for run in some if run.key in replaced]
            self._write_whole(dict(zip(ids, some, strict=True)), gone)
            written += ids
        return written

    def close(self) -> None:
        """Nothing stays open between two transactions."""
        self._engine.dispose()

    def _write_whole(self, runs: Mapping[str, FinishedRun], replaced: Sequence[str]) -> None:
        """All of them or none."""
        with self._transaction() as connection:
            location = self._artifact_location(connection)
            there = self._there(connection, runs)
            new = {identifier: run for identifier, run in runs.items() if identifier not in there}
            self._mark(connection, [identifier for identifier in replaced if identifier not in runs], deleted=True)
            self._mark(connection, there, deleted=False)
            series = list(series_of(new))
            for name, columns in columns_of(new, series, self._experiment, location).items():
                insert(connection, self._tables[name], columns)
            insert_metrics(connection, self._tables["metrics"], series)

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        """One such transaction at a time: what it finds missing nobody else writes."""
        with self._engine.begin() as connection:
            if connection.dialect.name == "sqlite":
                # SQLite refuses, instead of waiting, a transaction that wants to write only after it has read
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            else:
                connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'")
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK}, {self._experiment})")
            yield connection

    def _artifact_location(self, connection: Connection) -> str:
        """Where the experiment keeps its artifacts.

        Raises:
            LookupError: the experiment is gone.
        """
        experiments = self._tables["experiments"].c
        from sqlalchemy import select

        query = select(experiments.artifact_location).where(
            experiments.experiment_id == self._experiment, experiments.lifecycle_stage == "active"
        )
        found = connection.execute(query).first()
        if found is None:
            raise LookupError(f"the MLflow experiment {self._experiment} is gone")
        return str(found[0])

    def _there(self, connection: Connection, ids: Collection[str]) -> list[str]:
        """Those ids that are in the table of runs already."""
        from sqlalchemy import select

        column, asked = self._tables["runs"].c.run_uuid, list(ids)
        parts = [asked[start : start + _IDS_AT_ONCE] for start in range(0, len(asked), _IDS_AT_ONCE)]
        return [identifier for part in parts for identifier in connection.execute(select(column).where(column.in_(part))).scalars()]

    def _mark(self, connection: Connection, ids: Sequence[str], *, deleted: bool) -> None:
        """Delete runs as MLflow does, which hides them; or show them again."""
        runs, now = self._tables["runs"], int(1000 * time.time())
        wanted = "deleted" if deleted else "active"
        for start in range(0, len(ids), _IDS_AT_ONCE):
            these = runs.c.run_uuid.in_(ids[start : start + _IDS_AT_ONCE]) & (runs.c.lifecycle_stage != wanted)
            connection.execute(runs.update().where(these).values(lifecycle_stage=wanted, deleted_time=now if deleted else None))


def _engine(url: Any) -> Engine:
    import sqlalchemy
    from sqlalchemy import event

    if url.get_backend_name() != "sqlite":
        options: dict[str, Any] = {"connect_timeout": LOCK_SECONDS}
        return sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool, connect_args=options, hide_parameters=True)
    options = {"timeout": LOCK_SECONDS, "isolation_level": None}
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool, connect_args=options, hide_parameters=True)

    @event.listens_for(engine, "connect")
    def _keep_in_memory(connection: Any, _: Any) -> None:
        # of this connection alone: a page written before the commit would lock readers out until it
        connection.execute("PRAGMA cache_spill = OFF")

    return engine
