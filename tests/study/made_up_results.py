"""Results as training hands them over, without training."""

from __future__ import annotations

from typing import Any

from trainables.point.config import Budget, Data, Model, TrialConfig, with_fields
from trainables.resolution import resolve
from trainables.training.loop import Result

TRIAL = TrialConfig(data=Data(name="synthetic", dimension=4, classes=3, train_size=60), model=Model(width=4), budget=Budget(epochs=3))


def resolved(**fields: Any) -> TrialConfig:
    return resolve(with_fields(TRIAL, fields))


def result(status: str = "completed", reason: str = "spent its epochs", epochs: int = 3, **fields: Any) -> Result:
    """A result whose numbers follow from the seed; a diverged one has a curve and no scores, a failed one neither."""
    point = resolved(**fields)
    curve = [
        {
            "key": point.key(),
            "epoch": epoch,
            "learning_rate": 0.1 / epoch,
            "train_loss": 1 / (epoch + point.seed),
            "train_error": 0.5 / epoch,
            "validation_error": None,
            "test_loss": 2 / epoch,
            "test_error": 0.6 / epoch,
            "clean_train_error": 0.25 / epoch,
            "wrong_train_error": None,
        }
        for epoch in range(1, epochs + 1)
    ]
    size = {"parameters": 35, "parameters_per_sample": 35 / 60, "wrong_label_rate": 0.1 * point.seed, "seconds": 0.25}
    outcome: dict[str, Any] = size | {"epochs": epochs, "fit_epoch": None, "interpolated": False}
    if status in ("completed", "pruned"):
        outcome |= {name: curve[-1][name] for name in ("train_error", "train_loss", "validation_error", "test_error", "test_loss")}
        outcome["generalization_gap"] = outcome["test_error"] - outcome["train_error"]
    if status == "failed":
        outcome, curve = {}, []
    return Result(point, point.key(), status, reason, outcome, curve)
