"""What counts as recorded: one answer for planner, loader, compaction, search, simulation and mirror, whatever was damaged."""

from __future__ import annotations

import os
import shutil
import uuid
import warnings
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import analysis
import study
from analysis.records.fragments import fragments, recorded, statuses
from study.records import compaction, provenance
from study.records import verify as verification
from study.records import writer as writing
from study.records.compaction import compact
from study.records.mirror import Mirror
from study.records.verify import put_damaged_aside, verify, warn_of_disagreement
from study.records.writer import FragmentWriter, Provenance
from study.search.outcomes import Outcomes
from study.simulation.cost import RecordedCosts
from tests.study.made_up_results import result

PROVENANCE = Provenance("made-up", None, "0.1.0")
MANY = 40


@pytest.fixture
def writer(tmp_path: Path) -> FragmentWriter:
    return FragmentWriter(str(tmp_path / "made-up"), PROVENANCE)


def flip(path: Path, place: float = 0.5) -> None:
    raw = bytearray(path.read_bytes())
    raw[int(place * len(raw))] ^= 4
    path.write_bytes(raw)


def flip_in_a_page(path: Path, place: float) -> None:
    """The last byte of the column chunk at that place, which is data: some bytes of a page's header may be anything."""
    metadata = pq.read_metadata(path)
    chunks = [metadata.row_group(group).column(index) for group in range(metadata.num_row_groups) for index in range(metadata.num_columns)]
    ends = [(one.dictionary_page_offset or one.data_page_offset) + one.total_compressed_size for one in chunks]
    raw = bytearray(path.read_bytes())
    raw[min(end for end in ends if end > place * len(raw)) - 1] ^= 4
    path.write_bytes(raw)


def flip_value(path: Path) -> None:
    """In the test error of its first row: a reader that does not check reads another number."""
    table, whole = pq.read_table(path), path.read_bytes()
    value, place = np.array(table["test_error"][:1]).tobytes(), -1
    while pq.read_table(path)["test_error"] == table["test_error"]:  # statistics have the value too
        place = whole.index(value, place + 1)
        path.write_bytes(whole[: place + 6] + bytes([whole[place + 6] ^ 1]) + whole[place + 7 :])


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def beside(path: Path) -> Path:
    return Path(str(path).replace("/records/", "/curves/"))


def without_seals(root: str) -> None:
    """Files as earlier versions named them."""
    for path in map(Path, fragments(root)):
        for file in (path, beside(path)):
            if file.exists():
                file.rename(file.with_name(file.name.partition(".")[0] + ".parquet"))


