"""What a study found and could not tell: each sentence against a study whose truth is known."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import analysis
from tests.analysis.made_up_study import SAMPLES, gap_study, record, records

SIZES = (0.5, 1, 2, 3, 4, 5, 10)


def fits(seeds: dict[int, str]) -> list[dict[str, Any]]:
    """Which seed fit at p/n 1, 2, 4 and 8: 1 if it did, 0 if it did not, a dot where it was not run."""
    return [
        record(**{"model.width": 2**place}, parameters=SAMPLES * 2**place, seed=seed, interpolated=did == "1")
        for seed, all_of in seeds.items()
        for place, did in enumerate(all_of)
        if did != "."
    ]


def test_a_study_of_known_truth_is_told_as_it_is() -> None:
    told = analysis.findings(records(gap_study(capacities=SIZES, seeds=10)))
    thresholds, gap, order = told.found
    assert "0 (true labels): 0.707 (0.5 to 1); 0.5: 2.45 (2 to 3); 1: 4.47 (4 to 5)" in thresholds
    assert gap.startswith("At p/n 10, among seeds that fit (10), the generalization gap is, by labels redrawn with probability: 0 (true")
    assert order.endswith("paired by seed, holds.")
    assert len(told.left_open) == 3, "capacity makes no difference: what is not shown is said"
    assert all("neither a rise nor a fall is shown" in one for one in told.left_open)


def test_a_change_with_capacity_is_found_with_its_size() -> None:
    noise = np.random.default_rng(0)
    rows = [
        record(**{"model.width": width}, parameters=100 * width, seed=seed, test_error=0.5 - 0.1 * (width == 80) + noise.normal(0, 0.01))
        for width in (10, 40, 80)
        for seed in range(8)
    ]
    (sentence,) = [one for one in analysis.findings(records(rows)).found if "falls" in one]
    assert sentence.endswith(" over 8 seeds that fit at both.")
    said = re.match(r"true labels: from p/n 1 to 8 the generalization gap falls by ([\d.]+) \(([\d.]+) to ([\d.]+)\)", sentence)
    assert said
    change, low, high = map(float, said.groups())
    assert low < 0.1 < high
    assert change == pytest.approx(0.1, abs=0.015)  # three deviations of a mean of eight differences


def test_no_change_is_claimed_too_often() -> None:
    """Six lines without a change: at 95 % for all together, a study in twenty claims one."""
    noise, claims = np.random.default_rng(1), 0

    def error() -> float:
        return float(noise.normal(0.5, 0.05))

    for _ in range(40):
        rows = [
            record(
                **{"model.width": width, "corruption.level": level}, parameters=100 * width, seed=seed, test_error=noise.normal(0.5, 0.05)
            )
            for width in (10, 80)
            for level in np.linspace(0, 1, 6)
            for seed in range(4)
        ]
        claims += any(" rises by" in one or " falls by" in one for one in analysis.findings(records(rows)).found)
    assert claims <= 7  # of 40 at a rate of at most 0.05: more than 7 has probability 0.001


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (gap_study(levels=(0.0,), capacities=(2, 4)), "every seed fits already at p/n 2: the threshold lies below."),
        (gap_study(levels=(1.0,), capacities=(0.1, 1)), "no seed fits, not even at p/n 1: the threshold lies above."),
        (gap_study(seeds=1), "only one seed fits at p/n 100: of others that says nothing."),
        (fits({0: "0111"}), "the threshold of the only seed is near p/n 1.41: one seed has no interval."),
        (fits({0: "1111"}), "the only seed fits already at p/n 1: the threshold lies below."),
        (fits({0: "0000"}), "the only seed does not fit, not even at p/n 8: the threshold lies above."),
        (
            fits({0: "1111", 1: "0111", 2: "0011"}),
            "(95 %); how far down is open, since 1 of 3 seeds fitted already at p/n 1.",
        ),
        (fits({0: "0000", 1: "0001", 2: "0000"}), "(95 %); how far up is open, since 2 of 3 seeds did not fit even at p/n 8."),
        (
            fits({0: "0000", 1: "1111"}),
            "the threshold is open on both sides: 1 of 2 seeds fitted already at p/n 1, and 1 of 2 seeds did not fit even at p/n 8.",
        ),
        (fits({0: "0100", 1: "0010"}), "how far up is open, since 2 of 2 seeds did not fit even at p/n 8."),
        (fits({0: "1011", 1: "1101"}), "how far down is open, since 2 of 2 seeds fitted already at p/n 1."),
        (fits({0: "11.1", 1: ".111"}), "every seed fits already at the smallest p/n that they ran at: the threshold lies below."),
        ([*gap_study(), record(seed=9, status="diverged")], "Of the points, 36 completed, 1 diverged"),
        (
            [record(**{"model.width": w}, parameters=100 * w, seed=s, interpolated=w + s > 8) for w in (8, 16) for s in range(3)],
            "only some seeds fit at p/n 0.8 (2 of 3): means over them are of a selection.",
        ),
        (
            [record(**{"model.width": w}, parameters=100 * w, seed=s, interpolated=w + s > 201) for w in (100, 200) for s in range(3)],
            "(1 of 3): means over them are of a selection; with 10 parameters a sample and more the others want a larger budget.epochs.",
        ),
        (
            [record(seed=s, **{"optimizer.momentum": m / 100}) for m in range(20) for s in range(2)],
            "12 of 20 lines are not told of here: gaplab fit",
        ),
    ],
    ids=[
        *(
            "below the grid",
            "above the grid",
            "one seed",
            "one seed within",
            "one seed below",
            "one seed above",
            "open below",
            "open above",
        ),
        *("open on both sides", "mixed, none at the largest", "mixed, all at the smallest", "unequal sizes"),
        *("not completed", "mixed", "mixed with room", "many lines"),
    ],
)
def test_what_is_left_open_is_said(rows: list[dict[str, Any]], sentence: str) -> None:
    assert any(sentence in one for one in analysis.findings(records(rows)).left_open)


def test_odd_studies_have_findings_or_a_sentence() -> None:
    with pytest.raises(analysis.NothingToShow, match="no records yet"):
        analysis.findings(records([]))
    analysis.findings(records([record()]))
    analysis.findings(records([record(test_error=float("nan"), generalization_gap=float("nan"))]))
    analysis.findings(records([record() | {"parameters_per_sample": None, "parameters": None}]))


def test_large_networks_that_do_not_fit_lack_training_and_what_to_change_is_said() -> None:
    rows = [
        record(
            **{"model.width": width, "corruption.level": 1.0, "budget.epochs": 100, "optimizer.learning_rate": 0.1},
            parameters=100 * width,
            seed=seed,
            train_error=0.7 + 0.01 * seed,
            interpolated=False,
            fit_epoch=None,
        )
        for width in (5, 100, 200)
        for seed in range(3)
    ]
    (sentence,) = [one for one in analysis.findings(records(rows)).left_open if "no seed fits" in one]
    assert "6 networks with at least 10 parameters a sample end at a train error of 0.71 (median)" in sentence
    assert sentence.endswith(
        "raise budget.epochs (100) to several times that, or change optimizer.learning_rate (0.1; a third of it is the first to try)."
    )


def test_sentences_have_no_tex():
    rows = [row | {"data.train_size": size} for size in (500, 1000) for row in gap_study()]
    found = analysis.findings(records([row | {"key": str(index)} for index, row in enumerate(rows)]))
    sentences = [*found.found, *found.left_open]
    assert any("training samples n" in sentence for sentence in sentences)
    assert not [sentence for sentence in sentences if "$" in sentence]


def paired(levels: dict[float, range], luck: np.ndarray, shuffled: int = 0) -> list[dict[str, Any]]:
    """Gaps that rise by 0.02 from level to level, beside each seed's luck; at each level its seeds, the rows in no order."""
    noise = np.random.default_rng(shuffled)
    rows = [
        record(**{"corruption.level": level}, seed=seed, test_error=0.3 + 0.02 * place + luck[seed] + noise.normal(0, 0.002))
        for place, (level, seeds) in enumerate(levels.items())
        for seed in seeds
    ]
    return [rows[place] for place in noise.permutation(len(rows))]


