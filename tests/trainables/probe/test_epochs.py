"""The probe of the epochs: what a study takes to fit, tried on its widest networks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.trainables.made_up_points import CPU, point, train
from trainables.point.config import Budget, Regularizers, TrialConfig
from trainables.probe import epochs
from trainables.probe.epochs import group, probe, probed_points

SYNTHETIC = {
    "data.name": "synthetic",
    "data.dimension": 6,
    "data.classes": 3,
    "data.train_size": 120,
    "model.width": 64,
    "optimizer.learning_rate": 0.05,
}


def made(fields: dict[str, Any]) -> TrialConfig:
    return point(SYNTHETIC | {"corruption.level": 1.0} | fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"budget.stop_at_train_error": None},
        {"budget.epochs": 0},
        {"model.name": "linear", "optimizer.name": "closed_form"},
    ],
    ids=["goes on to its last epoch", "trains for none", "is solved"],
)
def test_a_point_that_does_not_stop_at_its_target_has_no_use_for_it(fields: dict[str, Any]) -> None:
    assert group(made(fields)) is None


def test_a_study_has_one_number() -> None:
    found = [group(made(fields)) for fields in ({}, {"model.name": "linear"}, {"budget.stop_at_train_loss": 0.01}, {"seed": 4})]
    assert found[0] is not None
    assert all(one is found[0] for one in found)


def test_the_widest_network_of_a_kind_is_tried_at_the_highest_level_without_regularizers() -> None:
    points = [made({"model.width": width, "corruption.level": level}) for width in (4, 64, 16) for level in (0.0, 1.0)]
    points += [made({"model.name": "linear", "regularizers.weight_decay": 0.1})]
    tried = probed_points(TrialConfig(), points)
    assert [(one.model.name, one.model.width, one.corruption.level) for one in tried] == [("mlp", 64, 1.0), ("linear", 64, 1.0)]
    assert {one.regularizers for one in tried} == {Regularizers()}


def test_three_times_what_the_widest_took_and_never_less_than_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    widest = made({})
    (result,) = train([replace(widest, budget=Budget(epochs=epochs.MOST))]).values()
    took = result.outcome["fit_epoch"]
    found, why = probe([widest], CPU)
    assert not why
    assert found == max(100, -(-3 * took // 50) * 50)
    monkeypatch.setattr(epochs, "TIMES", 300 // took + 1)
    assert 300 < (probe([widest], CPU)[0] or 0) <= 350 + took
    assert probe([made({"corruption.level": 0.0, "data.separation": 40.0})], CPU) == (100, "")


def test_what_does_not_fit_has_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    assert probe([made({"model.width": 4})], CPU)[1].startswith("no network has 3 parameters a sample")
    found, why = probe([made({"optimizer.learning_rate": 1e30})], CPU)
    assert found is None
    assert why.startswith("mlp of width 64 on synthetic ")
    monkeypatch.setattr(epochs, "MOST", 60)
    slow = probe([made({"optimizer.learning_rate": 1e-5})], CPU)
    assert slow[0] is None
    assert "after 60 epochs: raise budget.epochs beyond that" in slow[1]
    monkeypatch.setattr(epochs, "MULTIPLY_ADDS", 1e6)
    assert probe([made({})], CPU) == (None, "mlp of width 64 on synthetic would take long to try")
