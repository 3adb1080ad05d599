"""MLflow as others run it: a real server over HTTP, and a real PostgreSQL database by the API and by SQL; both say what Arrow says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

import analysis
from tests.analysis.made_up_study import gap_study, mirror, record
from tests.mlflow_servers import mlflow_server

pytestmark = pytest.mark.xdist_group("analysis")  # the MLflow database that test_load fills
ROWS = [
    *gap_study(capacities=(1, 10), seeds=2),
    record(seed=7, status="diverged", train_loss=float("nan"), test_loss=float("inf"), fit_epoch=None, interpolated=False),
    record(seed=8, status="failed", reason="no memory: 'quoted' \N{GREEK SMALL LETTER ALPHA}"),
    record(seed=9, **{"measure.path_norm": 1 / 3}),
]


def rows_of(experiment: str) -> list[dict[str, Any]]:
    """A study is an experiment of its name."""
    return [row | {"study": experiment} for row in ROWS]


@pytest.fixture(scope="module")
def server(mlflow_uri: str) -> Iterator[str]:
    mirror(rows_of("served"), mlflow_uri, "served")
    with mlflow_server(mlflow_uri) as uri:
        yield uri


def same_as_arrow(folder: Path, experiment: str, **options: Any) -> None:
    """Records and curves, all and some, equal in types and values."""
    some = analysis.load(str(folder), columns=["key"], filter=pc.field("corruption.level") == 1.0)["key"]
    few: dict[str, Any] = {"keys": some, "columns": ["key", "epoch", "test_error"], "filter": pc.field("epoch") > 10}
    wanted: list[tuple[Any, dict[str, Any]]] = [
        (analysis.load, {}),
        (analysis.load, {"columns": ["key", "seed"], "filter": pc.field("status") != "completed"}),
        (analysis.load_curves, {}),
        (analysis.load_curves, few),
    ]
    for load, chosen in wanted:
        here, there = (in_order(load(source, **more, **chosen)) for source, more in ((str(folder), {}), (f"mlflow:{experiment}", options)))
        assert there.schema.equals(here.schema)
        assert here.num_rows > 0
        for name in here.column_names:
            assert repr(there[name].to_pylist()) == repr(here[name].to_pylist()), (load.__name__, chosen, name)  # NaN equals NaN


def in_order(table: pa.Table) -> pa.Table:
    return table.sort_by([(name, "ascending") for name in ("key", "epoch") if name in table.column_names])


def test_a_server_over_http_says_what_arrow_says(server: str, write_study: Callable[..., Path]) -> None:
    same_as_arrow(write_study(rows_of("served")), "served", tracking_uri=server)


def test_a_postgresql_database_says_what_arrow_says(postgres: str, write_study: Callable[..., Path]) -> None:
    mirror(rows_of("kept"), postgres, "kept")
    folder = write_study(rows_of("kept"))
    for sql in (False, True):
        same_as_arrow(folder, "kept", tracking_uri=postgres, sql=sql)


def test_the_sql_path_cannot_write_to_postgresql(postgres: str) -> None:
    from analysis.records.mlflow import sql as mlflow_sql

    with pytest.raises(analysis.AnalysisError, match="read-only transaction"), mlflow_sql._open(postgres) as connection:
        connection.exec_driver_sql("CREATE TABLE mine (id int)")
