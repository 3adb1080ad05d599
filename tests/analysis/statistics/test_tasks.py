"""Records of regression in every table and figure: their own columns, no bound at 1, and never beside errors of classes."""

from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import analysis
from analysis.report.explorer import explorer
from analysis.statistics.intervals import intervals_of, range_of
from analysis.statistics.moments import at_moment
from analysis.statistics.tasks import own
from study.cli.shown.figures import FigureKind, drawn
from tests.analysis.made_up_study import curve, gap_study, records, regression_study

ROWS = regression_study()
TABLE = records(ROWS)
BOTH = records([*ROWS, *gap_study()])


def curves_of(rows: list[dict[str, Any]]) -> pa.Table:
    from analysis.records.schema import CURVES

    return pa.Table.from_pylist([point for row in rows for point in curve(row)], CURVES)


def test_means_and_intervals_of_numbers_are_students_and_pass_one() -> None:
    found = analysis.gap_table(TABLE).to_pylist()
    assert not {"generalization_gap", "train_error", "test_error"} & set(found[0])
    (last,) = [row for row in found if (row["corruption.level"], row["parameters_per_sample"]) == (1.0, 100.0)]
    values = [row["nmse_gap"] for row in ROWS if (row["corruption.level"], row["parameters"]) == (1.0, 100_000)]
    low, high = intervals_of(np.mean(values), np.std(values, ddof=1) / 3**0.5, 2)
    assert (last["nmse_gap"], last["nmse_gap.low"], last["nmse_gap.high"]) == pytest.approx((np.mean(values), low, high))
    assert last["nmse_gap.low"] > 1
    assert (range_of("test_nmse"), range_of("nmse_gap")) == ((0.0, np.inf), (-np.inf, np.inf))


def test_both_tasks_in_one_table_are_refused_wherever_runs_are_drawn_or_counted() -> None:
    for ask in (
        analysis.gap_table, analysis.gap_vs_capacity, analysis.double_descent, analysis.error_vs_corruption, analysis.threshold_table,
        analysis.capacity_corruption_map, analysis.train_vs_test, analysis.findings, analysis.scaling_laws, analysis.decomposition_table,
    ):  # fmt: skip
        with pytest.raises(analysis.NothingToShow, match=r"--where data\.task=regression or --where data\.task=null"):
            ask(BOTH)  # type: ignore[operator]
    with pytest.raises(analysis.AnalysisError, match=r"data\.task"):
        analysis.over_seeds(BOTH, ["corruption.level", "parameters"], ["test_loss"])


_DRAWN = [
    FigureKind.GAP, FigureKind.LEARNING, FigureKind.MEMORISATION, FigureKind.TIME, FigureKind.CORRUPTION, FigureKind.STOPPING,
    FigureKind.DESCENT, FigureKind.EPOCHS, FigureKind.MAP, FigureKind.SCATTER, FigureKind.PARALLEL,
]  # fmt: skip


@pytest.mark.parametrize("kind", _DRAWN)
def test_figures_show_the_errors_of_numbers(kind: FigureKind) -> None:
    if kind is FigureKind.EPOCHS:
        rows = [row for row in ROWS if row["parameters"] > 1000]
    elif kind is FigureKind.MEMORISATION:
        rows = [row for row in ROWS if row["corruption.level"] == 0.5]
    else:
        rows = ROWS
    curves = curves_of(rows)
    if kind is FigureKind.MEMORISATION:
        place = curves.column_names.index("clean_train_loss")
        curves = curves.set_column(place, "clean_train_loss", curves["wrong_train_loss"])
    figure = drawn(kind, records(rows), lambda: curves, {}, {})
    said = " ".join(text.get_text() for text in figure.findobj(lambda one: hasattr(one, "get_text")))
    assert "error" not in re.sub(r"squared\s+error|test error \N{MINUS SIGN} train error|knowledge of the test error", "", said)
    if kind in (FigureKind.GAP, FigureKind.DESCENT, FigureKind.CORRUPTION, FigureKind.EPOCHS):
        assert "squared error / variance" in said
    if kind is FigureKind.DESCENT:
        shown = [line.get_ydata() for line in figure.axes[0].get_lines() if line.get_gid() == "means"]
        assert max(float(np.max(ys)) for ys in shown) == pytest.approx(max(row["test_nmse"] for row in ROWS), rel=0.05)


