"""The same records and curves from Parquet and from MLflow, each point once, whatever state the files are in."""

from __future__ import annotations

import math
import sqlite3
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import analysis
from analysis.records.foreign import open_foreign, read_mapping
from analysis.records.parquet import dataset
from analysis.records.parquet.source import _all_different
from analysis.records.schema import CURVES, RECORDS
from tests.analysis.made_up_study import curve, gap_study, mirror, record, records

pytestmark = pytest.mark.xdist_group("analysis")  # one MLflow database


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


@pytest.mark.parametrize("small", [0, 2**16])
def test_a_flipped_bit_is_found_by_the_checksum(write_study, monkeypatch, small):
    """It would be read as another number."""
    monkeypatch.setattr(dataset, "_SMALL", small)
    rows = gap_study()
    folder = write_study(rows, fragments=2)
    for kind, load in (("records", analysis.load), ("curves", analysis.load_curves)):
        path = folder / kind / "part-0.parquet"
        table = pq.read_table(path)
        pq.write_table(table, path, compression="none", use_dictionary=False, write_page_checksum=True)
        raw = bytearray(path.read_bytes())
        index = raw.index(np.array(table["test_error"][:3]).tobytes())
        raw[index + 7] ^= 1
        path.write_bytes(raw)
        assert pq.read_table(path)["test_error"] != table["test_error"], "a reader that does not check"
        with pytest.warns(UserWarning, match=r"part-0\.parquet is (damaged|no complete Parquet file) and was skipped"):
            found = load(str(folder))
        assert set(found["key"].to_pylist()) == {row["key"] for row in rows[1::2]}


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


@pytest.mark.parametrize("small", [0, 2**16])
def test_damaged_data_is_named_and_skipped(write_study, monkeypatch, small):
    monkeypatch.setattr(dataset, "_SMALL", small)
    rows = gap_study()
    folder = write_study(rows, fragments=2)
    path = folder / "records" / "part-0.parquet"
    whole = bytearray(path.read_bytes())
    data_end = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    whole[4:data_end] = bytes(data_end - 4)
    path.write_bytes(whole)
    with pytest.warns(UserWarning, match=r"part-0\.parquet is (damaged|no complete Parquet file) and was skipped"):
        table = analysis.load(str(folder))
    assert by_key(table).equals(by_key(records(rows[1::2])))


def test_a_filter_that_cannot_be_applied_is_a_sentence(write_study):
    folder = str(write_study(gap_study()))
    with pytest.raises(analysis.AnalysisError, match="cannot be read as asked"):
        analysis.load(folder, filter=pc.field("corruption.lvl") == 0.5)


def test_only_row_groups_that_can_hold_a_key_are_read(write_study, monkeypatch):
    rows = sorted(gap_study(), key=lambda row: row["key"])
    folder = write_study(rows, fragments=1)
    points = pa.Table.from_pylist([point for row in rows for point in curve(row)], CURVES)
    pq.write_table(points, folder / "curves" / "part-0.parquet", row_group_size=12)
    read = []

    class Format(ds.ParquetFileFormat):
        def make_fragment(self, *arguments, row_groups=None, **more):
            read.extend(row_groups)
            return super().make_fragment(*arguments, row_groups=row_groups, **more)

    monkeypatch.setattr(dataset, "_PARQUET", Format())
    monkeypatch.setattr(dataset, "_SMALL", 0)
    keys = [rows[3]["key"], rows[17]["key"], "0" * 32]
    assert set(analysis.load_curves(str(folder), keys=keys)["key"].to_pylist()) == set(keys[:2])
    assert read == [3, 17]


def test_the_columns_that_the_gap_needs(write_study):
    folder = str(write_study(gap_study()))
    columns = analysis.gap_columns(folder)
    assert {"corruption.level", "model.width", "generalization_gap"} < set(columns)
    assert not {"model.depth", "data.name", "optimizer.momentum", "model.parameters_per_sample", "test_loss"} & set(columns)
    some, every = (analysis.gap_vs_capacity(analysis.load(folder, columns=names)) for names in (columns, None))
    assert some.get_supxlabel() == every.get_supxlabel()
    assert analysis.gap_columns("mlflow:any") is None


@given(st.lists(st.sampled_from([f"{number:032x}" for number in (0, 1, 2**64, 2**127)] + ["short", ""]), max_size=6))
def test_repeats_are_found(keys):
    assert _all_different(pa.chunked_array([keys[:2], keys[2:]], pa.string())) == (len(set(keys)) == len(keys))


