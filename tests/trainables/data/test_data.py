"""Data sets as they are loaded, and files that are not what they should be."""

from __future__ import annotations

import socket
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.trainables.made_up_points import point
from trainables.data.inputs import point_data
from trainables.data.protocol import Samples
from trainables.data.sets import named, sources
from trainables.data.sets.dataset import Dataset
from trainables.data.sets.npz import read_npz
from trainables.data.sets.sources import load, share
from trainables.data.sets.synthetic import SYNTHETIC_SAMPLES
from trainables.point.config import Data
from trainables.point.errors import ConfigError

Arrays = dict[str, np.ndarray]


def arrays(train: int = 12, test: int = 6, classes: int = 3, shape: tuple[int, ...] = (4, 5, 3)) -> Arrays:
    draw = np.random.default_rng(1)
    return {
        "x_train": draw.integers(0, 256, (train, *shape), dtype=np.uint8),
        "y_train": np.arange(train) % classes,
        "x_test": draw.integers(0, 256, (test, *shape), dtype=np.uint8),
        "y_test": np.arange(test) % classes,
    }


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write arrays, some of them changed or (None) left out, as an .npz file."""

    def write(name: str = "set.npz", **changes: Any) -> Path:
        held = {key: value for key, value in (arrays() | changes).items() if value is not None}
        np.savez(tmp_path / name, **held)
        return tmp_path / name

    return write


# Bundled and made-up sets


def test_digits_are_scikit_learns_with_every_fifth_as_test() -> None:
    from sklearn.datasets import load_digits

    bundle, dataset = load_digits(), load(Data(name="digits"))
    assert (len(dataset.train_labels), len(dataset.test_labels), dataset.classes) == (1437, 360, 10)
    assert dataset.image_shape == (1, 8, 8)
    assert dataset.train_images.dtype == torch.uint8
    seen = {"test": 0, "train": 0}
    for place in range(len(bundle.target)):
        name = "test" if place % 5 == 0 else "train"
        images, labels = getattr(dataset, f"{name}_images"), getattr(dataset, f"{name}_labels")
        assert int(labels[seen[name]]) == bundle.target[place]
        np.testing.assert_array_equal(images[seen[name], 0].numpy(), np.floor(bundle.images[place] * 255 / 16 + 0.5))
        seen[name] += 1


def test_small_digits_are_all_digits_of_which_a_third_is_trained_on() -> None:
    small, digits = load(Data(name="small_digits")), load(Data(name="digits"))
    assert (len(small.train_labels), len(small.test_labels), small.classes) == (599, 1198, 10)
    every = [torch.cat([of.train_images, of.test_images]).flatten(1) for of in (small, digits)]
    assert sorted(map(tuple, every[0].tolist())) == sorted(map(tuple, every[1].tolist()))
    assert small.train_labels.bincount().min() > 50


@pytest.mark.parametrize(
    ("name", "of", "shape", "side"), [("small_mnist", "mnist", (28, 28), 2), ("small_cifar10", "cifar10", (32, 32, 3), 4)]
)
def test_small_image_sets_are_means_over_squares_of_the_first_of_each_class(
    name: str, of: str, shape: tuple[int, ...], side: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = np.random.default_rng(0)
    images = {part: draw.integers(0, 256, (3000, *shape), dtype=np.uint8) for part in ("x_train", "x_test")}
    labels = {part: draw.integers(0, 10, 3000) for part in ("y_train", "y_test")}
    np.savez(tmp_path / f"{of}.npz", **images, **labels)
    monkeypatch.setenv("GAPLAB_DATA", str(tmp_path))
    monkeypatch.setattr(named, "_expanded", lambda folder: Path(folder))
    found = load(Data(name=name))
    for part, got, truths in (("train", found.train_images, found.train_labels), ("test", found.test_images, found.test_labels)):
        y = labels[f"y_{part}"]
        first = [at for at in range(3000) if (y[: at + 1] == y[at]).sum() <= 250]
        assert truths.tolist() == y[first].tolist()
        grey = images[f"x_{part}"][first].reshape(len(first), *shape[:2], -1)
        for image, at in ((0, 0), (17, 1), (len(first) - 1, shape[0] // side - 1)):
            square = grey[image, at * side : (at + 1) * side, :side].reshape(-1, grey.shape[3])
            assert got[image, :, at, 0].tolist() == np.floor(square.mean(0) + 0.5).astype(int).tolist()
    assert len(found.test_labels) == 2500
    assert found.image_shape == (grey.shape[3], shape[0] // side, shape[1] // side)


def test_a_set_is_loaded_once_a_process() -> None:
    assert load(Data(name="digits")) is load(Data(name="digits", train_size=5))


@pytest.mark.parametrize(("dimension", "classes", "separation"), [(8, 3, 4.0), (8, 8, 0.0), (5, 2, 10.0)])
def test_synthetic_classes_are_unit_gaussians_so_far_apart(dimension: int, classes: int, separation: float) -> None:
    dataset = load(Data(name="synthetic", dimension=dimension, classes=classes, separation=separation))
    assert dataset.image_shape == (1, 1, dimension)
    assert dataset.train_images.dtype == torch.float32
    points = torch.cat([dataset.train_images, dataset.test_images]).flatten(1).double()
    labels = torch.cat([dataset.train_labels, dataset.test_labels])
    assert len(points) == 2 * SYNTHETIC_SAMPLES
    each = [points[labels == label] for label in range(classes)]
    per_class = len(points) // classes
    assert all(abs(len(members) - per_class) <= 1 for members in each)
    means = torch.stack([members.mean(0) for members in each])
    error = 5 / per_class**0.5  # five standard errors
    for members in each:
        assert torch.allclose(members.T.cov(), torch.eye(dimension, dtype=torch.float64), atol=error * 2**0.5)
    for first in range(classes):
        for second in range(first):
            distance = float((means[first] - means[second]).norm())
            assert abs(distance - separation) < error * (2 * dimension) ** 0.5


def test_more_classes_than_dimensions_lie_at_one_radius() -> None:
    dataset = load(Data(name="synthetic", dimension=2, classes=5, separation=6.0))
    for label in range(5):
        mean = dataset.train_images[dataset.train_labels == label].flatten(1).mean(0)
        assert float(mean.norm()) == pytest.approx(6 / 2**0.5, abs=5 * (5 / SYNTHETIC_SAMPLES) ** 0.5)


# Files


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1), (4, 5, 3)])
def test_images_come_channels_first(write: Callable[..., Path], shape: tuple[int, ...]) -> None:
    held = arrays(shape=shape)
    dataset = read_npz(write(**held))
    channels = shape[2] if len(shape) == 3 else 1
    assert dataset.image_shape == (channels, 4, 5)
    for place, row, column, channel in np.ndindex(12, 4, 5, channels):
        stored = held["x_train"][place, row, column] if len(shape) == 2 else held["x_train"][place, row, column, channel]
        assert int(dataset.train_images[place, channel, row, column]) == stored
    assert dataset.train_images.dtype == torch.uint8
    assert dataset.test_labels.tolist() == held["y_test"].tolist()
    assert dataset.classes == 3


@pytest.mark.parametrize("kind", ["uint8", "int8", "int32", "uint64", ">i8"])
def test_labels_may_be_any_integers_in_a_list_or_a_column(write: Callable[..., Path], kind: str) -> None:
    column = {name: labels.astype(kind)[:, None] for name, labels in arrays().items() if name[0] == "y"}
    dataset = read_npz(write(**column))
    assert dataset.train_labels.dtype == torch.int64
    assert dataset.train_labels.tolist() == arrays()["y_train"].tolist()


NAMES = np.array(["bird", "cat", "ant"])
"""In another order than the alphabet's, which numbers them."""