def test_an_order_is_of_pairs_of_one_seed_whatever_order_the_rows_have() -> None:
    luck = np.random.default_rng(5).normal(0, 0.1, 20)
    for shuffled in range(3):
        told = analysis.findings(records(paired(dict.fromkeys((0.0, 0.5, 1.0), range(6)), luck, shuffled)))
        assert [one for one in told.found if one.endswith("paired by seed, holds.")], told


def test_an_order_rests_on_the_seeds_that_both_levels_have() -> None:
    luck = np.random.default_rng(6).normal(0, 0.1, 20)
    told = analysis.findings(records(paired({0.0: range(6), 1.0: range(6, 12)}, luck)))
    assert any("rests on 0 seeds, which decides nothing" in one for one in told.left_open), "no seed is at both levels"
    told = analysis.findings(records(paired({0.0: range(9), 1.0: range(4, 16)}, luck)))
    assert any(one.endswith("paired by seed, holds.") for one in told.found), "five seeds are at both, unequal numbers at each"


def test_an_order_at_different_sizes_is_not_claimed() -> None:
    rows = [
        record(**{"corruption.level": level, "model.width": width}, parameters=100 * width, seed=seed, test_error=0.1 + level + seed / 100)
        for level, widths in ((0.0, (10, 20)), (0.5, (10, 80)))
        for width in widths
        for seed in range(4)
    ]
    told = analysis.findings(records(rows))
    assert not any("rises from each level" in one for one in (*told.found, *told.left_open))


def test_differences_that_all_agree_are_no_certainty() -> None:
    """Errors are counts over a test set: three seeds that moved by one and the same step may have by chance."""
    rows = [
        record(**{"model.width": width}, parameters=100 * width, seed=seed, test_error=0.5 + seed / 20 - 0.05 * (width == 80))
        for width in (10, 80)
        for seed in range(3)
    ]
    (sentence,) = [one for one in analysis.findings(records(rows)).left_open if "changes by" in one]
    assert "changes by -0.05 (all differences are equal) over 3 seeds that fit at both: neither" in sentence