def test_no_study_is_a_sentence(tmp_path):
    with pytest.raises(analysis.NothingToShow, match="there is no study at"):
        analysis.load(str(tmp_path / "missing"))


def test_a_study_without_records_is_an_empty_table(tmp_path):
    (tmp_path / "records").mkdir()
    assert analysis.load(str(tmp_path)).equals(RECORDS.empty_table())


@pytest.fixture(scope="module")
def tracking(mlflow_uri):
    rows = gap_study(capacities=(1, 10), seeds=2)
    diverged = {"status": "diverged", "train_loss": math.nan, "test_loss": math.inf, "fit_epoch": None, "interpolated": False}
    rows.append(record(seed=7, **diverged, **{"model.batch_norm": True}))
    rows.append(record(seed=8, **{"measure.path_norm": 1 / 3, "measure.spectral_norm": 2.5}))
    mirror(rows, mlflow_uri)
    return mlflow_uri, rows


@pytest.fixture(params=["api", "sql"])
def from_mlflow(request, tracking):
    """Loading from the made-up experiment, by either way."""
    uri, rows = tracking
    options = {"tracking_uri": uri, "sql": request.param == "sql"}

    def load(*, of=analysis.load, experiment="made-up", **more):
        return of(f"mlflow:{experiment}", **options, **more)

    return load, rows


def test_mlflow_equals_arrow(from_mlflow, write_study):
    load, rows = from_mlflow
    folder = str(write_study(rows))
    same_values(by_key(load()), by_key(analysis.load(folder)))
    same_values(by_key(load(of=analysis.load_curves)), by_key(analysis.load_curves(folder)))


def same_values(one: pa.Table, other: pa.Table) -> None:
    """Equal in schema and values, NaN equal to NaN."""
    assert one.schema.equals(other.schema)
    for name in one.column_names:
        assert [repr(value) for value in one[name].to_pylist()] == [repr(value) for value in other[name].to_pylist()], name


def test_mlflow_columns_filter_and_keys(from_mlflow):
    load, rows = from_mlflow
    table = load(columns=["key"], filter=pc.field("status") == "diverged")
    assert table.to_pylist() == [{"key": row["key"]} for row in rows if row["status"] == "diverged"]
    curves = load(of=analysis.load_curves, keys=table["key"], columns=["epoch", "test_loss"], filter=pc.field("epoch") == 12)
    assert curves.to_pylist() == [{"epoch": 12, "test_loss": math.inf}]
    assert load(of=analysis.load_curves, keys=[], columns=["epoch"]).num_rows == 0


def test_foreign_and_unfinished_runs_are_skipped(from_mlflow, tracking):
    from mlflow import MlflowClient

    load, _ = from_mlflow
    client = MlflowClient(tracking[0])
    if client.get_experiment_by_name("shared") is None:
        mirror([record(seed=0)], tracking[0], "shared")
        identifier = client.get_experiment_by_name("shared").experiment_id
        client.create_run(identifier)
        client.create_run(identifier, tags={"mlflow.runName": "foreign"})
        client.create_run(identifier, tags={"gaplab.kind": "point", "gaplab.key": "being copied"})
    with pytest.warns(UserWarning, match="2 runs of experiment 'shared' were not written by gaplab and skipped"):
        assert load(experiment="shared").num_rows == 1


def test_a_point_mirrored_twice_stands_once(from_mlflow, tracking):
    from mlflow import MlflowClient

    load, _ = from_mlflow
    if MlflowClient(tracking[0]).get_experiment_by_name("twice") is None:
        failed = record(status="failed", reason="no memory", epochs=3, finished=datetime(2026, 5, 1, tzinfo=UTC))
        mirror([failed, record(), failed], tracking[0], "twice")
    assert load(experiment="twice")["status"].to_pylist() == ["completed"]
    assert load(of=analysis.load_curves, experiment="twice").num_rows == 12


def test_values_that_only_the_curve_has_are_null_in_the_record(from_mlflow, tracking):
    from mlflow import MlflowClient

    load, _ = from_mlflow
    client = MlflowClient(tracking[0])
    if client.get_experiment_by_name("null") is None:
        mirror([record(status="diverged")], tracking[0], "null")
        run = client.search_runs([client.get_experiment_by_name("null").experiment_id], "tags.gaplab.kind = 'point'")[0]
        client.set_tag(run.info.run_id, "gaplab.null", "test_error,test_loss")
    row = load(experiment="null").to_pylist()[0]
    assert (row["test_error"], row["test_loss"], row["train_error"]) == (None, None, 0.0)


