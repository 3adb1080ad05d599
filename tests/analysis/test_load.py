"""The same records and curves from Parquet and from MLflow, each point once, whatever state the files are in."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import analysis
from study.records import CURVES, RECORDS
from tests.analysis.made_up_study import curve, gap_study, mirror, record, records


def by_key(table: pa.Table) -> pa.Table:
    return table.sort_by([(name, "ascending") for name in ("key", "epoch") if name in table.column_names])


def test_round_trip(write_study):
    rows = gap_study()
    folder = write_study(rows, fragments=3)
    assert by_key(analysis.load(str(folder))).equals(by_key(records(rows)))
    curves = pa.Table.from_pylist([point for row in rows for point in curve(row)], CURVES)
    assert by_key(analysis.load_curves(str(folder))).equals(by_key(curves))


def test_uri_equals_path(write_study):
    folder = write_study(gap_study())
    assert analysis.load(folder.as_uri()).equals(analysis.load(str(folder)))


def test_columns_and_filter(write_study):
    rows = gap_study()
    folder = str(write_study(rows))
    table = analysis.load(folder, columns=["seed", "test_error"], filter=pc.field("corruption.level") == 0.5)
    assert table.column_names == ["seed", "test_error"]
    assert sorted(table["test_error"].to_pylist()) == sorted(row["test_error"] for row in rows if row["corruption.level"] == 0.5)


def test_unknown_column_is_a_sentence_with_the_nearest_name(write_study):
    folder = str(write_study(gap_study()))
    with pytest.raises(analysis.AnalysisError, match="no column 'test_eror': did you mean 'test_error'"):
        analysis.load(folder, columns=["test_eror"])


def test_measures_of_some_fragments_are_columns_of_all(write_study):
    with_measure, without = record(seed=0, **{"measure.path_norm": 3.5}), record(seed=1)
    folder = str(write_study([with_measure, without], fragments=2))
    assert by_key(analysis.load(folder)).equals(by_key(records([with_measure, without])))


def test_a_point_written_twice_stands_once_with_its_latest_final_outcome(write_study):
    start = datetime(2026, 3, 1, tzinfo=UTC)
    failed = record(seed=0, status="failed", reason="no memory", finished=start)
    done = record(seed=0, status="completed", finished=start + timedelta(hours=1), test_error=0.2)
    failed_later = record(seed=0, status="failed", reason="killed", finished=start + timedelta(hours=2))
    only_failures = [
        record(seed=1, status="failed", reason=reason, finished=start + timedelta(hours=hour)) for hour, reason in ((2, "new"), (1, "old"))
    ]
    folder = str(write_study([failed, done, failed_later, *only_failures, record(seed=2)], fragments=3))
    assert by_key(analysis.load(folder)).equals(by_key(records([done, only_failures[0], record(seed=2)])))
    assert analysis.load(folder, filter=pc.field("status") == "failed")["reason"].to_pylist() == ["new"], (
        "a superseded failure is not found"
    )


def test_curves_written_twice_stand_once_and_are_read_by_key(write_study):
    rows = gap_study(seeds=1)
    folder = str(write_study(rows + rows[:3], fragments=2))
    chosen = rows[1]
    assert by_key(analysis.load_curves(folder, keys=[chosen["key"]])).equals(pa.Table.from_pylist(curve(chosen), CURVES))
    early = analysis.load_curves(folder, keys=pa.chunked_array([[chosen["key"]]]), columns=["train_error"], filter=pc.field("epoch") <= 2)
    assert early["train_error"].to_pylist() == [point["train_error"] for point in curve(chosen)[:2]]


def test_truncated_files_are_named_and_skipped_unfinished_ones_ignored(write_study):
    rows = gap_study()
    folder = write_study(rows, fragments=2)
    whole = (folder / "records" / "part-0.parquet").read_bytes()
    (folder / "records" / "half.parquet").write_bytes(whole[: len(whole) // 2])
    (folder / "records" / "empty.parquet").write_bytes(b"")
    (folder / "records" / ".part-9.parquet").write_bytes(whole[:100])
    (folder / "records" / "part-9.parquet.tmp").write_bytes(whole[:100])
    with pytest.warns(UserWarning, match=r"(half|empty)\.parquet is no complete Parquet file and was skipped") as caught:
        table = analysis.load(str(folder))
    assert {str(one.message).split(" is ")[0].rpartition("/")[2] for one in caught} == {"half.parquet", "empty.parquet"}
    assert by_key(table).equals(by_key(records(rows)))


def test_files_compacted_while_they_are_read(write_study, monkeypatch):
    rows = gap_study()
    folder = write_study(rows, fragments=2) / "records"
    read_schema = pq.read_schema

    def compact_first(path, **options):
        if (folder / "part-0.parquet").exists():
            pq.write_table(records(rows), folder / "all.parquet")
            for part in (0, 1):
                (folder / f"part-{part}.parquet").unlink()
        return read_schema(path, **options)

    monkeypatch.setattr(pq, "read_schema", compact_first)
    assert by_key(analysis.load(str(folder.parent))).equals(by_key(records(rows)))


def test_no_study_is_a_sentence(tmp_path):
    with pytest.raises(analysis.NothingToShow, match="there is no study at"):
        analysis.load(str(tmp_path / "missing"))


def test_a_study_without_records_is_an_empty_table(tmp_path):
    (tmp_path / "records").mkdir()
    assert analysis.load(str(tmp_path)).equals(RECORDS.empty_table())


@pytest.fixture(scope="module")
def tracking(tmp_path_factory):
    rows = gap_study(capacities=(1, 10), seeds=2)
    rows.append(
        record(
            seed=7,
            status="diverged",
            train_loss=math.nan,
            test_loss=math.inf,
            fit_epoch=None,
            interpolated=False,
            **{"model.batch_norm": True},
        )
    )
    rows.append(record(seed=8, **{"measure.path_norm": 1 / 3, "measure.spectral_norm": 2.5}))
    uri = f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"
    mirror(rows, uri)
    return uri, rows


def test_mlflow_equals_arrow(tracking, write_study):
    uri, rows = tracking
    folder = str(write_study(rows))
    same_values(by_key(analysis.load("mlflow:made-up", tracking_uri=uri)), by_key(analysis.load(folder)))
    same_values(by_key(analysis.load_curves("mlflow:made-up", tracking_uri=uri)), by_key(analysis.load_curves(folder)))


def same_values(one: pa.Table, other: pa.Table) -> None:
    """Equal in schema and values, NaN equal to NaN."""
    assert one.schema.equals(other.schema)
    for name in one.column_names:
        assert [repr(value) for value in one[name].to_pylist()] == [repr(value) for value in other[name].to_pylist()], name


def test_mlflow_columns_filter_and_keys(tracking):
    uri, rows = tracking
    table = analysis.load("mlflow:made-up", tracking_uri=uri, columns=["key"], filter=pc.field("status") == "diverged")
    assert table.to_pylist() == [{"key": row["key"]} for row in rows if row["status"] == "diverged"]
    curves = analysis.load_curves(
        "mlflow:made-up", tracking_uri=uri, keys=table["key"], columns=["epoch", "test_loss"], filter=pc.field("epoch") == 12
    )
    assert curves.to_pylist() == [{"epoch": 12, "test_loss": math.inf}]


def test_foreign_runs_are_counted_and_skipped(tracking):
    from mlflow import MlflowClient

    uri, _ = tracking
    mirror([record(seed=0)], uri, "shared")
    client = MlflowClient(uri)
    for _ in range(2):
        client.create_run(client.get_experiment_by_name("shared").experiment_id)
    with pytest.warns(UserWarning, match="2 runs of experiment 'shared' were not written by gaplab"):
        assert analysis.load("mlflow:shared", tracking_uri=uri).num_rows == 1


def test_no_experiment_is_a_sentence(tracking):
    with pytest.raises(analysis.NothingToShow, match="no MLflow experiment 'other'"):
        analysis.load("mlflow:other", tracking_uri=tracking[0])
