"""One loop for every data source: what a point asks for holds for tensors on the device and for files that are streamed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from tests.forked_processes import CONTEXT
from tests.trainables.made_up_images import data_folder_of_the_tests as data_folder_of_the_tests
from tests.trainables.made_up_images import write_shards, write_tree
from tests.trainables.made_up_points import CPU, alone, finish, point, saved_and_loaded, told
from tests.trainables.training import one_of_several
from trainables.data.sets.image_files import ImageFiles, read_image
from trainables.data.sets.sources import load
from trainables.point.config import Data
from trainables.point.errors import ConfigError
from trainables.training.loop import Result, Training
from trainables.tune import DataParallelism, PackSettings, PackTrainable

SIDE = 8
SOURCES = ("tensors", "imagefolder", "webdataset")
SHARED: dict[str, Any] = {
    "model.name": "mlp",
    "model.width": 16,
    "optimizer.batch_size": 12,
    "optimizer.learning_rate": 0.01,
    "budget.epochs": 4,
    "budget.stop_at_train_error": None,
}


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """`data.name` of the same samples, with the pixels that a network sees at side 8, from each kind of source."""
    root = tmp_path_factory.mktemp("sources")
    tree = write_tree(root / "tree")
    dataset = load(Data(name=f"imagefolder:{tree}", side=SIDE))
    assert isinstance(dataset, ImageFiles)
    transform = v2.Compose([v2.Resize(SIDE + SIDE // 7, antialias=True), v2.CenterCrop(SIDE), v2.ToDtype(torch.float32, scale=True)])
    arrays = {}
    for split, files, labels in (("train", dataset.train_files, dataset.train_labels), ("test", dataset.test_files, dataset.test_labels)):
        arrays[f"x_{split}"] = torch.stack([transform(read_image(file)) for file in files]).permute(0, 2, 3, 1).numpy()
        arrays[f"y_{split}"] = labels.numpy()
    np.savez(root / "same.npz", **arrays)
    return {
        "tensors": f"npz:{root / 'same.npz'}",
        "imagefolder": f"imagefolder:{tree}",
        "webdataset": f"webdataset:{write_shards(tree, root / 'shards')}",
    }


@pytest.fixture(params=SOURCES)
def fields(request: pytest.FixtureRequest, names: dict[str, str]) -> dict[str, Any]:
    """The fields of a point on each source."""
    return SHARED | {"data.name": names[request.param], "data.side": SIDE}


class Kept:
    """A sink that keeps results."""

    def __init__(self) -> None:
        self.results: list[Result] = []

    def __call__(self, results: Sequence[Result], device: str) -> None:
        self.results += results

    def recorded(self, keys: Collection[str], measures: Sequence[str]) -> set[str]:
        return set()


def as_a_trial(point_fields: dict[str, Any], pruner: Any = None, **settings: Any) -> Result:
    """The result of a point as Tune's worker trains it, in this process."""
    from trainables.point.text import dumps

    sink = Kept()
    made = PackTrainable.__new__(PackTrainable)
    made._trial_info = None  # as outside Tune
    made.setup({"points": dumps([point(point_fields)])}, [], {}, PackSettings(sink, **settings), pruner)
    while not made.step()["done"]:
        pass
    (result,) = sink.results
    return result


def test_a_point_that_takes_too_long_has_failed(fields: dict[str, Any]) -> None:
    result = as_a_trial(fields | {"budget.epochs": 100_000}, point_seconds=0.5)
    assert result.status == "failed"
    assert "the limit of 0.5 seconds" in result.reason


def test_a_pruner_lets_members_go(fields: dict[str, Any]) -> None:
    seen: list[tuple[int, dict[str, Any]]] = []

    def pruner(reports: Sequence[tuple[str, int, dict[str, Any]]]) -> list[str]:
        seen.extend((epoch, errors) for _, epoch, errors in reports)
        return [key for key, epoch, _ in reports if epoch == 2]

    (result,) = finish(Training([point(fields | {"data.validation_size": 8})], CPU, pruner=pruner)).values()
    assert (result.status, result.outcome["epochs"]) == ("pruned", 2)
    assert [epoch for epoch, _ in seen] == [1, 2]
    assert all(set(errors) == {"train_error", "validation_error"} and None not in errors.values() for _, errors in seen)


