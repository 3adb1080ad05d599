"""The field's other figures: what they draw equals what the records and curves say; what cannot be drawn is a sentence."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from matplotlib.text import Text

import analysis
from analysis.figures.corruption import times_of
from analysis.records.schema import CURVES
from tests.analysis.made_up_study import curve, gap_study, record, records


def curves_of(rows):
    return pa.Table.from_pylist([point for row in rows for point in curve(row)], CURVES)


def lines_of(axes, gid="means"):
    return [line for line in axes.lines if line.get_gid() == gid and len(line.get_xdata())]


@pytest.fixture(scope="module")
def study():
    return gap_study()


@pytest.fixture(scope="module")
def one_cell():
    return gap_study(capacities=(10,))


def test_learning_curves_are_means_of_the_curves(one_cell):
    figure = analysis.learning_curves(records(one_cell), curves_of(one_cell), value="train_error")
    for level, line in zip((0.0, 0.5, 1.0), lines_of(figure.axes[0]), strict=True):
        expected = np.mean([[point["train_error"] for point in curve(row)] for row in one_cell if row["corruption.level"] == level], axis=0)
        assert line.get_xdata().tolist() == list(range(1, 13))
        np.testing.assert_allclose(line.get_ydata(), expected, rtol=1e-12)


def test_a_run_that_has_stopped_counts_on_with_its_last_value():
    """A mean over those that still train would rise where the first stops: they are others."""
    rows = [record(seed=0, epochs=5, train_loss=0.0), record(seed=1, epochs=9, train_loss=0.4)]
    figure = analysis.learning_curves(records(rows), curves_of(rows))
    line = lines_of(figure.axes[0])[0]
    assert line.get_xdata().tolist() == list(range(1, 10))
    longer = [point["train_loss"] for point in curve(rows[1])]
    shorter = [point["train_loss"] for point in curve(rows[0])] + [0.0] * 4
    np.testing.assert_allclose(line.get_ydata(), np.mean([longer, shorter], axis=0), atol=1e-12)
    survivors = next(line for line in lines_of(figure.axes[1], "training") if len(line.get_xdata()))
    assert survivors.get_ydata().tolist() == [2] * 5 + [1] * 4


def test_an_epoch_at_which_one_was_not_evaluated_has_no_mean():
    rows = [record(seed=0, epochs=4), record(seed=1, epochs=4)]
    curves = curves_of(rows)
    curves = curves.filter(~((pc.field("key") == rows[0]["key"]) & (pc.field("epoch") == 2)))
    line = lines_of(analysis.learning_curves(records(rows), curves).axes[0])[0]
    assert line.get_xdata().tolist() == [1, 3, 4]


def test_many_lines_are_named_at_their_ends():
    levels = [level / 10 for level in range(11)]
    figure = analysis.gap_vs_capacity(records(gap_study(levels=levels)))
    figure.draw_without_rendering()
    ends = [text for text in figure.axes[0].texts if text.get_gid() == "end"]
    assert [text.get_text() for text in ends] == ["0", *(f"{level:.3g}" for level in levels[1:])]
    heights = [text.get_window_extent().y0 for text in ends]
    assert all(upper - lower > 8 for lower, upper in pairwise(heights))
    assert not [text for text in analysis.gap_vs_capacity(records(gap_study())).axes[0].texts if text.get_gid() == "end"]


def test_runs_that_fit_and_runs_that_do_not_are_in_no_mean_curve_together():
    rows = [record(seed=0, train_loss=0.1), record(seed=1, train_loss=0.1), record(seed=2, train_loss=0.9, interpolated=False)]
    fit, unfit = lines_of(analysis.learning_curves(records(rows), curves_of(rows)).axes[0])
    assert (fit.get_ydata()[-1], unfit.get_ydata()[-1]) == (pytest.approx(0.1), pytest.approx(0.9))
    assert fit.get_linestyle() != unfit.get_linestyle()


def test_a_diverged_run_does_not_count_in_a_curve():
    rows = [record(seed=0), record(seed=1, status="diverged", epochs=2, train_loss=math.nan)]
    line = lines_of(analysis.learning_curves(records(rows), curves_of(rows)).axes[0])[0]
    np.testing.assert_allclose(line.get_ydata(), [point["train_loss"] for point in curve(rows[0])])


def test_memorisation_shows_the_wrong_labels_beside_the_true_ones(one_cell):
    clean = {"clean_train_error": 0.125}
    curves = pa.Table.from_pylist([point | clean for row in one_cell for point in curve(row)], CURVES)
    left, right = analysis.memorisation(records(one_cell), curves).axes
    assert [len(lines_of(axes)) for axes in (left, right)] == [2, 2], "level 0 has no wrong labels"
    assert set(lines_of(left)[0].get_ydata()) == {0.125}
    np.testing.assert_allclose(lines_of(right)[0].get_ydata(), 1 - np.arange(1, 13) / 12)


def test_early_stopping_marks_the_best_so_far():
    row = record()
    errors = [0.5, 0.3, 0.4, 0.2, 0.6]
    curves = pa.Table.from_pylist([{"key": row["key"], "epoch": epoch, "test_error": error} for epoch, error in enumerate(errors)], CURVES)
    axes = analysis.early_stopping(records([row]), curves).axes[0]
    assert lines_of(axes, "best")[0].get_ydata().tolist() == [0.5, 0.3, 0.3, 0.2, 0.2]


def test_epoch_double_descent_has_a_line_a_width(study):
    figure = analysis.epoch_double_descent(records(study), curves_of(study))
    assert [text.get_text() for text in figure.legends[0].get_texts()][:3] == [
        "0 (true labels), 4",
        "0 (true labels), 40",
        "0 (true labels), 400",
    ]
    assert len(figure.legends[0].get_texts()) == 12
    with pytest.raises(analysis.AnalysisError, match=r"corruption\.level varies as well"):
        analysis.epoch_double_descent(records(study), curves_of(study), by=["model.width"])


def timed(level, epochs, budget, **changes):
    return [
        record(**{"corruption.level": level}, seed=seed, epochs=epoch or budget, fit_epoch=epoch, interpolated=epoch is not None, **changes)
        for seed, epoch in enumerate(epochs)
    ]


def test_time_to_fit_counts_those_that_did_not():
    """Of the runs at level 1 one fits after 55 epochs and one had not after 100: their mean is no 55."""
    rows = [*timed(0.0, (10, 12), 100), *timed(0.5, (20, 24), 100), *timed(1.0, (55, None), 100)]
    above, below = analysis.time_to_fit(records(rows)).axes
    assert [(line.get_xdata().tolist(), line.get_ydata().tolist(), line.get_markerfacecolor() == "white") for line in lines_of(above)] == [
        ([0.0, 0.5], [1.0, 2.0], False),
        ([1.0], [(55 + 100) / 2 / 11], True),
    ]
    assert lines_of(below)[0].get_xydata().tolist() == [[0, 1], [0.5, 1], [1, 0.5]]


def test_times_to_fit_have_one_horizon():
    """A setting that was watched for 30 epochs says nothing of later ones: what is compared with it is not either."""
    rows = [*timed(0.0, (10, 20), 100), *timed(0.5, (None, None), 30)]
    figure = analysis.time_to_fit(records(rows), relative=False)
    (fit,), (unfit,) = (line.get_ydata().tolist() for line in lines_of(figure.axes[0]))
    assert (fit, unfit) == (15, 30)
    assert "min(time to fit, 30 epochs)" in " ".join(figure.get_supxlabel().split())


def test_lines_without_a_unit_are_counted_not_drawn():
    rows = [*timed(0.0, (10, 20), 50), *timed(0.0, (10, None), 50, **{"model.width": 2})]
    figure = analysis.time_to_fit(records(rows))
    assert len(lines_of(figure.axes[0])) == 1
    assert "1 line that did not all fit true labels is not shown." in " ".join(figure.get_supxlabel().split())


def test_error_vs_corruption_lies_above_the_wrong_label_rate(study):
    axes = analysis.error_vs_corruption(records([row for row in study if row["interpolated"]]), by=["model.width"]).axes[0]
    assert lines_of(axes, "rate")[0].get_ydata() == pytest.approx([0.0, 0.45, 0.9])
    widest = lines_of(axes)[-1]
    expected = [
        np.mean([row["test_error"] for row in study if row["model.width"] == 4000 and row["corruption.level"] == level])
        for level in (0, 0.5, 1)
    ]
    np.testing.assert_allclose(widest.get_ydata(), expected, rtol=1e-12)


def test_the_map_has_a_cell_a_setting_and_the_threshold_between(study):
    figure = analysis.capacity_corruption_map(records(study), value="train_error")
    reached, missed = (axes.collections[0].get_array().reshape(3, 4) for axes in figure.axes[:2])
    assert (reached.mask == ~missed.mask).all()
    mesh = np.where(reached.mask, missed.data, reached.data)
    cells = {(row["corruption.level"], row["parameters_per_sample"]): row["train_error"] for row in study}
    np.testing.assert_allclose(mesh, [[cells[level, size] for size in (0.1, 1, 10, 100)] for level in (0, 0.5, 1)], rtol=1e-12)
    assert {text.get_text().partition("\n")[2] for axes in figure.axes[:2] for text in axes.texts} == {"n 3"}
    threshold = lines_of(figure.axes[0], "threshold")[-1]
    np.testing.assert_allclose(threshold.get_xydata(), [[1, 0], [1, 1], [2, 1], [2, 2], [2, 2], [2, 3]])
    assert [axes.get_title(loc="left") for axes in figure.axes[:2]] == [
        "train error, seeds that reached the train target",
        "train error, seeds that did not reach it",
    ]


def test_colours_of_a_gap_diverge_around_zero(study):
    gap, error = (analysis.capacity_corruption_map(records(study), value=value).axes[0] for value in ("generalization_gap", "train_error"))
    low, high = gap.collections[0].get_clim()
    means = analysis.gap_table(records(study))["generalization_gap"].to_numpy()
    assert low == -high == pytest.approx(-abs(means).max())
    assert error.collections[0].get_clim()[0] == 0


def test_double_descent_over_width_and_over_samples():
    rows = [record(**{"model.width": width}, test_error=error, train_error=0.0) for width, error in ((2, 0.3), (4, 0.5), (8, 0.2))]
    line = lines_of(analysis.double_descent(records(rows)).axes[0])[0]
    assert line.get_xydata().tolist() == [[2, 0.3], [4, 0.5], [8, 0.2]]
    rows = [record(**{"data.train_size": size}, test_error=1 / size) for size in (100, 1000)]
    figure = analysis.double_descent(records(rows), over="data.train_size")
    assert lines_of(figure.axes[0])[0].get_xydata().tolist() == [[100, 0.01], [1000, 0.001]]
    assert "Triangles" not in figure.get_supxlabel()


def test_every_run_is_a_mark_of_the_scatter(study):
    marks = lines_of(analysis.train_vs_test(records(study)).axes[0], "runs")
    drawn = sorted(tuple(point) for line in marks for point in line.get_xydata())
    assert drawn == sorted((row["train_error"], row["test_error"]) for row in study)


def test_parallel_coordinates_place_runs_by_value(study):
    figure = analysis.parallel_coordinates(records(study), columns=["model.width", "corruption.level"])
    segments = figure.axes[0].collections[0].get_segments()
    assert len(segments) == len(study)
    gaps = np.array(sorted(row["generalization_gap"] for row in study))
    np.testing.assert_allclose([line[2, 1] for line in segments], (gaps - gaps[0]) / (gaps[-1] - gaps[0]), atol=1e-12)
    widest = max(study, key=lambda row: row["generalization_gap"])
    height = math.log(widest["model.width"] / 4) / math.log(1000)
    np.testing.assert_allclose(segments[-1][:2, 1], [height, widest["corruption.level"]], atol=1e-12)


def test_a_sample_of_many_runs_is_named_as_one():
    rows = records([record(seed=seed) for seed in range(5001)])
    assert "5,000 runs, spread evenly over 5,001" in analysis.train_vs_test(rows).get_supxlabel()


FIGURES = {
    "gap": lambda rows: analysis.gap_vs_capacity(records(rows)),
    "learning curves": lambda rows: analysis.learning_curves(records(rows), curves_of(rows)),
    "early stopping": lambda rows: analysis.early_stopping(records(rows), curves_of(rows)),
    "epochs": lambda rows: analysis.epoch_double_descent(records(rows), curves_of(rows)),
    "error": lambda rows: analysis.error_vs_corruption(records(rows)),
    "map": lambda rows: analysis.capacity_corruption_map(records(rows)),
    "descent": lambda rows: analysis.double_descent(records(rows)),
    "scatter": lambda rows: analysis.train_vs_test(records(rows)),
    "parallel": lambda rows: analysis.parallel_coordinates(records(rows)),
}


@pytest.mark.parametrize("figure", FIGURES.values(), ids=FIGURES)
@pytest.mark.parametrize(
    "rows",
    [
        [record()],
        gap_study(capacities=(2,), seeds=1),
        [record(seed=0), record(seed=1, test_error=math.nan, generalization_gap=math.nan), record(seed=2, status="diverged", epochs=1)],
        gap_study(capacities=(2,), levels=np.linspace(0, 1, 300), seeds=1),
    ],
    ids=["one run", "one capacity", "some diverged", "300 levels"],
)
def test_every_figure_draws_what_there_is(figure, rows):
    figure(rows).draw_without_rendering()


@pytest.mark.parametrize("figure", FIGURES.values(), ids=FIGURES)
@pytest.mark.parametrize(
    "rows", [[], [record(status="diverged", epochs=1)], [record(status="failed", epochs=0)]], ids=["empty", "diverged", "failed"]
)
def test_nothing_to_show_is_a_sentence(figure, rows):
    with pytest.raises(analysis.NothingToShow, match=r"no record(s yet| is completed)"):
        figure(rows)


def test_figures_of_what_was_not_measured_are_sentences(study):
    rows = [record(**{"corruption.level": level}, fit_epoch=None, interpolated=False) for level in (0.0, 0.5)]
    with pytest.raises(analysis.NothingToShow, match="no time to fit"):
        analysis.time_to_fit(records(rows))
    with pytest.raises(analysis.NothingToShow, match=r"without corruption \(level 0\)"):
        analysis.time_to_fit(records(study[-3:]))
    with pytest.raises(analysis.NothingToShow, match="with true and with wrong labels"):
        analysis.memorisation(records(study), curves_of(study))
    with pytest.raises(analysis.NothingToShow, match="no completed record has a curve"):
        analysis.learning_curves(records(study), CURVES.empty_table())
    with pytest.raises(analysis.AnalysisError, match="did you mean 'test_error'"):
        analysis.parallel_coordinates(records(study), colour="tst_error")


def test_values_at_another_moment():
    row = record(epochs=4, fit_epoch=3, test_error=0.4, train_error=0.0)
    unfit = record(seed=1, fit_epoch=None, interpolated=False, train_error=0.2, test_error=0.5, epochs=2)
    points = [
        {"key": row["key"], "epoch": epoch, "train_error": 0.1 / epoch, "test_error": 0.1 * epoch, "validation_error": abs(epoch - 2)}
        for epoch in range(1, 5)
    ]
    curves = pa.concat_tables([pa.Table.from_pylist(points, CURVES), curves_of([unfit])])
    at_fit = analysis.at_moment(records([row, unfit]), curves, "fit").sort_by("seed")
    assert at_fit["test_error"].to_pylist() == pytest.approx([0.3, 0.5])
    assert at_fit["generalization_gap"].to_pylist() == pytest.approx([0.3 - 0.1 / 3, 0.3])
    best = analysis.at_moment(records([row, unfit]), curves, "best_validation")
    assert best["test_error"].to_pylist() == pytest.approx([0.2])
    assert best.schema.equals(records([row]).schema)
    assert "Values at the epoch of lowest validation error." in analysis.gap_vs_capacity(best).get_supxlabel()
    with pytest.raises(analysis.NothingToShow, match=r"data\.validation_size"):
        analysis.at_moment(records([unfit]), curves_of([unfit]), "best_validation")


def test_a_measured_capacity_lies_at_the_mean_of_its_seeds():
    rows = [record(**{"model.width": width}, seed=seed, **{"measure.norm": 10.0 * width + seed}) for width in (1, 2) for seed in (0, 1)]
    figure = analysis.gap_vs_capacity(records(rows), capacity="measure.norm")
    assert lines_of(figure.axes[0])[0].get_xdata().tolist() == [10.5, 20.5]


def test_settings_of_one_measured_capacity_are_points_of_one_line_and_not_averaged():
    rows = [
        record(**{"regularizers.weight_decay": decay, "measure.norm": 10.0}, seed=seed, test_error=0.2 + decay)
        for decay in (0.0, 0.1)
        for seed in (0, 1)
    ]
    points = lines_of(analysis.gap_vs_capacity(records(rows), capacity="measure.norm").axes[0])[0].get_xydata().tolist()
    assert points == [[10, pytest.approx(0.2)], [10, pytest.approx(0.3)]]
    cells = analysis.gap_table(records(rows), capacity="measure.norm")
    assert (cells["seeds"].to_pylist(), cells["test_error"].to_pylist()) == ([2, 2], pytest.approx([0.2, 0.3]))


def test_panels_and_single_runs():
    rows = [
        row | {"regularizers.weight_decay": decay, "key": f"{row['key']}{decay}"}
        for row in gap_study(levels=(0.0,))
        for decay in (0.0, 1e-4)
    ]
    figure = analysis.gap_vs_capacity(records(rows), panels="regularizers.weight_decay", points=True)
    assert [axes.get_title(loc="left").partition("\n")[0] for axes in figure.axes[:2]] == ["weight decay 0", "weight decay 0.0001"]
    assert sum(len(line.get_xdata()) for axes in figure.axes[:2] for line in lines_of(axes, "runs")) == len(rows)
    beside = analysis.gap_vs_capacity(records(rows))
    assert [text.get_text() for text in beside.legends[0].get_texts()] == ["0 (true labels), 0", "0 (true labels), 0.0001"]


def test_filters_keep_what_a_figure_needs(study):
    table = records(study).filter(pc.field("corruption.level") == 0.5)
    analysis.gap_vs_capacity(table, by=[]).draw_without_rendering()


def test_runs_that_diverged_count_as_never_fitting():
    """Of four runs at level 1 two diverged: half of them fit, not all that are left."""
    rows = [*timed(0.0, (10, 12, 11, 10), 100), *timed(1.0, (55, 60), 100)]
    rows += [record(**{"corruption.level": 1.0}, seed=seed, epochs=3, fit_epoch=None, status="diverged") for seed in (2, 3)]
    figure = analysis.time_to_fit(records(rows))
    assert lines_of(figure.axes[1])[0].get_xydata().tolist() == [[0, 1], [1, 0.5]]
    assert "diverged" not in figure.get_supxlabel()


def test_relative_times_have_the_error_of_what_they_are_relative_to():
    """Coverage of intervals of a ratio of two means, each of five times: dividing as if the other were exact does not hold 95 %."""
    rng, lines, seeds, truth = np.random.default_rng(13), 500, 5, 3.0
    times = rng.lognormal(0, 0.2, (2, lines, seeds)) * np.array([20.0, 20.0 * truth])[:, None, None]
    level, line, seed = (one.ravel() for one in np.indices(times.shape))
    columns = {"corruption.level": level.astype(float), "model.width": line, "seed": seed, "status": ["completed"] * times.size}
    table = pa.table(columns | {"fit_epoch": times.ravel(), "epochs": times.ravel()})
    cells = times_of(table, ["model.width"], relative=True)[0].filter(pc.field("corruption.level") == 1)
    held = [row["restricted_mean.low"] <= truth <= row["restricted_mean.high"] for row in cells.to_pylist()]
    assert 0.92 < np.mean(held) < 0.99


def test_wrong_labels_of_two_data_sets_are_two_rates():
    """Ten classes and two: at level 1 nine tenths of the labels are wrong, and a half; no data set has 0.7."""
    rows = [
        record(**{"data.name": name, "corruption.level": level}, seed=seed, wrong_label_rate=rate * level)
        for name, rate in (("digits", 0.9), ("moons", 0.5))
        for level in (0.0, 1.0)
        for seed in range(2)
    ]
    (panel,) = analysis.error_vs_corruption(records(rows)).axes
    assert [line.get_ydata().tolist() for line in lines_of(panel, "rate")] == [[0.0, 0.9], [0.0, 0.5]]


def test_what_is_not_drawn_is_not_explained():
    every_seed_fits = analysis.gap_vs_capacity(records(gap_study(capacities=(10, 20), levels=(0.0,)))).get_supxlabel()
    assert "Triangles" not in every_seed_fits
    assert "Triangles" in analysis.gap_vs_capacity(records(gap_study())).get_supxlabel()


def test_intervals_are_said_to_be_what_they_are(one_cell):
    """A loss has no upper end, so that its interval is Student's own."""
    said = {
        value: " ".join(analysis.learning_curves(records(one_cell), curves_of(one_cell), value=value).get_supxlabel().split())
        for value in ("train_loss", "train_error")
    }
    assert "bands: 95 % intervals over seeds (Student t)." in said["train_loss"]
    assert "over seeds (Student t on the logit scale of the quantity's bounds)." in said["train_error"]


def test_the_diagonal_is_named_below_the_figure_and_not_among_its_runs():
    figure = analysis.train_vs_test(records([record(seed=seed, train_error=0.9, test_error=0.9, interpolated=False) for seed in range(5)]))
    assert not figure.axes[0].texts
    assert any("Dotted: no gap." in text.get_text().replace("\n", " ") for text in figure.findobj(Text))
