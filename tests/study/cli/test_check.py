"""``gaplab check``: every network of a study tried before it runs; and a run, which tries one's own."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import study
from study.plan.check import tried_before_training
from study.plan.plan import Plan, plan_study
from tests.study.conftest import Answer
from trainables.point.config import TrialConfig
from trainables.point.errors import ConfigError

OWN = """
from math import prod
from torch import nn
from trainables.models import model_family


class Wide(nn.Module):
    def __init__(self, inputs, outputs, raises):
        super().__init__()
        self.layer, self.raises = nn.Linear(inputs, outputs), raises

    def forward(self, images):
        if images.flatten(1).sum().item() == 0:  # it looks at values: shapes alone do not tell what it gives
            raise ValueError("nothing to see")
        if self.raises:
            raise ArithmeticError("this model knows no sums")
        return self.layer(images.flatten(1))


@model_family("wide", default_width=32)
def wide(model, dropout, image_shape, classes):
    return Wide(prod(image_shape), model.width, raises=False)


@model_family("raising", default_width=3)
def raising(model, dropout, image_shape, classes):
    return Wide(prod(image_shape), model.width, raises=True)
"""


def test_networks_that_do_not_train_are_named_before_the_study_runs(
    gaplab: Callable[..., Answer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(OWN)
    written = {
        "study": "checked",
        "trial": {
            "data": {"name": "synthetic", "dimension": 8, "classes": 3, "train_size": 60},
            "optimizer": {"learning_rate": 0.05},
            "budget": {"epochs": 5},
        },
        "space": {
            "model.name": {"values": ["mlp", "linear", "wide", "raising"]},
            "corruption.level": {"values": [0, 1]},
            "add": [{"model.name": "mlp", "model.width": 77, "optimizer.learning_rate": 1e-9}],
        },
        "imports": ["own.py"],
    }
    (tmp_path / "checked.yaml").write_text(json.dumps(written))
    answer = gaplab("check", "checked.yaml")
    assert answer.code == 2
    cells = [[cell.strip() for cell in line.split("│")] for line in answer.out.splitlines()]
    rows = {(row[2], row[3]): row[6] for row in cells if len(row) > 6 and row[1] == "synthetic"}
    assert len(rows) == 5
    assert rows["mlp", "512"].startswith("after ")
    assert rows["mlp", "77"] == "not in 300 steps"
    assert rows["wide", "32"] == rows["raising", "3"] == "does not train"
    assert answer.err.splitlines() == [
        "gaplab: wide of width 32 on synthetic does not train: it gives a tensor of shape (2, 32) for 2 samples of 3 classes, and must "
        "give one of shape (2, 3)",
        "gaplab: raising of width 3 on synthetic does not train: ArithmeticError: this model knows no sums",
        "gaplab: mlp of width 77 on synthetic does not fit 32 samples in 300 steps at optimizer.learning_rate 1e-09: leave the rate to the "
        "probe (auto), or look at the model",
    ]
    assert {path.name for path in tmp_path.iterdir()} == {"own.py", "checked.yaml"}


DATA = {"name": "synthetic", "dimension": 8, "classes": 3, "train_size": 60}


def test_a_run_refuses_a_network_whose_outputs_are_no_classes(
    gaplab: Callable[..., Answer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its forward pass cannot be told from shapes: today it would train on the first classes of 32."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(OWN)
    trial = {"data": DATA, "model": {"name": "wide"}, "optimizer": {"learning_rate": 0.05}, "budget": {"epochs": 5}}
    (tmp_path / "refused.yaml").write_text(json.dumps({"study": "refused", "trial": trial, "space": {}, "imports": ["own.py"]}))
    answer = gaplab("run", "refused.yaml")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.splitlines() == [
        "gaplab: wide of width 32 on synthetic does not train: it gives a tensor of shape (2, 32) for 2 samples of 3 classes, and must "
        "give one of shape (2, 3)"
    ]
    assert {path.name for path in tmp_path.iterdir()} == {"own.py", "refused.yaml"}


class Tried:
    """Answers in place of the probe's process, by width, and notes what it is asked of."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **answers: dict[str, Any]) -> None:
        self.asked: list[int | None] = []
        self.patience = 0.0
        self._answers = {int(width.strip("w")): answer for width, answer in answers.items()}
        monkeypatch.setattr("study.plan.check.answers", self)

    def __call__(self, wanted: Sequence[tuple[str, Sequence[TrialConfig]]], sources: object, patience: float) -> list[dict[str, Any]]:
        widths = [point.model.width or 0 for _, (point,) in wanted]
        self.asked += widths
        self.patience = patience
        return [self._answers.get(width, {"steps": 7, "tried": 300}) for width in widths]


