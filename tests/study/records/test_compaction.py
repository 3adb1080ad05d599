"""Compaction: fewer files, the same rows, at every moment and whatever kills it."""

from __future__ import annotations

import signal
import threading
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import analysis
import study
from analysis.records.fragments import fragments, statuses
from study.records import compaction
from study.records.compaction import MANY, compact
from study.records.copying import Copying
from study.records.mirror import Mirror
from study.records.writer import FragmentWriter, Provenance
from study.search.outcomes import Outcomes
from tests.forked_processes import CONTEXT
from tests.study.made_up_results import TRIAL, result
from tests.study.records.killed_compaction import compact_until
from trainables.point.config import flatten

PROVENANCE = Provenance("made-up", None, "0.1.0")


@pytest.fixture
def writer(tmp_path: Path) -> FragmentWriter:
    return FragmentWriter(str(tmp_path / "made-up"), PROVENANCE)


def files(root: str) -> dict[str, int]:
    """How many finished Parquet files each folder has."""
    folders = ("records", "curves", "records/merged", "curves/merged")
    return {folder: len([*Path(root, folder).glob("[!.]*.parquet")]) for folder in folders}


def all_rows(root: str, folder: str) -> pa.Table:
    """Every row that lies there, repeats included."""
    return pa.concat_tables([pq.read_table(path) for path in Path(root, folder).rglob("[!.]*.parquet")], promote_options="default")


def in_order(table: pa.Table) -> pa.Table:
    return table.sort_by([(name, "ascending") for name in ("key", "epoch") if name in table.column_names]).combine_chunks()


def told(root: str) -> tuple[pa.Table, pa.Table, dict[str, str]]:
    return in_order(analysis.load(root)), in_order(analysis.load_curves(root)), statuses(root)


def fill(writer: FragmentWriter, fragments: int = 4) -> None:
    """Fragments of two points each, a failed one without a curve, and a point that failed first and then ended."""
    for seed in range(fragments):
        writer([result(seed=2 * seed), result(seed=2 * seed + 1, status="diverged")], "cpu")
    writer([result(seed=1000, status="failed", reason="no memory")], "cpu")
    writer([result(seed=0, status="failed", reason="its worker was lost")], "cpu")


def test_every_reader_reads_the_same(writer):
    fill(writer)
    before = told(writer.root)
    assert compact(writer.root) == 6
    assert files(writer.root) == {"records": 0, "curves": 0, "records/merged": 1, "curves/merged": 1}
    assert told(writer.root) == before
    (curves,) = Path(writer.root, "curves/merged").iterdir()
    keys = pq.read_table(curves)["key"].to_pylist()
    assert keys == sorted(keys), "the curves of one point lie together"
    assert compact(writer.root) == 0


def test_what_is_new_is_merged_into_another_file(writer):
    fill(writer)
    compact(writer.root)
    whole = list(Path(writer.root).rglob("*.parquet"))
    stamps = [path.stat().st_mtime_ns for path in whole]
    writer([result(seed=50)], "cpu")
    writer([result(seed=51)], "cpu")
    before = told(writer.root)
    assert compact(writer.root) == 2
    assert files(writer.root) == {"records": 0, "curves": 0, "records/merged": 2, "curves/merged": 2}
    assert [path.stat().st_mtime_ns for path in whole] == stamps, "a row is merged once"
    assert told(writer.root) == before


def test_memory_bounds_a_merged_file(writer, monkeypatch):
    monkeypatch.setattr(compaction, "_AT_ONCE", 1)
    monkeypatch.setattr(compaction, "_MOST_ROWS", 70)  # two fragments: 2 x (2 records x 16 + 2 curves x 3 epochs)
    fill(writer)
    before = told(writer.root)
    compact(writer.root)
    assert files(writer.root)["records/merged"] == 3
    assert told(writer.root) == before


@pytest.mark.xdist_group("forked")
@pytest.mark.parametrize("step", range(14))
def test_killed_at_any_step_nothing_is_lost_or_doubled(writer, step):
    """Two renames, one sync, four curves and six records to remove: 13 steps, and one past the end."""
    fill(writer)
    before = told(writer.root)
    process = CONTEXT.Process(target=compact_until, args=(writer.root, step))
    process.start()
    process.join()
    assert process.exitcode == (-signal.SIGKILL if step < 13 else 0)
    assert told(writer.root) == before
    writer([result(seed=70)], "cpu")
    writer([result(seed=71)], "cpu")
    before = told(writer.root)
    compact(writer.root)
    assert told(writer.root) == before
    assert files(writer.root)["records"] == files(writer.root)["curves"] == 0
    assert not list(Path(writer.root).rglob("*.tmp"))
    rows, points = all_rows(writer.root, "records"), all_rows(writer.root, "curves")
    assert rows.num_rows == len({tuple(row.values()) for row in rows.select(["key", "status", "finished"]).to_pylist()}) == 12
    assert points.num_rows == 10 * 3


