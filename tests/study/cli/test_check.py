"""``gaplab check``: every network of a study tried before it runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.study.conftest import Answer

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