@pytest.mark.parametrize("kind", [kind for kind in FigureKind if kind not in _DRAWN])
def test_figures_that_need_classes_say_a_sentence(kind: FigureKind) -> None:
    table = TABLE.append_column("measure.solution_norm", pa.array(np.arange(float(TABLE.num_rows))))
    with pytest.raises(analysis.AnalysisError):
        drawn(kind, table, lambda: curves_of(ROWS), {}, {})


def test_measures_of_solved_points_are_not_ranked_by_a_gap_that_is_none_of_classes() -> None:
    from analysis.statistics.questions.ranking import rank_measures

    table = TABLE.append_column("measure.solution_norm", pa.array(np.arange(float(TABLE.num_rows))))
    with pytest.raises(analysis.NothingToShow, match="these records are of regression"):
        rank_measures(table)


def test_comparisons_and_shares_take_the_columns_of_numbers() -> None:
    compared = analysis.compare(TABLE, "corruption.level", against=0.0)
    assert "test squared error / variance" in compared["sentence"][0].as_py()
    assert max(compared["difference"].drop_null().to_pylist()) > 2
    assert analysis.decomposition_table(TABLE)["term"][0].as_py() == "corruption.level"
    assert own(TABLE, "generalization_gap") == "nmse_gap"
    found = analysis.findings(TABLE)
    assert any("squared error / variance" in sentence for sentence in found.found)


def test_scaling_laws_are_of_the_error_of_numbers() -> None:
    rows = []
    for row in ROWS:
        if row["corruption.level"] == 0 and row["seed"] == 0:
            for place, parameters in enumerate((1000, 3000, 10_000, 30_000, 100_000, 300_000)):
                size = {"parameters": parameters, "model.width": 10 * (place + 1), "interpolated": True}
                rows.append(row | size | {"test_nmse": 2 + 50 * parameters**-0.5, "key": f"{place:032d}"})
            break
    (law,) = analysis.scaling_laws(records(rows), resamples=10)
    assert law.value == "test_nmse"
    fitted = law.scaling.law
    assert fitted is not None
    assert fitted.parameters["E"].value == pytest.approx(2, abs=0.1)


def test_values_at_another_moment_are_those_of_numbers() -> None:
    rows = [row | {"fit_epoch": 6} for row in ROWS]
    moved = at_moment(records(rows), curves_of(rows), "fit")
    by_key = {row["key"]: row for row in moved.to_pylist()}
    for row in rows:
        found = by_key[row["key"]]
        assert found["train_nmse"] == pytest.approx(row["train_nmse"] + 0.25)
        assert found["nmse_gap"] == pytest.approx(row["nmse_gap"] - 0.125)
        assert (found["generalization_gap"], found["train_error"]) == (None, None)


def test_only_the_columns_that_a_chart_needs_tell_the_task(write_study: Callable[..., Path]) -> None:
    folder = str(write_study(ROWS))
    columns = analysis.gap_columns(folder)
    assert columns is not None
    figure = analysis.gap_vs_capacity(analysis.load(folder, columns=columns))
    assert "squared error / variance" in figure.axes[0].get_title(loc="left")


def test_a_report_has_every_figure_of_numbers_and_of_both_tasks_the_points_alone(write_study: Callable[..., Path], tmp_path: Path) -> None:
    page = analysis.write_report(str(write_study(ROWS)), tmp_path / "numbers.html").read_text()
    assert "test squared error / variance" in page
    assert "95 % intervals, by Student" in page
    mixed = analysis.write_report(str(write_study([*ROWS, *gap_study()], name="both")), tmp_path / "both.html").read_text()
    assert "whose errors are no one quantity" in mixed


def test_the_explorer_begins_with_the_gap_of_numbers_and_has_their_curves() -> None:
    found = explorer(TABLE, lambda table: curves_of(ROWS), spec={}).description
    assert found["start"]["y"] == "nmse_gap"
    assert {"train_nmse", "test_nmse"} <= set(found["start"]["axes"])
    assert found["curves"]["length"] > 0
    assert found["point"]["fields"]["data.task"] == "regression"
    packed = np.frombuffer(zlib.decompress(base64.b64decode(explorer(TABLE, lambda table: curves_of(ROWS), spec={}).payload)), np.uint8)
    train = np.frombuffer(packed.tobytes(), "<f4", found["curves"]["length"], found["curves"]["train_error"])
    assert np.isfinite(train).all()
    assert train.max() == pytest.approx(max(point["train_nmse"] for row in ROWS for point in curve(row)), rel=0.05)
    assert explorer(BOTH, lambda table: curves_of(ROWS), spec={}).description["lines"] == {}
