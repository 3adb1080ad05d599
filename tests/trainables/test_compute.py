"""What training takes, counted by hand."""

from __future__ import annotations

import pytest
import torch

from trainables.compute import compute_columns
from trainables.models import model_family
from trainables.models.registry import _FAMILIES
from trainables.point.config import Budget, Data, Model, Optimizer, TrialConfig
from trainables.resolution import resolve
from trainables.training.loop import Training


def outcome(**parts: object) -> dict[str, object]:
    data = Data(name="synthetic", dimension=4, classes=3, train_size=60)
    point = resolve(TrialConfig(**({"data": data, "budget": Budget(epochs=2, stop_at_train_error=None)} | parts)))  # type: ignore[arg-type]
    training = Training([point], torch.device("cpu"))
    while not training.finished:
        results = training.epoch()
    assert results[0].status == "completed", results[0].reason
    return results[0].outcome


def test_a_dense_network_takes_six_operations_a_weight_and_sample() -> None:
    """C = 6·N·D (Kaplan et al. 2020), N the weights without biases."""
    found = outcome(model=Model(width=5))
    assert found["multiply_adds"] == 4 * 5 + 5 * 3
    assert found["training_flops"] == 6 * (4 * 5 + 5 * 3) * 60 * 2


def test_a_convolution_is_counted_at_every_place() -> None:
    point = resolve(TrialConfig(data=Data(train_size=10), model=Model(name="cnn5", width=2)))
    found = compute_columns(point, (1, 8, 8), 10, samples=10, epochs=3)
    forward = found["multiply_adds"]
    assert isinstance(forward, int)
    assert forward > 9 * 2 * 64, "3x3 filters, 2 of them, at 8x8 places, and more layers"
    assert found["training_flops"] == 6 * forward * 30


def test_a_system_that_is_solved_has_the_order_of_its_factorization() -> None:
    found = outcome(model=Model(name="gaussian_kernel"), optimizer=Optimizer(name="closed_form"))
    assert found["multiply_adds"] is None
    assert found["training_flops"] == pytest.approx(2 * (60**3 / 3 + 60 * 60 * 4))


def test_a_model_that_looks_at_its_input_is_not_counted() -> None:
    class Looking(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = torch.nn.Linear(4, 3)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            flat = images.flatten(1)
            return self.last(flat * float(flat.abs().max().item() >= 0))

    try:
        model_family("looking", default_width=1)(lambda model, dropout, image_shape, classes: Looking())
        found = outcome(model=Model(name="looking"))
    finally:
        _FAMILIES.pop("looking", None)
    assert found["multiply_adds"] is None
    assert found["training_flops"] is None
    assert found["train_error"] is not None