@pytest.mark.parametrize(
    ("stored", "classes", "names"),
    [
        (lambda labels: labels + 1, lambda labels: labels, ("1", "2", "3")),
        (lambda labels: NAMES[labels], lambda labels: np.array([1, 2, 0])[labels], ("ant", "bird", "cat")),
        (lambda labels: np.eye(3)[labels], lambda labels: labels, ("0", "1", "2")),
        (lambda labels: labels.astype(float), lambda labels: labels, ("0", "1", "2")),
        (lambda labels: labels > 0, lambda labels: labels > 0, ("0", "1")),
        (lambda labels: 2 * (labels > 0).astype(int) - 1, lambda labels: labels > 0, ("-1", "1")),
    ],
)
def test_labels_are_understood_as_they_are_written(write: Callable[..., Path], stored: Any, classes: Any, names: tuple[str, ...]) -> None:
    written = {name: stored(labels) for name, labels in arrays().items() if name[0] == "y"}
    dataset = read_npz(write(**written))
    assert dataset.train_labels.tolist() == classes(arrays()["y_train"]).astype(int).tolist()
    assert dataset.test_labels.tolist() == classes(arrays()["y_test"]).astype(int).tolist()
    assert dataset.class_names == names
    assert dataset.classes == len(names)


def test_a_table_is_standardized_by_column_and_takes_no_crops(write: Callable[..., Path]) -> None:
    draw = np.random.default_rng(3)
    table = {name: draw.normal([5, -3, 100, 0], [1, 10, 0.1, 1e3], (count, 4)) for name, count in (("x_train", 12), ("x_test", 6))}
    path = write(**table)
    dataset = read_npz(path)
    assert dataset.is_table
    assert dataset.image_shape == (4, 1, 1)
    resolved = point({"data.name": f"npz:{path}", "model.name": "mlp"})
    data = point_data(resolved, torch.device("cpu"))
    expected = (table["x_train"] - table["x_train"].mean(0)) / table["x_train"].std(0)
    np.testing.assert_allclose(data.train.inputs.gather(torch.arange(12)).numpy(), expected, atol=2e-4)
    with pytest.raises(ConfigError, match="crop and flip need images"):
        point({"data.name": f"npz:{path}", "model.name": "mlp", "regularizers.crop": 1})