@pytest.mark.parametrize("preprocessing", ["standardize", "unit"])
def test_every_source_gives_the_same_result_for_the_same_pixels(names: dict[str, str], preprocessing: str) -> None:
    outcomes = []
    for source in SOURCES:
        each = point(SHARED | {"data.name": names[source], "data.side": SIDE, "data.preprocessing": preprocessing})
        (result,) = finish(Training([each], CPU)).values()
        assert result.curve[-1]["train_loss"] < result.curve[0]["train_loss"], "it learns"
        outcomes.append({name: value for name, value in result.outcome.items() if name != "seconds" and "top5" not in name})
    for other in outcomes[1:]:
        agrees(other, outcomes[0])


def agrees(outcome: dict[str, Any], expected: dict[str, Any]) -> None:
    """Equal up to the order of sums, but for the time taken."""
    assert set(outcome) == set(expected)
    for name, value in expected.items():
        if name != "seconds":
            assert outcome[name] == (value if value is None else pytest.approx(value, rel=1e-4, abs=1e-9)), name


def test_training_resumed_from_a_checkpoint_ends_as_one_that_was_not_interrupted(fields: dict[str, Any]) -> None:
    points = [point(fields | {"seed": seed, "regularizers.flip": True, "optimizer.schedule": "cosine"}) for seed in range(2)]
    whole = {key: told(result) for key, result in finish(Training(points, CPU, slots=1)).items()}
    for epochs in (2, 5):
        first, results = Training(points, CPU, slots=1), {}
        for _ in range(epochs):
            results |= {result.key: result for result in first.epoch()}
        again = Training(points, CPU, slots=1)
        again.load_state_dict(saved_and_loaded(first.state_dict()))
        assert again.share == first.share == epochs / 8
        assert {key: told(result) for key, result in (results | finish(again)).items()} == whole


def test_a_restarted_training_leaves_out_what_has_its_result(fields: dict[str, Any]) -> None:
    points = [point(fields | {"seed": seed, "budget.epochs": 1}) for seed in range(3)]
    first = Training(points, CPU, slots=1)
    assert not Training(points, CPU, slots=1).finished
    state = first.state_dict()
    again = Training(points, CPU, slots=1)
    again.leave_out([points[0].key(), points[2].key()])
    again.load_state_dict(saved_and_loaded(state))
    assert set(finish(again)) == {points[1].key()}


def test_a_run_stops_early_and_at_its_target(fields: dict[str, Any]) -> None:
    fields = fields | {"budget.epochs": 12, "data.validation_size": 8, "optimizer.learning_rate": 1e-9}
    (result,) = finish(Training([point(fields | {"regularizers.early_stopping": 2})], CPU)).values()
    assert (result.reason, result.outcome["epochs"]) == ("stopped early: no lower validation error", 3)
    (result,) = finish(Training([point(fields | {"budget.stop_at_train_error": 1.0})], CPU)).values()
    assert (result.reason, result.outcome["epochs"]) == ("reached the train target", 1)


@pytest.mark.parametrize("source", SOURCES)
def test_measures_are_computed_or_refused_before_anything_trains(names: dict[str, str], source: str) -> None:
    each = point(SHARED | {"data.name": names[source], "data.side": SIDE, "budget.epochs": 0})
    if source == "tensors":
        (result,) = finish(Training([each], CPU, measures=["l2_norm"])).values()
        assert result.outcome["measure.l2_norm"] > 0
    else:
        with pytest.raises(ConfigError, match="measures need the training images in memory, which image files are not: leave out l2_norm"):
            Training([each], CPU, measures=["l2_norm"])


