"""Image files: the same samples from a tree and from shards; training on them as on images in memory."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from tests.trainables.made_up_images import CLASSES, TEST, TRAIN, write_shards, write_tree
from tests.trainables.made_up_images import data_folder_of_the_tests as data_folder_of_the_tests
from tests.trainables.made_up_points import only, point
from trainables.data.corruption import corrupt_labels
from trainables.data.sets.image_files import ImageFiles, read_image
from trainables.data.sets.sources import load
from trainables.data.streamed import channel_statistics
from trainables.point.config import Corruption, Data
from trainables.point.errors import ConfigError
from trainables.training.loop import Training
from trainables.training.members import Result

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tree(tmp_path_factory.mktemp("images") / "tree")


@pytest.fixture(scope="module")
def shards(tree: Path) -> Path:
    return write_shards(tree, tree.parent / "shards")


def fields(tree: Path, **changes: Any) -> dict[str, Any]:
    return {
        "data.name": f"imagefolder:{tree}",
        "data.side": 8,
        "model.name": "mlp",
        "model.width": 32,
        "optimizer.batch_size": 12,
        "optimizer.learning_rate": 0.05,
        "budget.epochs": 4,
        "budget.stop_at_train_error": None,
    } | changes


def trained(changes: dict[str, Any]) -> Result:
    training = Training([point(changes)], CPU)
    while not training.finished:
        results = training.epoch()
    return results[0]


def files_of(name: str) -> ImageFiles:
    found = load(Data(name=name, side=8))
    assert isinstance(found, ImageFiles)
    return found


def test_tree_and_shards_hold_the_same_samples(tree: Path, shards: Path) -> None:
    first, second = files_of(f"imagefolder:{tree}"), files_of(f"webdataset:{shards}")
    assert (len(first.train_files), len(first.test_files), first.classes, first.image_shape) == (TRAIN, TEST, CLASSES, (3, 8, 8))
    assert first.train_labels.tolist() == second.train_labels.tolist() == [place * CLASSES // TRAIN for place in range(TRAIN)]
    for one, other in zip((*first.train_files, *first.test_files), (*second.train_files, *second.test_files), strict=True):
        assert torch.equal(read_image(one), read_image(other))
    assert first.digest != second.digest


def test_the_side_and_the_files_are_in_the_key(tree: Path, shards: Path) -> None:
    keys = {
        point(fields(tree)).key(),
        point(fields(tree, **{"data.side": 9})).key(),
        point(fields(tree, **{"data.name": f"webdataset:{shards}"})).key(),
    }
    assert len(keys) == 3


def test_it_takes_no_memory_for_pixels(tree: Path) -> None:
    images = load(Data(name=f"imagefolder:{tree}", side=224)).train_images
    assert images.shape == (TRAIN, 3, 224, 224)
    assert images.untyped_storage().nbytes() == 1


def test_labels_are_corrupted_by_index_as_everywhere(tree: Path) -> None:
    result = trained(fields(tree, **{"corruption.kind": "flip", "corruption.level": 0.5, "budget.epochs": 0}))
    truth = torch.arange(TRAIN) * CLASSES // TRAIN
    wrong = corrupt_labels(truth, CLASSES, Corruption("flip", 0.5, seed=0)) != truth
    assert result.outcome["wrong_label_rate"] == wrong.double().mean().item() > 0


@pytest.mark.parametrize(
    "changes",
    [
        {"corruption.level": 0.5, "regularizers.weight_decay": 0.01, "optimizer.schedule": "exponential", "data.validation_size": 7},
        {"optimizer.name": "adam", "optimizer.learning_rate": 0.01, "optimizer.loss": "squared", "regularizers.label_smoothing": 0.1},
        {"regularizers.gradient_clip": 0.1, "data.train_size": 30},
    ],
)
def test_training_on_files_is_training_on_the_same_pixels_in_memory(tree: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    """The pixels as the network sees them, put into an array, and trained on by `trainables.training.loop`."""
    dataset = files_of(f"imagefolder:{tree}")
    transform = v2.Compose([v2.Resize(9, antialias=True), v2.CenterCrop(8), v2.ToDtype(torch.float32, scale=True)])
    arrays = {}
    for split, files, labels in (("train", dataset.train_files, dataset.train_labels), ("test", dataset.test_files, dataset.test_labels)):
        arrays[f"x_{split}"] = torch.stack([transform(read_image(file)) for file in files]).permute(0, 2, 3, 1).numpy()
        arrays[f"y_{split}"] = labels.numpy()
    np.savez(tmp_path / "same.npz", **arrays)
    changes = changes | {"data.preprocessing": "unit", "budget.epochs": 6, "budget.evaluate_every": 3}
    on_files = trained(fields(tree, **changes))
    in_memory = only(fields(tree, **changes, **{"data.name": f"npz:{tmp_path / 'same.npz'}"}))
    assert on_files.reason == in_memory.reason == "spent its epochs"
    assert on_files.outcome["train_loss"] < on_files.curve[0]["train_loss"]
    for name, value in in_memory.outcome.items():
        if name != "seconds":
            assert on_files.outcome[name] == (value if value is None else pytest.approx(value, rel=1e-4)), name
    for one, other in zip(on_files.curve, in_memory.curve, strict=True):
        assert [one[name] for name in other if name != "key"] == [
            value if value is None else pytest.approx(value, rel=1e-4) for name, value in other.items() if name != "key"
        ]


def test_top_five_errors_are_recorded(tree: Path) -> None:
    outcome = trained(fields(tree)).outcome
    assert outcome["measure.test_top5_error"] == outcome["measure.train_top5_error"] == 0  # of four classes


def test_shards_augmentation_and_loaders_do_not_matter_to_the_draws(tree: Path, shards: Path) -> None:
    """The same images, the same bits: from shards, and decoded by other processes."""
    changes = {"regularizers.crop": 2, "regularizers.flip": True, "budget.epochs": 2}
    one = trained(fields(tree, **changes))
    from_shards = trained(fields(tree, **changes, **{"data.name": f"webdataset:{shards}"}))
    training = Training([point(fields(tree, **changes))], CPU, loaders=2)
    while not training.finished:
        by_others = training.epoch()
    plain = trained(fields(tree, **{"budget.epochs": 2}))
    assert one.outcome["train_loss"] == from_shards.outcome["train_loss"] == by_others[0].outcome["train_loss"]
    assert one.outcome["train_loss"] != plain.outcome["train_loss"]
    assert one.key != from_shards.key  # another digest


def test_a_resumed_run_ends_as_one_that_was_not_interrupted(tree: Path) -> None:
    changes = fields(tree, **{"optimizer.schedule": "exponential", "regularizers.dropout": 0.2})
    whole = trained(changes)
    first = Training([point(changes)], CPU)
    for _ in range(2):
        assert first.epoch() == []
    second = Training([point(changes)], CPU)
    second.load_state_dict(first.state_dict())
    second.epoch()
    assert second.share == 0.75
    (result,) = second.epoch()
    assert second.finished
    timeless = {name: value for name, value in result.outcome.items() if name != "seconds"}
    assert timeless == {name: value for name, value in whole.outcome.items() if name != "seconds"}
    assert result.curve == whole.curve


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_convolutions_train_in_both_precisions(tree: Path, precision: str) -> None:
    changes = {"model.name": "alexnet_small", "model.width": 4, "data.side": 12, "precision": precision, "budget.epochs": 1}
    assert trained(fields(tree, **changes)).outcome["train_loss"] < 3


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"data.preprocessing": "paper"}, "data.preprocessing has a value that imagefolder data"),
        ({"corruption.kind": "gaussian"}, "corruption.kind has a value that imagefolder data"),
        ({"regularizers.mixup": 0.5}, "regularizers.mixup has a value that imagefolder data"),
        ({"data.name": "webdataset:/nowhere"}, "there is no folder /nowhere"),
    ],
)
def test_what_does_not_go_is_said_before_anything_starts(tree: Path, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        point(fields(tree, **changes))


def test_an_image_that_cannot_be_read_fails_its_point_with_its_name(tree: Path, tmp_path: Path) -> None:
    broken = write_tree(tmp_path / "tree")
    next((broken / "train" / "class2").glob("*.png")).write_bytes(b"not an image")
    result = trained(fields(broken))
    assert result.status == "failed"
    assert "class2" in result.reason


def test_broken_sources_are_told(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    with pytest.raises(ConfigError, match="is no tree of images, a folder a class"):
        load(Data(name=f"imagefolder:{tmp_path}"))
    with pytest.raises(ConfigError, match=r"has no shard train-\*.tar"):
        load(Data(name=f"webdataset:{tmp_path}"))
    (tmp_path / "train-0.tar").write_bytes(b"\x1f\x8bnot a tar" * 100)
    with pytest.raises(ConfigError, match=r"train-0.tar is no uncompressed tar of KEY.jpg and KEY.cls"):
        load(Data(name=f"webdataset:{tmp_path}"))


def test_statistics_are_those_of_the_training_images_and_are_kept(tree: Path, data_folder_of_the_tests: Path) -> None:
    dataset = files_of(f"imagefolder:{tree}")
    transform = v2.Compose([v2.Resize(9, antialias=True), v2.CenterCrop(8), v2.ToDtype(torch.float64, scale=True)])
    pixels = torch.stack([transform(read_image(file)) for file in dataset.train_files])
    expected = pixels.mean((0, 2, 3)).tolist(), pixels.std((0, 2, 3), correction=0).tolist()
    kept = data_folder_of_the_tests / "statistics" / f"{dataset.digest}-8.json"
    for damage in (None, "", "[1]"):
        if damage is not None:
            kept.write_text(damage)
        channel_statistics.cache_clear()
        for found, value in zip(channel_statistics(dataset, 8, 0), expected, strict=True):
            assert found == pytest.approx(value, abs=1e-6)
    kept.write_text("[[1, 2, 3], [4, 5, 6]]")
    assert channel_statistics(dataset, 8, 0)[0] != (1, 2, 3), "from this process's memory"
    channel_statistics.cache_clear()
    assert channel_statistics(dataset, 8, 0) == ((1, 2, 3), (4, 5, 6))
    channel_statistics.cache_clear()
    kept.unlink()
