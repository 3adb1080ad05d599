"""The kernel scale by the median heuristic."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import pdist

from trainables.point.config import TrialConfig, with_fields
from trainables.probe.kernel_scale import group, median_distance
from trainables.resolution import resolve


def scale_of(name: str, **fields: object) -> float:
    named = {key.replace("__", "."): value for key, value in fields.items()}
    found = group(resolve(with_fields(TrialConfig(), {"data.name": name, "model.name": "random_features", "model.width": 5} | named)))
    assert found is not None
    return median_distance(found)


@pytest.fixture
def table(tmp_path: Path) -> str:
    rows = np.random.default_rng(0).normal(size=(90, 7)).astype(np.float32)
    np.savez(tmp_path / "table.npz", x_train=rows, y_train=np.arange(90) % 3, x_test=rows[:9], y_test=np.arange(9) % 3)
    return f"npz:{tmp_path}/table.npz"


def test_it_is_the_median_distance_of_the_inputs_to_three_digits(table: str) -> None:
    rows = np.load(table.removeprefix("npz:"))["x_train"].astype(float)
    standard = (rows - rows.mean(0)) / rows.std(0)
    assert scale_of(table) == pytest.approx(np.median(pdist(standard)), rel=5e-3)
    assert scale_of(table, data__preprocessing="unit") == pytest.approx(np.median(pdist(rows)), rel=5e-3)
    assert float(f"{scale_of(table):.3g}") == scale_of(table)


def test_neither_the_number_of_samples_nor_seeds_nor_corruption_change_it(table: str) -> None:
    whole = scale_of(table)
    assert {scale_of(table, data__train_size=40), scale_of(table, seed=9), scale_of(table, corruption__level=1.0)} == {whole}


def test_samples_that_are_all_alike_have_a_scale(tmp_path: Path) -> None:
    same, labels = np.zeros((12, 4, 4), np.uint8), np.arange(12) % 2
    np.savez(tmp_path / "same.npz", x_train=same, y_train=labels, x_test=same, y_test=labels)
    assert scale_of(f"npz:{tmp_path}/same.npz") == 1.0


def test_models_without_a_kernel_on_their_inputs_have_none() -> None:
    closed = {"optimizer.name": "closed_form"}
    for fields in ({"model.name": "mlp"}, {"model.name": "ridgeless"} | closed, {"model.name": "gabor_kernel"} | closed):
        data = {"data.name": "synthetic", "data.dimension": 20, "data.train_size": 40}
        if fields["model.name"] == "gabor_kernel":
            data = {"data.name": "digits", "data.train_size": 40}
        if fields["model.name"] == "ridgeless":
            data |= {"data.separation": 0.0}
        assert group(resolve(with_fields(TrialConfig(), data | fields))) is None