def own_plan(tmp_path: Path, **more: object) -> Plan:
    """Eight networks of one's own, at two seeds each, beside one of gaplab's."""
    (tmp_path / "own.py").write_text(OWN.replace("Wide(prod(image_shape), model.width, raises=False)", "deep(image_shape, model, classes)"))
    with (tmp_path / "own.py").open("a") as file:
        file.write(
            "\n\ndef deep(image_shape, model, classes):\n    return nn.Sequential(nn.Flatten(), nn.Linear(prod(image_shape), model.width), "
            "nn.ReLU(), nn.Linear(model.width, classes))\n"
        )
    written = {
        "study": "own",
        "trial": {"data": DATA, "model": {"name": "wide"}, "optimizer": {"learning_rate": 0.05}, "budget": {"epochs": 5}},
        "space": {"model.width": {"values": [8, 16, 24, 32, 40, 48, 56, 64]}, "seed": {"range": 2}, "add": [{"model.name": "mlp"}]},
        "imports": ["own.py"],
    }
    return plan_study(study.understand(written | more, source=tmp_path / "own.yaml"), str(tmp_path / "results"))


def test_a_run_tries_the_smallest_the_largest_and_the_middle_of_ones_own_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = Tried(monkeypatch)
    (line,) = tried_before_training(own_plan(tmp_path))
    assert tried.asked == [8, 40, 64]
    assert line.startswith(
        "wide: 3 of 8 networks train, tried in 0.0 seconds; 32 samples are fitted after 7 steps; all points take in the order of "
    )
    tried_before_training(own_plan(tmp_path, resources={"point_seconds": 3}))
    assert tried.patience == 3


def test_what_raises_or_does_not_learn_is_said_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Tried(monkeypatch, w8={"why": "ArithmeticError: no sums"}, w64={"steps": None, "tried": 300})
    well, raises, idle = tried_before_training(own_plan(tmp_path))
    assert well.startswith("wide: 1 of 8 networks train")
    assert raises == "wide of width 8 on synthetic does not train: ArithmeticError: no sums"
    assert idle.startswith("wide of width 64 on synthetic does not fit 32 samples in 300 steps at optimizer.learning_rate 0.05")


def test_wrong_outputs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Tried(monkeypatch, w64={"why": "it gives a list", "wrong_outputs": True})
    with pytest.raises(ConfigError, match=r"^wide of width 64 on synthetic does not train: it gives a list$"):
        tried_before_training(own_plan(tmp_path))


def test_what_has_trained_in_the_study_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried, plan = Tried(monkeypatch), own_plan(tmp_path)
    done = {point.key: "completed" for point in plan.points if point.config.seed == 0 and point.config.model.width != 16}
    monkeypatch.setattr(Plan, "with_records", lambda plan: replace(plan, recorded=done))
    (line,) = tried_before_training(plan)
    assert tried.asked == [16]
    assert line.startswith("wide: it trains, ")
    done |= {point.key: "completed" for point in plan.points}
    assert tried_before_training(plan) == []
    assert tried.asked == [16]


def test_gaplabs_own_networks_are_not_tried_by_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = Tried(monkeypatch)
    monkeypatch.setattr(Plan, "with_records", lambda plan: pytest.fail("nothing is read for them"))
    written = {"study": "bundled", "trial": {"data": DATA, "optimizer": {"learning_rate": 0.05}, "budget": {"epochs": 5}}, "space": {}}
    assert tried_before_training(plan_study(study.understand(written), str(tmp_path))) == []
    assert tried.asked == []
