"""Parameters of stacked members in one piece of memory, a row a member: an operation acts on all of them at once.

A step of an optimizer is then a few operations, where it would be a few for each parameter, which is what small networks' steps are
made of on a GPU: starting operations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from trainables.engines.optimizers import Pieces, StackedOptimizer
from trainables.point.config import Optimizer

_CACHE_LINE = 16
"""Numbers in a cache line; every parameter of every member begins one."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Memory for all parameters of K members, or as much for their gradients or moments.

    Attributes:
        whole: (K, P), float32 but in double-precision tests; what lies between two parts is 0 and stays so.
        parts: views of it, (K, *shape) each, in the order of the shapes.
        pieces: what an optimizer acts on.
    """

    whole: Tensor
    parts: list[Tensor]
    pieces: Pieces

    def first(self, members: int) -> Rows:
        """Those of the first members, in the same memory."""
        of_pieces = self.pieces
        pieces = Pieces([one[:members] for one in of_pieces.whole], [one[:members] for one in of_pieces.parts], of_pieces.matrices)
        return Rows(self.whole[:members], [part[:members] for part in self.parts], pieces)


class Layout:
    """Where parameters of given shapes lie in a row.

    Args:
        shapes: of one member's parameters. Those of two or more dimensions lie before the others.

    Attributes:
        begins: where each parameter begins.
        order: their indices as they lie in memory.
        ends: where each begins after its predecessor, in that order, and the length of a row.
    """

    def __init__(self, shapes: Sequence[torch.Size]) -> None:
        self._shapes = list(shapes)
        self.order = sorted(range(len(self._shapes)), key=lambda index: len(self._shapes[index]) < 2)
        self.begins, self.ends, end = [0] * len(self._shapes), [], 0
        for index in self.order:
            self.begins[index] = end
            end += -(-self._shapes[index].numel() // _CACHE_LINE) * _CACHE_LINE
            self.ends.append(end)
        self._vectors = min((self.begins[index] for index in self.order if len(self._shapes[index]) < 2), default=end)

    def rows(self, members: int, device: torch.device, dtype: torch.dtype = torch.float32) -> Rows:
        """Make rows of zeros."""
        whole = torch.zeros(members, self.ends[-1], device=device, dtype=dtype)
        parts = [
            whole[:, begin : begin + shape.numel()].unflatten(1, shape) if shape else whole[:, begin]
            for begin, shape in zip(self.begins, self._shapes, strict=True)
        ]
        halves = {True: whole[:, : self._vectors], False: whole[:, self._vectors :]}
        kinds = [matrices for matrices, half in halves.items() if half.shape[1]]
        return Rows(whole, parts, Pieces([whole], [halves[matrices] for matrices in kinds], kinds))


class LaidOut(Protocol):
    """An engine whose parameters and gradients lie in rows."""

    parameter_rows: Rows
    gradient_rows: Rows

    def moments(self) -> tuple[Rows, list[Tensor]]:
        """Make rows of zeros, and views of them that are shaped like the engine's `parameters`."""
        ...


class RowOptimizer(StackedOptimizer):
    """Steps parameters that lie in rows, by the gradients of its engine: one by one where each has a rate of its own, else all at once."""

    def __init__(self, rule: Optimizer, engine: LaidOut) -> None:
        super().__init__(rule)
        self._laid_out = engine

    def _zeros(self, parameters: list[Tensor]) -> list[Tensor]:
        made = [self._laid_out.moments() for _ in range(self._kinds)]
        self._moment_rows = [rows for rows, _ in made]
        self._moment_pieces = [views if self._factors else [rows.whole] for rows, views in made]
        return [view for views in zip(*(views for _, views in made), strict=True) for view in views]

    def _pieces_of_parameters(self, parameters: list[Tensor]) -> Pieces:
        return super()._pieces_of_parameters(parameters) if self._factors else self._laid_out.parameter_rows.pieces

    def _pieces_of_gradients(self, gradients: list[Tensor]) -> Pieces:
        return super()._pieces_of_gradients(gradients) if self._factors else self._laid_out.gradient_rows.pieces


class InSlots(LaidOut, Protocol):
    """An engine with slots, of which the last ones may be empty; what was recorded in them is done again in the same memory."""

    all_rows: tuple[Rows, Rows]
    """Parameters and gradients of all slots: the engine's `parameter_rows` and `gradient_rows` are the first ones of these."""


class SlotOptimizer(RowOptimizer):
    """Steps all slots of an engine, empty ones too, in memory that stays for as long as the slots do, so that `apply` can be recorded.

    What changes from step to step or with the members is copied there: learning rates, Adam's corrections, momentum, decay, bounds.
    """

    def __init__(self, rule: Optimizer, engine: InSlots) -> None:
        super().__init__(rule, engine)
        self._in_slots = engine
        self._made_for: Rows | None = None
        self._memory: dict[str, list[Tensor]] = {}
        self._token = object()

    @property
    def form(self) -> tuple[object, ...]:
        """What a recording of `apply` is true of: this optimizer's memory, and which operations it takes."""
        return self._token, self._any_decay, self._any_clip

    def apply(self, gradients: list[Tensor]) -> None:
        super().apply(self._in_slots.all_rows[1].parts)

    def _zeros(self, parameters: list[Tensor]) -> list[Tensor]:
        if self._made_for is not self._in_slots.all_rows[0]:
            self._made_for, self._memory, self._token = self._in_slots.all_rows[0], {}, object()
            return super()._zeros(parameters)
        for rows in self._moment_rows:
            rows.whole.zero_()
        return self._moments

    def _pieces_of_parameters(self, parameters: list[Tensor]) -> Pieces:
        rows, _ = self._in_slots.all_rows
        return StackedOptimizer._pieces_of_parameters(self, rows.parts) if self._factors else rows.pieces

    def _pieces_of_gradients(self, gradients: list[Tensor]) -> Pieces:
        _, rows = self._in_slots.all_rows
        return StackedOptimizer._pieces_of_gradients(self, rows.parts) if self._factors else rows.pieces

    def _settled(self, name: str, values: list[Tensor]) -> list[Tensor]:
        if name not in self._memory:
            slots = len(self._in_slots.all_rows[0].whole)
            self._memory[name] = [value.new_zeros(slots, *value.shape[1:]) for value in values]
        kept = self._memory[name]
        torch._foreach_copy_([memory[: len(value)] for memory, value in zip(kept, values, strict=True)], values)
        return kept
