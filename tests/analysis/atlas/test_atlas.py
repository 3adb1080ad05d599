"""The tables of an atlas against made-up populations whose answers are known, and its folder written and read again."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from analysis.atlas.answers import answers
from analysis.atlas.benign import benign_map, benign_table
from analysis.atlas.edition import read_networks, read_tables, sample, write_edition
from analysis.atlas.measures import best_measures, measure_table
from analysis.atlas.population import CAPACITY, LABELS, population
from analysis.atlas.thresholds import capacity_ranks, label_capacities, regularizer_shifts, shift_summary, thresholds
from analysis.errors import AnalysisError, NothingToShow
from tests.analysis.made_up_study import record, records

CAPACITIES = (2.0, 4.0, 8.0, 16.0)
NOISES = {"true labels": 0.0, "redraw 0.5": 0.5, "redraw 1": 1.0}
CHANCE = 0.9
DECAY, SMOOTHING = 0.01, 0.2


def skill(level: float, cost: float) -> float:
    """Of a network that loses so much of its skill of 0.8 for the labels that are drawn anew."""
    return 0.8 * (1 - cost * level)


def networks(cost: float = 1.0, seeds: int = 3, fit_from: dict[str, float] | None = None, **everywhere: Any) -> Iterator[dict[str, Any]]:
    """Digits, three noises, two depths, two regularizers. They fit from a capacity on that regularizer and noise decide."""
    first = {"none": 4.0, "weight_decay": 8.0} | (fit_from or {})
    for level, depth, decay, capacity, seed in itertools.product(NOISES.values(), (1, 2), (0.0, DECAY), CAPACITIES, range(seeds)):
        fit = capacity >= first["weight_decay" if decay else "none"] * (2 if level == 1 else 1)
        test_error = CHANCE * (1 - skill(level, cost))
        fields = {
            "data.name": "digits",
            "corruption.level": level,
            "wrong_label_rate": CHANCE * level,
            "model.depth": depth,
            "model.width": int(10 * capacity * depth),
            CAPACITY: capacity,
            "parameters_per_sample": capacity,
            "regularizers.weight_decay": decay,
            "optimizer.name": "sgd",
            "optimizer.learning_rate": 0.03,
            "optimizer.momentum": 0.9,
            "seed": seed,
            "train_error": 0.0 if fit else 0.3,
            "test_error": test_error,
            "interpolated": fit,
            "measure.good": test_error + 0.01 * depth,
        }
        yield record(**(fields | everywhere))


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return population(records(networks()))


def test_labels_say_what_varies_in_words(table: pa.Table) -> None:
    found = {name: set(table[name].to_pylist()) for name in LABELS}
    assert found == {
        "data_set": {"digits"},
        "noise": set(NOISES),
        "network": {"mlp of depth 1", "mlp of depth 2"},
        "optimizer": {"sgd 0.03, momentum 0.9"},
        "regularizer": {"none", "weight_decay 0.01"},
    }
    assert set(table["classes"].to_pylist()) == {10}


@pytest.mark.parametrize(
    ("fields", "label", "said"),
    [
        (
            {"corruption.kind": "class_conditional", "corruption.transition": "pair_flip", "corruption.level": 0.25},
            "noise",
            "pair_flip 0.25",
        ),
        ({"optimizer.name": "adam"}, "optimizer", "adam 0.03"),
        ({"regularizers.dropout": 0.3, "regularizers.weight_decay": 0.0}, "regularizer", "dropout 0.3"),
        ({"regularizers.flip": True, "regularizers.weight_decay": 0.001}, "regularizer", "weight_decay 0.001, flip"),
    ],
)
def test_labels_of_other_fields(fields: dict[str, Any], label: str, said: str) -> None:
    (one, *_) = networks(**fields)
    assert population(records([one]))[label].to_pylist() == [said]


def test_what_the_labels_do_not_tell_apart_is_told_by_them_or_refused() -> None:
    rows = [*networks(), *networks(**{"optimizer.batch_size": 8})]
    assert set(population(records(rows))["optimizer"].to_pylist()) == {
        "sgd 0.03, momentum 0.9, batch_size 8",
        "sgd 0.03, momentum 0.9, batch_size 128",
    }
    with pytest.raises(AnalysisError, match=r"differ in seeds alone, but budget\.epochs varies"):
        population(records([*networks(), *networks(**{"budget.epochs": 7})]))
    with pytest.raises(AnalysisError, match="let the space vary it"):
        population(records(networks(**{CAPACITY: None})))


@pytest.mark.parametrize("cost", [0.0, 0.4, 1.0])
def test_the_cost_of_a_wrong_label_is_what_the_networks_were_made_to_lose(cost: float) -> None:
    found = benign_table(population(records(networks(cost))))
    fit = found.filter(pc.greater(found["fit"], 0))
    assert fit.num_rows == 2 * (3 + 2 + 2 + 1)  # two depths; redraw 0.5 and 1; without and with decay
    np.testing.assert_allclose(fit["cost"].to_numpy(), cost, atol=1e-12)
    assert set(found["cost.seeds"].to_pylist()) == {0, 3}
    np.testing.assert_allclose(pc.max(fit["added"]).as_py(), CHANCE * 0.8 * cost, atol=1e-12)


def test_a_pair_counts_where_both_fit() -> None:
    """Nothing is said where true labels did not fit, whatever the noisy twin did."""
    rows = [row | ({"interpolated": False} if row["corruption.level"] == 0 and row["seed"] == 1 else {}) for row in networks()]
    found = benign_table(population(records(rows)))
    assert set(found["cost.seeds"].to_pylist()) == {0, 2}
    with pytest.raises(NothingToShow, match=r"let corruption\.level take 0"):
        benign_table(population(records(row for row in networks() if row["corruption.level"])))


def test_the_map_of_costs_is_of_settings(table: pa.Table) -> None:
    rows = {(row["noise"], row[CAPACITY]): row for row in benign_map(benign_table(table)).to_pylist()}
    assert (rows["redraw 0.5", 4.0]["settings"], rows["redraw 0.5", 4.0]["known"]) == (4, 2)
    assert rows["redraw 0.5", 2.0]["median"] is None
    assert rows["redraw 1", 16.0]["median"] == pytest.approx(1)


def test_shifts_of_the_threshold(table: pa.Table) -> None:
    """Twice the capacity in every setting: from (2, 4] to (4, 8], which all seeds agree on."""
    shifts = regularizer_shifts(thresholds(table))
    assert set(shifts["regularizer"].to_pylist()) == {"weight_decay 0.01"}
    known = shifts.filter(pc.is_valid(shifts["shift"]))
    np.testing.assert_allclose(known["shift"].to_numpy(), 1, atol=0.02)
    (row,) = shift_summary(shifts).to_pylist()
    assert (row["settings"], row["known"], row["down"]) == (6, 6, 0)


def test_a_regularizer_that_fits_nowhere_moves_the_threshold_up() -> None:
    found = regularizer_shifts(thresholds(population(records(networks(seeds=6, fit_from={"weight_decay": 99.0})))))
    assert set(found["shown"].to_pylist()) == {"up"}
    assert found["shift"].null_count == found.num_rows
    with pytest.raises(NothingToShow, match="no regularizer varies"):
        regularizer_shifts(thresholds(population(records(row for row in networks() if not row["regularizers.weight_decay"]))))


def test_random_labels_take_twice_the_parameters(table: pa.Table) -> None:
    found = label_capacities(table, thresholds(table)).to_pylist()
    assert len(found) == 4
    for row in found:
        assert row["more"] == pytest.approx(1, abs=0.02)
        assert (row["least"], row["gap"]) == (False, pytest.approx(CHANCE * 0.2))
    rest = table.filter(pc.not_equal(table["noise"], "redraw 1"))
    with pytest.raises(NothingToShow, match="random labels"):
        label_capacities(rest, thresholds(rest))


def test_ranks_of_the_room_between_labels() -> None:
    """Against SciPy's rank correlation of numbers that are known; the sign is that of the gap falling with the room."""
    rows = [{"data_set": "digits", "more": float(at), "gap": 1 / (at + 1), "least": at == 5, "of": 9} for at in range(6)]
    (found,) = capacity_ranks(pa.Table.from_pylist(rows))
    assert (found["rho"], found["settings"], found["of"], found["least"]) == (pytest.approx(-1), 6, 9, 1)
    assert found["p"] < 0.01


