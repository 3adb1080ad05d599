"""Verdicts on published numbers and orders: from seeds and their intervals, among equal fits, a stand-in never counting as reproduced."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from scipy import stats

from analysis.errors import AnalysisError
from analysis.reproduction.checks import CheckedClaim, check_number, check_order, reproduced
from analysis.reproduction.claims import Claims, NumberClaim, OrderClaim
from analysis.reproduction.page import combined_page, study_page
from tests.analysis.made_up_study import record, records

NARROW = [{"seed": seed, "model.width": 8, "test_error": error} for seed, error in enumerate((0.19, 0.2, 0.21))]
WIDE = [{"seed": seed, "model.width": 16, "test_error": error} for seed, error in enumerate((0.29, 0.31, 0.30))]
WIDTHS = [{"model.width": 8}, {"model.width": 16}]


def study(*rows: dict[str, Any]) -> pa.Table:
    fit = {"interpolated": True, "train_error": 0.0}
    return records(
        [record(**(fit | row)) for row in rows] + [record(**{"seed": 9, "model.width": 32, "status": "failed", "test_error": None})]
    )


def number(table: pa.Table, value: float = 0.2, tolerance: float | None = 0.05, **more: Any) -> CheckedClaim:
    return check_number(table, NumberClaim("narrow", {"model.width": 8}, "test_error", value, tolerance, **more))


def order(table: pa.Table, rising: list[dict[str, Any]] = WIDTHS, **more: Any) -> CheckedClaim:
    return check_order(table, OrderClaim("order", more.pop("column", "test_error"), rising, **more))


def test_a_number_holds_if_its_whole_interval_is_within_the_tolerance() -> None:
    """Student's half width for these three: 4.302653 * 0.01 / sqrt(3) = 0.0248; the logit's is about the same."""
    table = study(*NARROW)
    verdicts = {value: number(table, value).verdict for value in (0.2, 0.22, 0.235, 0.27, 0.29)}
    assert verdicts == {0.2: "holds", 0.22: "holds", 0.235: "undecided", 0.27: "undecided", 0.29: "does not hold"}
    found = number(table)
    assert (found.seeds, found.protocol) == (3, "same")
    half = stats.t(2).ppf(0.975) * 0.01 / 3**0.5
    low, high = (float(part) for part in found.measured.partition("(")[2].rstrip(")").split(" to "))
    assert (low, high) == (pytest.approx(0.2 - half, abs=3e-3), pytest.approx(0.2 + half, abs=3e-3))


def test_one_seed_decides_nothing() -> None:
    one = study(NARROW[1], WIDE[0])
    assert (number(one).verdict, number(one, tolerance=None).verdict, order(one).verdict) == ("undecided",) * 3
    assert number(one).measured == "0.2000"


def test_without_a_tolerance_it_is_four_standard_errors() -> None:
    """4 * 0.01 / sqrt(3) = 0.023094."""
    verdicts = [number(study(*NARROW), 0.2 + off, None).verdict for off in (0.0230, 0.0232)]
    assert verdicts == ["holds", "does not hold"]


def test_what_is_exact_has_no_interval() -> None:
    exact = [NumberClaim("zero", {}, "train_error", 0.0, 0.0), NumberClaim("zero", {}, "test_error", 0.2, 0.0)]
    assert [check_number(study(*NARROW[1:]), one).verdict for one in exact] == ["holds", "does not hold"]


def test_runs_that_fit_worse_than_the_papers_do_not_count() -> None:
    loose = [row | {"train_error": 0.3, "test_error": 0.9, "seed": 5 + row["seed"]} for row in NARROW]
    found = number(study(*NARROW, *loose), train_error=0.002)
    assert (found.verdict, found.seeds) == ("holds", 3)
    only = number(study(*loose), train_error=0.002)
    assert only.verdict == "undecided"
    assert "that fit" in only.why


def test_an_order_is_decided_by_pairs_of_one_seed() -> None:
    table = study(*NARROW, *WIDE)
    assert order(table).verdict == "holds"
    assert order(table, WIDTHS[::-1]).verdict == "does not hold"
    shifted = [row | {"test_error": row["test_error"] + offset} for row, offset in zip(NARROW, (0.001, -0.001, 0.0005), strict=True)]
    close = study(*NARROW, *(row | {"model.width": 16} for row in shifted))
    assert order(close).verdict == "undecided"
    assert order(table).published == "width 8 < width 16"


def test_pairs_that_do_not_fit_equally_do_not_count() -> None:
    loose = [row | {"interpolated": False} for row in WIDE]
    table = study(*NARROW, *loose)
    assert (order(table).verdict, order(table, equal_fit=False).verdict) == ("undecided", "holds")


def test_a_time_to_fit_is_known_to_one_evaluation() -> None:
    """All three pairs differ by two evaluations, and vary less than the steps between them."""
    times = [
        {"seed": seed, "model.width": width, "fit_epoch": 30 + (6 if width == 16 else 0), "budget.evaluate_every": every}
        for seed in range(3)
        for width in (8, 16)
        for every in (3,)
    ]
    assert order(study(*times), column="fit_epoch").verdict == "holds"
    coarse = [row | {"budget.evaluate_every": 30} for row in times]
    assert order(study(*coarse), column="fit_epoch").verdict == "undecided"


def test_a_stand_in_never_counts_as_reproduced() -> None:
    table = study(*NARROW, *WIDE)
    found = [number(table, protocol="stand-in"), order(table, protocol="stand-in"), number(table, 0.9, protocol="stand-in")]
    assert [one.verdict for one in found] == ["not compared", "holds", "not compared"]
    assert not reproduced(found)
    assert reproduced([*found, order(table)]) == {"holds": 1}
    text = combined_page(["# a\n", "# b\n"], "head", [*found, order(table)])
    assert "published protocol: 1 holds, 0 does not hold" in text
    assert "never count as reproduced: 1 holds, 0 does not hold, 0 undecided, 0 not run, 2 not compared" in text


def test_a_control_passes_or_fails_and_is_no_reproduction() -> None:
    table = study(*NARROW)
    found = [number(table, value, protocol="control") for value in (0.2, 0.3)]
    assert [one.verdict for one in found] == ["passes", "fails"]
    assert not reproduced(found)


def test_two_runs_of_one_seed_are_refused() -> None:
    with pytest.raises(AnalysisError, match="two completed runs of seed 0 agree with it"):
        number(study(NARROW[0], NARROW[0] | {"model.depth": 5}))


def test_what_was_not_run_is_shown_as_not_run() -> None:
    table = study(*NARROW)
    assert check_number(table, NumberClaim("wide", {"model.width": 32}, "test_error", 0.5, 0.1)).verdict == "not run"
    assert check_number(table, NumberClaim("norm", {"model.width": 8}, "measure.norm", 220, 22)).verdict == "not run"
    found = order(table, [{"model.width": 8}, {"model.width": 32}])
    assert (found.verdict, found.measured) == ("not run", "no point with test_error for width 32")


def test_the_page_says_when_on_what_and_what_differs() -> None:
    table = study(*NARROW)
    checked = check_number(table, NumberClaim("a|b", {"model.width": 8}, "test_error", 0.2, 0.1))
    page = study_page("made up", Claims("nowhere", ours=["batch size"], differs=["fewer images"]), [checked], table, 7)
    assert "| a\\|b | 0.2 | 0.2000 (" in page
    assert f"| +0.0000 | ± 0.1 | 3 | 0.0000 | {table['parameters_per_sample'][0].as_py():.3g} | same | holds |" in page
    assert "4 points of 7 declared (3 completed, 1 failed); 2026-03-01;" in page
    assert page.index("- a|b: holds: measured") < page.index("- fewer images") < page.index("- batch size")
    assert "No point of it was run." in study_page("made up", Claims("nowhere"), [], table.slice(0, 0))