def test_given_labels_are_trained_on_if_asked_for_and_measured_against_the_true_ones(write: Callable[..., Path]) -> None:
    true = arrays()["y_train"]
    given = true.copy()
    given[[1, 5, 6]] = (given[[1, 5, 6]] + 1) % 3
    path = write(y_train=given, y_train_true=true)

    def labels(kind: str, level: float | None) -> Samples:
        resolved = point({"data.name": f"npz:{path}", "model.name": "linear", "corruption.kind": kind, "corruption.level": level})
        return point_data(resolved, torch.device("cpu")).train

    assert labels("given", None).labels.tolist() == given.tolist()
    assert labels("given", None).wrong.nonzero().flatten().tolist() == [1, 5, 6]
    assert labels("given", 0.0).labels.tolist() == true.tolist()
    half = labels("given", 0.5)
    assert set(half.wrong.nonzero().flatten().tolist()) <= {1, 5, 6}
    assert labels("redraw", None).labels.tolist() == true.tolist()
    with pytest.raises(ConfigError, match=r"has no labels beside the true ones: .* the data's own file has y_train_true"):
        point({"data.name": "digits", "corruption.kind": "given"})


@pytest.mark.parametrize("kind", ["float16", "float32", "float64", ">f4"])
def test_pixels_may_be_finite_floats(write: Callable[..., Path], kind: str) -> None:
    floats = {name: (images / 256).astype(kind) for name, images in arrays().items() if name[0] == "x"}
    dataset = read_npz(write(**floats))
    assert dataset.train_images.dtype == torch.float32
    np.testing.assert_array_equal(dataset.train_images.permute(0, 2, 3, 1).numpy(), arrays()["x_train"].astype(np.float32) / 256)


def with_pixel(value: float) -> np.ndarray:
    images = arrays()["x_test"].astype(np.float32)
    images[3, 2, 1, 0] = value
    return images


