"""Points that are not done yet, kept outside of the process that trains them: what a lost worker or a stopped driver costs is a minute.

The members of a `Training` are put on a shelf, each by itself under its point's key, so that the next worker that trains the point goes on
from there, in whatever pack that is. That happens between two epochs, every `KEEP_SECONDS`, or a hundred times as long as it took last, so
that keeping costs a hundredth at most; a pack that ends sooner leaves nothing behind. A point with a result leaves the shelf.

What goes on is bit-equal to what was never interrupted where equal bits are promised at all (see `trainables.reproducibility`): a member is
taken up only by a process that `bits` says the same of.
"""

from __future__ import annotations

import io
import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from pickle import UnpicklingError
from typing import Any, Protocol

import torch

from trainables.reproducibility import bits_mode
from trainables.training.loop import Training

KEEP_SECONDS = 60.0
"""Training time between two times that members are kept, at least."""
_FOREIGN = (RuntimeError, ValueError, KeyError, TypeError, UnpicklingError)
"""What a state raises that another version has written."""
COST = 0.01
"""The share of the time that keeping them may take."""


class Shelf(Protocol):
    """Where members are kept, as bytes; what it gives back is what it was given, or nothing."""

    def put(self, key: str, bits: str, state: bytes) -> None:
        """Keep the state of a member, in place of what is kept under its key."""

    def get(self, key: str, bits: str) -> bytes | None:
        """Return the state that was kept under the key by a process of these bits; None if there is none, or it is damaged."""

    def keys(self) -> set[str]:
        """Return the keys of all that is kept."""

    def remove(self, keys: Collection[str]) -> None:
        """Keep nothing under these keys any more."""


def bits(device: torch.device, per_sample: bool, processes: int = 1) -> str:
    """Say what the bits of a member in training come from, besides its point; results on GPUs are equal to rounding only.

    Args:
        device: where it trains.
        per_sample: whether it is noted which samples are right, for without that the notes could not go on.
        processes: how many train it together.
    """
    parts = [device.type, *(["samples"] if per_sample else []), *([f"{processes} processes"] if processes > 1 else [])]
    if device.type == "cpu":
        parts += [f"torch {torch.__version__}", f"{bits_mode() or torch.backends.cpu.get_cpu_capability()}"]
    return ", ".join(parts)


class Keeper:
    """Keeps the members of one training.

    Args:
        shelf: where.
        origin: what `bits` says.
    """

    def __init__(self, shelf: Shelf, origin: str) -> None:
        self._shelf, self._origin = shelf, origin
        self._known = shelf.keys()
        self._due = time.monotonic() + KEEP_SECONDS

    def resume(self, training: Training, device: torch.device) -> None:
        """Let the points of the training that are on the shelf go on from there; what cannot be taken up starts again."""
        for key in sorted(training.waiting() & self._known):
            if saved := self.get(key, device):
                with suppress(*_FOREIGN):
                    training.resume(saved)

    def get(self, key: str, device: torch.device) -> dict[str, Any] | None:
        """A member that is on the shelf; None if there is none that can be taken up."""
        if key in self._known and (state := self._shelf.get(key, self._origin)) is not None:
            with suppress(*_FOREIGN):
                saved: dict[str, Any] = torch.load(io.BytesIO(state), map_location=device, weights_only=True)
                return saved
        return None

    def put(self, member: dict[str, Any]) -> None:
        """Put a member on the shelf."""
        file = io.BytesIO()
        torch.save(member, file)
        self._shelf.put(member["key"], self._origin, file.getvalue())
        self._known.add(member["key"])

    def keep(self, training: Training) -> None:
        """Put the members in training on the shelf, if it is time."""
        began = time.monotonic()
        if began < self._due:
            return
        for member in training.members():
            self.put(member)
        ended = time.monotonic()
        self._due = ended + max(KEEP_SECONDS, (ended - began) / COST)

    def forget(self, keys: Iterable[str]) -> None:
        """Remove from the shelf what has its result now, and was put there before this training or by it."""
        if ended := self._known.intersection(keys):
            self._shelf.remove(ended)
            self._known -= ended
