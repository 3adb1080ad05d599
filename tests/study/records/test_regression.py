"""A study of numbers from spec to records, MLflow and terminal: what is declared, refused, recorded and mirrored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import analysis
from study.attribution.declared import subsets
from study.capacity.bisection import tracks_of
from study.cli.shown.tables import gap_table
from study.plan.plan import plan_study
from study.records.front.overview import overview_of
from study.records.front.views import POINTS, TAG, views
from study.records.verify import verify
from study.records.writer import FragmentWriter
from study.spec.reading import Spec, understand
from tests.analysis.made_up_study import gap_study, records, regression_study
from tests.study.conftest import Answer
from tests.study.records.mirrored import assert_equal_to_records, copied
from tests.trainables.made_up_points import train
from trainables.point.errors import ConfigError
from trainables.probe.fitting import fit
from trainables.probe.left_open import best_device

WRITTEN: dict[str, Any] = {
    "study": "made-up",
    "trial": {
        "data": {"name": "diabetes", "validation_size": 50}, "model": {"name": "mlp"}, "budget": {"epochs": 2},
        "optimizer": {"learning_rate": 0.01},
    },
    "space": {"model.width": {"values": [4, 16]}, "corruption.level": {"values": [0, 1]}},
}  # fmt: skip


def declared(trial: dict[str, Any] | None = None, **changes: Any) -> Spec:
    return understand(WRITTEN | {"trial": WRITTEN["trial"] | (trial or {})} | changes)


@pytest.mark.parametrize(
    ("trial", "changes", "said"),
    [
        ({"optimizer": {"loss": "cross_entropy"}}, {}, "cross_entropy, which is for classes.*leave it out, or name squared"),
        ({}, {"space": {"optimizer.loss": {"values": ["squared", "cross_entropy"]}}}, "cross_entropy, which is for classes"),
        (
            {},
            {"measures": ["inverse_margin"]},
            "measures are of classifiers, and the targets of diabetes are numbers: leave out inverse_margin",
        ),
        (
            {},
            {"space": {"model.width": {"int": {"low": 2, "high": 9}}}, "search": {"kind": "optuna", "trials": 2}},
            "minimises a classification error, but the targets of diabetes are numbers",
        ),
    ],
)
def test_what_is_of_classes_is_refused_before_anything_runs(
    tmp_path: Path, trial: dict[str, Any], changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        plan_study(declared(trial, **changes), str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_capacity_in_bits_is_of_classes() -> None:
    with pytest.raises(ConfigError, match="capacity counts the random classes"):
        tracks_of(declared(space={}), 0.5)


def test_attribution_is_of_classes() -> None:
    with pytest.raises(ConfigError, match="attribution asks which samples a network classifies rightly"):
        subsets(declared(space={}), 8, 0.5)


def test_a_loss_that_goes_along_with_the_data_is_not_refused(tmp_path: Path) -> None:
    space = {"zip": [{"data.name": {"values": ["digits", "diabetes"]}, "optimizer.loss": {"values": ["cross_entropy", "squared"]}}]}
    points = plan_study(declared(space=space), str(tmp_path)).points
    assert {(one.config.data.task, one.config.optimizer.loss) for one in points} == {(None, "cross_entropy"), ("regression", "squared")}


def test_a_few_samples_are_learnt_by_heart_as_numbers(tmp_path: Path) -> None:
    """What `gaplab check`, and a run of one's own model, try."""
    trial = {"optimizer": {"learning_rate": 0.1}, "model": {"name": "mlp", "width": 128}}
    found = fit(plan_study(declared(trial, space={}), str(tmp_path)).points[0].config, best_device())
    assert (found.why, found.steps is not None) == ("", True)


def test_records_and_curves_come_back_from_parquet_and_mlflow(writer: FragmentWriter, uri: str, tmp_path: Path) -> None:
    results = train([one.config for one in plan_study(declared(), str(tmp_path / "plan")).points])
    writer(list(results.values()), "cpu")
    table = analysis.load(writer.root)
    assert set(table["data.task"].to_pylist()) == {"regression"}
    for row in table.to_pylist():
        outcome = results[row["key"]].outcome
        for name in ("train_nmse", "validation_nmse", "test_nmse", "nmse_gap"):
            assert row[name] == outcome[name]
        assert {row[name] for name in ("train_error", "validation_error", "test_error", "generalization_gap")} == {None}
    assert copied(writer, uri).error is None
    assert_equal_to_records(writer, uri)
    assert not verify(writer.root)


def test_the_study_in_mlflow_says_the_gap_of_numbers() -> None:
    found = overview_of("made-up", records(regression_study()))
    assert found.regression
    rows = [row for row in regression_study() if row["corruption.level"] == 1 and row["parameters"] == 100_000]
    mean = np.mean([row["nmse_gap"] for row in rows])
    (series,) = [values for name, (_, values) in found.metrics.items() if name.startswith("gap/") and values[-1] == pytest.approx(mean)]
    assert series[-1] > 1
    assert "Generalization gap (test squared error / variance - train squared error / variance)" in found.description
    for regression, there, not_there in ((True, "nmse_gap", "generalization_gap"), (False, "generalization_gap", "nmse_gap")):
        shown = views({}, 0, regression=regression)[TAG + POINTS]
        assert (there in shown, not_there in shown) == (True, False)
    both = overview_of("made-up", records([*regression_study(), *gap_study()]))
    assert not any(name.startswith("gap") for name in both.metrics)


def test_the_table_of_a_run_is_of_the_gap_of_numbers() -> None:
    shown = gap_table(analysis.gap_table(records(regression_study())), "made-up")
    assert "generalization gap in squared error / variance" in str(shown.title)
    assert shown.row_count == 4


def test_a_file_of_numbers_is_described_on_the_terminal(gaplab: Callable[..., Answer], tmp_path: Path) -> None:
    path = tmp_path / "houses.csv"
    path.write_text("rooms,price\n" + "".join(f"{place % 7},{10 * (place % 7) + place / 64}\n" for place in range(300)))
    answer = gaplab("data", str(path))
    assert answer.code == 0
    assert "regression of one number, by squared loss" in " ".join(answer.out.split())
    whole = tmp_path / "counts.csv"
    whole.write_text("rooms,price\n" + "".join(f"{place % 7},{place}\n" for place in range(300)))
    refused = gaplab("data", str(whole))
    assert (refused.code, "data.task: regression takes them for numbers" in refused.err) == (2, True)
    assert "target price" in gaplab("data", str(whole), "--task", "regression").out
