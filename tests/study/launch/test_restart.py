"""A pack whose worker was lost, or whose driver was stopped, goes on where the records end and its members were kept."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import analysis
import study
from study.launch.progress import Progress
from study.launch.training import _take_up
from study.plan.plan import plan_study
from study.records.unfinished import Unfinished
from study.records.writer import FragmentWriter, Provenance
from tests.study.disturbances import rows
from tests.study.made_up_results import resolved
from tests.trainables.made_up_points import told
from trainables.point.config import TrialConfig
from trainables.point.text import dumps
from trainables.resolution import Point
from trainables.training import unfinished
from trainables.training.loop import Training
from trainables.training.members import Result
from trainables.training.unfinished import Keeper, bits
from trainables.tune import PackSettings, PackTrainable, _one_of_several

POINTS = [resolved(seed=seed) for seed in range(5)]
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Members are kept after each epoch."""
    monkeypatch.setattr(unfinished, "KEEP_SECONDS", 0.0)
    monkeypatch.setattr(unfinished, "COST", float("inf"))


def worker(root: Path, points: list[TrialConfig] = POINTS, **config: Any) -> PackTrainable:
    """As Tune makes one, in this process."""
    made = PackTrainable.__new__(PackTrainable)
    made._trial_info = None  # as outside Tune
    sink = FragmentWriter(str(root), Provenance("made-up", None, "0"))
    made.setup({"points": dumps(points)} | config, [], {}, PackSettings(sink, shelf=Unfinished(str(root))))
    return made


def train(made: PackTrainable) -> int:
    """Steps to the end; the number of points that ended."""
    reports = [made.step()]
    while not reports[-1]["done"]:
        reports.append(made.step())
    assert reports[-1]["share"] == 1
    return sum(sum(report["points"].values()) for report in reports)


def kept(root: Path) -> list[Path]:
    return sorted((root / "unfinished").glob("*"))


def test_a_restarted_pack_trains_only_what_is_not_recorded(tmp_path: Path) -> None:
    begun = worker(tmp_path)
    results = begun._training.epoch()
    while not results:
        results = begun._training.epoch()
    begun._settings.sink(results[:2], "cpu")  # two are recorded, and the worker is lost
    recorded = analysis.load(str(tmp_path))["key"].to_pylist()
    again = worker(tmp_path, restarted=True)
    assert isinstance(again._training, Training)
    assert again._training.waiting() == {point.key() for point in POINTS} - set(recorded)
    assert train(again) == len(POINTS) - 2
    assert analysis.load(str(tmp_path)).num_rows == len(POINTS)
    assert train(worker(tmp_path, restarted=True)) == 0


@pytest.fixture(scope="module")
def long_points() -> list[TrialConfig]:
    fields = {"budget.epochs": 6, "budget.stop_at_train_error": None, "optimizer.schedule": "cosine", "regularizers.dropout": 0.2}
    return [resolved(seed=seed, **fields) for seed in range(3)]


@pytest.fixture
def stopped(tmp_path: Path, long_points: list[TrialConfig]) -> Path:
    """A study whose driver was stopped after three epochs of six, and which took its worker with it."""
    made = worker(tmp_path, long_points)
    for _ in range(3):
        assert not made._training.epoch()
        made._keep()
    assert len(kept(tmp_path)) == len(long_points)
    return tmp_path


@pytest.mark.parametrize("together", [True, False])
def test_what_was_stopped_ends_as_what_was_not_and_leaves_nothing(
    stopped: Path, long_points: list[TrialConfig], tmp_path_factory: pytest.TempPathFactory, together: bool
) -> None:
    whole = tmp_path_factory.mktemp("whole")
    assert train(worker(whole, long_points)) == len(long_points)
    epochs = 0
    for pack in [long_points] if together else [[point] for point in reversed(long_points)]:
        made = worker(stopped, pack)
        assert made._training.share == pytest.approx(0.5), "half of its epochs are behind"
        assert train(made) == len(pack)
        epochs += len(pack)
    assert epochs == len(long_points)
    assert rows(str(stopped)) == rows(str(whole))
    assert not (stopped / "unfinished").exists()