def everybody(root: str) -> list[set[str]]:
    """The keys that each reader counts as recorded."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outcomes = Outcomes(root)
        return [
            set(statuses(root)),
            set(analysis.load(root, columns=["key"])["key"].to_pylist()),
            {one.key for one in (result(seed=seed) for seed in range(MANY)) if one.key in outcomes},
            {row["key"] for row in RecordedCosts.read(root).rows},
        ]


DAMAGES: dict[str, Callable[[Path], None]] = {
    "a flipped bit in the records": flip_value,
    "records cut short": cut,
    "a flipped bit in the curves": lambda path: flip_value(beside(path)),
    "curves cut short": lambda path: cut(beside(path)),
    "no curves": lambda path: beside(path).unlink(),
    "curves of another schema": lambda path: pq.write_table(pa.table({"key": ["a"]}), beside(path)),
}


@pytest.mark.parametrize("sealed", [True, False], ids=["this version's", "an earlier version's"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_every_reader_counts_the_same_points(writer, damage, sealed):
    for seed in range(6):
        writer([result(seed=seed)], "cpu")
    if not sealed:
        without_seals(writer.root)
    assert everybody(writer.root) == [{result(seed=seed).key for seed in range(6)}] * 4
    victim = Path(next(path for path in fragments(writer.root) if result(seed=2).key in path))
    DAMAGES[damage](victim)
    left = {result(seed=seed).key for seed in range(6) if seed != 2}
    assert everybody(writer.root) == [left] * 4
    before = {file.relative_to(writer.root): file.read_bytes() for file in Path(writer.root).rglob("*.parquet") if victim.name == file.name}
    with pytest.warns(UserWarning, match=r"^1 damaged file was moved to .*/quarantine \(first .*\); what is lost runs again"):
        put_damaged_aside(writer.root)
    assert {file: Path(writer.root, "quarantine", file).read_bytes() for file in before} == before, "kept, never deleted"
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert everybody(writer.root) == [left] * 4
        assert set(analysis.load_curves(writer.root)["key"].to_pylist()) == left
        assert put_damaged_aside(writer.root) == []
    writer([result(seed=2)], "cpu")
    assert everybody(writer.root) == [left | {result(seed=2).key}] * 4


@pytest.mark.parametrize("place", np.linspace(0, 0.999, 40))
def test_every_byte_of_a_file_is_guarded_by_its_name(writer, place):
    """Of footers too, which Parquet has no checksum of."""
    writer([result(seed=0)], "cpu")
    (path,) = map(Path, fragments(writer.root))
    for victim in (path, beside(path)):
        whole = victim.read_bytes()
        flip(victim, place)
        with pytest.warns(UserWarning, match="was skipped"):
            assert statuses(writer.root) == {}
        victim.write_bytes(whole)
        assert statuses(writer.root) == {result(seed=0).key: "completed"}


@pytest.mark.parametrize("place", [0.05, 0.3, 0.5, 0.7, 0.9])
@pytest.mark.parametrize("kind", ["records", "curves"])
def test_a_damaged_merged_file_gives_back_what_can_be_read(writer, monkeypatch, kind, place):
    monkeypatch.setattr(writing, "RECORDS_ROW_GROUP", 5)
    monkeypatch.setattr(writing, "CURVES_ROW_GROUP", 16)
    for seed in range(MANY):
        writer([result(seed=seed)], "cpu")
    compact(writer.root)
    whole = analysis.load(writer.root).sort_by("key")
    curves = analysis.load_curves(writer.root)
    (path,) = map(Path, fragments(writer.root))
    (flip_in_a_page if place < 0.2 else flip)(path if kind == "records" else beside(path), place)
    with pytest.warns(UserWarning, match="moved to"):
        (damage,) = put_damaged_aside(writer.root)
    found = analysis.load(writer.root).sort_by("key")
    assert damage.salvaged == found.num_rows
    if place < 0.2:  # further behind lies the footer
        assert MANY - 12 <= found.num_rows < MANY
    keys = found["key"]
    assert found.equals(whole.filter(pa.compute.is_in(whole["key"], keys.combine_chunks())))
    order = [("key", "ascending"), ("epoch", "ascending")]
    expected = curves.filter(pa.compute.is_in(curves["key"], keys.combine_chunks()))
    assert analysis.load_curves(writer.root).sort_by(order).equals(expected.sort_by(order))
    assert verify(writer.root) == []


def test_quarantine_that_is_cut_short_at_any_step_loses_nothing(writer, monkeypatch):
    monkeypatch.setattr(writing, "RECORDS_ROW_GROUP", 5)
    for seed in range(MANY):
        writer([result(seed=seed)], "cpu")
    compact(writer.root)
    (path,) = map(Path, fragments(writer.root))
    flip_in_a_page(path, 0.3)
    own = verification.put_aside
    for most in range(2):  # the curves, the records
        moves: list[int] = []

        def dies(*arguments, most=most, moves=moves):
            if len(moves) >= most:
                raise KeyboardInterrupt
            moves.append(1)
            return own(*arguments)

        monkeypatch.setattr(verification, "put_aside", dies)
        with pytest.raises(KeyboardInterrupt):
            put_damaged_aside(writer.root)
        monkeypatch.setattr(verification, "put_aside", own)
    with pytest.warns(UserWarning, match="moved to"):
        put_damaged_aside(writer.root)
    assert MANY - 5 == len(statuses(writer.root)) == analysis.load(writer.root).num_rows


def test_a_point_that_failed_has_no_curve_and_one_that_diverged_at_once_neither(writer):
    at_once = result(seed=1, status="diverged", epochs=1)
    later = result(seed=2, status="diverged")
    writer([result(seed=0, status="failed")], "cpu")
    writer([replace(at_once, curve=[])], "cpu")
    writer([later], "cpu")
    without_seals(writer.root)
    assert set(statuses(writer.root)) == {result(seed=seed).key for seed in range(3)}
    next(Path(writer.root, "curves").glob("*.parquet")).unlink()
    with pytest.warns(UserWarning, match="1 records without their curves"):
        assert set(statuses(writer.root)) == {result(seed=seed).key for seed in range(2)}


def test_a_worker_that_comes_back_trains_what_cannot_be_read(writer):
    done = result(seed=1)
    writer([done], "cpu")
    assert writer.recorded({done.key}) == {done.key}
    flip(next(Path(writer.root, "curves").glob("*.parquet")))
    with pytest.warns(UserWarning, match="was skipped"):
        assert writer.recorded({done.key}) == set()


def test_the_mirror_goes_on_behind_a_damaged_curve(writer, tmp_path, fresh_database):
    shutil.copy(fresh_database, tmp_path / "mlflow.db")
    for seed in range(5):
        writer([result(seed=seed)], "cpu")
    flip(beside(Path(fragments(writer.root)[2])))
    mirror = Mirror(f"sqlite:///{tmp_path}/mlflow.db", "made-up", writer.root)
    with pytest.warns(UserWarning, match="was skipped"):
        mirror.finish()
    assert mirror.error is None
    assert analysis.load("mlflow:made-up", tracking_uri=mirror.tracking_uri).num_rows == 4


def measured(seed: int, when: datetime, **measures: float) -> study.Summary:
    one = result(seed=seed)
    return replace(one, outcome=one.outcome | {f"measure.{name}": value for name, value in measures.items()})


def write_later(writer: FragmentWriter, monkeypatch: pytest.MonkeyPatch, minutes: int, results) -> None:
    """As if so much later."""

    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes)

    monkeypatch.setattr(provenance, "datetime", Clock)
    writer(results, "cpu")


@pytest.mark.parametrize("merged", [False, True])
def test_measures_of_a_point_are_joined_and_none_hides_another(writer, monkeypatch, merged):
    write_later(writer, monkeypatch, 0, [measured(seed, None, l2_norm=seed + 0.5) for seed in range(3)])
    write_later(writer, monkeypatch, 1, [measured(seed, None, path_norm=seed + 0.25) for seed in range(2)])
    if merged:
        compact(writer.root)
    keys = [result(seed=seed).key for seed in range(3)]
    table = analysis.load(writer.root)
    assert {row["key"]: (row["measure.l2_norm"], row["measure.path_norm"]) for row in table.to_pylist()} == {
        keys[0]: (0.5, 0.25),
        keys[1]: (1.5, 1.25),
        keys[2]: (2.5, None),
    }
    above = analysis.load(writer.root, columns=["key"], filter=pa.compute.field("measure.l2_norm") > 1)
    assert set(above["key"].to_pylist()) == set(keys[1:])
    assert set(statuses(writer.root, ["l2_norm"])) == set(keys), "nothing runs the third time"
    assert set(statuses(writer.root, ["l2_norm", "path_norm"])) == set(keys[:2])
    assert recorded(writer.root, ["l2_norm", "path_norm"]).unmeasured == {keys[2]: {"path_norm"}}


def test_a_record_without_its_compute_is_joined_to_one_with_it(writer, monkeypatch):
    """Older versions did not count it: trained again for a measure, the point is the same."""
    first, again = measured(0, None, l2_norm=0.5), measured(0, None, path_norm=0.25)
    again = replace(again, outcome=again.outcome | {"multiply_adds": 28, "training_flops": 6.0 * 28 * 60 * 3})
    write_later(writer, monkeypatch, 0, [first])
    write_later(writer, monkeypatch, 1, [again])
    (row,) = analysis.load(writer.root).to_pylist()
    assert (row["measure.l2_norm"], row["measure.path_norm"], row["multiply_adds"]) == (0.5, 0.25, 28)


def test_a_network_trained_again_to_another_result_lends_no_measure(writer, monkeypatch):
    first, other = measured(0, None, l2_norm=0.5), measured(0, None, path_norm=0.25)
    other = replace(other, outcome=other.outcome | {"test_loss": other.outcome["test_loss"] + 1e-15})
    write_later(writer, monkeypatch, 0, [first])
    write_later(writer, monkeypatch, 1, [other])
    (row,) = analysis.load(writer.root).to_pylist()
    assert (row["measure.l2_norm"], row["measure.path_norm"], row["test_loss"]) == (0.5, None, first.outcome["test_loss"])
    with pytest.warns(UserWarning, match=f"1 points that were trained again came out otherwise .{first.key}.*first records stand"):
        warn_of_disagreement(writer.root, [first.key])
    assert statuses(writer.root, ["path_norm"]) == {first.key: "completed"}, "it would come out so again: it is not trained a third time"


def test_a_compaction_removes_no_file_that_none_has_made(writer):
    for seed in range(3):
        writer([result(seed=seed)], "cpu")
    compact(writer.root)
    folder = Path(writer.root, "records", "merged")
    for name in (".notes.tmp", ".half.parquet.tmp"):
        (folder / name).write_text("")
    compact(writer.root)
    assert (folder / ".notes.tmp").exists()
    assert not (folder / ".half.parquet.tmp").exists()


def test_a_merged_curve_without_records_is_kept(writer):
    for seed in range(3):
        writer([result(seed=seed)], "cpu")
    compact(writer.root)
    (path,) = map(Path, fragments(writer.root))
    path.rename(path.with_name(f".{uuid.uuid4().hex}"))
    writer([result(seed=7)], "cpu")
    writer([result(seed=8)], "cpu")
    compact(writer.root)
    assert [file.name for file in Path(writer.root, "quarantine/curves/merged").iterdir()] == [path.name]


def test_many_files_of_an_earlier_version_are_said_until_they_are_merged(writer, gaplab, monkeypatch, tmp_path):
    for seed in range(4):
        writer([result(seed=seed)], "cpu")
    without_seals(writer.root)
    writer([result(seed=9)], "cpu")
    (tmp_path / "spec.yaml").write_text(
        "study: made-up\ntrial: {data: {name: synthetic, train_size: 60}, optimizer: {learning_rate: 0.1}}\n"
    )
    monkeypatch.setattr(compaction, "MANY", 3)
    before = analysis.load(writer.root).sort_by("key")
    status = ("status", str(tmp_path / "spec.yaml"), "--storage", str(tmp_path))
    said = f"4 files are named as by an earlier version, and read slowly: gaplab compact {writer.root} merges them"
    assert said in " ".join(gaplab(*status).out.split())
    assert gaplab("compact", writer.root).code == 0
    assert "earlier version" not in gaplab(*status).out
    assert analysis.load(writer.root).sort_by("key").equals(before)


def test_when_everything_was_put_aside_verify_says_so(writer, gaplab):
    for seed in range(3):
        writer([result(seed=seed)], "cpu")
    for path in map(Path, fragments(writer.root)):
        cut(path)
    assert gaplab("verify", writer.root, "--repair").code == 1
    said = f"no records are left; 3 damaged files were put aside in {writer.root}/quarantine: 3 points are not recorded since, and the next"
    for command in (["verify"], ["verify", "--repair"], ["compact"]):
        answer = gaplab(*command, writer.root)
        assert (answer.code, answer.err) == (0, "")
        assert said in answer.out
    (aside,) = Path(writer.root, "quarantine", "records").glob(f"{result(seed=1).key}*")
    aside.rename(aside.with_name("somebody-has-renamed-it.parquet"))
    Path(writer.root, "quarantine", "curves", aside.name).unlink()
    assert "at least 2 points are not recorded since" in gaplab("verify", writer.root).out


def test_verify_names_what_is_damaged_and_what_it_costs(writer, gaplab):
    for seed in range(4):
        writer([result(seed=seed)], "cpu")
    compact(writer.root)
    for seed in range(4, 8):
        writer([result(seed=seed)], "cpu")
    answer = gaplab("verify", writer.root)
    assert (answer.code, answer.out.split(": ")[1]) == (0, "5 files of records and their curves can be read whole\n")
    statuses(writer.root)
    victim = Path(next(path for path in fragments(writer.root) if result(seed=5).key in path))
    stamp = beside(victim).stat()
    flip_value(beside(victim))
    os.utime(beside(victim), ns=(stamp.st_atime_ns, stamp.st_mtime_ns))  # as on a disk that rots
    before = sorted(Path(writer.root).rglob("*"))
    answer = gaplab("verify", writer.root)
    assert answer.code == 1
    assert result(seed=5).key[:20] in answer.out
    assert sorted(path for path in Path(writer.root).rglob("*")) == before
    assert gaplab("verify", writer.root, "--repair").code == 1
    assert Path(writer.root, "quarantine", "curves", victim.name).exists()
    answer = gaplab("verify", writer.root)
    assert answer.code == 0
    assert (
        f"1 damaged file was put aside in {writer.root}/quarantine: 1 point is not recorded since, and the next run trains it" in answer.out
    )
    assert len(statuses(writer.root)) == 7
    writer([result(seed=5)], "cpu")
    assert gaplab("verify", writer.root).out.endswith("quarantine: all points are recorded again\n")
    assert gaplab("verify", str(Path(writer.root).parent / "none")).code == 2
