"""Verdicts on published numbers and orders, against means worked out by hand."""

import pyarrow as pa
import pytest

from analysis.reproduction.checks import check_number, check_order
from analysis.reproduction.claims import Claims, NumberClaim, OrderClaim
from analysis.reproduction.page import study_page
from tests.analysis.made_up_study import record, records


def study() -> pa.Table:
    rows = [record(**{"seed": seed, "model.width": 8, "test_error": error}) for seed, error in enumerate((0.1, 0.2, 0.3))]
    rows += [record(**{"seed": seed, "model.width": 16, "test_error": error}) for seed, error in enumerate((0.3, 0.5))]
    return records([*rows, record(**{"seed": 9, "model.width": 32, "status": "failed", "test_error": None})])


@pytest.mark.parametrize(("value", "verdict"), [(0.25, "inside"), (0.26, "outside"), (0.14, "outside")])
def test_a_mean_is_inside_within_the_tolerance(value: float, verdict: str) -> None:
    found = check_number(study(), NumberClaim("narrow", {"model.width": 8}, "test_error", value, 0.05 + 1e-12))
    assert (found.verdict, found.seeds) == (verdict, 3)
    assert found.measured == "0.2000 ± 0.2484"  # Student: 4.302653 * 0.1 / sqrt(3)


@pytest.mark.parametrize(("value", "verdict"), [(0.2 + 0.2309, "inside"), (0.2 + 0.2310, "outside")])
def test_without_a_tolerance_it_is_four_standard_errors(value: float, verdict: str) -> None:
    """4 * 0.1 / sqrt(3) = 0.230940."""
    assert check_number(study(), NumberClaim("narrow", {"model.width": 8}, "test_error", value)).verdict == verdict


def test_one_run_has_no_standard_error_to_be_inside_of() -> None:
    one = records([record()])
    assert check_number(one, NumberClaim("one", {}, "test_error", 0.11)).verdict == "outside"


def test_what_was_not_run_is_shown_as_not_run() -> None:
    assert check_number(study(), NumberClaim("wide", {"model.width": 32}, "test_error", 0.5, 0.1)).verdict == "not run"
    assert check_number(study(), NumberClaim("norm", {"model.width": 8}, "measure.norm", 220, 22)).verdict == "not run"
    order = check_order(study(), OrderClaim("order", "test_error", [{"model.width": 8}, {"model.width": 32}]))
    assert (order.verdict, order.measured) == ("not run", "no point with test_error for 32")


def test_an_order_holds_or_does_not() -> None:
    rising = [{"model.width": 8}, {"model.width": 16}]
    assert check_order(study(), OrderClaim("order", "test_error", rising)).verdict == "holds"
    assert check_order(study(), OrderClaim("order", "test_error", rising[::-1])).verdict == "does not hold"


def test_the_page_says_when_on_what_and_what_differs() -> None:
    table = study()
    checked = check_number(table, NumberClaim("a|b", {"model.width": 8}, "test_error", 0.2, 0.1))
    page = study_page("made up", Claims("nowhere", ours=["batch size"], differs=["fewer images"]), [checked], table)
    assert "| a\\|b | 0.2 | 0.2000 ± 0.2484 | +0.0000 | ± 0.1 | 3 | inside |" in page
    assert "6 points (5 completed, 1 failed); 2026-03-01;" in page
    assert page.index("- fewer images") < page.index("- batch size")
    assert "No point of it was run." in study_page("made up", Claims("nowhere"), [], table.slice(0, 0))
