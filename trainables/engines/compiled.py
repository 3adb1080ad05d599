"""`StackedDense` on a CPU in single precision: the steps of a member as machine code, one member after another.

Batched products stream the activations of all members through the cache, once for each of some twenty operations. Here a
member takes a step, and with plain SGD many, while what it needs stays in the second-level cache. `make bench` measures both.

Bit-equality (design promise 3): members do not meet, and a step has the same bits whether it is taken alone (`gradient`, then
the optimizer) or as one of many (`descend`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainables.data.protocol import Source
from trainables.engines import kernels
from trainables.engines.base import ROWS, State, Stream
from trainables.engines.optimizers import StackedOptimizer
from trainables.engines.rows import RowOptimizer
from trainables.engines.stacked import StackedDense
from trainables.point.config import Optimizer, TrialConfig

_NO_MASKS = np.zeros((1, 0), np.float32)
_Floats = np.ndarray[Any, np.dtype[np.float32]]


class CompiledDense(StackedDense):
    """Fully connected members, one after another through machine code (see `trainables.engines.Engine`)."""

    name = "compiled"

    def losses(self, inputs: Source, index: Tensor, labels: Tensor, members: list[int]) -> tuple[Tensor, Tensor]:
        if inputs.shared is not None and not self._features:
            return self._losses(inputs.shared, index, labels, members)
        parts = []
        for batch_index, batch_labels in zip(torch.split(index, ROWS, 1), torch.split(labels, ROWS, 1), strict=True):
            batch = inputs.gather(batch_index)
            if self._features:
                batch = batch.expand(len(members), -1, -1)
                batch = self._featured(batch, None, members, self._workspace_for(batch))
            rows = torch.arange(batch.shape[0] * batch.shape[1]).reshape(batch.shape[:2])
            parts.append(self._losses(batch.flatten(0, 1), rows, batch_labels, members))
        losses, misclassified = zip(*parts, strict=True)
        return torch.cat(losses, 1), torch.cat(misclassified, 1)

    def _losses(self, pixels: Tensor, index: Tensor, labels: Tensor, members: list[int]) -> tuple[Tensor, Tensor]:
        workspace = self._member_workspace(ROWS)
        losses, misclassified = torch.empty(labels.shape), torch.empty(labels.shape, dtype=torch.bool)
        kernels.losses(
            self.parameter_rows.whole.numpy(), np.array(members), *self._shapes, pixels.numpy(), index.contiguous().numpy(),
            labels.contiguous().numpy(), ROWS, self._loss == "squared", workspace.hidden, workspace.logits, workspace.scratch,
            workspace.batch, losses.numpy(), misclassified.numpy(),
        )  # fmt: skip
        return losses, misclassified

    def gradient(self, inputs: Tensor, targets: Tensor, streams: list[Stream]) -> None:
        masks = self._dropout_masks(inputs, streams) if self._drops else []
        if self._features:
            inputs = self._featured(inputs, masks or None, None, self._workspace_for(inputs))
            masks = masks[len(self._features) :]
        workspace = self._member_workspace(inputs.shape[1])
        joined = torch.cat([mask.flatten(1) for mask in masks], 1).numpy() if masks else _NO_MASKS
        pixels, members = inputs.contiguous().flatten(0, 1), len(inputs)
        gradients, unused, none = self.gradient_rows.whole.numpy(), np.zeros(members, np.float32), np.zeros((members, 0), np.int64)
        rule = unused[:, None], unused, unused[:, None], self.ends, False
        kernels.steps(
            self.parameter_rows.whole.numpy(), gradients, gradients, *rule, *self._shapes, pixels.numpy(),
            none, none, inputs.shape[1], unused, joined, bool(masks), False,
            self._loss == "squared", *workspace.own, targets.contiguous().numpy().reshape(-1),
        )  # fmt: skip

    def optimizer(self, rule: Optimizer) -> StackedOptimizer:
        return CompiledSgd(rule, self) if rule.name == "sgd" else RowOptimizer(rule, self)

    def descend(
        self, optimizer: StackedOptimizer, inputs: Source, index: Tensor, labels: Tensor, size: int, smoothing: Tensor | None
    ) -> bool:
        pixels = inputs.shared
        if self._drops or self._features or pixels is None or not isinstance(optimizer, CompiledSgd) or optimizer.clips:
            return False
        size = min(size, index.shape[1])
        workspace = self._member_workspace(size)
        smoothed = torch.zeros(len(index)) if smoothing is None else smoothing
        kernels.steps(
            self.parameter_rows.whole.numpy(), self.gradient_rows.whole.numpy(), *optimizer.state_of_all, *self._shapes, pixels.numpy(),
            index.contiguous().numpy(), labels.contiguous().numpy(), size, smoothed.numpy(), _NO_MASKS, False, True,
            self._loss == "squared", *workspace.own, workspace.targets,
        )  # fmt: skip
        return True

    def _lay_out(self) -> State:
        gradients = super()._lay_out()
        begins = dict(zip(self._trainable, self.layout.begins, strict=True))
        self.ends = np.array(self.layout.ends)
        *inner, last = [self._stacked[f"{name}.weight"] for name, _ in self._linear]
        sizes = [inner[0].shape[1] if inner else last.shape[2], *(weight.shape[2] for weight in inner), last.shape[1]]
        self._shapes = (
            np.array(sizes),
            np.array([begins[f"{name}.weight"] for name, _ in self._linear]),
            np.array([begins.get(f"{name}.bias", -1) for name, _ in self._linear]),
        )
        self._member_workspaces: dict[int, _MemberWorkspace] = {}
        return gradients

    def _member_workspace(self, batch: int) -> _MemberWorkspace:
        if batch not in self._member_workspaces:
            self._member_workspaces[batch] = _MemberWorkspace(batch, self._shapes[0].tolist())
        return self._member_workspaces[batch]


class CompiledSgd(StackedOptimizer):
    """SGD whose moments stand like the engine's parameters, in rows of (K, P)."""

    def __init__(self, rule: Optimizer, engine: CompiledDense) -> None:
        super().__init__(rule)
        self._engine = engine

    @property
    def clips(self) -> bool:
        """Whether some member's gradient is clipped."""
        return self._any_clip

    @property
    def state_of_all(self) -> tuple[_Floats, _Floats, _Floats, _Floats, np.ndarray[Any, np.dtype[np.int64]], bool]:
        """Arguments of the kernels: moments, rates, momenta, weight decays, where each parameter ends, whether Nesterov's rule holds."""
        return self._rows.whole.numpy(), self._each_rate, self._each_momentum, self._each_decay, self._engine.ends, self._rule.nesterov

    def set_rates(self, rates: Tensor) -> None:
        super().set_rates(rates)
        self._each_rate = self._as_in_memory(self._rates)

    def refill(
        self, keep: list[int], points: list[TrialConfig], parameters: list[Tensor], moments: list[list[Tensor] | None], steps: list[int]
    ) -> None:
        super().refill(keep, points, parameters, moments, steps)
        self._each_momentum = self._momenta[0].reshape(-1).numpy()
        self._each_decay = self._as_in_memory(self._decays)

    def _as_in_memory(self, columns: list[Tensor]) -> _Floats:
        """A number a member and parameter, (K, parameters), of what is there for each parameter."""
        return torch.stack([columns[index].reshape(-1) for index in self._engine.layout.order], 1).numpy()

    def _zeros(self, parameters: list[Tensor]) -> list[Tensor]:
        self._rows, views = self._engine.moments()
        return views

    def _decay(self, gradients: list[Tensor]) -> None:
        """Do nothing: the step includes the weight decay."""

    def _sgd(self, gradients: list[Tensor]) -> None:
        kernels.descent(self._engine.parameter_rows.whole.numpy(), self._engine.gradient_rows.whole.numpy(), *self.state_of_all)


class _MemberWorkspace:
    """Workspace of one member's step on a batch."""

    def __init__(self, batch: int, sizes: list[int]) -> None:
        inputs, *hidden, classes = sizes
        self.hidden = _floats(batch * sum(hidden))
        self.logits = _floats(classes * batch)
        self.scratch = _floats(5 * batch)
        self.batch = _floats(batch * inputs)
        self.targets = _floats(classes * batch)
        self.own = self.hidden, _floats(2, batch * max(hidden, default=0)), self.logits, self.scratch, self.batch


def _floats(*shape: int) -> _Floats:
    return torch.empty(shape).numpy()  # begins a cache line
