"""A pack whose worker was lost goes on where the records end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import analysis
from study.records.writer import FragmentWriter, Provenance
from tests.study.made_up_results import resolved
from trainables.point.text import dumps
from trainables.tune import PackTrainable

POINTS = [resolved(seed=seed) for seed in range(5)]


def worker(sink: FragmentWriter, **config: Any) -> PackTrainable:
    """As Tune makes one, in this process."""
    made = PackTrainable.__new__(PackTrainable)
    made.setup({"points": dumps(POINTS)} | config, [], {}, {}, (), sink=sink)
    return made


def train(made: PackTrainable) -> int:
    """Steps to the end; the number of points that ended."""
    reports = [made.step()]
    while not reports[-1]["done"]:
        reports.append(made.step())
    assert reports[-1]["share"] == 1
    return sum(sum(report["points"].values()) for report in reports)


def test_a_restarted_pack_trains_only_what_is_not_recorded(tmp_path: Path) -> None:
    sink = FragmentWriter(str(tmp_path), Provenance("made-up", None, "0"))
    begun = worker(sink)
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    begun.save_checkpoint(str(checkpoint))
    first = begun._training.epoch
    results = first()
    while not results:
        results = first()
    sink(results[:2], "cpu")  # two are recorded, and the worker is lost
    recorded = analysis.load(str(tmp_path))["key"].to_pylist()
    for restored in (False, True):
        again = worker(FragmentWriter(str(tmp_path / f"{restored}"), sink.provenance), restarted=True)
        assert train(again) == len(POINTS), "nothing is recorded there"
        again = worker(sink, restarted=True)
        if restored:
            again.load_checkpoint(str(checkpoint))
        assert {point.key() for point in again._training._waiting} == {point.key() for point in POINTS} - set(recorded)
    assert train(again) == len(POINTS) - 2
    assert analysis.load(str(tmp_path)).num_rows == len(POINTS)
    assert train(worker(sink, restarted=True)) == 0
