"""What the steps of an epoch take besides samples, on the device before the first of them: the order of samples, and the warm-up."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from trainables.engines.optimizers import warmed_up
from trainables.gpu_memory import uploaded
from trainables.point import device_streams
from trainables.point.streams import generator
from trainables.training.members import Member


def batch_orders(members: Sequence[Member], samples: int, device: torch.device) -> Tensor:
    """The order in which each member trains on its samples in its next epoch, (K, samples) int64: from its own stream `batches`."""
    if device.type == "cuda":
        keys = device_streams.keys([(member.point.seed, "batches", member.epoch) for member in members], device)
        return device_streams.permutations(keys, 0, samples)
    shuffles = [generator(member.point.seed, "batches", member.epoch) for member in members]
    return torch.stack([torch.randperm(samples, generator=shuffle) for shuffle in shuffles]).to(device)


def warm_up(members: Sequence[Member], steps: int, device: torch.device) -> Tensor | None:
    """The share of its learning rate that each member has in each of the next steps, (steps, K) float32; None if it is all for everyone."""
    if all(warmed_up(member.point, member.steps) >= 1 for member in members):
        return None
    shares = [[warmed_up(member.point, member.steps + step) for member in members] for step in range(steps)]
    return uploaded(shares, torch.float32, device)


def in_order(labels: Tensor, orders: Tensor) -> Tensor:
    """The labels (K, n), or targets (K, n, T), of the samples that `orders` (K, m) counts."""
    return labels.gather(1, orders[:, :, None].expand(-1, -1, labels.shape[2]) if labels.ndim == 3 else orders)
