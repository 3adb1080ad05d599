"""CSV and Parquet files as data sets: against the csv module and scikit-learn's encoders, and with one fault each."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.preprocessing import OneHotEncoder

from tests.trainables.made_up_points import only, point
from tests.trainables.test_imports import in_a_new_process
from trainables.data.inputs import point_data
from trainables.data.sets.dataset import Dataset
from trainables.data.sets.inspection import inspect
from trainables.data.sets.sources import load
from trainables.point.config import Data
from trainables.point.errors import ConfigError

Rows = list[dict[str, Any]]
ROWS = 60


def made_up(rows: int = ROWS) -> Rows:
    """Plants: two of numbers, one of names, one of truth values, and what they are."""
    draw = np.random.default_rng(4)
    return [
        {
            "height": round(float(draw.normal()), 3),
            "leaves": int(draw.integers(0, 9)),
            "soil": str(draw.choice(["clay", "sand", "peat"])),
            "wild": bool(draw.integers(0, 2)),
            "species": ["oak", "ash", "elm"][place % 3],
        }
        for place in range(rows)
    ]


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    """Write rows as a file, and answer its `data.name`."""

    def write(rows: Rows, name: str = "plants.csv", delimiter: str = ",") -> str:
        path = tmp_path / name
        if name.endswith(".parquet"):
            parquet.write_table(pa.Table.from_pylist(rows), path)
        else:
            with path.open("w", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
                writer.writeheader()
                writer.writerows(rows)
        return str(path)

    return write


def table(dataset: Dataset) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training rows and labels, test rows and labels."""
    train, test = (images.flatten(1).numpy() for images in (dataset.train_images, dataset.test_images))
    return train, dataset.train_labels.numpy(), test, dataset.test_labels.numpy()


def matrix(rows: Rows) -> np.ndarray:
    """The features as scikit-learn encodes them."""
    soil = OneHotEncoder(sparse_output=False).fit_transform([[row["soil"]] for row in rows])
    plain = [[row["height"], row["leaves"]] for row in rows]
    return np.column_stack([plain, soil, [row["wild"] for row in rows]]).astype(np.float32)


# What is read


def test_a_stated_split_has_the_rows_as_scikit_learn_encodes_them(write: Callable[..., str]) -> None:
    rows = [row | {"split": "test" if place % 4 == 0 else "Train"} for place, row in enumerate(made_up())]
    dataset = load(Data(name=write(rows), label="species"))
    train, train_labels, test, test_labels = table(dataset)
    tested = np.arange(ROWS) % 4 == 0
    expected = matrix(rows)
    np.testing.assert_array_equal(train, expected[~tested])
    np.testing.assert_array_equal(test, expected[tested])
    assert dataset.class_names == ("ash", "elm", "oak")
    named = [dataset.class_names[label] for label in (*train_labels, *test_labels)]
    assert named == [rows[place]["species"] for place in (*np.flatnonzero(~tested), *np.flatnonzero(tested))]
    assert dataset.is_table
    assert dataset.classes == 3


@pytest.mark.parametrize("name", ["plants.csv", "plants.parquet"])
def test_rows_are_tested_by_the_stated_share_of_each_class(write: Callable[..., str], name: str) -> None:
    rows = made_up(100)
    source = write(rows, name)
    train, train_labels, test, test_labels = table(load(Data(name=source, test_fraction=0.3)))
    assert np.bincount(test_labels).tolist() == [10, 10, 10]
    together = sorted(map(tuple, np.column_stack([np.concatenate([train, test]), np.concatenate([train_labels, test_labels])]).tolist()))
    classes = sorted({row["species"] for row in rows})
    labels = [classes.index(row["species"]) for row in rows]
    assert together == sorted(map(tuple, np.column_stack([matrix(rows), labels]).tolist()))
    other = table(load(Data(name=source, test_fraction=0.3, test_seed=1)))[2]
    assert not np.array_equal(other, test)
    assert np.bincount(load(Data(name=source)).test_labels).tolist() == [7, 7, 7]


def test_one_content_has_one_key_however_it_is_stored(write: Callable[..., str], tmp_path: Path) -> None:
    rows = made_up()
    sources = [write(rows), write(rows, "moved.csv", ";"), write(rows, "tabs.csv", "\t"), write(rows, "plants.parquet")]
    train, train_labels, test, test_labels = table(load(Data(name=sources[0])))
    np.savez(tmp_path / "plants.npz", x_train=train, y_train=train_labels, x_test=test, y_test=test_labels)
    keys = {point({"data.name": source, "data.label": "species", "model.width": 4}).key() for source in sources}
    keys |= {point({"data.name": f"npz:{tmp_path}/plants.npz", "model.width": 4}).key()}
    assert len(keys) == 1
    rows[7]["leaves"] += 1
    assert point({"data.name": write(rows, "changed.csv"), "model.width": 4}).key() not in keys
    assert point({"data.name": sources[0], "data.test_seed": 1, "model.width": 4}).key() not in keys


