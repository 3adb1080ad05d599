"""Machine annotators against scikit-learn's classifiers, their lists against CIFAR-10N's, and noise that is matched to them."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid

from tests.trainables.made_up_points import CPU, only, point
from trainables.data.annotators import SHOWN, _shown, machine_labels
from trainables.data.inputs import point_data
from trainables.data.sets.sources import load
from trainables.point.config import Data
from trainables.point.errors import ConfigError

LISTS = ("random_label1", "random_label2", "random_label3", "aggre_label", "worse_label", "clean_label")
GIVEN = {"data.name": "digits", "corruption.kind": "given", "corruption.labels": "machine:worse_label", "budget.epochs": 0}
MATCHED = GIVEN | {"corruption.kind": "class_conditional"}


@cache
def lists() -> dict[str, NDArray[np.int64]]:
    digits = load(Data(name="digits"))
    return machine_labels(digits.train_images, digits.train_labels, 10)


@pytest.mark.parametrize(("annotator", "classifier"), [(0, NearestCentroid()), (1, KNeighborsClassifier(1))])
def test_annotators_say_what_scikit_learns_classifiers_say(annotator: int, classifier: NearestCentroid | KNeighborsClassifier) -> None:
    digits = load(Data(name="digits"))
    inputs, shown = digits.train_images.flatten(1).double().numpy(), _shown(digits.train_labels, 10, annotator)
    assert digits.train_labels[shown].bincount().tolist() == [SHOWN] * 10
    expected = classifier.fit(inputs[shown], digits.train_labels[shown]).predict(inputs)
    assert (lists()[f"random_label{annotator + 1}"] == expected).mean() > 0.998  # but for equal distances


def test_the_perceptron_knows_what_it_was_shown() -> None:
    digits = load(Data(name="digits"))
    shown = _shown(digits.train_labels, 10, 2).numpy()
    assert (lists()["random_label3"][shown] == digits.train_labels.numpy()[shown]).all()


def test_lists_are_those_of_cifar10n() -> None:
    """The majority; and any one that is wrong. The rates are near those of CIFAR-10N: 0.17 to 0.18, 0.09 and 0.40."""
    found, clean = lists(), load(Data(name="digits")).train_labels.numpy()
    assert set(found) == set(LISTS)
    votes = np.stack([found[f"random_label{place}"] for place in (1, 2, 3)])
    counts = (votes[:, None] == votes[None]).sum(0)
    agreed = counts.max(0) > 1
    assert (found["aggre_label"][agreed] == np.take_along_axis(votes, counts.argmax(0)[None], 0)[0][agreed]).all()
    assert (votes == found["aggre_label"]).any(0).all()
    assert len(set((votes == found["aggre_label"]).argmax(0)[~agreed])) == 3, "one of the three, not always the same"
    wrong = (votes != clean).any(0)
    assert (found["worse_label"] != clean).tolist() == wrong.tolist()
    assert ((votes == found["worse_label"]).any(0) | ~wrong).all()
    assert [round(float((found[name] != clean).mean()), 2) for name in LISTS] == [0.15, 0.14, 0.19, 0.11, 0.31, 0]


def test_tables_and_other_numbers_are_annotated_too() -> None:
    wine = load(Data(name="wine"))
    found = machine_labels(wine.train_images * 1e6 - 3, wine.train_labels, 3)
    assert (found["aggre_label"] != wine.train_labels.numpy()).mean() < 0.2, "in any unit"


def noise(fields: dict[str, object]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """True labels and those trained on, of all training samples."""
    train, digits = point_data(point(fields), CPU).train, load(Data(name="digits"))
    return digits.train_labels[train.index].numpy(), train.labels.numpy()


def test_a_matched_matrix_is_the_confusion_of_the_given_labels() -> None:
    true, given = noise(GIVEN)
    wanted = confusion_matrix(true, given, normalize="true")
    drawn = np.mean([confusion_matrix(*noise(MATCHED | {"corruption.transition": "given_matrix", "seed": seed}), normalize="true")
                     for seed in range(20)], axis=0)  # fmt: skip
    five_errors = 5 * np.sqrt(0.25 / (20 * 140))  # of a share, over 20 draws of at least 140 samples a class
    assert np.abs(drawn - wanted).max() < five_errors
    assert np.abs(wanted - wanted.T).max() > 2 * five_errors, "which symmetric noise has not"


def test_a_matched_rate_is_symmetric() -> None:
    true, given = noise(GIVEN)
    rate = (true != given).mean()
    draws = [noise(MATCHED | {"corruption.transition": "given_rate", "seed": seed}) for seed in range(20)]
    assert np.mean([one != other for one, other in draws]) == pytest.approx(rate, abs=5 * np.sqrt(rate * (1 - rate) / (20 * len(true))))
    drawn = np.mean([confusion_matrix(one, other, normalize="true") for one, other in draws], axis=0)
    assert np.abs(drawn[~np.eye(10, dtype=bool)] - rate / 9).max() < 5 * np.sqrt(rate / 9 / (20 * 140))
    assert only(MATCHED | {"corruption.transition": "given_rate"}).outcome["wrong_label_rate"] == pytest.approx(rate, abs=0.06)


def test_keys_know_the_labels_that_noise_is_matched_to() -> None:
    matched = MATCHED | {"corruption.transition": "given_matrix"}
    keys = {
        point(fields).key()
        for fields in (
            *(GIVEN, matched, matched | {"corruption.transition": "given_rate"}, matched | {"corruption.level": 0.5}),
            matched | {"corruption.labels": "machine:aggre_label"},
        )
    }
    assert len(keys) == 5
    pair_flip = MATCHED | {"corruption.transition": "pair_flip", "corruption.level": 0.2}
    assert point(pair_flip).key() == point(pair_flip | {"corruption.labels": None}).key()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {"corruption.labels": "machine:worst_label"},
            "corruption.labels is machine:worst_label: the lists of machine annotators are aggre_label",
        ),
        (
            {"corruption.kind": "class_conditional", "corruption.transition": "given_rate", "corruption.labels": None},
            "corruption.transition is given_rate, but digits has no labels beside the true ones",
        ),
    ],
)
def test_lists_that_are_not_there_are_a_sentence(fields: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        point(GIVEN | fields)


def test_labels_of_the_datas_own_file_are_matched_as_well(blobs: str, tmp_path: object) -> None:
    held = dict(np.load(blobs.removeprefix("npz:")))
    held |= {"y_train_true": held["y_train"], "y_train": (held["y_train"] + (np.arange(len(held["y_train"])) % 2)) % 3}
    path = f"{tmp_path}/given.npz"
    np.savez(path, **held)
    fields = {"data.name": f"npz:{path}", "corruption.kind": "class_conditional", "corruption.transition": "given_rate"}
    assert (
        0.2
        < torch.tensor([only(fields | {"seed": seed, "budget.epochs": 0}).outcome["wrong_label_rate"] for seed in range(9)]).mean()
        < 0.8
    )
