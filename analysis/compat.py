"""What the analysis knows of MLflow's inside: the tables of its database, which are no public interface.

A database whose tables are others is read through MLflow's API, one metric of one run at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy import Connection

MLFLOW_TABLES = {
    "experiments": ("experiment_id", "name", "lifecycle_stage"),
    "runs": ("run_uuid", "experiment_id", "lifecycle_stage", "status", "start_time"),
    "params": ("run_uuid", "key", "value"),
    "tags": ("run_uuid", "key", "value"),
    "latest_metrics": ("run_uuid", "key", "value", "is_nan"),
    "metrics": ("run_uuid", "key", "value", "is_nan", "step", "timestamp"),
}
"""Those of MLflow 3, with the columns that are read."""


def missing_columns(connection: Connection) -> list[str]:
    """The columns of `MLFLOW_TABLES`, as TABLE.COLUMN, that a database of MLflow lacks; none for a database that is not MLflow's."""
    import sqlalchemy

    inspector = sqlalchemy.inspect(connection)
    there = set(inspector.get_table_names())
    if not {"alembic_version", "experiments"} <= there:
        return []
    columns = {name: {column["name"] for column in inspector.get_columns(name)} for name in there.intersection(MLFLOW_TABLES)}
    return [f"{name}.{column}" for name, wanted in MLFLOW_TABLES.items() for column in wanted if column not in columns.get(name, ())]
