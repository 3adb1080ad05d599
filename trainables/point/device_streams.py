"""Random streams on a GPU: draws made there, all members in one go, equal on every device by their definition.

A draw is a function of its key, step and place alone. It is the `place`-th number of SplitMix64, whose state starts at the `step`-th
number of SplitMix64 started at the key (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators", with the constants
of Vigna's splitmix64.c). The key is that of a stream of `trainables.point.streams`. SplitMix64 takes eleven integer operations a number
where Philox-4x32-10 takes some hundred and twenty, and each is a kernel of its own. On a CPU a point draws from PyTorch's generators as
ever, because the bits of its result are promised there.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from trainables.gpu_memory import uploaded
from trainables.point.streams import derive


def _signed(bits: int) -> int:
    """The int64 of these 64 bits."""
    return bits - (bits >> 63 << 64)


_GAMMA = _signed(0x9E3779B97F4A7C15)
_ROUNDS = ((30, _signed(0xBF58476D1CE4E5B9)), (27, _signed(0x94D049BB133111EB)))
_LAST_SHIFT = 31


def keys(streams: Sequence[tuple[int, str, int]], device: torch.device) -> Tensor:
    """The keys (K,) int64 of streams: seed, name and epoch of each."""
    return uploaded([derive(*stream) for stream in streams], torch.int64, device)


class Keys:
    """The keys of members' streams on a device, uploaded when an epoch begins and used in all of its steps."""

    def __init__(self) -> None:
        self._streams: list[tuple[int, str, int]] = []

    def of(self, streams: Sequence[tuple[int, str, int, int]], device: torch.device) -> tuple[Tensor, int]:
        """The keys (K,) int64 of streams, and the step in which all of them are: seed, name, epoch and step of each."""
        (step,) = {stream[3] for stream in streams}
        epochs = [stream[:3] for stream in streams]
        if epochs != self._streams:
            self._streams, self._keys = epochs, keys(epochs, device)
        return self._keys, step


def starts(keys: Tensor, step: int) -> Tensor:
    """The states (K,) int64 at which the draws of a step start: all that `numbers` needs."""
    return _mixed(keys + _signed((step + 1) * _GAMMA % 2**64))


def words(keys: Tensor, step: int, count: int) -> Tensor:
    """Draw (K, count) int64: 64 random bits each.

    Args:
        keys: (K,) int64.
        step: at least 0; each has draws of its own.
        count: at least 1.

    >>> words(torch.tensor([0]), 0, 3).shape
    torch.Size([1, 3])
    """
    return _words(starts(keys, step), 0, count)


def uniform(keys: Tensor, step: int, *shape: int) -> Tensor:
    """Draw (K, *shape) float32, multiples of 2**-24 in [0, 1): the upper 24 bits of each half of a word, the lower half first."""
    return numbers(starts(keys, step), 0, *shape)


def numbers(starts: Tensor, begin: int, *shape: int) -> Tensor:
    """Those of `uniform` from the `begin`-th on, (K, *shape), of a step that starts at `starts`.

    >>> start = starts(torch.tensor([1, 2]), 3)
    >>> torch.equal(numbers(start, 5, 4), uniform(torch.tensor([1, 2]), 3, 9)[:, 5:])
    True
    """
    size = torch.Size(shape).numel()
    first, skipped = divmod(begin, 2)
    halves = _words(starts, first, (skipped + size + 1) // 2).view(torch.int32)[:, skipped : skipped + size]
    return (halves >> 8).bitwise_and_(2**24 - 1).to(torch.float32).mul_(2.0**-24).reshape(-1, *shape)


def permutations(keys: Tensor, step: int, size: int) -> Tensor:
    """Draw permutations (K, size) int64: the order of `size` words as signed numbers, of equal ones the first one first."""
    return words(keys, step, size).argsort(dim=1, stable=True)


def _words(starts: Tensor, first: int, count: int) -> Tensor:
    places = torch.arange(first + 1, first + count + 1, device=starts.device).mul_(_GAMMA)
    return _mixed(starts[:, None] + places)


def _mixed(state: Tensor) -> Tensor:
    """SplitMix64's number of a state, in place; int64 products drop what is above 64 bits."""
    for shift, factor in _ROUNDS:
        state.bitwise_xor_(_shifted(state, shift)).mul_(factor)
    return state.bitwise_xor_(_shifted(state, _LAST_SHIFT))


def _shifted(state: Tensor, bits: int) -> Tensor:
    """Unsigned shift to the right: the sign does not follow."""
    return (state >> bits).bitwise_and_((1 << (64 - bits)) - 1)
