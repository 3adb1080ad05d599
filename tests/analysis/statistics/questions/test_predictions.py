"""Theory beside measurement: on records of points that were solved, asked for by what they are, and refused in a sentence."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

import analysis
from analysis.figures.drawing.lines import numbers
from analysis.statistics.questions.predictions import beside_theory, point_of
from tests.analysis.made_up_study import record, records
from trainables.point.config import TrialConfig, flatten, with_fields
from trainables.resolution import resolve
from trainables.training.loop import Training


@cache
def solved(model: str, field: str, values: tuple[int, ...]) -> pa.Table:
    """Records of points that are solved here, on 100 tumours, two seeds a value of a field."""
    same = {"data.name": "breast_cancer", "data.train_size": 100, "optimizer.name": "closed_form", "model.name": model}
    rows = []
    for value in values:
        for seed in range(2):
            point = resolve(with_fields(TrialConfig(), same | {field: value, "seed": seed}))
            (result,) = Training([point], torch.device("cpu")).epoch()
            rows.append(record(**flatten(point)) | {"key": point.key()} | result.outcome)
    return records(rows)


def test_a_record_says_which_point_it_is() -> None:
    table = solved("random_features", "model.width", (50, 100, 200))
    assert [point_of(row).key() for row in table.to_pylist()] == table["key"].to_pylist()


def test_predictions_stand_beside_means_over_seeds_and_between_them() -> None:
    found = beside_theory(solved("random_features", "model.width", (50, 100, 200)), "rf")
    assert (found.over, found.values) == ("model.width", ("test_loss",))
    widths, predicted, measured = (numbers(found.cells, name) for name in ("model.width", "predicted.test_loss", "test_loss"))
    assert set(widths) == {50, 100, 200}
    np.testing.assert_allclose(predicted[widths != 100], measured[widths != 100], rtol=0.5)
    assert np.isinf(predicted[widths == 100]).all()
    places = numbers(found.line, "model.width")
    assert len(places) == 9
    assert (np.diff(places) > 0).all()


@pytest.mark.parametrize(
    ("theory", "model", "field", "values"),
    [("rf", "random_features", "model.width", (50, 100, 200)), ("eigen", "gaussian_kernel", "data.train_size", (50, 200))],
)
def test_the_figure_has_lines_of_theory_through_marks(theory: str, model: str, field: str, values: tuple[int, ...], tmp_path: Path) -> None:
    figure = analysis.theory_lines(solved(model, field, values), theory)
    (panel,) = figure.axes
    (line,) = (one for one in panel.lines if one.get_gid() == "theory")
    assert set(values) < set(line.get_xdata())
    assert np.isfinite(line.get_ydata()).all()
    assert "Predicted over measured" in figure._supxlabel.get_text().replace("\n", " ")
    analysis.write_chart(figure, tmp_path / "theory")


def test_refusals_are_one_sentence_with_the_points_that_it_is_about() -> None:
    table = solved("random_features", "model.width", (50, 100, 200))
    with pytest.raises(analysis.AnalysisError, match="eigen is about kernels, and model random_features is none: gauss"):
        analysis.theory_table(table, "eigen")
    with pytest.raises(analysis.AnalysisError, match=r"that is so for 2 of 8 points, and --where leaves them out"):
        analysis.theory_table(pa.concat_tables([table, solved("random_features", "model.width", (10,))]), "rf")
    with pytest.raises(analysis.AnalysisError, match="points that gaplab trained, and f00 is of other origin"):
        analysis.theory_table(records([record(key="f00")]), "rf")
    with pytest.raises(analysis.NothingToShow, match="no completed record has a test loss"):
        analysis.theory_table(records([record(test_loss=None)]), "rf")


def test_points_of_several_kinds_of_corruption_are_asked_as_they_were_recorded() -> None:
    """Level 0 is of no kind where kinds differ, and belongs to both lines."""
    same = {"data.name": "breast_cancer", "data.train_size": 100, "optimizer.name": "closed_form", "model.name": "random_features"}
    rows = []
    for kind in ("redraw", "flip"):
        for level in (0.0, 0.2):
            corrupted = {"corruption.kind": kind, "corruption.level": level, "model.width": 60}
            point = resolve(with_fields(TrialConfig(), same | corrupted))
            (result,) = Training([point], torch.device("cpu")).epoch()
            rows.append(record(**flatten(point)) | {"key": point.key()} | result.outcome)
    table = records({row["key"]: row for row in rows}.values())
    cells = analysis.theory_table(table, "rf", over="corruption.level")
    assert cells["corruption.kind"].to_pylist() == ["flip", "flip", "redraw", "redraw"]
    assert np.isfinite(numbers(cells, "predicted.test_loss")).all()
