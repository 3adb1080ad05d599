"""The breaker: it halts what cannot succeed, at the start or later, and nothing in which some configurations fail."""

from __future__ import annotations

import random

import pytest

from study.launch.breaker import FAILURES, LOSSES, RECENT, Breaker

WORDS = "RuntimeError: the driver is gone"


def failed(count: int, reason: str = WORDS) -> dict[str, object]:
    return {"points": {"failed": count}, "reasons": {reason: count}}


def completed(count: int) -> dict[str, object]:
    return {"points": {"completed": count}, "reasons": {}}


def told(reports: list[dict[str, object]], packs: int = 10) -> str | None:
    breaker = Breaker(lambda: None)
    for number, report in enumerate(reports):
        breaker(f"pack {number % packs}", report)
    return breaker.reason


def test_everything_fails_from_the_start() -> None:
    assert told([failed(1)] * (FAILURES - 1)) is None
    reason = told([failed(1)] * FAILURES)
    assert reason is not None
    assert f"the first {FAILURES} points to end all failed" in reason


def test_what_fails_alike_after_a_good_start_halts() -> None:
    good = [completed(1)] * 300
    assert told([*good, *[failed(1)] * (RECENT // 2)]) is None
    reason = told([*good, *[failed(1)] * RECENT])
    assert reason == f"almost all points that ended lately failed with the same reason ({WORDS})"
    assert told([*good, *[failed(1)] * RECENT], packs=1) is None, "one pack has points of one shape"


def test_large_packs_are_counted_by_their_points() -> None:
    assert told([completed(500), *[failed(200)] * 5]) is not None


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.8])
def test_a_study_in_which_some_configurations_fail_goes_on(share: float) -> None:
    draw = random.Random(0)
    assert told([failed(1) if draw.random() < share else completed(1) for _ in range(5000)]) is None


def test_different_reasons_do_not_halt() -> None:
    assert told([completed(1), *[failed(1, f"ValueError: {number % 3}") for number in range(1000)]]) is None


@pytest.mark.parametrize("reason", ["out of memory, even alone", "TimeoutError: longer than the limit of 8 seconds"])
def test_points_that_are_too_large_say_nothing_of_the_others(reason: str) -> None:
    assert told([completed(1), *[failed(1, reason)] * 1000]) is None


def test_workers_that_are_lost_again_and_again_without_a_report_halt() -> None:
    breaker = Breaker(lambda: None)
    breaker("first", completed(1))
    for number in range(LOSSES - 1):
        breaker.lost(f"pack {number % 4}", for_good=False)
    assert breaker.reason is None
    breaker.lost("pack 0", for_good=False)
    assert breaker.reason == f"{LOSSES} workers in a row were lost before they reported anything"


def test_workers_that_are_lost_now_and_then_do_not_halt() -> None:
    breaker = Breaker(lambda: None)
    for number in range(20 * LOSSES):
        breaker.lost(f"pack {number % 4}", for_good=False)
        if number % 10 == 0:
            breaker(f"pack {number % 4}", {"points": {}, "reasons": {}})
        assert breaker.reason is None
