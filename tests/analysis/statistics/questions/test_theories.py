"""Rademacher complexity, stability and memorisation scores of made-up points whose answers are known, and their figures."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from scipy.stats import kendalltau, t

import analysis
from analysis.errors import AnalysisError, NothingToShow
from analysis.figures.measures import counted_runs
from analysis.figures.theories import most_memorised
from analysis.records.schema import CURVES, SAMPLES
from tests.analysis.made_up_study import record, records
from tests.analysis.report.conftest import held

TRAIN, TEST = 12, 5


def samples(key: str, trained: np.ndarray, loss: np.ndarray, correct: np.ndarray, test_loss: np.ndarray | None = None) -> dict[str, Any]:
    """A row of samples whose label is its index modulo 10."""
    history = np.where(trained, 1.0, np.nan)
    return {
        "key": key,
        "index": np.arange(len(trained)),
        "label": np.arange(len(trained)) % 10,
        "trained": trained,
        "correct": correct,
        "loss": loss,
        "forgotten": 2 * history,
        "learning_speed": history / 2,
        "learned": history,
        "test_correct": np.ones(TEST, dtype=bool),
        "test_loss": np.zeros(TEST) if test_loss is None else test_loss,
    }


def write(folder: Path, rows: list[dict[str, Any]], sampled: list[dict[str, Any]]) -> str:
    curves = pa.Table.from_pylist([{"key": row["key"], "epoch": row["epochs"]} for row in rows], CURVES)
    for kind, table in (("records", records(rows)), ("curves", curves), ("samples", pa.Table.from_pylist(sampled, SAMPLES))):
        (folder / kind).mkdir(parents=True)
        for part in range(2):
            pq.write_table(table.slice(part * (len(table) // 2), None if part else len(table) // 2), folder / kind / f"{part}.parquet")
    return str(folder)


def signs(width: int, level: float, seed: int, error: float, gap: float = 0.5) -> dict[str, Any]:
    fields = {"corruption.kind": "random_signs", "corruption.level": level, "model.width": width, "seed": seed, "parameters": 100 * width}
    return record(**fields, train_error=error, test_error=error + gap, **{"measure.vc_bound": 3.0})


def test_rademacher_table_by_hand() -> None:
    errors = {4: (0.3, 0.4, 0.5), 64: (0.0, 0.0, 0.0)}
    rows = [signs(width, 1.0, seed, error) for width, some in errors.items() for seed, error in enumerate(some)]
    rows += [signs(width, 0.0, seed, 0.0, gap=0.01 * width / 4) for width in errors for seed in range(2)]
    small, large = analysis.rademacher_table(records(rows)).to_pylist()
    assert [small["parameters_per_sample"], large["parameters_per_sample"]] == [0.4, 6.4]
    assert (small["complexity"], small["draws"]) == (pytest.approx(0.2), 3)
    half = t.ppf(0.975, 2) * 0.2 / math.sqrt(3) / (1 - 0.2**2)  # of 0.4, 0.2 and 0.0, whose deviation is 0.2, as artanh: r = tanh(z)
    assert [small["complexity.low"], small["complexity.high"]] == pytest.approx(
        [math.tanh(math.atanh(0.2) + side * half) for side in (-1, 1)]
    )
    deviation = 3 * math.sqrt(math.log(2 / 0.05) / 2000)
    assert [row["rademacher_bound"] for row in (small, large)] == pytest.approx([0.2 + deviation, 1 + deviation])
    assert large["rademacher_bound"] > 1  # vacuous where everything is fitted
    assert [row["vc_bound"] for row in (small, large)] == [3.0, 3.0]
    assert [row["generalization_gap"] for row in (small, large)] == pytest.approx([0.01, 0.16])
    with pytest.raises(NothingToShow, match="trained on random signs"):
        analysis.rademacher_table(records([record()]))


def stable_points() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """8 samples trained on; replacing sample i by sample 8 moves the probability at i by 0.5 and at test sample 0 by (i + 1)/10."""
    rows, sampled = [], []
    for replaced in (None, 0, 3):
        rows.append(record(seed=7, **{"data.train_size": 8, "data.replaced": replaced}))
        trained = np.arange(TRAIN) < 8
        change, test_change = np.zeros(TRAIN), np.zeros(TEST)
        if replaced is not None:
            trained[[replaced, 8]] = False, True
            change[replaced], test_change[0] = 0.5, (replaced + 1) / 10
        lost, test_lost = (-np.log(1 - part) for part in (change, test_change))
        sampled.append(samples(rows[-1]["key"], trained, lost, change < 0.1, test_lost))
    return rows, sampled


def test_stability_table_by_hand(tmp_path: Path) -> None:
    source = write(tmp_path / "study", *stable_points())
    table = analysis.load(source)
    (row,) = analysis.stability_table(table, analysis.load_samples(source, keys=table["key"])).to_pylist()
    assert row["largest"] == pytest.approx(0.5, abs=1e-6)
    assert row["at_replaced"] == pytest.approx(0.5, abs=1e-6)
    assert row["mean"] == pytest.approx((0.5 + 0.1 + 0.5 + 0.4) / 2 / (TRAIN + TEST), abs=1e-6)
    assert row["replacements"] == 2
    assert row["bound"] == pytest.approx(1 + (4 * 8 * 0.5 + 1) * math.sqrt(math.log(20) / 16), abs=1e-4)
    with pytest.raises(NothingToShow, match=r"data\.replaced alone"):
        analysis.stability_table(table.slice(0, 1), analysis.load_samples(source, keys=table["key"]))


def memorised_points() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """40 models at two levels; sample 3 is right only where it was trained on, sample 5 is always wrong, all others always right."""
    draw = np.random.default_rng(0)
    rows, sampled = [], []
    for level in (0.0, 0.5):
        for seed in range(40):
            rows.append(record(seed=seed, **{"data.name": "digits", "data.seed": seed, "corruption.seed": 0, "corruption.level": level}))
            trained = draw.random(TRAIN) < 0.7
            right = np.ones(TRAIN, dtype=bool)
            right[[3, 5]] = trained[3], False
            sampled.append(samples(rows[-1]["key"], trained, np.zeros(TRAIN), right))
    return rows, sampled


def test_memorisation_table_ranks_what_is_right_only_when_trained_on(tmp_path: Path) -> None:
    source = write(tmp_path / "study", *memorised_points())
    table = analysis.load(source)
    scores = analysis.memorisation_table(table, analysis.load_samples(source, keys=table["key"]))
    assert scores.num_rows == 2 * TRAIN
    for level in (0.0, 0.5):
        some = scores.filter(pc.equal(scores["corruption.level"], level)).to_pylist()
        assert [(row["index"], row["label"], row["score"]) for row in some[:1]] == [(3, 3, 1.0)]
        assert [row["score"] for row in some[1:]] == [0.0] * (TRAIN - 1)
        assert {(row["forgotten"], row["learning_speed"], row["models"]) for row in some} == {(2.0, 0.5, 40)}


def test_most_memorised_images_are_the_data_sets_own(tmp_path: Path) -> None:
    from sklearn.datasets import load_digits

    source = write(tmp_path / "study", *memorised_points())
    table = analysis.load(source)
    sampled = analysis.load_samples(source, keys=table["key"])
    (_, rows, images, scores), _ = most_memorised(table, sampled)
    index = [number for number in range(1797) if number % 5][3]
    bundle = load_digits()
    assert images[0][..., 0].tolist() == np.rint(bundle.images[index] * 255 / 16).astype(int).tolist()
    assert rows[0]["true_label"] == bundle.target[index]
    assert scores.num_rows == TRAIN
    figure = analysis.memorised_images(table, sampled)
    titles = [panel.get_title(loc="center") for part in figure.subfigs for panel in part.axes if panel.images]
    assert len(titles) == 2 * TRAIN
    assert titles[0].endswith(": 1.00")


def test_samples_come_once_in_the_order_asked_for(tmp_path: Path) -> None:
    rows, sampled = memorised_points()
    source = write(tmp_path / "study", rows, [*sampled, *sampled[:3]])
    keys = pa.chunked_array([[rows[number]["key"] for number in (9, 2, 30)] + ["absent"]])
    assert analysis.load_samples(source, keys=keys)["key"].to_pylist() == [rows[number]["key"] for number in (9, 2, 30)]
    assert analysis.load_samples(source).num_rows == len(rows)
    assert analysis.load_samples(source, columns=["trained"]).column_names == ["trained"]
    with pytest.raises(AnalysisError, match="'trianed'"):
        analysis.load_samples(source, columns=["trianed"])
    with pytest.raises(NothingToShow, match="names forgetting_events under `measures`"):
        analysis.load_samples(source, keys=pa.chunked_array([["absent"]]))
    with pytest.raises(NothingToShow, match="keeps no samples"):
        analysis.load_samples("mlflow:study")


def corrupted_runs() -> list[dict[str, Any]]:
    """Two architectures; the larger fits all five levels, with gaps from 0.02 to 0.9."""
    rows = []
    for width, fits in ((8, 0.5), (64, 1.0)):
        for level in (0.0, 0.25, 0.5, 0.75, 1.0):
            for seed in range(3):
                gap = 0.02 + 0.88 * level
                measures = {"measure.vc_bound": 3.0, "measure.path_norm": 1 + 9 * level + 0.01 * seed, "measure.l2_distance": math.nan}
                fields = {"corruption.level": level, "model.width": width, "parameters": 100 * width, "seed": seed}
                rows.append(record(**fields, test_error=gap, interpolated=level <= fits, **measures))
    return rows


def test_counts_are_constant_while_the_gap_goes_to_chance() -> None:
    runs, cells, columns = counted_runs(records(corrupted_runs()))
    assert set(runs["model.width"].to_pylist()) == {64}
    assert columns == ["parameters_per_sample", "measure.vc_bound", "measure.path_norm"]  # the distance is not there for every run
    assert cells["generalization_gap"].to_pylist() == pytest.approx([0.02, 0.24, 0.46, 0.68, 0.9])
    figure = analysis.counts_vs_gap(records(corrupted_runs()))
    left, right = figure.axes
    assert {line.get_gid() for line in left.lines} >= {"means"}
    drawn = [line.get_ydata().tolist() for line in right.lines if line.get_gid() == "counts"]
    assert drawn[:2] == [[1.0] * 5] * 2
    assert drawn[2] == pytest.approx([1, 3.2277, 5.4554, 7.6832, 9.9109], abs=1e-4)
    with pytest.raises(NothingToShow, match="at two levels of corruption"):
        analysis.counts_vs_gap(records([record()]))


def test_each_measure_has_a_panel_with_its_tau() -> None:
    table = records(corrupted_runs())
    figure = analysis.measures_vs_gap(table, measures=["path_norm", "vc_bound"])
    fit = table.filter(table["interpolated"])
    expected = kendalltau(fit["measure.path_norm"].to_numpy(), fit["generalization_gap"].to_numpy()).statistic
    titles = [panel.get_title(loc="left") for panel in figure.axes]
    assert titles == [f"path_norm\n$\\tau$ = {expected:.2f}", "vc_bound\n$\\tau$ = 0.00"]
    marks = [line for line in figure.axes[0].lines if line.get_gid() == "runs"]
    assert sum(len(line.get_xdata()) for line in marks) == fit.num_rows == 24
    with pytest.raises(AnalysisError, match=r"'measure\.pathnorm'"):
        analysis.measures_vs_gap(table, measures=["pathnorm"])
    with pytest.raises(NothingToShow, match="no measure"):
        analysis.measures_vs_gap(records([record()]))


def figures(source: str, folder: Path) -> dict[str, Any]:
    page = analysis.write_report(source, folder / "report.html").read_text()
    return json.loads(held(page, "figures"))


def test_report_shows_theories_and_memorised_images(tmp_path: Path) -> None:
    rows, sampled = memorised_points()
    marked = [row | {"measure.forgetting_events": 2.0} for row in rows]
    shown = figures(write(tmp_path / "memorisation", marked, sampled), tmp_path)
    assert "counts" in shown
    assert "stability" not in shown
    figure, captions = shown["memorised"]["plots"][0]["data"]
    assert (figure["type"], len(captions["text"])) == ("image", TRAIN)
    stable, changed = stable_points()
    marked = [row | {"measure.forgetting_events": 2.0} for row in stable]
    assert "stability" in figures(write(tmp_path / "stability", marked, changed), tmp_path)
    rows = [signs(width, level, seed, 0.1 * level) for width in (4, 64) for level in (0.0, 1.0) for seed in range(2)]
    shown = figures(write(tmp_path / "rademacher", rows, []), tmp_path)
    reached = shown["random_signs"]["plots"][0]["data"][0]
    assert reached["y"] == pytest.approx([0.8, 0.8])