def with_label(name: str, value: int) -> np.ndarray:
    labels = arrays()[name].copy()
    labels[2] = value
    return labels


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"x_test": None}, "lacks x_test: a data file holds the arrays x_train, y_train, x_test, y_test"),
        ({"y_train": None, "y_test": None}, "lacks y_train, y_test"),
        ({"x_train": arrays()["x_train"] / 255, "x_test": with_pixel(np.nan)}, "x_test holds NaN or infinite pixels (1 of them)"),
        ({"x_train": arrays()["x_train"] / 255, "x_test": with_pixel(np.inf)}, "x_test holds NaN or infinite pixels (1 of them)"),
        ({"y_test": with_label("y_test", 3)}, "y_test holds the label 3, outside the classes 0 to 2"),
        ({"y_test": with_label("y_test", -1)}, "y_test holds the label -1, outside the classes 0 to 2"),
        (
            {"y_train": with_label("y_train", -1)},
            "the label -1, outside the classes 0 to 2: if it marks samples without a label, leave these out (1 of 12, first at 2)",
        ),
        (
            {"y_train": np.where(np.arange(12) % 5 == 4, np.nan, arrays()["y_train"])},
            "y_train has no label for 2 of 12 samples, first at 4: it is nan there; leave these samples out",
        ),
        (
            {"y_train": np.array(list("abc") * 3 + ["a", "", "c"]), "y_test": np.array(list("abcabc"))},
            "y_train has no label for 1 of 12 samples, first at 10: it is an empty name there; leave these samples out",
        ),
        (
            {"y_train": np.array(list("abc") * 4, dtype=object), "y_test": np.array(list("abcabc"))},
            "y_train is an array of Python objects, which is not loaded: store names by y_train.astype(str), numbers by",
        ),
        ({"y_train": with_label("y_train", 255)}, "y_train holds the label 255 but no label 3: number the C classes 0 to C - 1"),
        ({"y_train": arrays()["y_train"] + 2, "y_test": arrays()["y_test"] + 2}, "y_train holds the label 4 but no label 0"),
        ({"y_train": arrays()["y_train"] + 1}, "y_train holds the label 3 but no label 0: number"),
        ({"y_train": np.array(list("abc") * 4)}, "some of y_train, y_test hold names and others numbers"),
        (
            {"y_train": np.array(list("abc") * 4), "y_test": np.array(list("abcabd"))},
            "y_test holds the label d, outside the 3 classes of y",
        ),
        ({"y_train_true": arrays()["y_train"][:-1]}, "y_train has 12 labels but y_train_true 11"),
        (
            {"x_train": np.moveaxis(arrays()["x_train"], 3, 1)},
            "channels first: store N x H x W x C, in NumPy x_train.transpose(0, 2, 3, 1)",
        ),
        ({"y_train": arrays()["y_train"][:-1]}, "x_train has 12 images but y_train 11 labels"),
        ({"x_test": arrays()["x_test"][1:]}, "x_test has 5 images but y_test 6 labels"),
        (
            {"y_train": arrays()["y_train"].astype(complex)},
            "y_train must be a list of whole numbers or names, one label a sample, or one-hot rows; it is complex128 (12,)",
        ),
        ({"y_train": 2 * np.eye(3)[arrays()["y_train"]].astype(int)}, "it is int64 (12, 3)"),
        ({"y_test": np.array(1)}, "it is int64 ()"),
        ({"y_test": np.array([], dtype=int), "x_test": arrays()["x_test"][:0]}, "it is int64 (0,); it is empty"),
        ({"x_train": np.array(3, dtype=np.uint8)}, "x_train has 0 images but y_train 12 labels"),
        (
            {"x_train": arrays()["x_train"].reshape(12, 4, 5, 3, 1)},
            "has shape (12, 4, 5, 3, 1): images must be N x H x W or N x H x W x C, a",
        ),
        ({"x_train": arrays()["x_train"].astype(np.int32)}, "x_train is int32: pixels must be uint8, or floating-point numbers"),
        ({"x_train": arrays()["x_train"].astype(np.complex64)}, "x_train is complex64"),
        ({"x_test": arrays(shape=(4, 4, 3))["x_test"]}, "training images are (3, 4, 5) but test images (3, 4, 4)"),
        ({"x_test": (arrays()["x_test"] / 255).astype(np.float32)}, "x_train is uint8 but x_test float32: both must be in one unit"),
        ({"x_train": np.array([{}] * 12, dtype=object)}, "x_train is an array of Python objects, which is not loaded: store numbers"),
    ],
)
def test_a_file_that_holds_something_else_is_refused_in_a_sentence(write: Callable[..., Path], changes: Arrays, said: str) -> None:
    path = write(**changes)
    with pytest.raises(ConfigError) as caught:
        load(Data(name=f"npz:{path}"))
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_missing_or_no_npz_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no data file .*none.npz: give the path of a Keras-style .npz as npz:PATH"):
        load(Data(name=f"npz:{tmp_path / 'none.npz'}"))
    with pytest.raises(ConfigError, match="there is no data file"):
        load(Data(name=f"npz:{tmp_path}"))
    np.save(tmp_path / "one.npy", np.zeros(3))
    (tmp_path / "text.npz").write_text("x_train, y_train")
    (tmp_path / "empty.npz").touch()
    for name in ("one.npy", "text.npz", "empty.npz"):
        with pytest.raises(ConfigError, match=rf"{name} is no .npz file, or only the beginning of one: copy it anew"):
            load(Data(name=f"npz:{tmp_path / name}"))


