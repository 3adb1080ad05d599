"""Which data sets records name, as their points read them, and what tells records apart."""

from __future__ import annotations

from analysis.statistics.selection import data_sets, varying_fields
from tests.analysis.made_up_study import record, records
from trainables.point.config import Data


def test_a_file_read_in_two_ways_is_two_sets_and_seeds_are_none() -> None:
    rows = [
        record(**{"data.name": "plants.csv", "data.label": label, "data.test_seed": 3, "data.train_size": size, "seed": seed})
        for label in ("soil", "kind")
        for size in (10, 20)
        for seed in (0, 1)
    ]
    rows.append(record(**{"data.name": "parity", "data.dimension": 7}))
    found = data_sets(records(rows))
    expected = [Data(name="plants.csv", label=label, test_seed=3) for label in ("soil", "kind")]
    assert {(data.name, data.label, data.test_seed, data.train_size) for data in found[:-1]} == {
        (data.name, data.label, data.test_seed, None) for data in expected
    }
    assert (found[-1].name, found[-1].dimension) == ("parity", 7)
    assert len(found) == 3


def test_the_hash_of_a_file_tells_nothing_apart_that_its_name_does() -> None:
    rows = [record(**{"corruption.labels": name, "corruption.digest": name[::-1]}) for name in ("a:one", "a:two")]
    assert varying_fields(records(rows)) == ["corruption.labels"]
    rows.append(record(**{"corruption.labels": "a:one", "corruption.digest": "another content"}))
    assert varying_fields(records(rows)) == ["corruption.labels", "corruption.digest"]


def test_what_a_family_has_by_default_tells_nothing_apart_that_the_family_does() -> None:
    rows = [record(**{"model.name": name, "model.depth": depth}) for name, depth in (("mlp", 1), ("linear", 0))]
    assert varying_fields(records(rows)) == ["model.name"]
    rows.append(record(**{"model.name": "mlp", "model.depth": 2}))
    assert varying_fields(records(rows)) == ["model.name", "model.depth"]
