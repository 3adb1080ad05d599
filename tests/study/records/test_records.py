"""Records: whole fragments or none, each point once whatever ran twice or was cut short, one schema."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import analysis
from analysis.records.fragments import fragments, read_fragments, statuses
from analysis.records.schema import CURVES, FINAL, RECORDS, SAMPLES, STATUSES
from analysis.records.store import study_root
from study.records import provenance
from study.records.writer import FragmentWriter, Provenance
from tests.study.made_up_results import resolved, result
from trainables.point.config import field_types, flatten
from trainables.point.errors import ConfigError

PROVENANCE = Provenance("made-up", "0123abc", "0.1.0")


@pytest.fixture
def writer(tmp_path: Path) -> FragmentWriter:
    return FragmentWriter(str(tmp_path / "made-up"), PROVENANCE)


def test_a_record_holds_the_point_its_outcome_and_its_provenance(writer):
    done = result(seed=3)
    writer([done], "cpu")
    (row,) = read_fragments(writer.root, fragments(writer.root)).to_pylist()
    told = {"key": done.key, "study": "made-up", "status": "completed", "reason": done.reason} | flatten(done.point) | done.outcome
    told |= {"device": "cpu", "gaplab_version": version("gaplab")}
    assert {name: row[name] for name in told} == told
    assert row["finished"] is not None
    assert row["torch_version"]


@pytest.mark.parametrize(
    ("commit", "installed", "expected"),
    [("fedcba9", "7.7", ("fedcba9", "7.7")), (None, None, ("0123abc (driver)", "0.1.0 (driver)"))],
)
def test_a_record_says_what_its_worker_imported_and_marks_what_only_the_driver_knows(writer, monkeypatch, commit, installed, expected):
    monkeypatch.setattr(provenance, "_imported_commit", lambda: commit)
    monkeypatch.setattr(provenance, "_gaplab_version", lambda: installed)
    writer([result(seed=3)], "cpu")
    (row,) = read_fragments(writer.root, fragments(writer.root)).to_pylist()
    assert (row["git_commit"], row["gaplab_version"]) == expected


def test_a_curve_holds_every_evaluated_epoch(writer):
    done = result(seed=3, epochs=4)
    writer([done], "cpu")
    (path,) = Path(writer.root, "curves").glob("*.parquet")
    assert pq.read_table(path).select(["key", "epoch", "train_error"]).to_pylist() == [
        {name: row[name] for name in ("key", "epoch", "train_error")} for row in done.curve
    ]


def test_samples_are_written_beside_the_record_and_a_point_without_them_runs_again(writer):
    lists = {name: np.arange(3) % 2 == 0 if kind.value_type == pa.bool_() else np.arange(3) for name, kind in lists_of(SAMPLES)}
    done = result(seed=3)
    sampled = replace(done, outcome=done.outcome | {"measure.forgetting_events": 1.5}, samples={"key": done.key} | lists)
    bare = result(seed=4)
    writer([sampled], "cpu")
    writer([bare], "cpu")
    (path,) = Path(writer.root, "samples").glob("*.parquet")
    (row,) = pq.read_table(path).to_pylist()
    assert row == {"key": done.key} | {name: values.tolist() for name, values in lists.items()}
    assert pq.read_schema(path).equals(SAMPLES)
    assert statuses(writer.root, ["forgetting_events"]) == {done.key: "completed"}


def lists_of(schema):
    return [(field.name, field.type) for field in schema if pa.types.is_list(field.type)]


def test_the_schema_has_every_field_of_a_point_with_its_type():
    kinds = {str: pa.string(), bool: pa.bool_(), int: pa.int64(), float: pa.float64()}
    for name, value in flatten(resolved(seed=0)).items():
        if value is not None:
            assert RECORDS.field(name).type == kinds[type(value)], name
    assert set(field_types()) < set(RECORDS.names)


def test_measures_become_columns(writer):
    measured = result(seed=0)
    writer([replace(measured, outcome=measured.outcome | {"measure.path_norm": 2.5}), result(seed=1)], "cpu")
    table = read_fragments(writer.root, fragments(writer.root))
    assert sorted(table["measure.path_norm"].to_pylist(), key=str) == [2.5, None]


def test_what_is_no_number_is_null(writer):
    diverged = result(seed=0, status="diverged")
    diverged = replace(diverged, outcome=diverged.outcome | {"train_loss": math.nan, "test_loss": math.inf})
    writer([diverged], "cpu")
    (row,) = read_fragments(writer.root, fragments(writer.root)).to_pylist()
    assert row["train_loss"] is None
    assert row["test_loss"] is None


def test_no_results_no_fragment(writer):
    writer([], "cpu")
    assert fragments(writer.root) == []
    assert not Path(writer.root).exists()


def test_a_fragment_that_cannot_be_finished_does_not_appear(writer, monkeypatch):
    """The rename is what makes it appear; until then only a hidden file may be there, and it goes."""
    monkeypatch.setattr(Path, "replace", lambda self, target: (_ for _ in ()).throw(OSError("no space left on device")))
    with pytest.raises(OSError, match="no space left"):
        writer([result(seed=0)], "cpu")
    assert [path for path in Path(writer.root).rglob("*") if path.is_file()] == []
    monkeypatch.undo()
    writer([result(seed=0)], "cpu")
    assert len(fragments(writer.root)) == 1


def test_a_record_never_lacks_its_curve(writer, monkeypatch):
    """Killed between the two files, a worker leaves a curve without a record, and the point runs again."""
    rename = Path.replace

    def killed_before_records(self: Path, target: Path) -> Path:
        if target.parent.name == "records":
            raise OSError("killed")
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", killed_before_records)
    with pytest.raises(OSError, match="killed"):
        writer([result(seed=0)], "cpu")
    assert list(Path(writer.root, "curves").glob("*.parquet"))
    assert statuses(writer.root) == {}


def test_unfinished_and_foreign_files_are_no_fragments(writer):
    writer([result(seed=0)], "cpu")
    whole = fragments(writer.root)
    folder = Path(writer.root, "records")
    for name in (".half.parquet.tmp", ".hidden.parquet", "notes.txt"):
        (folder / name).write_bytes(b"PAR1")
    assert fragments(writer.root) == whole


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.7, 0.99])
def test_a_fragment_cut_short_counts_as_not_there(writer, kept):
    writer([result(seed=0)], "cpu")
    (path,) = fragments(writer.root)
    raw = Path(path).read_bytes()
    Path(path).write_bytes(raw[: int(kept * len(raw))])
    writer([result(seed=1)], "cpu")
    with pytest.warns(UserWarning, match=f"{Path(path).name} is no complete Parquet file"):
        assert statuses(writer.root) == {result(seed=1).key: "completed"}


@settings(max_examples=30, deadline=None, derandomize=True, database=None)
@given(written=st.lists(st.tuples(st.integers(0, 3), st.sampled_from(STATUSES)), max_size=8), split=st.integers(1, 3))
@example(written=[(0, "failed"), (0, "completed")], split=1)
@example(written=[(0, "completed"), (0, "failed")], split=1)
@example(written=[(0, "diverged"), (0, "failed"), (0, "failed")], split=3)
def test_each_point_counts_once_and_an_outcome_stands_before_a_failure(tmp_path_factory, written, split):
    """Whatever was written how often, in whatever fragments: promise 2."""
    root = str(tmp_path_factory.mktemp("study") / "made-up")
    writer = FragmentWriter(root, PROVENANCE)
    results = [result(seed=seed, status=status) for seed, status in written]
    for start in range(split):
        writer(results[start::split], "cpu")
    expected: dict[str, set[str]] = {}
    for one in results:
        expected.setdefault(one.key, set()).add(one.status)
    found = statuses(root)
    assert found.keys() == expected.keys()
    for key, outcomes in expected.items():
        final = outcomes & set(FINAL)
        assert found[key] in (final or {"failed"})
    if results:
        table = analysis.load(root)
        assert sorted(table["key"].to_pylist()) == sorted(expected), "one row a point for every reader"
        assert all((status == "failed") == (not expected[key] & set(FINAL)) for key, status in rows(table, "key", "status"))


def rows(table: pa.Table, *columns: str) -> list[tuple[Any, ...]]:
    return list(zip(*(table[name].to_pylist() for name in columns), strict=True))


def test_curves_and_records_have_the_documented_columns(writer):
    writer([result(seed=0)], "cpu")
    assert pq.read_schema(fragments(writer.root)[0]).names == RECORDS.names
    (curves,) = Path(writer.root, "curves").glob("*.parquet")
    assert pq.read_schema(curves).names == CURVES.names


def test_a_study_is_found_from_every_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = study_root("results", "made-up")
    assert root == str(tmp_path / "results" / "made-up"), "workers may be in another folder: a relative path would be lost"
    assert study_root(f"file://{tmp_path}/results", "made-up") == root
    assert study_root("~/results", "made-up") == str(Path.home() / "results" / "made-up")
    assert study_root("s3://bucket/results/", "made-up") == "s3://bucket/results/made-up"
    assert study_root("s3://bucket/results?region=eu-west-1", "made-up") == "s3://bucket/results/made-up?region=eu-west-1"


@pytest.mark.parametrize("uri", ["foo://bar", "://", "results://"])
def test_what_is_no_storage_is_a_sentence(uri: str):
    with pytest.raises(ConfigError, match="is no storage"):
        fragments(uri)


@pytest.mark.parametrize("uri", ["s3://", "s3:///", "gs://"])
def test_a_storage_without_a_bucket_is_a_sentence(uri: str):
    with pytest.raises(ConfigError, match=r"names no bucket|is no storage"):
        fragments(uri)


def test_the_writer_travels_to_workers(writer):
    import pickle

    travelled: Callable[..., None] = pickle.loads(pickle.dumps(writer))
    assert travelled == writer
