"""A stand-in for CUDA's graphs: what was computed is written down, and computed again in the same memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from trainables.engines.graphs import AtOnce


class Tape(TorchDispatchMode):
    """The operations of a work, to be done again as a graph does them: with the same memory, and without asking Python again."""

    def __init__(self, work: Callable[[], None]) -> None:
        super().__init__()
        self._done: list[tuple[Any, Any, Any, Any]] = []
        with self:
            work()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        self._done.append((func, args, kwargs or {}, found))
        return found

    def play(self) -> None:
        for func, args, kwargs, before in self._done:
            after = func(*args, **kwargs)
            fresh = [value.alias_info is None for value in func._schema.returns]  # neither a view nor written in place
            for new, old, own in zip(
                *(list(one) if isinstance(one, list | tuple) else [one] for one in (after, before)), fresh, strict=False
            ):
                if own and isinstance(new, Tensor):
                    old.copy_(new)


def several(found: Any) -> Sequence[Any]:
    return found if isinstance(found, list | tuple) else [found]


class Noted(AtOnce):
    """Records on a tape, and notes how often. Recording a graph computes nothing, so that the first replay is the recording itself."""

    def __init__(self) -> None:
        self.recordings = self.warmed_passes = self.replays = 0
        self.branches: list[int] = []

    def warmed(self, work: Callable[[], None]) -> None:
        self.warmed_passes += 1
        work()

    def recorded(self, work: Callable[[], None]) -> Callable[[], None]:
        self.recordings += 1
        tape, played = Tape(work), []

        def replay() -> None:
            self.replays += 1
            with torch.no_grad():
                tape.play() if played else played.append(True)

        return replay

    def side_by_side(self, branches: Sequence[Callable[[], None]]) -> None:
        self.branches.append(len(branches))
        for branch in reversed(branches):  # in an order of its own: none may wait for another
            branch()