@pytest.fixture(scope="module")
def foreign(tracking):
    """An experiment that knows nothing of gaplab."""
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

    client = MlflowClient(tracking[0])
    identifier = client.create_experiment("foreign")
    for units, accuracy, status in ((10, 0.7, "FINISHED"), (20, 0.9, "FINISHED"), (40, 0.5, "FAILED"), (80, 0.1, "RUNNING")):
        run = client.create_run(identifier).info.run_id
        metrics = [Metric("val_acc", accuracy * step / 2, 0, step) for step in (1, 2)]
        metrics += [Metric("err", 0.0, 0, 2), Metric("num_params", 50.0 * units, 0, 0)]
        params = [Param("noise", "0.25"), Param("units", str(units)), Param("n", "100.0"), Param("kind", "flip")]
        client.log_batch(run, metrics=metrics, params=params)
        if status != "RUNNING":
            client.set_terminated(run, status)
    return "foreign"


MAPPING = {
    "parameters": "num_params",
    "model.width": "units",
    "data.train_size": "n",
    "corruption.level": "noise",
    "corruption.kind": "kind",
    "train_error": "err",
    "test_error": "1-val_acc",
    "measure.accuracy": "val_acc",
}


def test_a_foreign_experiment_by_a_mapping(from_mlflow, foreign):
    load, _ = from_mlflow
    with pytest.warns(UserWarning, match="1 unfinished runs of experiment 'foreign' were skipped"):
        table = load(experiment=foreign, mapping=MAPPING).sort_by("model.width")
    assert table.schema.equals(pa.schema([*RECORDS, ("measure.accuracy", pa.float64())]))
    rows = table.select(["status", "parameters", "parameters_per_sample", "test_error", "generalization_gap", "interpolated"]).to_pylist()
    assert [tuple(row.values()) for row in rows] == [
        ("completed", 500, 5.0, pytest.approx(0.3), pytest.approx(0.3), True),
        ("completed", 1000, 10.0, pytest.approx(0.1), pytest.approx(0.1), True),
        ("failed", 2000, 20.0, pytest.approx(0.5), pytest.approx(0.5), True),
    ]
    curve = load(of=analysis.load_curves, experiment=foreign, mapping=MAPPING, keys=table["key"][:1]).sort_by("epoch")
    assert curve.select(["epoch", "train_error", "test_error"]).to_pylist() == [
        {"epoch": 1, "train_error": None, "test_error": 0.65},
        {"epoch": 2, "train_error": 0.0, "test_error": pytest.approx(0.3)},
    ]
    analysis.gap_vs_capacity(table).draw_without_rendering()


def test_a_foreign_experiment_without_a_mapping_is_a_sentence_that_says_how_to_get_one(from_mlflow, foreign):
    load, _ = from_mlflow
    for of in (analysis.load, analysis.load_curves):
        with pytest.raises(analysis.NothingToShow, match=r"gaplab map 'mlflow:foreign' > map\.yaml proposes one"):
            load(of=of, experiment=foreign)


@pytest.mark.filterwarnings("ignore:1 unfinished")
def test_a_foreign_experiment_by_a_mapping_file(from_mlflow, foreign, tmp_path):
    """Expressions, constants and kept columns; curves and report by the same mapping."""
    load, _ = from_mlflow
    lines = "test_error: 1 - val_acc\ntrain_error: err\nparameters: num_params\ndata.train_size: 50\nkeep: [units]\n"
    (tmp_path / "map.yaml").write_text(lines)
    mapping = read_mapping(tmp_path / "map.yaml")
    table = load(experiment=foreign, mapping=mapping).sort_by("parameters")
    assert table["parameters_per_sample"].to_pylist() == [10.0, 20.0, 40.0]
    assert table["units"].to_pylist() == [10.0, 20.0, 40.0]
    few = load(experiment=foreign, mapping=mapping, columns=["key", "test_error"])
    assert few.column_names == ["key", "test_error"]
    curve = load(of=analysis.load_curves, experiment=foreign, mapping=mapping, keys=table["key"][:1])
    assert sorted(curve["test_error"].to_pylist()) == [pytest.approx(0.3), pytest.approx(0.65)]


