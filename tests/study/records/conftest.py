"""What tests of the mirror share: a storage, and a database to mirror it to."""

from __future__ import annotations

from pathlib import Path

import pytest

from study.records.writer import FragmentWriter, Provenance
from tests.study.records.mirrored import STUDY


@pytest.fixture
def writer(tmp_path: Path) -> FragmentWriter:
    return FragmentWriter(str(tmp_path / STUDY), Provenance(STUDY, None, "0.1.0"))


@pytest.fixture
def uri(tmp_path: Path, fresh_database: Path) -> str:
    (tmp_path / "mlflow.db").write_bytes(fresh_database.read_bytes())
    return f"sqlite:///{tmp_path}/mlflow.db"
