"""An optimizer's step on rows of parameters against one parameter after the other: the same bits, also on a CPU."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainables.engines.test_optimizers import packs
from trainables.engines.optimizers import StackedOptimizer
from trainables.engines.rows import Layout, RowOptimizer, Rows
from trainables.point.config import TrialConfig

CPU = torch.device("cpu")
SHAPES = st.lists(st.sampled_from([(), (1,), (3,), (17,), (4, 5), (7, 3), (33, 9), (2, 3, 3, 3), (1, 1), (64, 64)]), min_size=1, max_size=6)


class LaidOutParameters:
    """An engine as far as an optimizer knows it."""

    def __init__(self, shapes: list[tuple[int, ...]], members: int) -> None:
        self.layout, self._members = Layout([torch.Size(shape) for shape in shapes]), members
        self.parameter_rows, self.gradient_rows = (self.layout.rows(members, CPU) for _ in range(2))

    def moments(self) -> tuple[Rows, list[torch.Tensor]]:
        rows = self.layout.rows(self._members, CPU)
        return rows, rows.parts


@settings(max_examples=25)
@given(packs(), SHAPES, st.integers(0, 1000), st.booleans())
def test_rows_have_the_bits_of_their_parts(points: list[TrialConfig], shapes: list[tuple[int, ...]], seed: int, scaled: bool) -> None:
    engine = LaidOutParameters(shapes, len(points))
    draw = torch.Generator().manual_seed(seed)
    apart = [torch.randn(len(points), *shape, generator=draw) for shape in shapes]
    for part, values in zip(engine.parameter_rows.parts, apart, strict=True):
        part.copy_(values)
    together, one_by_one = RowOptimizer(points[0].optimizer, engine), StackedOptimizer(points[0].optimizer)
    for optimizer, parameters in ((together, engine.parameter_rows.parts), (one_by_one, apart)):
        optimizer.scale(tuple(0.5 + index for index in range(len(shapes))) if scaled else ())
        optimizer.refill([], points, parameters, [None] * len(points), [0] * len(points))
        optimizer.set_rates(torch.tensor([point.optimizer.learning_rate for point in points]))
    together.foresee(4)
    for _ in range(4):
        gradients = [torch.randn(len(points), *shape, generator=draw) for shape in shapes]
        for part, gradient in zip(engine.gradient_rows.parts, gradients, strict=True):
            part.copy_(gradient)
        together.step(engine.gradient_rows.parts)
        one_by_one.step(gradients)
    for part, values in zip(engine.parameter_rows.parts, apart, strict=True):
        assert torch.equal(part, values)
    for member in range(len(points)):
        assert all(map(torch.equal, together.state(member), one_by_one.state(member)))


@pytest.mark.parametrize("shapes", [[(3,), (4, 5), (2,)], [(2, 2)], [(5,)]])
def test_every_parameter_begins_a_cache_line_and_matrices_come_first(shapes: list[tuple[int, ...]]) -> None:
    layout = Layout([torch.Size(shape) for shape in shapes])
    rows = layout.rows(3, CPU)
    assert all(begin % 16 == 0 for begin in layout.begins)
    for number, part in enumerate(rows.parts):
        assert part.shape == (3, *shapes[number])
        part.fill_(number + 1)
    counted = [int((rows.whole == number + 1).sum()) for number in range(len(shapes))]
    assert counted == [3 * torch.Size(shape).numel() for shape in shapes]  # none lies on another
    matrices = [number + 1 for number, shape in enumerate(shapes) if len(shape) > 1]
    for part, of_matrices in zip(rows.pieces.parts, rows.pieces.matrices, strict=True):
        found = {int(value) for value in part.unique()} - {0}
        assert found <= set(matrices) if of_matrices else not found & set(matrices)
