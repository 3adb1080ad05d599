"""Several processes train the same members together, each on its own device: `torch.distributed` joins their gradients.

Every process takes each k-th sample of a batch, of an evaluation likewise. Their number does not change the gradient but for the order of
sums. Where it does: batch norm sees one process's part of a batch on CPUs (on GPUs it is PyTorch's SyncBatchNorm), and each process draws
its own dropout, crops and flips, and mixes samples of its own part.

All processes must take the same decisions, for each waits for the others: what one of them measures is agreed upon here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as distributed
from torch import Tensor, nn

from trainables.engines import Engine, StackedOptimizer, Stream

_T = TypeVar("_T")


@dataclass(frozen=True)
class Processes:
    """This process among those that train together. With more than one, `torch.distributed` must be initialized.

    Attributes:
        rank: of this process, from 0.
        count: of all.
    """

    rank: int = 0
    count: int = 1

    @property
    def alone(self) -> bool:
        return self.count == 1

    def own(self, samples: Tensor) -> Tensor:
        """The columns of (K, n) that this process evaluates."""
        return samples if self.alone else samples[:, self.rank :: self.count]

    def joined(self, values: Tensor, total: int) -> Tensor:
        """The values (K, total) of all processes, of which this one has those of its `own` columns."""
        if self.alone:
            return values
        whole = torch.zeros(len(values), total, dtype=torch.float32, device=values.device)
        whole[:, self.rank :: self.count] = values.float()
        distributed.all_reduce(whole)
        return whole.to(values.dtype)

    def own_batches(self, order: Tensor, size: int) -> tuple[Tensor, int, list[float]]:
        """This process's part of the samples (K, n) that all train on, `size` a batch.

        A process without a sample of a short batch borrows one, and counts it as nothing: all must take part in each step.

        Returns:
            Its samples (K, m), how many are a batch of its own, and the share of each step's batch that they are.
        """
        if self.alone:
            return order, size, [1.0] * -(-order.shape[1] // size)
        batches = torch.split(order, size, 1)
        parts = [batch[:, self.rank :: self.count] for batch in batches]
        shares = [part.shape[1] / batch.shape[1] for part, batch in zip(parts, batches, strict=True)]
        filled = [part if part.shape[1] else batch[:, :1] for part, batch in zip(parts, batches, strict=True)]
        return torch.cat(filled, 1), max(1, -(-(size - self.rank) // self.count)), shares

    def step(self, engine: Engine, optimizer: StackedOptimizer, batch: tuple[Tensor, Tensor], streams: list[Stream], share: float) -> None:
        """Take an engine's step on inputs and targets, this process's part of a batch and a share of it, by the gradients of the whole."""
        if self.alone:
            engine.step(optimizer, *batch, streams)
            return
        engine.gradient(*batch, streams)
        self._average(engine.gradients, share)
        optimizer.step(engine.gradients)

    def _average(self, gradients: Sequence[Tensor], share: float) -> None:
        whole = torch.cat([gradient.flatten() for gradient in gradients]).mul_(share)
        distributed.all_reduce(whole)
        for gradient, part in zip(gradients, torch.split(whole, [gradient.numel() for gradient in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def synchronized(self, module: nn.Module, device: torch.device) -> nn.Module:
        """The module, on GPUs with batch norm over all processes."""
        if self.alone or device.type != "cuda":
            return module
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(module)
        return converted

    def share_buffers(self, modules: Iterable[nn.Module]) -> None:
        """Give all processes the first one's running statistics, so that all evaluate one network."""
        if not self.alone:
            for module in modules:
                for buffer in module.buffers():
                    distributed.broadcast(buffer, 0)

    def agreed(self, decide: Callable[[], _T]) -> _T:
        """What the first process decides; it alone is asked."""
        if self.alone:
            return decide()
        decision: list[_T | None] = [decide() if self.rank == 0 else None]
        distributed.broadcast_object_list(decision, 0)
        return decision[0]  # type: ignore[return-value]  # the first process has filled it

    def slowest(self, seconds: float, device: torch.device) -> float:
        """The longest time that a process took."""
        if self.alone:
            return seconds
        longest = torch.tensor(seconds, dtype=torch.float64, device=device)
        distributed.all_reduce(longest, distributed.ReduceOp.MAX)
        return longest.item()


ALONE = Processes()
"""A process that trains by itself."""