def test_a_study_is_written_and_read_while_it_is_compacted(writer):
    """What was recorded before a reader began it reads, once; two compactions at a time wait for each other."""
    recorded: list[str] = []
    ended = threading.Event()

    def write() -> None:
        for seed in range(150):
            one = result(seed=seed)
            writer([one], "cpu")
            recorded.append(one.key)

    def merge() -> None:
        while not ended.is_set():
            compact(writer.root)

    threads = [threading.Thread(target=work) for work in (write, merge, merge)]
    writer([result(seed=999)], "cpu")
    for thread in threads:
        thread.start()
    readings = 0
    while threads[0].is_alive():
        known = set(recorded)
        keys, points = analysis.load(writer.root, columns=["key"])["key"].to_pylist(), analysis.load_curves(writer.root, columns=["key"])
        assert known <= set(keys)
        assert len(keys) == len(set(keys))
        assert known <= set(points["key"].to_pylist())
        assert known <= set(statuses(writer.root))
        readings += 1
    ended.set()
    for thread in threads:
        thread.join()
    assert readings > 1
    compact(writer.root, least=1)
    assert all_rows(writer.root, "records").num_rows == 151
    assert all_rows(writer.root, "curves").num_rows == 151 * 3


def test_a_reader_whose_files_vanish_lists_them_anew(writer, monkeypatch):
    from analysis.records.parquet import dataset

    fill(writer)
    before = told(writer.root)
    for moment in ("_rows_of_small", "_footers"):  # before the small files are read, and after
        own = getattr(dataset, moment)

        def late(*arguments, own=own):
            compact(writer.root, least=1)
            return own(*arguments)

        for load, table in ((analysis.load, before[0]), (analysis.load_curves, before[1])):
            writer([result(seed=0), result(seed=1, status="diverged")], "cpu")  # rows that are there already: a fragment more
            with monkeypatch.context() as patch:
                patch.setattr(dataset, moment, late)
                assert in_order(load(writer.root).drop_columns("finished" if load is analysis.load else [])) == in_order(
                    table.drop_columns("finished" if load is analysis.load else [])
                )


def test_a_fragment_without_a_measure_stays_without_it(writer):
    """A point recorded before a measure was asked for runs again; one whose measure is no number does not."""
    bare, measured = result(seed=0), result(seed=1)
    writer([bare], "cpu")
    writer([replace(measured, outcome=measured.outcome | {"measure.norm": float("nan")})], "cpu")
    compact(writer.root)
    assert statuses(writer.root, ["norm"]) == {measured.key: "completed"}
    assert files(writer.root)["records/merged"] == 2


def test_a_damaged_fragment_is_left_alone(writer):
    fill(writer)
    victim = Path(fragments(writer.root)[0])
    victim.write_bytes(victim.read_bytes()[:-20])
    assert compact(writer.root) == 5
    assert fragments(writer.root)[0] == str(victim)
    with pytest.warns(UserWarning, match=f"{victim.name} is no complete Parquet file"):
        analysis.load(writer.root)


def test_a_search_is_not_told_again_what_a_merged_file_repeats(writer):
    """It gave a second chance to what failed before: that is no news when the fragment is merged."""
    fill(writer)
    again = result(seed=1000).key
    outcomes = Outcomes(writer.root)
    assert again not in outcomes
    writer([result(seed=80)], "cpu")
    compact(writer.root)
    outcomes.refresh()
    assert again not in outcomes
    assert result(seed=80).key in outcomes
    assert len(outcomes.curve(result(seed=80).key)) == 3
    writer([result(seed=1000)], "cpu")
    outcomes.refresh()
    assert outcomes[again]["status"] == "completed"


@pytest.mark.parametrize("step", ["copied", "_curves_beside"])
def test_the_mirror_copies_merged_points_once_with_their_curves(writer, tmp_path, fresh_database, monkeypatch, step):
    """The fragments vanish before their records are read, or their curves."""
    (tmp_path / "mlflow.db").write_bytes(fresh_database.read_bytes())
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    fill(writer)
    mirror = Mirror(uri, "made-up", writer.root)
    own = getattr(Copying, step)

    def merged_meanwhile(*arguments):
        compact(writer.root)
        return own(*arguments)

    monkeypatch.setattr(Copying, step, merged_meanwhile)
    mirror.finish()
    assert mirror.error is None
    for load, there in ((analysis.load, 0), (analysis.load_curves, 1)):
        assert in_order(load("mlflow:made-up", tracking_uri=uri)) == told(writer.root)[there]


def test_a_run_merges_many_fragments(tmp_path):
    fields = {name: value for name, value in flatten(TRIAL).items() if value is not None and name != "seed"}
    spec = study.understand({"study": "made-up", "trial": fields, "replicates": MANY + 1, "tracking": {"mlflow": False}})
    writer = FragmentWriter(str(tmp_path / "made-up"), PROVENANCE)
    for seed in range(MANY + 1):
        writer([result(seed=seed)], "cpu")
    summary = study.run(spec, storage=str(tmp_path))
    assert (summary.ran, summary.missing) == (0, 0)
    assert files(writer.root) == {"records": 0, "curves": 0, "records/merged": 1, "curves/merged": 1}
