"""Where a made-up study lies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis.records.schema import CURVES
from tests.analysis.made_up_study import curve, records


@pytest.fixture
def write_study(tmp_path: Path) -> Callable[..., Path]:
    """Write records, and their curves, as a study's fragments; returns STORAGE/STUDY."""

    def write(rows: list[dict[str, Any]], fragments: int = 2, name: str = "made-up") -> Path:
        folder = tmp_path / name
        for kind in ("records", "curves"):
            (folder / kind).mkdir(parents=True, exist_ok=True)
        for part in range(fragments):
            some = rows[part::fragments]
            pq.write_table(records(some), folder / "records" / f"part-{part}.parquet")
            points = [point for row in some for point in curve(row)]
            pq.write_table(pa.Table.from_pylist(points, CURVES), folder / "curves" / f"part-{part}.parquet")
        return folder

    return write


@pytest.fixture(scope="session")
def mlflow_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An MLflow database for all tests: making one takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"
