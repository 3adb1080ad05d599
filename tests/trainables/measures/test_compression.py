"""The compression bound: its code is a code, its inversion is one, and it holds and tells labels apart where the truth is known."""

from __future__ import annotations

import copy
import itertools
from math import exp, log2

import pytest
import torch
from torch import Tensor, nn

from trainables.measures import Subject, measure_all
from trainables.measures.bundled.compression import code_length, largest_error, on_grid


def test_the_code_is_laplaces_rule_and_satisfies_krafts_inequality() -> None:
    sequence, bits, seen = [1, -1, -1, 0, -1], 0.0, {-1: 0, 0: 0, 1: 0}
    for place, number in enumerate(sequence):
        bits -= log2((seen[number] + 1) / (place + 3))
        seen[number] += 1
    assert code_length(torch.tensor(sequence).float(), 1) == pytest.approx(bits + 2)
    words = itertools.product((-1.0, 0.0, 1.0), repeat=4)
    assert sum(2 ** -code_length(torch.tensor(word), 1) for word in words) == pytest.approx(0.25)  # a sum of 1, less 2 bits a word


def test_rounding_is_to_the_nearest_step_and_0_stays() -> None:
    steps, step = on_grid(torch.tensor([0.0, 1.0, -0.9, 0.3, 0.2]), 2)
    assert steps.tolist() == [0.0, 2.0, -2.0, 1.0, 0.0]
    assert step == 0.5
    assert on_grid(torch.zeros(3), 4)[1] == 0.0


@pytest.mark.parametrize("divergence", [0.01, 0.2, 3.0])
def test_the_largest_error_inverts_the_divergence(divergence: float) -> None:
    assert largest_error(0.0, divergence) == pytest.approx(1 - exp(-divergence))
    p = largest_error(0.3, divergence)
    torch.testing.assert_close(
        torch.distributions.kl_divergence(torch.distributions.Bernoulli(0.3), torch.distributions.Bernoulli(p)).item(),
        divergence,
        rtol=1e-3,
        atol=1e-4,
    )
    assert largest_error(1.0, divergence) == 1.0


def sampled(count: int, draw: torch.Generator, *, random: bool) -> tuple[Tensor, Tensor]:
    """Two classes a hyperplane parts, of 20 inputs; or labels that are coins."""
    inputs = torch.randn(count, 20, generator=draw)
    labels = torch.randint(0, 2, (count,), generator=draw) if random else (inputs[:, :3].sum(1) > 0).long()
    return inputs, labels


@pytest.mark.parametrize("random", [False, True], ids=["true labels", "random labels"])
def test_it_holds_and_tells_true_from_random_labels(random: bool) -> None:
    """Against the error on fresh samples, of the network as trained: rounding at the best grid changes it by less than the bound leaves."""
    draw = torch.Generator().manual_seed(0)
    inputs, labels = sampled(5_000, draw, random=random)
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(20, 2))
    initial = copy.deepcopy(module)
    optimizer = torch.optim.LBFGS(module.parameters(), max_iter=50)

    def loss() -> Tensor:
        optimizer.zero_grad()
        found = nn.functional.cross_entropy(module(inputs), labels)
        found.backward()
        return found

    optimizer.step(loss)
    bound = measure_all(["compression_bound"], Subject(module, initial, inputs, labels, 2))["compression_bound"]
    fresh, truth = sampled(20_000, draw, random=random)
    error = (module(fresh).argmax(1) != truth).double().mean().item()
    assert error < bound
    assert bound > 0.5 if random else bound < 0.2
