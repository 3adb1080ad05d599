"""Columns of a record that follow from its curve, against curves in closed form."""

from __future__ import annotations

import math

import pyarrow as pa
import pytest

from analysis.records.schema import CURVES
from analysis.reproduction.along import with_curves
from analysis.reproduction.checks import check_order
from analysis.reproduction.claims import OrderClaim
from tests.analysis.made_up_study import record, records


def curve(key: str, errors: list[float | None], losses: list[float], every: int = 1) -> list[dict[str, object]]:
    """In no order: readers sort."""
    rows = [
        {"key": key, "epoch": every * (place + 1), "test_error": error, "train_loss": loss}
        for place, (error, loss) in enumerate(zip(errors, losses, strict=True))
    ]
    return rows[::-1]


def along(*curves: list[dict[str, object]]) -> list[dict[str, float | None]]:
    table = records([record(seed=seed, key=str(seed)) for seed in range(len(curves))])
    keys = table["key"].to_pylist()
    rows = [row | {"key": keys[int(str(row["key"]))]} for one in curves for row in one]
    return with_curves(table, pa.Table.from_pylist(rows, schema=CURVES)).to_pylist()


def test_the_best_and_the_highest_after_it() -> None:
    rising, falling, none = along(
        curve("0", [0.5, 0.2, 0.3, 0.4, 0.25], [1.0] * 5), curve("1", [0.5, 0.4, 0.3], [1.0] * 3), curve("2", [None, None], [1.0] * 2)
    )
    assert (rising["curve.best_test_error"], rising["curve.highest_after_best"]) == (0.2, 0.4)
    assert (falling["curve.best_test_error"], falling["curve.highest_after_best"]) == (0.3, 0.3)
    assert none["curve.best_test_error"] is None


def test_a_loss_that_falls_exponentially_is_met_between_evaluations_exactly() -> None:
    """loss = exp(-epoch / 7) is 0.1 at 7 ln 10 and 0.01 at 14 ln 10, wherever it is evaluated."""
    for every in (1, 5):
        epochs = [every * (place + 1) for place in range(60 // every)]
        (found,) = along(curve("0", [0.1] * len(epochs), [math.exp(-epoch / 7) for epoch in epochs], every))
        assert found["curve.epochs_to_0.1"] == pytest.approx(7 * math.log(10))
        assert found["curve.epochs_to_0.01"] == pytest.approx(14 * math.log(10))
    never, at_once, zero = along(curve("0", [0.1], [2.0]), curve("1", [0.1], [0.05]), curve("2", [0.1, 0.1], [2.0, 0.0]))
    assert (never["curve.epochs_to_0.1"], at_once["curve.epochs_to_0.1"], zero["curve.epochs_to_0.01"]) == (None, 1.0, 2.0)


def test_an_order_may_be_of_two_columns_with_a_margin() -> None:
    """The test error after training exceeds the best by 0.04 to 0.06: by more than 0.01 for sure, by more than 0.05 perhaps."""
    rows = [record(**{"seed": seed, "test_error": 0.3 + 0.01 * seed, "interpolated": True}) for seed in range(3)]
    table = records(rows).append_column("curve.best_test_error", pa.array([0.25, 0.27, 0.26]))
    rising = [{"model.width": rows[0]["model.width"], "column": "curve.best_test_error"}, {"model.width": rows[0]["model.width"]}]
    verdicts = {margin: check_order(table, OrderClaim("late", "test_error", rising, margin=margin)).verdict for margin in (0.01, 0.05, 0.2)}
    assert verdicts == {0.01: "holds", 0.05: "undecided", 0.2: "does not hold"}
