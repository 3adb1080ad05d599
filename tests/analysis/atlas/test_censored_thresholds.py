"""Thresholds outside of the capacities, and data sets with capacities of their own: nothing is claimed of them, and none is lost unsaid."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest

from analysis.atlas.answers import answers
from analysis.atlas.benign import benign_table
from analysis.atlas.population import CAPACITY, population
from analysis.atlas.thresholds import label_capacities, regularizer_shifts, thresholds
from tests.analysis.atlas.test_atlas import networks
from tests.analysis.made_up_study import records


def fitting(which: Any, *, seeds: int = 6) -> list[dict[str, Any]]:
    """The networks, fit where it is said."""
    return [row | {"interpolated": bool(which(row))} for row in networks(seeds=seeds)]


def test_one_seed_in_six_that_fits_at_the_end_shows_no_shift() -> None:
    """With decay no seed fits, without it a single one does, at the largest capacity."""
    rows = fitting(lambda row: not row["regularizers.weight_decay"] and row["seed"] == 0 and row[CAPACITY] == 16)
    found = regularizer_shifts(thresholds(population(records(rows))))
    assert set(found["shown"].to_pylist()) == {None}


def test_thresholds_in_neighbouring_steps_are_apart() -> None:
    rows = fitting(lambda row: row[CAPACITY] >= (16 if row["regularizers.weight_decay"] else 8))
    assert set(regularizer_shifts(thresholds(population(records(rows))))["shown"].to_pylist()) == {"up"}


def test_random_labels_that_fit_everywhere_take_no_more_parameters() -> None:
    rows = fitting(lambda row: row["corruption.level"] == 1 or row["regularizers.weight_decay"] or row[CAPACITY] >= 8)
    table = population(records(rows))
    with pytest.raises(Exception, match="no setting has a threshold on true and on random labels"):
        label_capacities(table, thresholds(table))


def test_each_data_set_has_capacities_of_its_own() -> None:
    """One with a quarter of them: it is left out nowhere, and what random labels take at least is told by its own largest."""
    rows = fitting(lambda row: row["corruption.level"] < 1 and row[CAPACITY] >= 8, seeds=3)
    small = [
        row | {"data.name": "wine", "key": f"w{row['key'][1:]}"} | {name: row[name] / 4 for name in (CAPACITY, "parameters_per_sample")}
        for row in rows
    ]
    table = population(records([*rows, *small]))
    found = label_capacities(table, thresholds(table))
    assert found["data_set"].to_pylist() == ["digits"] * 4 + ["wine"] * 4
    np.testing.assert_allclose(found["more"].to_numpy(), np.log2(16 / np.sqrt(4 * 8)), atol=0.01)
    assert set(found["of"].to_pylist()) == {4}
    (answer,) = answers({"costs": benign_table(table)})
    assert [sentence.partition(",")[0] for sentence in answer.sentences[:2]] == ["digits at p/n = 16", "wine at p/n = 4"]
    assert "redraw 1 not known" in answer.sentences[0]
    assert not pc.any(pc.is_nan(found["gap"])).as_py()
