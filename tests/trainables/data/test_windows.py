"""Random crops of whole images, as Zhang et al. 2017 take them: windows, places and standardization against explicit slices."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from tests.trainables.made_up_points import alone, point
from trainables.data.windows import Windows
from trainables.point.config import TrialConfig
from trainables.point.errors import ConfigError

RARE = 1e-4


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> str:
    """32x32 images in three colours, the size of CIFAR-10's."""
    path: Path = tmp_path_factory.mktemp("large") / "large.npz"
    dice = np.random.default_rng(0)
    arrays = {f"x_{part}": dice.integers(0, 256, (30, 32, 32, 3), np.uint8) for part in ("train", "test")}
    np.savez(path, **arrays, **{f"y_{part}": np.arange(30) % 3 for part in ("train", "test")})
    return f"npz:{path}"


def cropped(name: str, **fields: Any) -> TrialConfig:
    regularizers = {"regularizers.crop": 2, "regularizers.crop_from": "image"}
    short = {"data.name": name, "data.preprocessing": "paper", "model.width": 2, "budget.epochs": 1, "optimizer.batch_size": 8}
    return point(short | regularizers | {key.replace("__", "."): value for key, value in fields.items()})


def test_windows_are_standardized_slices_at_uniform_places() -> None:
    pixels = torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    windows = Windows(pixels, (28, 28), 255.0)
    assert windows.reach == 2
    every: dict[tuple[int, int, int], torch.Tensor] = {}
    for image in range(5):
        for top in range(5):
            for left in range(5):
                slice_ = pixels[image, :, top : top + 28, left : left + 28].double() / 255
                every[image, top, left] = ((slice_ - slice_.mean()) / slice_.std(correction=0)).float().flatten()
    index = torch.arange(5).repeat(500)
    found = windows.cut(index, 2, torch.Generator().manual_seed(1))
    places: Counter[tuple[int, int]] = Counter()
    for image, window in zip(index.tolist(), found, strict=True):
        distances = {place: float((window - other).abs().max()) for place, other in every.items() if place[0] == image}
        (_, top, left), least = min(distances.items(), key=lambda one: one[1])
        assert least < 1e-5
        places[top, left] += 1
    assert len(places) == 25
    assert stats.chisquare(list(places.values())).pvalue > RARE
    centre = windows.cut(torch.arange(5), 0, torch.Generator())
    assert torch.allclose(centre, torch.stack([every[image, 2, 2] for image in range(5)]), atol=1e-5)


def test_what_is_trained_on_is_cropped_and_what_is_evaluated_is_not(large: str) -> None:
    padded, image, none = (cropped(large, **fields) for fields in ({"regularizers__crop_from": None}, {}, {"regularizers__crop": 0}))
    assert len({one.key() for one in (padded, image, none)}) == 3
    assert none.key() == cropped(large, regularizers__crop=0, regularizers__crop_from=None).key()
    curves = [alone(one)[-1] for one in (padded, image, none)]
    assert len({curve[-1]["train_loss"] for curve in curves}) == 3
    nothing = [alone(cropped(large, budget__epochs=0, regularizers__crop=crop))[-1][-1]["train_loss"] for crop in (0, 2)]
    assert nothing[0] == nothing[1]


def test_windows_that_cannot_be_cut_are_refused_in_a_sentence(large: str) -> None:
    with pytest.raises(ConfigError, match=r"regularizers.crop is 3, but a window of 28x28 moves by at most 2 each way"):
        cropped(large, regularizers__crop=3)
    for fields in ({"data__preprocessing": "standardize"}, {"corruption__kind": "gaussian"}):
        with pytest.raises(ConfigError, match=r"regularizers.crop_from is image, which is for data.preprocessing: paper"):
            cropped(large, **fields)
