"""What stands in for a private part of PyTorch or scikit-learn that another version lacks gives the same numbers."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import trainables.engines
from tests.trainables.made_up_points import only
from trainables import compat
from trainables.engines import choice
from trainables.engines.stacked import StackedDense


def test_this_version_has_what_is_looked_for() -> None:
    """The other tests compare with it; a bound of pyproject.toml that moves may take it away."""
    assert compat._through_rectifier is not None
    assert compat._standard_gamma is not None
    assert compat.digits_table() is not None


def test_a_rectifiers_gradient_is_the_same_without_atens_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = torch.Generator().manual_seed(0)
    activations = torch.randn(3, 5, 7, generator=draw).clamp_min_(0)
    activations[0, 0, 0], activations[1, 1, 1] = torch.nan, torch.inf
    ours, theirs = (torch.randn(3, 5, 7, generator=draw.manual_seed(1)) for _ in range(2))
    ours[2, 2], theirs[2, 2] = torch.nan, torch.nan
    compat.through_rectifier(ours, activations)
    monkeypatch.setattr(compat, "_through_rectifier", None)
    compat.through_rectifier(theirs, activations)
    assert torch.equal(ours.view(torch.int32), theirs.view(torch.int32))


@pytest.mark.parametrize("shape", [1e-3, 0.2, 1.0, 1.2, 9.0])
def test_gamma_draws_are_the_same_without_the_private_sampler(shape: float, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = torch.full((20,), shape + 1, dtype=torch.float64)
    one, other = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    ours = [compat.standard_gamma(shapes, one) for _ in range(2)]
    before = torch.get_rng_state()
    monkeypatch.setattr(compat, "_standard_gamma", None)
    theirs = [compat.standard_gamma(shapes, other) for _ in range(2)]
    assert all(map(torch.equal, ours, theirs))
    assert torch.equal(one.get_state(), other.get_state())
    assert torch.equal(before, torch.get_rng_state())


def test_digits_are_the_same_by_scikit_learns_own_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    by_file = compat.digits_table()
    assert by_file is not None
    by_function = compat._digits_of_the_package()
    assert np.array_equal(by_file, by_function)
    (tmp_path / "sklearn").mkdir()
    (tmp_path / "sklearn/__init__.py").touch()
    monkeypatch.delitem(sys.modules, "sklearn", raising=False)
    monkeypatch.syspath_prepend(tmp_path)  # a scikit-learn that keeps its files elsewhere
    monkeypatch.setattr(compat, "_digits_of_the_package", lambda: by_function)
    assert compat.digits_table() is by_function


@pytest.mark.usefixtures("forget_engines")
def test_a_pytorch_without_sgemm_trains_by_batched_products(monkeypatch: pytest.MonkeyPatch) -> None:
    fields = {"data.name": "synthetic", "data.train_size": 60, "model.width": 8, "budget.epochs": 3}
    compiled = only(fields).outcome
    choice._dense_engine.cache_clear()
    monkeypatch.setattr(compat, "sgemm_address", lambda: None)
    for name in ("kernels", "compiled"):
        monkeypatch.delitem(sys.modules, f"trainables.engines.{name}")
        monkeypatch.delattr(trainables.engines, name)
    assert choice._dense_engine(True) is StackedDense
    batched = only(fields).outcome
    assert batched["train_loss"] == pytest.approx(compiled["train_loss"], rel=1e-5)
    assert batched["train_error"] == compiled["train_error"]