@pytest.mark.filterwarnings("ignore:1 unfinished")
def test_a_wrong_mapping_is_a_sentence(from_mlflow, foreign):
    load, _ = from_mlflow
    with pytest.raises(analysis.AnalysisError, match=r"has a metric, param or tag 'nois' \(metrics and params: .*noise"):
        load(experiment=foreign, mapping={"corruption.level": "nois"})
    with pytest.raises(analysis.AnalysisError, match="did you mean 'test_error'"):
        load(experiment=foreign, mapping={"test_eror": "err"})
    with pytest.raises(analysis.AnalysisError, match=r"run \w+ of experiment 'foreign' has 'flip' where corruption.level must be a double"):
        load(experiment=foreign, mapping={"corruption.level": "kind"})


def test_progress_is_told_by_page(tracking, monkeypatch):
    from analysis.records.mlflow import api as mlflow_source

    monkeypatch.setattr(mlflow_source, "_PAGE", 4)
    done = []
    analysis.load("mlflow:made-up", tracking_uri=tracking[0], progress=done.append)
    assert done == [4, 8, 12, 15]  # 14 points and the parent


def test_the_sql_path_cannot_write(tracking):
    from analysis.records.mlflow import sql as mlflow_sql

    with pytest.raises(analysis.AnalysisError, match="attempt to write a readonly database"), mlflow_sql._open(tracking[0]) as connection:
        connection.exec_driver_sql("DELETE FROM runs")


@pytest.mark.parametrize(
    ("uri", "sentence"),
    [
        (None, "sql needs the URL of a database"),
        ("http://127.0.0.1:5000", "sql needs the URL of a database"),
        ("sqlite:////nowhere/mlflow.db", "cannot be read as an MLflow database: .*unable to open database file"),
        ("postgresql://me:secret@127.0.0.1:1/db", r"postgresql://me:\*\*\*@127.0.0.1:1/db cannot be read"),
    ],
)
def test_a_database_that_cannot_be_read_is_a_sentence(uri, sentence):
    with pytest.raises(analysis.AnalysisError, match=sentence) as caught:
        analysis.load("mlflow:any", tracking_uri=uri, sql=True)
    assert "secret" not in str(caught.value)


def test_a_database_of_another_kind_is_a_sentence(tmp_path):
    with sqlite3.connect(tmp_path / "other.db") as connection:
        connection.execute("CREATE TABLE runs (id)")
    with pytest.raises(analysis.AnalysisError, match="no such table: experiments"):
        analysis.load("mlflow:any", tracking_uri=f"sqlite:///{tmp_path}/other.db", sql=True)


def test_no_experiment_is_a_sentence(from_mlflow):
    with pytest.raises(analysis.NothingToShow, match="no MLflow experiment 'other'"):
        from_mlflow[0](experiment="other")


@pytest.mark.parametrize("named", [True, False])
def test_a_database_that_is_not_there_is_not_made(tmp_path, monkeypatch, named):
    """Also not the one that MLflow has by default, in the folder of the start."""
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    for read in (analysis.load, analysis.load_curves):
        with pytest.raises(analysis.NothingToShow, match=r"there is no MLflow database at sqlite:///.*: --tracking-uri says where it is"):
            read("mlflow:any", tracking_uri=uri if named else None)
    with pytest.raises(analysis.NothingToShow, match="there is no MLflow database"):
        open_foreign("mlflow:any", tracking_uri=uri if named else None)
    assert list(tmp_path.iterdir()) == []


def test_files_of_an_older_version_and_of_other_types_are_read(write_study):
    """A version that knew fewer fields; a file whose numbers came out as integers; a column that nobody knows any more."""
    rows = gap_study()
    folder = write_study(rows, fragments=3)
    whole = [pq.read_table(folder / "records" / f"part-{part}.parquet") for part in range(3)]
    pq.write_table(whole[0].drop_columns(["fit_epoch"]), folder / "records" / "part-0.parquet")
    index = whole[1].column_names.index("seconds")
    pq.write_table(whole[1].set_column(index, "seconds", pa.array([1] * whole[1].num_rows)), folder / "records" / "part-1.parquet")
    pq.write_table(whole[2].append_column("model.forgotten", whole[2]["seed"]), folder / "records" / "part-2.parquet")
    table = analysis.load(str(folder))
    assert table.schema.equals(RECORDS)
    assert set(table["key"].to_pylist()) == {row["key"] for row in rows}
    assert table["fit_epoch"].null_count >= whole[0].num_rows
    assert sorted(table["seconds"].to_pylist()) == [0.5] * (len(rows) - whole[1].num_rows) + [1.0] * whole[1].num_rows