def test_what_is_damaged_or_of_other_bits_starts_again(stopped: Path, long_points: list[TrialConfig]) -> None:
    cut, flipped, foreign = kept(stopped)
    cut.write_bytes(cut.read_bytes()[:-100])
    raw = bytearray(flipped.read_bytes())
    raw[len(raw) // 2] ^= 1
    flipped.write_bytes(raw)
    key, _, crc, end = foreign.name.split(".")
    foreign.rename(foreign.with_name(f"{key}.00000000.{crc}.{end}"))
    made = worker(stopped, long_points)
    assert made._training.share == 0
    assert train(made) == len(long_points)
    assert not kept(stopped), "also what was not taken up goes once its point is recorded"
    assert Unfinished(str(stopped)).damaged([key]) == []


def test_nothing_is_kept_before_its_time(tmp_path: Path, long_points: list[TrialConfig], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unfinished, "KEEP_SECONDS", 3600.0)
    made = worker(tmp_path, long_points)
    made._training.epoch()
    made._keep()
    assert not kept(tmp_path)


def test_keeping_takes_a_hundredth_of_the_time(tmp_path: Path, long_points: list[TrialConfig], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(unfinished.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(unfinished, "KEEP_SECONDS", 60.0)
    monkeypatch.setattr(unfinished, "COST", 0.01)
    times: list[float] = []

    class Slow(Unfinished):
        def put(self, key: str, bits: str, state: bytes) -> None:
            times.append(clock[0])
            clock[0] += 5.0

    training = Training(long_points, CPU, slots=1)
    keeper = Keeper(Slow(str(tmp_path)), bits(CPU, False))
    training.epoch()
    for second in range(59, 700):
        clock[0] = max(clock[0], float(second))
        keeper.keep(training)
    assert times == [60.0, 565.0]


def test_other_conditions_have_other_bits() -> None:
    found = {bits(CPU, False), bits(CPU, True), bits(CPU, False, 2), bits(torch.device("cuda"), False)}
    assert len(found) == 4


def test_a_driver_says_what_goes_on_and_what_is_damaged_and_removes_what_is_recorded(stopped: Path, long_points: list[TrialConfig]) -> None:
    damaged, whole, recorded = (Point(path.name.partition(".")[0], long_points[0]) for path in kept(stopped))
    kept(stopped)[0].write_bytes(b"torn")
    (stopped / "unfinished" / "notes.txt").write_text("the user's own")
    spec = study.understand({"study": "made-up", "tracking": {"mlflow": False}})
    plan = replace(plan_study(spec, str(stopped.parent)), root=str(stopped), recorded={recorded.key: "completed"})
    said: list[str] = []
    _take_up(plan, [damaged, whole], Progress(noted=said.append))
    assert said == [
        f"what was trained of point {damaged.key} before the last stop is damaged: it starts again",
        "1 point goes on from the last stop, where processor and PyTorch are the same as then",
    ]
    assert [path.name.partition(".")[0] for path in kept(stopped)] == [whole.key, "notes"]
    Unfinished(str(stopped)).remove([whole.key])
    assert [path.name for path in kept(stopped)] == ["notes.txt"], "what gaplab did not write stays"


def test_what_pauses_goes_on_elsewhere_as_if_it_had_not_and_is_dropped_as_it_was(
    tmp_path: Path, long_points: list[TrialConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of three pause after two epochs, one of them again after four, and is dropped; a worker that starts anew says it again."""
    monkeypatch.setattr(unfinished, "KEEP_SECONDS", 3600.0)
    whole, root = tmp_path / "whole", tmp_path / "paused"
    assert train(worker(whole, long_points)) == 3
    first, second, third = (point.key() for point in long_points)

    def paused(points: list[TrialConfig], **pauses: tuple[int, bool]) -> dict[str, list[int]]:
        made = worker(root, points, pauses=pauses)
        reports = [made.step()]
        while not reports[-1]["done"]:
            reports.append(made.step())
        curves = {key: curve for report in reports for key, curve in json.loads(report.get("paused", "{}")).items()}
        assert all(set(row) == {"train_error", "validation_error"} for curve in curves.values() for row in curve.values())
        return {key: [int(epoch) for epoch in curve] for key, curve in curves.items()}

    both = {first: (2, True), second: (2, True)}
    for _ in range(2):
        assert paused(long_points, **both) == {first: [1, 2], second: [1, 2]}
        assert analysis.load(str(root))["key"].to_pylist() == [third]
        long_points = long_points[:2]
    assert paused(long_points[1:], **{second: (4, True)}) == {second: [1, 2, 3, 4]}
    assert not paused(long_points[1:], **{second: (4, False)}), "it is dropped"
    assert not paused(long_points[:1], **{first: (6, True)}), "it has come to its end"
    found, expected = ({row["key"]: row for row in rows(str(one))} for one in (root, whole))
    assert [found[key] for key in (first, third)] == [expected[key] for key in (first, third)]
    dropped = found[second]
    assert (dropped["status"], dropped["reason"], dropped["epochs"]) == ("pruned", "pruned after epoch 4", 4)
    curves = [[row for row in analysis.load_curves(str(one)).sort_by("epoch").to_pylist() if row["key"] == second] for one in (root, whole)]
    assert curves[0] == curves[1][:4]
    assert dropped["test_error"] == curves[1][3]["test_error"]
    assert not kept(root)


def test_a_process_of_ray_train_goes_on_from_the_shelf(
    tmp_path: Path, long_points: list[TrialConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray.train.get_context", lambda: SimpleNamespace(get_world_rank=lambda: 0, get_world_size=lambda: 1))
    monkeypatch.setattr("ray.train.torch.get_device", lambda: CPU)
    shelf = Unfinished(str(tmp_path))
    shared = {"sources": {}, "pruner": None, "measures": (), "loaders": 0, "point_seconds": None}
    config = {"point": dumps(long_points[:1])} | shared
    whole = _one_of_several(config | {"shelf": None})
    trained, epoch = [0], Training.epoch

    def lost(self: Training) -> list[Result]:
        trained[0] += 1
        if trained[0] == 4:
            raise KeyboardInterrupt
        return epoch(self)

    monkeypatch.setattr(Training, "epoch", lost)
    with pytest.raises(KeyboardInterrupt):
        _one_of_several(config | {"shelf": shelf})
    assert shelf.keys() == {long_points[0].key()}
    again = _one_of_several(config | {"shelf": shelf})
    assert trained[0] == 4 + 3, "three epochs before, three after"
    assert told(again) == told(whole)


def test_what_a_killed_worker_had_half_written_goes_with_its_point(tmp_path: Path) -> None:
    shelf = Unfinished(str(tmp_path))
    shelf.put("a" * 32, "bits", b"whole")
    shelf.put("b" * 32, "bits", b"whole")
    (kept,) = (tmp_path / "unfinished").glob("a*")
    kept.with_name(f".{kept.name}.tmp").write_bytes(b"who")
    shelf.remove(["a" * 32])
    assert [path.name[0] for path in (tmp_path / "unfinished").iterdir()] == ["b"]
    shelf.remove(["b" * 32])
    assert not (tmp_path / "unfinished").exists()