def test_a_changed_file_is_no_longer_the_points(write: Callable[..., str], tmp_path: Path) -> None:
    source = write(made_up())
    with pytest.raises(ConfigError, match="its content has changed"):
        load(replace(Data(name=source), digest="0" * 32))


def test_the_label_is_the_named_column_else_the_usual_one_else_the_last_which_is_said(write: Callable[..., str]) -> None:
    rows = made_up()
    named = load(Data(name=write(rows), label="soil"))
    assert named.class_names == ("clay", "peat", "sand")
    assert not named.doubts
    last = load(Data(name=write(rows, "last.csv")))
    assert last.class_names == ("ash", "elm", "oak")
    assert inspect(last).warnings[0] == "the label is taken to be column 'species', the last one: data.label names another"
    usual = load(Data(name=write([{"Target": row["soil"]} | row for row in rows], "usual.csv")))
    assert usual.class_names == ("clay", "peat", "sand")
    assert dict(inspect(usual).facts)["label"] == "column 'Target'"


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        ([3, 8, 5], ("3", "5", "8")),
        ([-1, 1, 1], ("-1", "1")),
        ([True, False, True], ("False", "True")),
        ([2.0, 1.0, 1.0], ("1", "2")),
        (["b", "a", "c"], ("a", "b", "c")),
    ],
)
def test_labels_of_any_kind_are_the_classes_that_stand_there(
    write: Callable[..., str], labels: list[Any], classes: tuple[str, ...]
) -> None:
    rows = [{"x": place * 0.5, "label": labels[place % 3]} for place in range(60)]
    for name in ("kinds.csv", "kinds.parquet"):
        dataset = load(Data(name=write(rows, name)))
        assert tuple(label.lower() for label in dataset.class_names) == tuple(label.lower() for label in classes)
        named = {dataset.class_names[label].lower() for label in dataset.train_labels.tolist()}
        assert named == {str(int(label) if isinstance(label, float) else label).lower() for label in labels}


def test_true_labels_beside_given_ones_are_read_as_from_an_npz_file(write: Callable[..., str]) -> None:
    rows = [{"x": place * 0.25, "kind": place % 2, "kind_true": (place + (place < 10)) % 2} for place in range(100)]
    source = write(rows)
    dataset = load(Data(name=source))
    assert dataset.given_labels is not None
    assert dataset.image_shape == (1, 1, 1)  # the true labels are no feature
    x = (dataset.train_images.flatten() * 4).int()
    assert dataset.given_labels.tolist() == (x % 2).tolist()
    assert dataset.train_labels.tolist() == ((x + (x < 10)) % 2).tolist()
    assert dataset.test_labels.tolist() == [(place + (place < 10)) % 2 for place in (dataset.test_images.flatten() * 4).int().tolist()]
    trained = point_data(point({"data.name": source, "corruption.kind": "given"}), torch.device("cpu")).train
    assert int(trained.wrong.sum()) == int((x < 10).sum())


def test_names_of_test_rows_alone_are_zeros_and_said(write: Callable[..., str]) -> None:
    rows = [{"soil": "clay" if place % 3 else "sand", "x": place % 7, "y": place % 2, "split": "train"} for place in range(40)]
    rows += [{"soil": "rock", "x": 1, "y": 0, "split": "test"}, {"soil": "clay", "x": 1, "y": 1, "split": "test"}]
    dataset = load(Data(name=write(rows)))
    assert dataset.test_images.flatten(1).tolist() == [[0, 0, 1], [1, 0, 1]]
    assert any("1 test rows have a name in column 'soil'" in doubt for doubt in inspect(dataset).warnings)


def test_other_types_of_numbers_are_numbers(tmp_path: Path) -> None:
    columns = {
        "exact": pa.array([Decimal(place) / 4 for place in range(40)]),
        "small": pa.array([place % 5 for place in range(40)], pa.uint8()),
        "half": pa.array(np.arange(40, dtype=np.float16)),
        "kind": pa.array([f"k{place % 2}" for place in range(40)]).dictionary_encode(),
        "label": pa.array([f"c{place % 2}" for place in range(40)]).dictionary_encode(),
        "split": pa.array(["test" if place < 10 else "train" for place in range(40)]),
    }
    parquet.write_table(pa.table(columns), tmp_path / "types.parquet")
    _, _, test, labels = table(load(Data(name=str(tmp_path / "types.parquet"))))
    first = np.arange(10)
    np.testing.assert_array_equal(test, np.column_stack([first / 4, first % 5, first, first % 2 == 0, first % 2 == 1]).astype(np.float32))
    assert labels.tolist() == (first % 2).tolist()


def test_what_a_file_was_taken_for_is_said(write: Callable[..., str]) -> None:
    rows = [{"id": place} | row for place, row in enumerate(made_up())]
    seen = inspect(load(Data(name=write(rows), label="species")))
    facts = dict(seen.facts)
    assert facts["columns"] == "4 of numbers; 1 of names, as 3 of 0 and 1: soil (3)"
    assert facts["test rows"] == "0.2 of each class, drawn by data.test_seed 0"
    assert facts["a sample"] == "a row of 7 numbers"
    assert any("column 'id' numbers the rows" in warning for warning in seen.warnings)


