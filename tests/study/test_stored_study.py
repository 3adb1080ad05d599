"""A study that gaplab recorded at commit 41854e8 goes on as it is, and trained anew it has the same bits.

The files below `stored` were written by `gaplab run` in the environment `PORTABLE`. They are never made anew because a test fails:
that keys, columns, numbers and bits stay is what is tested.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

import analysis
from analysis.records.fragments import fragments
from study.plan.points import declared_points
from study.records.compaction import compact
from study.spec.reading import read_spec
from tests.study.conftest import Answer

STORED = Path(__file__).parent / "stored" / "results" / "stored"
POINTS = 16
PORTABLE = {
    "MKL_CBWR": "COMPATIBLE",
    "ATEN_CPU_CAPABILITY": "default",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "NUMBA_CPU_NAME": "generic",
    "NUMBA_CPU_FEATURES": "",
    "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR",
    "OPENBLAS_CORETYPE": "Prescott",
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX,-AVX2,-FMA,-FMA4,-AVX512F",
    "OMP_NUM_THREADS": "1",
}
"""Has every library use what all x86-64 processors have, so that bits are the same on all: looked at on an AMD EPYC with AVX-512, and on
an Intel Nehalem (without AVX) and a Haswell (with AVX2) imitated by QEMU."""
OF_THE_RUN = {"seconds", "finished", "gaplab_version", "torch_version", "python_version", "git_commit", "host", "bits"}
"""Columns that tell of the run, not of the point."""
ROUNDING = 1e-5
"""What other versions of PyTorch and other kinds of processors may differ by, relative to a number, or to 1 if that is more."""

Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def again(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Path:
    """The study's root, trained anew by this version."""
    root = tmp_path_factory.mktemp("again") / "stored"
    command = [sys.executable, "-m", "tests.study.trained_again", str(STORED / "spec.yaml"), str(root)]
    done = subprocess.run(command, env=os.environ | PORTABLE, cwd=pytestconfig.rootpath, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return root


def stored_columns(kind: str) -> set[str]:
    return {name for file in (STORED / kind).rglob("*.parquet") for name in pq.read_schema(file).names}


def records(root: Path) -> Rows:
    table = analysis.load(str(root))
    return table.select([name for name in table.column_names if name in stored_columns("records") - OF_THE_RUN]).sort_by("key").to_pylist()


def curves(root: Path) -> Rows:
    table = analysis.load_curves(str(root))
    in_order = [("key", "ascending"), ("epoch", "ascending")]
    return table.select([name for name in table.column_names if name in stored_columns("curves")]).sort_by(in_order).to_pylist()


def same_bits_are_promised() -> bool:
    """Whether this machine's results must equal the stored ones to the bit, and not to rounding only."""
    (version,) = set(analysis.load(str(STORED))["torch_version"].to_pylist())
    return torch.backends.mkl.is_available() and version == torch.__version__


def test_every_key_is_still_the_one_that_was_recorded() -> None:
    keys = [point.key for point in declared_points(read_spec(STORED / "spec.yaml"))]
    assert len(keys) == POINTS
    assert set(keys) == set(analysis.load(str(STORED))["key"].to_pylist())


def test_nothing_of_it_is_run_again(gaplab: Callable[..., Answer], tmp_path: Path) -> None:
    shutil.copytree(STORED, tmp_path / "stored")
    before = sorted(fragments(str(tmp_path / "stored")))
    answer = gaplab("run", str(STORED / "spec.yaml"), "--storage", str(tmp_path))
    assert answer.code == 0, answer.err
    assert f"Nothing to run: all {POINTS} points of stored are recorded." in answer.out
    assert sorted(fragments(str(tmp_path / "stored"))) == before


def test_trained_anew_it_is_the_same_to_the_bit(again: Path) -> None:
    """Points that Adam trains apart: MKL's square roots are those of the processor, in every mode."""
    found, expected = records(again), records(STORED)
    rounded = {row["key"] for row in expected if row["optimizer.name"] == "adam" or not same_bits_are_promised()}
    assert 0 < len(rounded) < POINTS or not same_bits_are_promised()
    for ours, theirs in ((found, expected), (curves(again), curves(STORED))):
        assert len(ours) == len(theirs)
        for row, stored in zip(ours, theirs, strict=True):
            assert row.keys() == stored.keys()
            different = [name for name in row if not equal(row[name], stored[name], rounded=stored["key"] in rounded)]
            assert not different, {name: (row[name], stored[name]) for name in ("key", *different)}


def equal(found: Any, expected: Any, *, rounded: bool) -> bool:
    if rounded and isinstance(found, float) and isinstance(expected, float):
        return abs(found - expected) <= ROUNDING * max(1.0, abs(expected))
    return bool(found == expected)


def test_what_this_version_records_stands_beside_it(again: Path, tmp_path: Path) -> None:
    """Files of both versions in one study: read as one table, and merged into one file."""
    shutil.copytree(again, tmp_path / "stored")
    both = tmp_path / "stored"
    old = {file.name for file in (STORED / "records").glob("*.parquet")}
    for kind in ("records", "curves"):
        for name in old:
            shutil.copy(STORED / kind / name, both / kind / name)
    beside = records(both)
    assert len(beside) == POINTS
    assert compact(str(both)) > 0
    assert records(both) == beside
    assert analysis.load(str(both)).schema == analysis.load(str(again)).schema
