"""A new bundled family, trained or solved, is one file in the room of models: everything else asks the registry."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import trainables.models.bundled

TRAINED = """
from math import prod

from torch import nn

from trainables.models.registry import model_family


@model_family("made_up_trained", default_width=3, reads=("width",), has_hidden_units=lambda model: False)
def made_up_trained(model, dropout, image_shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(prod(image_shape), model.width), nn.Linear(model.width, classes))
"""
SOLVED = """
from trainables.least_squares.solving import least_squares, pixels, regressed
from trainables.models.registry import solved_family


def halved(point, data):
    train, test = pixels(data)
    return regressed(point, data, train[:, ::2], test[:, ::2])


solved_family("made_up_solved", least_squares(halved, lambda point, image_shape: 32))
"""
PROGRAM = """
import trainables.models.bundled

trainables.models.bundled.__path__.append({folder!r})  # as if the two files lay in the room
import torch

from trainables.point.config import TrialConfig, with_fields
from trainables.point.errors import ConfigError
from trainables.resolution import capacity, resolve, work
from trainables.training.loop import Training


def run(fields):
    point = resolve(with_fields(TrialConfig(), {{"data.train_size": 100, "budget.epochs": 1}} | fields))
    (result,) = Training([point], torch.device("cpu")).epoch()
    assert result.status == "completed", result.reason
    assert result.outcome["parameters"] == capacity(point)
    assert work(point) > 0
    return point


trained = run({{"model.name": "made_up_trained"}})
assert trained.key() == with_fields(trained, {{"model.depth": 5}}).key() != with_fields(trained, {{"model.width": 5}}).key()
try:
    run({{"model.name": "made_up_trained", "regularizers.dropout": 0.5}})
except ConfigError as error:
    assert "model made_up_trained has none here" in str(error)
else:
    raise AssertionError
assert capacity(run({{"model.name": "made_up_solved", "optimizer.name": "closed_form"}})) == 320
"""


def test_a_family_is_one_file(tmp_path: Path) -> None:
    for name, text in (("made_up_trained", TRAINED), ("made_up_solved", SOLVED)):
        assert not (Path(trainables.models.bundled.__path__[0]) / f"{name}.py").exists()
        (tmp_path / f"{name}.py").write_text(text)
    program = PROGRAM.format(folder=str(tmp_path))
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