def test_measures_are_ranked_within_each_noise() -> None:
    """One that only tells the levels of noise apart has no order within them; one that follows the gap has psi 1."""
    dice = np.random.default_rng(0)
    rows = []
    for row in networks(seeds=4):
        gap = 0.1 + 0.05 * row["model.depth"] + 0.1 * bool(row["regularizers.weight_decay"]) + dice.normal(0, 1e-3)
        test_error = min(1.0, gap + row["corruption.level"] * 0.2)
        values = {"measure.follows": test_error, "measure.level": row["corruption.level"], "measure.against": -test_error}
        rows.append(row | {"interpolated": True, "train_error": 0.0, "test_error": test_error, "generalization_gap": test_error} | values)
    found = measure_table(population(records(rows)))
    assert set(found["noise"].to_pylist()) == set(NOISES)
    best = {row["measure"]: row for row in best_measures(found).to_pylist()}
    assert best["follows"]["median"] > 0.6  # depth and decay give 1, capacity chance
    assert best["against"]["median"] == pytest.approx(-best["follows"]["median"])
    assert best["level"]["median"] == 0
    assert (best["follows"]["above"], best["against"]["below"], best["level"]["above"]) == (3, 3, 0)


def test_an_edition_is_written_whole_and_read_again(tmp_path: Path) -> None:
    """An earlier edition's networks are replaced, a file of the user's own stays."""
    rows = [row | {"host": "here", "study": "mine"} for row in networks()]
    for row in rows:
        row["test_error"] = row["generalization_gap"] = row["test_error"] + 0.001 * row["model.depth"]
    made = records(rows)
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "networks").mkdir()
    (tmp_path / "networks" / "part-7.parquet").write_text("of an earlier edition")
    edition = write_edition(made, "study: mine\n", tmp_path)
    assert edition.missing == {}
    assert {path.suffix for path in edition.charts} == {".png", ".svg"}
    assert (tmp_path / "notes.txt").read_text() == "mine"
    found = read_networks(tmp_path)
    assert found.num_rows == made.num_rows
    assert sorted(found["key"].to_pylist()) == sorted(made["key"].to_pylist())
    assert not {"host", "study"} & set(found.column_names)
    assert len(pq.read_table(tmp_path / "sample.parquet")) == 1
    tables = read_tables(tmp_path)
    assert {answer.question.split()[0] for answer in answers(tables)} == {"Where", "Which", "Does"}
    card = (tmp_path / "README.md").read_text()
    for said in (
        "144 networks in 48 cells",
        "78 reached their train target",
        "## Protocol",
        "Apache-2.0",
        "CC BY 4.0",
        "verify FOLDER --key",
    ):
        assert said in card
    assert len(list((tmp_path / "networks").rglob("*.parquet"))) == len(NOISES)


