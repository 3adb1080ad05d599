"""The main figure shows what the records say, whatever they are."""

from __future__ import annotations

import math
import subprocess
import sys
import xml.etree.ElementTree as ET

import matplotlib.image
import numpy as np
import pytest

import analysis
from tests.analysis.made_up_study import gap_study, record, records

GAP, TRAIN, TEST = range(3)


def drawn(figure, panel):
    """The points of a panel's lines of means: {(x, y rounded): is the marker filled}."""
    points = {}
    for line in figure.axes[panel].lines:
        if line.get_gid() == "means":
            for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True):
                points[float(x), round(float(y), 9)] = line.get_markerfacecolor() != "white"
    return points


def test_every_cell_is_one_point_hollow_where_it_did_not_fit():
    table = records(gap_study(levels=(0.0, 0.5)))
    figure = analysis.gap_vs_capacity(table)
    cells = analysis.gap_table(table).to_pylist()
    for panel, value in zip((GAP, TRAIN, TEST), ("generalization_gap", "train_error", "test_error"), strict=True):
        expected = {(cell["parameters_per_sample"], round(cell[value], 9)): cell["interpolated"] for cell in cells}
        assert drawn(figure, panel) == expected


def test_the_triangles_are_the_thresholds_of_the_table():
    table = records(gap_study(levels=(0.0, 0.5, 1.0), capacities=(0.5, 1, 2, 3, 4, 5, 6)))
    rows = analysis.threshold_table(table).to_pylist()
    assert len(rows) == 3
    for panel in analysis.gap_vs_capacity(table).axes:
        triangles = [line for line in panel.lines if line.get_gid() == "threshold"]
        bars = [line.get_xdata().tolist() for line in panel.lines if line.get_gid() == "interval"]
        assert [line.get_xdata()[0] for line in triangles] == [row["threshold"] for row in rows]
        assert bars == [[row["threshold.low"], row["threshold.high"]] for row in rows]
    everywhere = analysis.gap_vs_capacity(records(gap_study(levels=(0.0,), capacities=(1, 2, 3))))
    assert not [line for line in everywhere.axes[0].lines if line.get_gid() == "threshold"], "below the grid: not at its first point"


def test_axes_say_what_they_show():
    figure = analysis.gap_vs_capacity(records(gap_study()), title="a title")
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "generalization gap (test error \N{MINUS SIGN} train error)",
        "train error",
        "test error",
    ]
    assert figure.axes[GAP].get_xlabel() == "parameters per sample $p/n$"
    assert figure.axes[GAP].get_xscale() == "log"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["0 (true labels)", "0.5", "1"]
    assert "3 seeds" in figure.get_supxlabel()
    assert "Student t" in figure.get_supxlabel()


@pytest.mark.parametrize(
    "rows",
    [
        gap_study(seeds=1),
        gap_study(capacities=(3,)),
        gap_study(levels=(0.0,)),
        [record(seed=0)],
        [
            record(seed=0),
            record(seed=1, test_error=math.nan, generalization_gap=math.nan),
            record(seed=2, status="diverged", train_error=None, test_error=None),
        ],
        [record(seed=0, interpolated=None, **{"corruption.level": None})],
        gap_study(capacities=(2,), levels=np.linspace(0, 1, 10_000), seeds=1),
    ],
    ids=["one seed", "one capacity", "one level", "one run", "some diverged", "unknown fit and level", "10,000 levels"],
)
def test_it_draws_what_there_is(rows, tmp_path):
    for path in analysis.write_chart(analysis.gap_vs_capacity(records(rows)), tmp_path / "chart"):
        assert path.stat().st_size > 10_000


def test_what_is_not_drawn_is_counted():
    rows = [*gap_study(), record(seed=9, status="diverged"), record(seed=10, status="failed")]
    assert "Not drawn: 1 diverged, 1 failed." in " ".join(analysis.gap_vs_capacity(records(rows)).get_supxlabel().split())
    many = analysis.gap_vs_capacity(records(gap_study(capacities=(2,), levels=np.linspace(0, 1, 50), seeds=1)))
    assert "12 of 50 lines are shown." in " ".join(many.get_supxlabel().split())


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([], "no records yet"),
        ([record(status="failed")], "no record is completed"),
        ([record(test_error=math.nan, generalization_gap=math.nan)], "no completed record has a generalization gap"),
    ],
)
def test_nothing_to_show_is_a_sentence(rows, sentence):
    with pytest.raises(analysis.NothingToShow, match=sentence):
        analysis.gap_vs_capacity(records(rows))


def test_equal_figures_make_equal_files(tmp_path):
    table = records(gap_study())
    once, again = (analysis.write_chart(analysis.gap_vs_capacity(table), tmp_path / name / "gap") for name in ("once", "again"))
    assert [path.name for path in once] == ["gap.png", "gap.svg"]
    for one, other in zip(once, again, strict=True):
        assert one.read_bytes() == other.read_bytes()
    assert matplotlib.image.imread(once[0]).shape[:2] == (1080, 2080)
    assert ET.parse(once[1]).getroot().tag == "{http://www.w3.org/2000/svg}svg"


def test_importing_analysis_is_light():
    heavy = ("matplotlib", "mlflow", "scipy", "plotly", "torch", "ray", "jinja2")
    code = f"import sys, analysis; print([name for name in {heavy!r} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
