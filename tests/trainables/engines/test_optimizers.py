"""Stacked optimizers against PyTorch's own, member by member, and schedules against PyTorch's schedulers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trainables.engines.optimizers import StackedOptimizer, rate_at
from trainables.point.config import TrialConfig, with_fields

SHAPES = ((7, 5), (7,), (3, 7), (3,), (2, 3, 3, 3), (4,), (1, 1))
"""Shapes of one member's parameters: matrices, vectors, a convolution."""
STEPS = 25
TOLERANCE = 2.0**-23 * 8 * STEPS
"""float32: a step rounds each number some eight times, relative to values of about 1."""


def member(**fields: Any) -> TrialConfig:
    return with_fields(TrialConfig(), {name.replace("__", "."): value for name, value in fields.items()})


def stacked(members: int, seed: int) -> list[Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(members, *shape, generator=draw) for shape in SHAPES]


def optimizer_of(points: list[TrialConfig], parameters: list[Tensor]) -> StackedOptimizer:
    optimizer = StackedOptimizer(points[0].optimizer)
    optimizer.refill([], points, parameters, [None] * len(points), [0] * len(points))
    return optimizer


def run(points: list[TrialConfig], start: list[Tensor], gradients: list[list[Tensor]]) -> list[Tensor]:
    """The parameters after a step for each of `gradients`."""
    parameters = [parameter.clone() for parameter in start]
    optimizer = optimizer_of(points, parameters)
    for step, gradient in enumerate(gradients):
        rates = torch.tensor([rate_at(point, step) for point in points])
        optimizer.set_rates(rates)
        optimizer.step([each.clone() for each in gradient])
    return parameters


def run_in_pytorch(point: TrialConfig, start: list[Tensor], gradients: list[list[Tensor]]) -> list[Tensor]:
    """One member by `torch.optim` and `torch.nn.utils`; `start` and `gradients` are its own, without a first axis."""
    rule, regularizers = point.optimizer, point.regularizers
    parameters = [parameter.clone().requires_grad_() for parameter in start]
    weights = [parameter for parameter in parameters if parameter.dim() > 1]
    others = [parameter for parameter in parameters if parameter.dim() <= 1]
    groups = [
        {"params": weights, "weight_decay": regularizers.weight_decay},
        {"params": others, "weight_decay": regularizers.weight_decay if regularizers.decay_biases else 0.0},
    ]
    optimizer: torch.optim.Optimizer
    if rule.name == "sgd":
        optimizer = torch.optim.SGD(groups, rule.learning_rate, rule.momentum, nesterov=rule.nesterov)
    else:
        optimizer = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[rule.name](groups, rule.learning_rate)
    for step, gradient in enumerate(gradients):
        for parameter, own in zip(parameters, gradient, strict=True):
            parameter.grad = own.clone()
        if regularizers.gradient_clip is not None:
            torch.nn.utils.clip_grad_norm_(parameters, regularizers.gradient_clip)
        for group in optimizer.param_groups:
            group["lr"] = rate_at(point, step)
        optimizer.step()
    return [parameter.detach() for parameter in parameters]


RULES: dict[str, list[TrialConfig]] = {
    "sgd": [
        member(optimizer__momentum=0.0),
        member(optimizer__learning_rate=0.01),
        member(optimizer__momentum=0.5, regularizers__weight_decay=0.1),
        member(regularizers__weight_decay=0.1, regularizers__decay_biases=True),
        member(regularizers__gradient_clip=0.5),
        member(regularizers__gradient_clip=3.0, regularizers__weight_decay=0.01, optimizer__schedule="cosine", budget__epochs=STEPS),
        member(optimizer__schedule="exponential"),
    ],
    "nesterov": [
        member(optimizer__nesterov=True, optimizer__learning_rate=0.03),
        member(optimizer__nesterov=True, regularizers__weight_decay=0.1, regularizers__gradient_clip=2.0),
    ],
    **{
        name: [
            member(optimizer__name=name, optimizer__learning_rate=0.01),
            member(optimizer__name=name, optimizer__learning_rate=0.1, regularizers__weight_decay=0.05),
            member(optimizer__name=name, regularizers__weight_decay=0.05, regularizers__decay_biases=True),
            member(optimizer__name=name, regularizers__gradient_clip=0.1, optimizer__schedule="step", optimizer__decay_every=7),
        ]
        for name in ("adam", "adamw")
    },
}


