"""`gaplab status` says why points are missing: a new value, another spec, an earlier meaning of a field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from analysis.records.fragments import fragments, statuses
from study.plan.missing import explained
from study.plan.points import declared_points
from study.records.writer import FragmentWriter, Provenance
from study.spec.reading import understand
from tests.study.made_up_results import TRIAL
from trainables.point.key import KEY_VERSION
from trainables.resolution import Point
from trainables.training.loop import Result

WRITTEN: dict[str, Any] = {
    "study": "grown",
    "trial": {"data": {"name": "synthetic", "dimension": 4, "classes": 3, "train_size": 60}, "budget": {"epochs": 3}},
    "space": {"model.width": {"values": [4, 8]}, "seed": {"range": 3}},
}
assert TRIAL.budget.epochs == 3


def points(**changes: Any) -> list[Point]:
    return declared_points(understand(WRITTEN | changes))


def recorded(folder: Path, done: list[Point]) -> str:
    writer = FragmentWriter(str(folder), Provenance("grown", None, "0"))
    writer([Result(point.config, point.key, "diverged", "", {}, []) for point in done], "cpu")  # which needs no curve
    return str(folder)


def told(wanted: list[Point], root: str) -> list[str]:
    return explained(wanted, statuses(root), root, ["model.width", "seed"])


def test_a_finished_study_needs_no_explanation(tmp_path: Path) -> None:
    assert told(points(), recorded(tmp_path, points())) == []
    assert told(points(), str(tmp_path / "nothing")) == []


def test_new_values_are_named_with_how_many_points_they_make(tmp_path: Path) -> None:
    root = recorded(tmp_path, points())
    grown = points(space={"model.width": {"values": [4, 8, 16]}, "seed": {"range": 5}})
    assert told(grown, root) == ["5 are missing because model.width is new: 16.", "6 are missing because seed is new: 3, 4."]


def test_points_of_another_spec_are_told_apart_by_their_values(tmp_path: Path) -> None:
    root = recorded(tmp_path, [*points(), *points(trial=WRITTEN["trial"] | {"budget": {"epochs": 9}})])
    assert told(points(), root) == [
        "6 recorded points are not declared by this spec; they stay.",
        "  of them 6 have another budget.epochs: 9 (declared: 3).",
    ]


def test_keys_of_an_earlier_version_are_told_from_other_points(tmp_path: Path) -> None:
    root = recorded(tmp_path, points())
    (path,) = fragments(root)
    table = pq.read_table(path)
    aged = table.set_column(table.column_names.index("key_version"), "key_version", pa.array([KEY_VERSION - 1] * 6, pa.int32()))
    aged = aged.set_column(0, "key", pa.array([f"{number:032x}" for number in range(6)]))
    Path(path).unlink()
    pq.write_table(aged, Path(path).with_name("older.parquet"), write_page_checksum=True)  # named as that version did
    (line,) = told(points(), root)
    assert line.startswith(
        f"6 recorded points have keys of version {KEY_VERSION - 1}, before the meaning of a field changed (now {KEY_VERSION})"
    )
