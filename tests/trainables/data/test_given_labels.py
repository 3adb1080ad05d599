"""Labels of a file beside a data set: in the form in which CIFAR-10N is published, in other orders, and with one fault each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.trainables.made_up_points import CPU, only, point
from trainables.data.inputs import point_data
from trainables.data.sets.given_labels import given_labels
from trainables.data.sets.sources import load
from trainables.point.config import Data
from trainables.point.errors import ConfigError


def published(blobs: str, wrong: int = 20) -> dict[str, Any]:
    """Lists as the published file holds them: NumPy arrays in the order of the training images."""
    clean = load(Data(name=blobs)).train_labels.numpy()
    worse = clean.copy()
    worse[:wrong] = (worse[:wrong] + 1) % 3
    return {"clean_label": clean, "worse_label": worse, "aggre_label": clean.copy()}


@pytest.fixture
def people(blobs: str, tmp_path: Path) -> str:
    torch.save(published(blobs), tmp_path / "people.pt")
    return f"{tmp_path}/people.pt"


def test_a_point_trains_on_them_and_their_rate_is_measured(blobs: str, people: str) -> None:
    noise = {"data.name": blobs, "corruption.kind": "given", "corruption.labels": f"{people}:worse_label", "budget.epochs": 0}
    data = point_data(point(noise), CPU)
    worse = published(blobs)["worse_label"]
    assert data.train.labels.tolist() == worse[data.train.index.numpy()].tolist()
    assert not bool(data.test.wrong.any())
    assert only(noise).outcome["wrong_label_rate"] == pytest.approx(20 / 90)
    assert only(noise | {"corruption.labels": f"{people}:aggre_label"}).outcome["wrong_label_rate"] == 0


@pytest.mark.parametrize("kind", ["arrays", "tensors", "lists", "npz", "as NumPy 1 wrote it"])
def test_the_file_may_hold_arrays_of_any_kind(blobs: str, tmp_path: Path, kind: str) -> None:
    lists = published(blobs)
    path = tmp_path / ("labels.npz" if kind == "npz" else "labels.pt")
    if kind == "npz":
        np.savez(path, **lists)
    elif kind == "as NumPy 1 wrote it":
        torch.save(lists, path, _use_new_zipfile_serialization=False)
        content = path.read_bytes()
        assert b"numpy._core.multiarray" in content
        path.write_bytes(content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    else:
        turned = {"arrays": np.int32, "tensors": torch.from_numpy, "lists": list}[kind]
        torch.save({name: turned(values) if kind != "lists" else values.tolist() for name, values in lists.items()}, path)
    found, _ = given_labels(f"{path}:worse_label", load(Data(name=blobs)))
    assert found.dtype == torch.int64
    assert found.tolist() == lists["worse_label"].tolist()


def test_the_key_knows_the_labels_and_not_the_file(blobs: str, people: str, tmp_path: Path) -> None:
    noise = {"data.name": blobs, "corruption.kind": "given"}
    np.savez(tmp_path / "moved.npz", **published(blobs))
    first, moved, other = (
        point(noise | {"corruption.labels": source})
        for source in (f"{people}:worse_label", f"{tmp_path}/moved.npz:worse_label", f"{people}:aggre_label")
    )
    assert first.key() == moved.key() != other.key()
    redrawn = {"data.name": blobs, "corruption.level": 0.5}
    assert point(redrawn | {"corruption.labels": f"{people}:worse_label"}).key() == point(redrawn).key()


def test_labels_that_change_after_a_point_was_keyed_are_refused(blobs: str, tmp_path: Path) -> None:
    from trainables.data.sets.given_labels import _lists

    source = f"{tmp_path}/people.npz:worse_label"
    np.savez(tmp_path / "people.npz", **published(blobs))
    resolved = point({"data.name": blobs, "corruption.kind": "given", "corruption.labels": source, "seed": 5})
    np.savez(tmp_path / "people.npz", **published(blobs, wrong=21))
    _lists.cache_clear()  # as in another process
    with pytest.raises(ConfigError, match="not the labels of this point any more"):
        point_data(resolved, CPU)


def _sorted(lists: dict[str, Any]) -> dict[str, Any]:
    order = np.argsort(lists["clean_label"], kind="stable")
    return {name: values[order] for name, values in lists.items()}


@pytest.mark.parametrize(
    ("change", "name", "said"),
    [
        (_sorted, "worse_label", "clean_label differs from the labels of the data set at .* of 90 places, first at 1: "),
        (lambda lists: {name: values[:80] for name, values in lists.items()}, "worse_label", "clean_label has 80 labels, and not 90"),
        (lambda lists: lists, "worst_label", "lacks 'worst_label', .*: it has aggre_label, clean_label, worse_label"),
        (lambda lists: {"worse_label": lists["worse_label"]}, "worse_label", "lacks 'clean_label', the true labels"),
        (lambda lists: lists | {"worse_label": lists["worse_label"] + 9}, "worse_label", "outside the classes 0 to 2"),
        (lambda lists: [1, 2], "worse_label", "holds no lists of labels by name"),
        (lambda lists: lists | {"path": Path("x")}, "worse_label", "holds more than lists of labels, which is not loaded"),
    ],
)
def test_a_file_of_something_else_is_a_sentence(blobs: str, tmp_path: Path, change: Any, name: str, said: str) -> None:
    torch.save(change(published(blobs)), tmp_path / "labels.pt")
    with pytest.raises(ConfigError, match=said):
        point({"data.name": blobs, "corruption.kind": "given", "corruption.labels": f"{tmp_path}/labels.pt:{name}"})


def test_labels_with_images_are_joined_by_what_the_images_hold(blobs: str, tmp_path: Path) -> None:
    dataset, lists = load(Data(name=blobs)), published(blobs)
    order = np.random.default_rng(3).permutation(90)
    images = dataset.train_images.permute(0, 2, 3, 1).numpy()
    np.savez(tmp_path / "shuffled.npz", x_train=images[order], **{name: values[order] for name, values in lists.items()})
    found, digest = given_labels(f"{tmp_path}/shuffled.npz:worse_label", dataset)
    assert found.tolist() == lists["worse_label"].tolist()
    np.savez(tmp_path / "more.npz", x_train=np.concatenate([images[:0:-1] ^ 255, images]), **{
        name: np.concatenate([values[:0:-1], values]) for name, values in lists.items()})  # fmt: skip
    assert given_labels(f"{tmp_path}/more.npz:worse_label", dataset)[1] == digest
    np.savez(tmp_path / "fewer.npz", x_train=images[5:], **{name: values[5:] for name, values in lists.items()})
    with pytest.raises(ConfigError, match="x_train lacks the images of 5 of 90 training samples, first of sample 0"):
        given_labels(f"{tmp_path}/fewer.npz:worse_label", dataset)
    np.savez(tmp_path / "wrong.npz", x_train=images, **lists | {"clean_label": (lists["clean_label"] + 1) % 3})
    with pytest.raises(ConfigError, match="clean_label differs from the labels of the data set at 90 of 90 places"):
        given_labels(f"{tmp_path}/wrong.npz:worse_label", dataset)
    with pytest.raises(ConfigError, match=r"lacks 'x_train', which corruption.labels names"):
        given_labels(f"{tmp_path}/wrong.npz:x_train", dataset)


def test_no_file_damaged_files_and_no_list_are_a_sentence(blobs: str, tmp_path: Path) -> None:
    (tmp_path / "half.pt").write_bytes(b"PK\x03\x04 and no more")
    sources = {"people.pt": "it must be FILE:LIST", f"{tmp_path}/none.pt:a": "no such file", f"{tmp_path}/half.pt:a": "is damaged"}
    for source, said in sources.items():
        with pytest.raises(ConfigError, match=said):
            point({"data.name": blobs, "corruption.kind": "given", "corruption.labels": source})
    with pytest.raises(ConfigError, match=r"corruption.labels names a file of them, or the data's own file has y_train_true"):
        point({"data.name": blobs, "corruption.kind": "given"})