# What is refused, each with a sentence that says where


def _with(column: str, value: Any, place: int = 3) -> Rows:
    rows = made_up()
    rows[place][column] = value
    return rows


def _columns(**values: Callable[[int], Any]) -> Rows:
    return [{name: value(place) for name, value in values.items()} for place in range(ROWS)]


@pytest.mark.parametrize(
    ("rows", "label", "said"),
    [
        (_with("height", ""), None, "column 'height' has 1 empty cell: fill them in"),
        (_with("height", "nan"), None, "column 'height' has 1 empty cell"),
        (_with("soil", ""), None, "column 'soil' has 1 empty cell"),
        (_with("species", ""), None, "column 'species' holds the labels, and has 1 empty cell"),
        (_with("height", "?"), None, "column 'height' holds numbers, and cells such as '\\?'"),
        (_with("height", 1e60), None, "column 'height' holds 1e\\+60"),
        (made_up(), "spices", "data.label is 'spices', but .* has no such column: it has height, leaves, soil and 2 more"),
        (_columns(x=float, n=lambda place: place, label=lambda place: place), None, "60 different values in 60 rows"),
        (_columns(x=float, label=lambda place: "a"), None, "all are a"),
        (_columns(x=lambda place: f"2024-01-{1 + place % 28:02}", label=lambda place: place % 2), None, "column 'x' is of the type date"),
        (_columns(label=lambda place: place % 2, split=lambda place: "train" if place else "test"), None, "nothing to learn from"),
        (_columns(x=float, label=lambda place: place % 2, split=lambda place: "dev"), None, "column 'split' holds 'dev'"),
        (_columns(x=float, label=lambda place: place % 2, split=lambda place: "train"), None, "says 'train' of every row"),
        (_columns(x=float, label=lambda place: place > 49, split=lambda place: "test" if place > 49 else "train"), None, "test rows alone"),
        (made_up()[:1], None, "has 1 rows"),
    ],
)  # fmt: skip
def test_what_no_network_can_be_trained_on_is_a_sentence(write: Callable[..., str], rows: Rows, label: str | None, said: str) -> None:
    source = write(rows)
    with pytest.raises(ConfigError, match=said) as error:
        load(Data(name=source, label=label))
    assert source in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("numbers.csv", b"1,2,3\n4,5,6\n7,8,9\n", "the first line holds numbers"),
        ("twice.csv", b"a,a,label\n1,2,0\n3,4,1\n", "'a' stands over 2 columns"),
        ("ragged.csv", b"a,b\n1,2\n3\n", "no CSV file"),
        ("bytes.csv", b"a,b\n\xff\xfe,1\n\xff,2\n", "CSV file|type binary"),
        ("empty.csv", b"", "no CSV file"),
        ("half.parquet", b"PAR1 and no more", "no Parquet file"),
    ],
)
def test_damaged_files_are_a_sentence(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=said):
        load(Data(name=str(tmp_path / name)))


def test_no_file_and_no_pyarrow_are_a_sentence(tmp_path: Path, write: Callable[..., str]) -> None:
    with pytest.raises(ConfigError, match="there is no data file"):
        load(Data(name=str(tmp_path / "none.csv")))
    program = f"""
from trainables.data.sets.sources import load
from trainables.point.config import Data
try:
    load(Data(name={write(made_up())!r}))
except ValueError as error:
    print(error)
"""
    assert "pip install pyarrow, or store it as .npz" in in_a_new_process(program, ("pyarrow",))


# Bundled tables, and training


@pytest.mark.parametrize(("name", "bundle"), [("breast_cancer", load_breast_cancer), ("wine", load_wine)])
def test_bundled_tables_are_scikit_learns_with_every_fifth_row_as_test(name: str, bundle: Callable[[], Any]) -> None:
    train, train_labels, test, test_labels = table(load(Data(name=name)))
    tested = np.arange(len(bundle().target)) % 5 == 0
    np.testing.assert_array_equal(train, bundle().data[~tested].astype(np.float32))
    np.testing.assert_array_equal(test, bundle().data[tested].astype(np.float32))
    assert (train_labels == bundle().target[~tested]).all()
    assert (test_labels == bundle().target[tested]).all()


def test_columns_are_standardised_one_by_one_and_a_network_learns(write: Callable[..., str]) -> None:
    draw = np.random.default_rng(0)
    rows = [{"x": 1e4 * value, "z": 1e-4 * draw.normal(), "label": "high" if value > 0 else "low"} for value in draw.normal(size=300)]
    fields = {"data.name": write(rows), "model.width": 8, "budget.epochs": 60, "optimizer.batch_size": 20}
    inputs = point_data(point(fields), torch.device("cpu")).train.inputs
    seen = inputs.gather(torch.arange(240))
    assert seen.mean(0).abs().max() < 1e-5
    assert (seen.std(0, correction=0) - 1).abs().max() < 1e-3
    assert only(fields).outcome["test_error"] < 0.1