def test_a_trial_passes_on_what_a_study_asks_for(fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    class Actor:
        """As Ray's handle of a pruner."""

        class judge:  # noqa: N801
            @staticmethod
            def remote(reports: Sequence[tuple[str, int, dict[str, Any]]]) -> list[str]:
                return [key for key, epoch, _ in reports if epoch == 3]

    monkeypatch.setattr("ray.get", lambda reference: reference)
    result = as_a_trial(fields, pruner=Actor(), distribution=DataParallelism(None, 2.0, 0.0, ""))
    assert (result.status, result.outcome["epochs"]) == ("pruned", 3)


def test_points_of_a_pack_may_have_images_of_several_sizes(names: dict[str, str]) -> None:
    fields = SHARED | {"data.name": names["imagefolder"], "model.name": "cnn5", "model.width": 2, "budget.epochs": 1}
    points = [point(fields | {"data.side": side}) for side in (8, 16, 9)]
    assert len({each.signature() for each in points}) == 1
    together = finish(Training(points, CPU, slots=3))
    for each in points:
        assert told(together[each.key()]) == alone(each)


# Several processes


def by_processes(point_fields: dict[str, Any], folder: Path, count: int = 2, **settings: Any) -> list[dict[str, Any]]:
    """What each of several processes says of the point that they train together."""
    folder.mkdir()
    given = {"count": count, "folder": str(folder), "fields": point_fields, "settings": settings}
    pipes = [CONTEXT.Pipe(duplex=False) for _ in range(count)]
    several = [CONTEXT.Process(target=one_of_several.main, args=(given, rank, there), daemon=True) for rank, (_, there) in enumerate(pipes)]
    for process, (_, there) in zip(several, pipes, strict=True):
        process.start()
        there.close()  # so that one who ends without a word is noticed
    said = [here.recv() for here, _ in pipes if here.poll(240)]
    for process in several:
        process.join(60)
    assert [process.exitcode for process in several] == [0] * count
    return said


@pytest.mark.xdist_group("forked")
@pytest.mark.parametrize(("source", "loss"), [("tensors", "squared"), ("imagefolder", "cross_entropy")])
def test_several_processes_give_the_result_of_one(names: dict[str, str], tmp_path: Path, source: str, loss: str) -> None:
    """40 samples are batches of 13, 13, 13 and 1: the last leaves a process without one of its own."""
    fields = SHARED | {"data.name": names[source], "data.side": SIDE, "optimizer.batch_size": 13, "optimizer.loss": loss}
    fields |= {"data.validation_size": 0, "regularizers.gradient_clip": 0.5, "budget.epochs": 3}
    (whole,) = finish(Training([point(fields)], CPU)).values()
    results = by_processes(fields, tmp_path / "together")
    for result in results:
        agrees(result["outcome"], whole.outcome)
        assert result["curve"] == results[0]["curve"], "they decide alike"
    resumed = by_processes(fields, tmp_path / "resumed", stop_after=2)
    assert resumed[0]["curve"] == results[0]["curve"]


@pytest.mark.xdist_group("forked")
@pytest.mark.parametrize("source", ["tensors", "imagefolder"])
def test_several_processes_agree_when_a_run_ends(names: dict[str, str], tmp_path: Path, source: str) -> None:
    """The pruner is asked by the first process alone; a time that one of them has spent is all of theirs; statistics are shared."""
    fields = SHARED | {"data.name": names[source], "data.side": 8, "model.name": "cnn5", "model.width": 2}
    pruned = by_processes(fields, tmp_path / "pruned", prune_at=2)
    assert [(one["status"], one["outcome"]["epochs"], one["asked"]) for one in pruned] == [("pruned", 2, 2), ("pruned", 2, 0)]
    assert pruned[0]["curve"] == pruned[1]["curve"]
    late = by_processes(fields | {"budget.epochs": 10_000}, tmp_path / "late", slow_rank=1, point_seconds=120)
    assert [one["status"] for one in late] == ["failed", "failed"]
    assert late[0]["reason"] == late[1]["reason"]
