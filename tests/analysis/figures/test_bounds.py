"""The figure of the compression bound: what it is drawn beside, and where it says nothing."""

from __future__ import annotations

import numpy as np
import pytest

import analysis
from tests.analysis.made_up_study import record, records


def test_the_error_beside_the_bound_is_that_on_labels_corrupted_alike() -> None:
    """Of four classes, redrawn with probability 0.4: (1 - 0.4) 0.1 + 0.4 3/4."""
    rows = [
        record(
            **{"corruption.level": level, "measure.compression_bound": 0.5 + level / 2, "seed": seed},
            test_error=0.1,
            wrong_label_rate=0.75 * level,
        )
        for level in (0.0, 0.4)
        for seed in range(3)
    ]
    (panel,) = analysis.bound_vs_corruption(records(rows)).axes
    (error,) = (line for line in panel.lines if line.get_gid() == "errors")
    np.testing.assert_allclose(error.get_ydata(), [0.1, 0.6 * 0.1 + 0.3])
    (shaded,) = (patch for patch in panel.patches if patch.get_gid() == "vacuous")
    assert shaded.get_extents().transformed(panel.transData.inverted()).y0 == pytest.approx(0.75)


def test_records_without_the_measure_are_a_sentence() -> None:
    with pytest.raises(analysis.NothingToShow, match="no completed record has the measure compression_bound"):
        analysis.bound_vs_corruption(records([record()]))


def test_each_bound_has_its_panel() -> None:
    both = {"measure.compression_bound": 0.9, "measure.pacbayes_certificate": 0.5}
    rows = [record(**{"corruption.level": level} | both, wrong_label_rate=0.5 * level) for level in (0.0, 1.0)]
    titles = [panel.get_title(loc="left") for panel in analysis.bound_vs_corruption(records(rows)).axes]
    assert titles == ["compression bound, and the error that it bounds", "PAC-Bayes certificate, and the error that it bounds"]


def test_an_error_of_a_single_level_is_seen() -> None:
    """At level 0 alone runs fit: one mean makes no line."""
    rows = [
        record(**{"corruption.level": level, "measure.compression_bound": 0.9, "seed": seed}, test_error=0.1, interpolated=not level)
        for level in (0.0, 0.5, 1.0)
        for seed in range(3)
    ]
    (panel,) = analysis.bound_vs_corruption(records(rows)).axes
    assert all(line.get_marker() == "." for line in panel.lines if line.get_gid() == "errors")