@pytest.mark.parametrize("rule", RULES)
def test_every_member_goes_pytorchs_way(rule: str) -> None:
    points = RULES[rule]
    start, gradients = stacked(len(points), 0), [stacked(len(points), 1 + step) for step in range(STEPS)]
    found = run(points, start, gradients)
    for index, point in enumerate(points):
        own_gradients = [[each[index] for each in gradient] for gradient in gradients]
        expected = run_in_pytorch(point, [each[index] for each in start], own_gradients)
        for parameter, goal in zip(found, expected, strict=True):
            torch.testing.assert_close(parameter[index], goal, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("clip", [1e-3, 1.0, 1e3])
def test_clipping_is_pytorchs(clip: float) -> None:
    """In one step of SGD with rate 1 the change is the clipped gradient."""
    point = member(optimizer__momentum=0.0, optimizer__learning_rate=1.0, regularizers__gradient_clip=clip)
    start, gradient = [torch.zeros_like(each) for each in stacked(1, 0)], stacked(1, 1)
    clipped = [-parameter[0] for parameter in run([point], start, [gradient])]
    expected = [torch.zeros_like(each[0]).requires_grad_() for each in gradient]
    for parameter, each in zip(expected, gradient, strict=True):
        parameter.grad = each[0].clone()
    norm = torch.nn.utils.clip_grad_norm_(expected, clip)
    for found, parameter in zip(clipped, expected, strict=True):
        torch.testing.assert_close(found, parameter.grad, rtol=1e-6, atol=0)
    length = torch.cat([each.flatten() for each in clipped]).norm()
    assert float(length) == pytest.approx(min(clip, float(norm)), rel=1e-5)


@st.composite
def packs(draw: st.DrawFn) -> list[TrialConfig]:
    name, nesterov = draw(st.sampled_from(["sgd", "adam", "adamw"])), draw(st.booleans())
    values = {
        "optimizer.learning_rate": st.sampled_from([1e-3, 0.1, 1.0]),
        "optimizer.momentum": st.sampled_from([0.0, 0.5, 0.9]),
        "regularizers.weight_decay": st.sampled_from([0.0, 1e-3, 0.5]),
        "regularizers.decay_biases": st.booleans(),
        "regularizers.gradient_clip": st.sampled_from([None, 0.01, 1.0]),
    }
    shared = {"optimizer.name": name, "optimizer.nesterov": nesterov}
    return [with_fields(TrialConfig(), shared | draw(st.fixed_dictionaries(values))) for _ in range(draw(st.integers(2, 6)))]


@settings(max_examples=60)
@given(packs(), st.integers(0, 1000))
def test_a_members_bits_do_not_depend_on_its_neighbours(points: list[TrialConfig], seed: int) -> None:
    start, gradients = stacked(len(points), seed), [stacked(len(points), seed + 1 + step) for step in range(3)]
    together = run(points, start, gradients)
    for index, point in enumerate(points):
        own = slice(index, index + 1)
        alone = run([point], [each[own] for each in start], [[each[own] for each in gradient] for gradient in gradients])
        for parameter, mine in zip(together, alone, strict=True):
            assert torch.equal(parameter[own], mine)


@pytest.mark.parametrize("other", [member(regularizers__gradient_clip=1.0), member(regularizers__weight_decay=0.1)])
@pytest.mark.parametrize("size", [1e25, float("inf"), float("nan")])
def test_a_huge_gradient_of_a_member_leaves_no_mark_on_others_and_takes_none(other: TrialConfig, size: float) -> None:
    """Also a finite one, whose norm is not: a neighbour's clipping must not touch it."""
    wild = member(optimizer__learning_rate=1e-20)
    start, gradients = stacked(2, 0), stacked(2, 1)
    for gradient in gradients:
        gradient[0] *= size
    together = run([wild, other], start, [gradients])
    for index, point in enumerate((wild, other)):
        own = slice(index, index + 1)
        alone = run([point], [each[own] for each in start], [[gradient[own] for gradient in gradients]])
        for parameter, mine in zip(together, alone, strict=True):
            assert torch.equal(parameter[own].nan_to_num(nan=7.0), mine.nan_to_num(nan=7.0))
            assert bool(parameter[own].isfinite().all()) == (index == 1 or size == 1e25)


@pytest.mark.parametrize("rule", RULES)
def test_members_take_their_moments_to_other_slots(rule: str) -> None:
    """Three train, the second leaves, a fourth comes with moments from elsewhere: as if each had gone on alone."""
    points = [RULES[rule][index % len(RULES[rule])] for index in range(4)]
    start, gradients = stacked(4, 0), [stacked(4, 1 + step) for step in range(6)]
    alone = [
        run([points[index]], [each[index : index + 1] for each in start], [[each[index : index + 1] for each in one] for one in gradients])
        for index in range(4)
    ]

    def rates(indices: list[int], step: int) -> Tensor:
        return torch.tensor([rate_at(points[index], step) for index in indices])

    def some(tensors: list[Tensor], indices: list[int]) -> list[Tensor]:
        return [each[indices].clone() for each in tensors]

    first, elsewhere = some(start, [0, 1, 2]), some(start, [3])
    optimizer, other = optimizer_of(points[:3], first), optimizer_of(points[3:], elsewhere)
    for step in range(3):
        optimizer.set_rates(rates([0, 1, 2], step))
        optimizer.step(some(gradients[step], [0, 1, 2]))
        other.set_rates(rates([3], step))
        other.step(some(gradients[step], [3]))
    second = [torch.cat([mine[[0, 2]], its]) for mine, its in zip(first, elsewhere, strict=True)]
    optimizer.refill([0, 2], [points[0], points[2], points[3]], second, [other.state(0)], [3])
    for step in range(3, 6):
        optimizer.set_rates(rates([0, 2, 3], step))
        optimizer.step(some(gradients[step], [0, 2, 3]))
    for slot, index in enumerate([0, 2, 3]):
        for parameter, mine in zip(second, alone[index], strict=True):
            assert torch.equal(parameter[slot], mine[0])


# Schedules


@pytest.mark.parametrize(
    ("fields", "scheduler"),
    [
        ({"optimizer__schedule": "constant"}, lambda rule: torch.optim.lr_scheduler.ConstantLR(rule, 1.0)),
        (
            {"optimizer__schedule": "exponential", "optimizer__decay": 0.95},
            lambda rule: torch.optim.lr_scheduler.ExponentialLR(rule, 0.95),
        ),
        (
            {"optimizer__schedule": "step", "optimizer__decay": 0.1, "optimizer__decay_every": 7},
            lambda rule: torch.optim.lr_scheduler.StepLR(rule, 7, 0.1),
        ),
        ({"optimizer__schedule": "cosine", "budget__epochs": 40}, lambda rule: torch.optim.lr_scheduler.CosineAnnealingLR(rule, 40)),
    ],
)
def test_schedules_are_pytorchs(fields: dict[str, Any], scheduler: Any) -> None:
    point = member(optimizer__learning_rate=0.3, **fields)
    rule = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.3)
    schedule = scheduler(rule)
    for epoch in range(40):
        assert rate_at(point, epoch) == pytest.approx(rule.param_groups[0]["lr"], rel=1e-9, abs=1e-12)
        rule.step()
        schedule.step()


def test_the_papers_schedule_spends_twenty_epochs_of_its_first_rate() -> None:
    """Sum of 0.95^e = 20."""
    point = member(optimizer__schedule="exponential", optimizer__decay=0.95, optimizer__learning_rate=0.1)
    assert sum(rate_at(point, epoch) for epoch in range(1000)) == pytest.approx(0.1 * 20, rel=1e-9)
