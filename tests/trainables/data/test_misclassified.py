"""Every way of counting errors agrees with the one definition, ties and numbers that are none included."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from trainables.data.inputs import Inputs, StackedInputs
from trainables.data.misclassified import misclassified
from trainables.engines import make_engine


def counted(outputs: Tensor, labels: Tensor, guesses: int) -> list[bool]:
    """By an explicit loop: how many other outputs are not below that of the label."""
    wrong = []
    for row, label in zip(outputs.tolist(), labels.tolist(), strict=True):
        rivals = sum(not row[label] > value for place, value in enumerate(row) if place != label)
        wrong.append(rivals >= guesses)
    return wrong


@given(st.data(), st.integers(2, 7), st.sampled_from([1, 2, 5]))
def test_a_tie_counts_as_an_error(data: Any, classes: int, guesses: int) -> None:
    values = st.sampled_from([-1.0, 0.0, 0.5, 1.0])
    rows = data.draw(st.lists(st.lists(values, min_size=classes, max_size=classes), min_size=1, max_size=8))
    labels = torch.tensor(data.draw(st.lists(st.integers(0, classes - 1), min_size=len(rows), max_size=len(rows))))
    outputs = torch.tensor(rows)
    assert misclassified(outputs.clone(), labels, guesses=guesses).tolist() == counted(outputs, labels, guesses)
    assert misclassified(outputs.T.clone(), labels, 0, guesses=guesses).tolist() == counted(outputs, labels, guesses)


def test_what_is_no_number_is_an_error() -> None:
    outputs = torch.full((2, 3), float("nan"))
    assert misclassified(outputs, torch.tensor([0, 2])).tolist() == [True, True]


@pytest.mark.parametrize("loss", ["cross_entropy", "squared"])
@pytest.mark.parametrize("kind", ["compiled", "stacked", "modules"])
def test_every_engine_counts_by_the_definition(kind: str, loss: str) -> None:
    """Members whose outputs are whole numbers, so that ties are common."""
    draw = torch.Generator().manual_seed(0)
    samples, inputs, classes = 500, 6, 4
    modules = []
    for _ in range(2):
        linear = nn.Linear(inputs, classes)
        with torch.no_grad():
            linear.weight.copy_(torch.randint(-1, 2, (classes, inputs), generator=draw).float())
            linear.bias.zero_()
        layers = [nn.Flatten(), linear] + ([nn.Identity()] if kind == "modules" else [])  # which is no chain that can be stacked
        modules.append(nn.Sequential(*layers))
    pixels = torch.randint(-1, 2, (samples, inputs), generator=draw).float()
    labels = torch.randint(0, classes, (2, samples), generator=draw)
    if kind == "stacked":
        from trainables.engines.stacked import StackedDense

        engine: Any = StackedDense(modules[0], loss, "float32")
    else:
        engine = make_engine(modules[0], loss=loss, precision="float32", image_shape=(1, 1, inputs))
    engine.refill([], modules)
    source = StackedInputs([Inputs(pixels, torch.ones(1, 1), torch.zeros(1, 1), (1, 1, inputs))] * 2)
    _, errors = engine.losses(source, torch.arange(samples)[None], labels, [0, 1])
    outputs = [module(pixels.reshape(-1, 1, 1, inputs)).detach() for module in modules]
    expected = torch.stack([misclassified(one, own) for one, own in zip(outputs, labels, strict=True)])
    assert torch.equal(errors, expected)
    assert 0.3 < np.mean(expected.numpy()) < 0.95
