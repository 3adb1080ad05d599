"""The figures of scaling laws: what they draw is what the laws say."""

from __future__ import annotations

import numpy as np
import pytest

import analysis
from tests.analysis.made_up_study import records
from tests.analysis.scaling.test_studies import falling, plane_of, runs


def test_the_forecast_is_drawn_to_ten_times_the_largest_size() -> None:
    laws = analysis.scaling_laws(records(runs(falling)), resamples=100)
    (panel,) = analysis.scaling_chart(laws).axes
    (forecast,) = (line for line in panel.lines if line.get_gid() == "forecast")
    assert forecast.get_xdata()[-1] == pytest.approx(1e6)
    assert forecast.get_ydata()[-1] == pytest.approx(laws[0].scaling.predict(1e6).value)
    assert panel.get_yscale() == "log"


def test_a_line_without_a_law_is_drawn_without_one() -> None:
    rows = runs(falling, **{"corruption.level": 0.0}) + runs(falling, sizes=[100, 1000, 10_000], **{"corruption.level": 0.5})
    figure = analysis.scaling_chart(analysis.scaling_laws(records(rows), resamples=20))
    assert len([line for line in figure.axes[0].lines if line.get_gid() == "forecast"]) == 1
    assert "No law: label corruption 0.5" in figure._supxlabel.get_text()


def test_panels_of_equal_compute_show_profiles_and_the_best_sizes() -> None:
    laws = analysis.scaling_laws(plane_of(1), value="test_loss", resamples=50)
    left, middle, right = analysis.scaling_chart(laws).axes
    assert len([line for line in left.lines if line.get_gid() == "law"]) == 9
    labels = [text.get_text() for text in middle.get_legend().get_texts()]
    assert len(labels) == 5
    assert "exponent 0.45" in right.get_title(loc="left")
    law = right.lines[-1]
    slope = np.polyfit(np.log(law.get_xdata()), np.log(law.get_ydata()), 1)[0]
    assert slope == pytest.approx(0.28 / 0.62, abs=1e-3)
    with pytest.raises(analysis.NothingToShow, match="no law to draw"):
        analysis.scaling_chart([])


def test_points_that_are_solved_have_no_compute_to_split() -> None:
    """A factorization takes no multiple of parameters times samples."""
    table = plane_of(1)
    flops = [2 * min(row["parameters"], row["data.train_size"]) ** 3 / 3.0 for row in table.to_pylist()]
    table = table.set_column(table.column_names.index("training_flops"), "training_flops", [flops])
    laws = analysis.scaling_laws(table, value="test_loss", resamples=20)
    assert len(analysis.scaling_chart(laws).axes) == 1
    notes = [row["note"] for row in analysis.forecast_table(laws).to_pylist()]
    assert notes[:2] == [None, None]
    assert "no multiple of parameters times samples" in notes[2]


def test_a_forecast_stays_on_the_panel() -> None:
    rows = runs(lambda size: 3 / size**0.6, noise=0.0002)
    (panel,) = analysis.scaling_chart(analysis.scaling_laws(records(rows), resamples=50)).axes
    (forecast,) = (line for line in panel.lines if line.get_gid() == "forecast")
    low, high = panel.get_ylim()
    assert low < forecast.get_ydata().min() < forecast.get_ydata().max() < high
