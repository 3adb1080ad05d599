"""An MLflow database whose tables are not as known, and an analysis without Ray."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

import analysis
from analysis import compat
from tests.analysis.made_up_study import gap_study, mirror

BY_EPOCH = [("key", "ascending"), ("epoch", "ascending")]
REFUSED = "import sys; sys.modules['ray'] = sys.modules['torchvision'] = sys.modules['typer'] = sys.modules['pydantic'] = None; "


def test_tables_that_are_not_as_known_are_read_through_the_api(mlflow_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror(gap_study(capacities=(1,), seeds=2), mlflow_uri, "of another version")
    load, curves = (
        lambda: analysis.load("mlflow:of another version", tracking_uri=mlflow_uri, sql=True).sort_by("key"),
        lambda: analysis.load_curves("mlflow:of another version", tracking_uri=mlflow_uri, sql=True).sort_by(BY_EPOCH),
    )
    known = load(), curves()
    wanted = compat.MLFLOW_TABLES | {"metrics": (*compat.MLFLOW_TABLES["metrics"], "moment"), "points": ("key",)}
    monkeypatch.setattr(compat, "MLFLOW_TABLES", wanted)
    sentence = r"another version of MLflow \(it has no metrics.moment, points.key\): it is read through MLflow's API"
    with pytest.warns(UserWarning, match=sentence):
        assert load().equals(known[0])
    with pytest.warns(UserWarning, match=sentence):
        assert curves().equals(known[1])


def test_a_database_that_is_not_mlflows_lacks_nothing(tmp_path: Path) -> None:
    import sqlalchemy

    with sqlite3.connect(tmp_path / "other.db") as connection:
        connection.execute("CREATE TABLE runs (id)")
    with sqlalchemy.create_engine(f"sqlite:///{tmp_path}/other.db").connect() as opened:
        assert compat.missing_columns(opened) == []


def test_the_analysis_does_without_ray() -> None:
    program = "import analysis; [getattr(analysis, name) for name in analysis.__all__]"
    done = subprocess.run([sys.executable, "-c", REFUSED + program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
