"""The stand-in for a GPU notices what makes a host wait for one, and what fails there."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from tests.trainables.gpu.fake_card import CARD, Card, Counts, fake_card

Act = Callable[[Tensor], object]


@pytest.fixture
def card() -> Iterator[Card]:
    with fake_card() as card:
        yield card


def moved(card: Card) -> Tensor:
    values = torch.arange(6.0).to(CARD)
    card.counts = Counts()
    return values


WAITS: dict[str, Act] = {
    "item": lambda x: x[0].item(),
    "tolist": lambda x: x.tolist(),
    "bool": lambda x: bool(x[0] > 0),
    "if": lambda x: 1 if (x > 0).all() else 0,
    "float": lambda x: float(x.sum()),
    "cpu": lambda x: x.cpu(),
    "to the host": lambda x: x.to("cpu"),
    "to the host's tensor": lambda x: torch.zeros(6).copy_(x),
    "nonzero": lambda x: x.nonzero(),
    "a mask": lambda x: x[x > 2],
    "writing by a mask": lambda x: x.__setitem__(x > 2, torch.zeros(3, device=x.device)),
    "masked_select": lambda x: torch.masked_select(x, x > 2),
    "unique": lambda x: torch.unique(x),
    "equal": lambda x: torch.equal(x, x),
    "a list as an index": lambda x: x[[0, 1]],
    "an index on the host": lambda x: x[torch.tensor([0, 1])],
    "a number as an index": lambda x: x[x.argmax()],
    "repetitions": lambda x: x.repeat_interleave(torch.ones(6, dtype=torch.int64, device=CARD)),
    "a tensor of numbers": lambda x: torch.tensor([1.0, 2.0], device=x.device),
    "a tensor of the host": lambda x: torch.ones(6).to(x.device),
    "not pinned": lambda x: torch.ones(6).to(x.device, non_blocking=True),
    "pinned, but blocking": lambda x: torch.ones(6).pin_memory().to(x.device),
    "copy_": lambda x: x.copy_(torch.ones(6)),
    "writing from the host": lambda x: x.__setitem__(slice(0, 2), torch.ones(2)),
    "synchronize": lambda x: torch.cuda.synchronize(),
}


@pytest.mark.parametrize("what", WAITS)
def test_what_waits_is_counted(what: str, card: Card) -> None:
    values = moved(card)
    WAITS[what](values)
    assert card.counts.waits.total() >= 1


def backward(values: Tensor) -> Tensor:
    weight = torch.ones(6, device=values.device, requires_grad=True)
    (weight * values).sum().backward()
    assert weight.grad is not None
    return weight.grad


WAITS_FOR_NOTHING: dict[str, Act] = {
    "arithmetic": lambda x: (x + 1) * 2.5 - torch.tensor(3.0),
    "a slice": lambda x: x[1:3].add_(1),
    "writing a number": lambda x: x.__setitem__(slice(0, 2), 0.0),
    "writing a number by a mask": lambda x: x.__setitem__(x > 2, 0.0),
    "an index there": lambda x: x[torch.arange(2, device=x.device)],
    "made there": lambda x: torch.full((3,), 2.0, device=x.device) + x[:3],
    "like it": lambda x: torch.zeros_like(x) + x.new_ones(6),
    "pinned and not blocking": lambda x: torch.ones(6).pin_memory().to(x.device, non_blocking=True) + x,
    "where": lambda x: torch.where(x > 2, x, 0.0),
    "sorted": lambda x: x.argsort(),
    "a backward pass": backward,
    "shape and device": lambda x: (x.shape, x.device, x.is_cuda, len(x)),
}


@pytest.mark.parametrize("what", WAITS_FOR_NOTHING)
def test_what_does_not_wait_is_not_counted(what: str, card: Card) -> None:
    found = WAITS_FOR_NOTHING[what](moved(card))
    assert not card.counts.waits
    if isinstance(found, Tensor):
        assert found.device == CARD


FAILS: dict[str, Act] = {
    "tensors of both devices": lambda x: x + torch.ones(6),
    "a product": lambda x: x.reshape(2, 3) @ torch.ones(3, 2),
    "gather": lambda x: x.gather(0, torch.tensor([0])),
    "cat": lambda x: torch.cat([x, torch.ones(1)]),
    "a layer on the host": lambda x: nn.Linear(6, 2)(x),
    "a target on the host": lambda x: nn.functional.cross_entropy(x.reshape(2, 3), torch.tensor([0, 1])),
    "a generator of the host": lambda x: torch.rand(3, device=x.device, generator=torch.Generator()),
    "numpy": lambda x: x.numpy(),
    "pinned memory of the card": lambda x: torch.ones(3, device=x.device, pin_memory=True),
}


@pytest.mark.parametrize("what", FAILS)
def test_what_fails_on_a_gpu_fails(what: str, card: Card) -> None:
    with pytest.raises((RuntimeError, TypeError)):
        FAILS[what](moved(card))


def test_a_module_goes_there_and_back_with_its_values(card: Card) -> None:
    module = nn.Sequential(nn.Linear(6, 3), nn.BatchNorm1d(3))
    before = [tensor.clone() for tensor in module.state_dict().values()]
    module.to(CARD)
    assert {tensor.device for tensor in module.state_dict().values()} == {CARD}
    assert next(module.parameters()).is_cuda
    module.to("cpu")
    assert all(torch.equal(one, other) for one, other in zip(before, module.state_dict().values(), strict=True))
    assert {tensor.device.type for tensor in module.state_dict().values()} == {"cpu"}
    assert card.counts.uploads == card.counts.downloads == len(before)
