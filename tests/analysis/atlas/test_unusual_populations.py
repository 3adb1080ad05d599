"""Atlases of populations that are not like the preset: tasks of two classes, matrices, files of one's own, noise of a seed of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from analysis.atlas.benign import benign_table
from analysis.atlas.card import card
from analysis.atlas.edition import read_networks, read_tables, write_edition
from analysis.atlas.population import LABELS, population
from analysis.errors import AnalysisError
from tests.analysis.atlas.test_atlas import networks
from tests.analysis.made_up_study import records


def noisy(**fields: Any) -> list[dict[str, Any]]:
    """The networks, those with wrong labels changed."""
    return [row | (fields if row["corruption.level"] else {}) for row in networks()]


def test_signs_are_a_task_of_two_classes_with_chance_at_a_half() -> None:
    """Skill of 0.8 on true signs, and half of it where all are drawn anew: the cost is one half."""
    rows = []
    for row in networks():
        level = row["corruption.level"]
        error = 0.5 * (1 - 0.8 * (1 - 0.5 * level))
        rows.append(row | {"corruption.kind": "random_signs", "wrong_label_rate": 0.5 * level, "test_error": error})
    table = population(pa.concat_tables([records(rows), records(networks())]))
    assert set(table["data_set"].to_pylist()) == {"digits", "digits, even against odd"}
    of_signs = pc.equal(table["data_set"], "digits, even against odd")
    assert set(table.filter(of_signs)["classes"].to_pylist()) == {2}
    assert set(table.filter(pc.invert(of_signs))["classes"].to_pylist()) == {10}
    found = benign_table(table.filter(of_signs))
    np.testing.assert_allclose(found["cost"].drop_null().to_numpy(), 0.5, atol=1e-12)
    assert set(found["noise"].to_pylist()) == {"redraw 0.5", "redraw 1"}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"corruption.kind": "redraw", "corruption.transition": "pair_flip"}, "redraw 1"),  # which redraw does not read
        ({"corruption.kind": "random_labels"}, "redraw 1"),
        ({"corruption.kind": "class_conditional", "corruption.transition": "symmetric"}, "flip 1"),
    ],
)
def test_noise_has_one_name(fields: dict[str, Any], said: str) -> None:
    rows = [row for row in noisy(**fields) if row["corruption.level"] == 1]
    assert set(population(records(rows))["noise"].to_pylist()) == {said}


def test_a_matrix_makes_no_file_name_that_is_too_long(tmp_path: Path) -> None:
    matrix = str(np.full((10, 10), 0.1).tolist())
    rows = noisy(**{"corruption.kind": "class_conditional", "corruption.transition": matrix})
    write_edition(records(rows), "study: mine\n", tmp_path)
    assert any("noise=matrix" in path.name for path in (tmp_path / "networks" / "data_set=digits").iterdir())


def test_noise_with_seeds_of_its_own_is_paired_with_the_one_twin_that_is_there() -> None:
    """True labels have no seed of a corruption: one network stands for all of them."""
    rows = [
        row | {"corruption.seed": seed, "key": f"{seed}{row['key'][1:]}"}
        for row in networks()
        for seed in ((7, 8) if row["corruption.level"] else (7,))
    ]
    assert set(benign_table(population(records(rows)))["cost.seeds"].to_pylist()) == {0, 6}


def test_the_classes_of_sets_that_are_made_up_are_their_own() -> None:
    few, many = (
        [row | {"data.name": "synthetic", "data.classes": classes, "key": f"{classes}{row['key'][2:]}"} for row in networks()]
        for classes in (10, 40)
    )
    table = population(records([*few, *many]))
    assert set(zip(table["data.classes"].to_pylist(), table["classes"].to_pylist(), strict=True)) == {(10, 10), (40, 40)}


def test_a_file_of_ones_own_is_named_without_its_folders(tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    images, labels = np.zeros((20, 4, 4), np.uint8), np.arange(20) % 10
    np.savez(path, x_train=images, y_train=labels, x_test=images, y_test=labels)
    table = population(records(networks(**{"data.name": f"npz:{path}"})))
    assert set(table["data_set"].to_pylist()) == {"npz:mine.npz"}
    assert not [name for name in LABELS if any(str(tmp_path) in value for value in table[name].to_pylist())]


def test_the_card_cites_what_was_used_and_counts_what_diverged() -> None:
    rows = [row | {"data.name": "cifar100"} for row in networks()]
    networks_of = population(records(networks()))
    text = card(networks_of, {}, {"capacities": "why"}, "2 diverged")
    assert "Left out, for they came to no end: 2 diverged." in text
    assert "capacities.parquet" not in text
    table = networks_of.set_column(networks_of.column_names.index("data.name"), "data.name", pa.array([row["data.name"] for row in rows]))
    said = card(table, {}, {})
    assert "CIFAR-10:" not in said
    assert "`cifar100`: say where it is from" in said


def test_figures_of_an_earlier_edition_do_not_stay(tmp_path: Path) -> None:
    (tmp_path / "true-and-random.png").write_text("of an earlier edition")
    rows = [row for row in networks() if row["corruption.level"] < 1]
    assert "capacities" in write_edition(records(rows), "study: mine\n", tmp_path).missing
    assert not (tmp_path / "true-and-random.png").exists()


def test_files_of_others_are_no_atlas(tmp_path: Path) -> None:
    for name in ("costs", "sample"):
        pq.write_table(pa.table({"mine": [1]}), tmp_path / f"{name}.parquet")
    for read in (read_tables, read_networks):
        with pytest.raises(AnalysisError, match="is no folder of an atlas"):
            read(tmp_path)
    (tmp_path / "costs.parquet").write_text("no parquet")
    with pytest.raises(AnalysisError, match="are damaged"):
        read_tables(tmp_path)
    (tmp_path / "networks").mkdir()
    with pytest.raises(AnalysisError, match="is no folder of an atlas"):
        read_networks(tmp_path)