@given(st.booleans(), st.floats(0, 1, exclude_max=True, allow_subnormal=False), st.binary(max_size=4), st.integers(0, 2))
def test_a_damaged_file_is_refused_or_read_whole(
    tmp_path_factory: pytest.TempPathFactory, compressed: bool, where: float, bytes_there: bytes, way: int
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "set.npz"
    (np.savez_compressed if compressed else np.savez)(path, **arrays())
    content, intact = path.read_bytes(), read_npz(path)
    place = int(where * len(content))
    tails = (b"", bytes_there + content[place:], bytes_there + content[place + len(bytes_there) :])  # cut, inserted, overwritten
    path.write_bytes(content[:place] + tails[way])
    try:
        dataset, said = read_npz(path), ""
    except ConfigError as error:
        dataset, said = None, str(error)
    assert "\n" not in said
    assert str(path) in said if dataset is None else dataset.digest == intact.digest


def test_the_digest_is_of_the_content(write: Callable[..., Path], tmp_path: Path) -> None:
    first = read_npz(write()).digest
    (tmp_path / "elsewhere").mkdir()
    np.savez_compressed(tmp_path / "elsewhere" / "other name.npz", **dict(reversed(arrays().items())))
    assert read_npz(tmp_path / "elsewhere" / "other name.npz").digest == first
    fortran = {name: np.asfortranarray(array) for name, array in arrays().items()}
    assert read_npz(write("fortran.npz", **fortran)).digest == first
    assert read_npz(write("label.npz", y_test=with_label("y_test", 0))).digest != first
    swapped = arrays()["x_train"][::-1]
    assert read_npz(write("order.npz", x_train=swapped)).digest != first


def test_a_resolved_point_refuses_a_file_that_has_changed(write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = write()
    resolved = point({"data.name": f"npz:{path}", "model.name": "linear"})
    assert load(resolved.data).digest == resolved.data.digest
    named.load_named.cache_clear()  # as in another process
    write(y_test=with_label("y_test", 0))
    with pytest.raises(ConfigError, match="its content has changed"):
        load(resolved.data)


def test_a_set_that_was_shared_needs_no_file(write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = write()
    dataset = read_npz(path)
    parts = dataset.arrays()
    for array in parts[:4]:
        array.flags.writeable = False  # as an object store maps it
    path.unlink()
    monkeypatch.setattr(sources, "_SHARED", {})
    share(f"npz:{path}", Dataset.from_arrays(*parts))
    shared = load(Data(name=f"npz:{path}", digest=dataset.digest))
    assert shared.digest == dataset.digest
    assert shared.classes == 3
    assert torch.equal(shared.train_images, dataset.train_images)
    assert shared.train_images.data_ptr() == dataset.train_images.data_ptr()


# Sets by name


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10", "cifar100", "svhn"])
def test_a_file_of_that_name_in_the_data_folder_stands_for_a_download(
    write: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("GAPLAB_DATA", str(tmp_path))
    write(f"{name}.npz")
    assert load(Data(name=name)).train_labels.tolist() == arrays()["y_train"].tolist()


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_a_download_that_fails_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def unreachable(*arguments: object, **named: object) -> None:
        raise urllib.request.URLError("no route to host")

    monkeypatch.setenv("GAPLAB_DATA", str(tmp_path))
    monkeypatch.setattr(urllib.request, "urlopen", unreachable)
    monkeypatch.setattr(socket, "socket", unreachable)  # no way around it
    with pytest.raises(ConfigError) as caught:
        load(Data(name=name))
    said = str(caught.value)
    assert f"data.name is '{name}', but torchvision could not download it to {tmp_path}" in said
    assert said.endswith(f"check the connection, or put a Keras-style file there as {name}.npz")
    assert "\n" not in said


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("GAPLAB_DATA", str(tmp_path / "file"))
    with pytest.raises(ConfigError, match="could not download it to"):
        load(Data(name="mnist"))


def test_an_unknown_set_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"data.name is 'cifar', which is no data set: use one of digits, .*, or npz:PATH"):
        load(Data(name="cifar"))


class StandIn:
    """For a torchvision data set, with what the real ones hold."""

    def __init__(self, root: str, *, train: bool | None = None, split: str | None = None, download: bool) -> None:
        assert download
        assert Path(root).is_dir()
        start = 0 if train or split == "train" else 100
        self.numbers = (np.arange(20 * 3 * 4 * 5) + start).astype(np.uint8)
        self.places = [place % 10 for place in range(20)]


class Gray(StandIn):
    @property
    def data(self) -> torch.Tensor:
        return torch.from_numpy(self.numbers[: 20 * 4 * 5].reshape(20, 4, 5))

    @property
    def targets(self) -> torch.Tensor:
        return torch.tensor(self.places)


class Coloured(StandIn):
    @property
    def data(self) -> np.ndarray:
        return self.numbers.reshape(20, 4, 5, 3)

    @property
    def targets(self) -> list[int]:
        return self.places


class ChannelsFirst(StandIn):
    @property
    def data(self) -> np.ndarray:
        return self.numbers.reshape(20, 3, 4, 5)

    @property
    def labels(self) -> np.ndarray:
        return np.array(self.places)


@pytest.mark.parametrize(
    ("name", "its_name", "stand_in"), [("mnist", "MNIST", Gray), ("cifar10", "CIFAR10", Coloured), ("svhn", "SVHN", ChannelsFirst)]
)
def test_torchvisions_sets_come_channels_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, its_name: str, stand_in: type
) -> None:
    import torchvision.datasets

    monkeypatch.setenv("GAPLAB_DATA", str(tmp_path))
    monkeypatch.setattr(torchvision.datasets, its_name, stand_in)
    dataset = load(Data(name=name))
    held = {"mnist": (20, 4, 5, 1), "cifar10": (20, 4, 5, 3), "svhn": (20, 3, 4, 5)}[name]
    for images, start in ((dataset.train_images, 0), (dataset.test_images, 100)):
        stored = (np.arange(np.prod(held)) + start).astype(np.uint8).reshape(held)
        np.testing.assert_array_equal(images.numpy(), stored if name == "svhn" else stored.transpose(0, 3, 1, 2))
    assert dataset.classes == 10
    assert dataset.test_labels.tolist() == [place % 10 for place in range(20)]