def test_a_file_among_the_networks_that_is_not_gaplabs_stays(tmp_path: Path) -> None:
    (tmp_path / "networks" / "mine").mkdir(parents=True)
    own = tmp_path / "networks" / "mine" / "notes.parquet"
    own.write_text("mine")
    with pytest.raises(AnalysisError, match=r"notes\.parquet is no file of an atlas"):
        write_edition(records(networks()), "study: mine\n", tmp_path)
    assert own.read_text() == "mine"


def test_an_edition_that_was_interrupted_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its networks may be new and its tables old: each would be read as the other's."""
    made = records(networks())
    write_edition(made, "study: mine\n", tmp_path)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr("analysis.atlas.edition._tables", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_edition(made, "study: mine\n", tmp_path)
    for read in (read_networks, read_tables):
        with pytest.raises(AnalysisError, match=r"has no README\.md, which is written last: build it anew"):
            read(tmp_path)
    write_edition(made, "study: mine\n", tmp_path)
    assert read_networks(tmp_path).num_rows == made.num_rows


def test_a_sample_is_the_same_of_the_same_networks_and_grows(table: pa.Table) -> None:
    few, more, other = (set(sample(table, share, seed)["key"].to_pylist()) for share, seed in ((0.1, 0), (0.3, 0), (0.1, 1)))
    assert len(few) == 14
    assert few < more
    assert few != other
    assert set(sample(table.take(pa.array(range(table.num_rows)[::-1])), 0.1)["key"].to_pylist()) == few


def test_a_folder_that_is_none_is_named(tmp_path: Path) -> None:
    for read in (read_tables, read_networks):
        with pytest.raises(AnalysisError, match="is no folder of an atlas"):
            read(tmp_path)
    (tmp_path / "networks").mkdir()
    (tmp_path / "networks" / "part.parquet").write_bytes(b"no parquet at all")
    with pytest.raises(AnalysisError, match="are damaged"):
        read_networks(tmp_path)
