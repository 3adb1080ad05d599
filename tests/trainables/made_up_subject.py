"""Small trained networks for the tests of measures."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn

from trainables.measures import Subject


def trained(module: nn.Module, shape: tuple[int, ...], classes: int = 3, samples: int = 60, steps: int = 60) -> Subject:
    """The module after some steps of Adam on Gaussian inputs with labels that a linear map gives."""
    torch.manual_seed(1)
    inputs = torch.randn(samples, *shape)
    labels = (inputs.flatten(1) @ torch.randn(inputs[0].numel(), classes)).argmax(1)
    initial = copy.deepcopy(module)
    optimizer = torch.optim.Adam((parameter for parameter in module.parameters() if parameter.requires_grad), 1e-2)
    module.train()
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(inputs), labels).backward()
        optimizer.step()
    curve = [{"epoch": epoch, "train_loss": math.exp(1 - epoch), "train_error": 0.0} for epoch in range(1, 8)]
    right = [torch.arange(samples) % 3 < epoch for epoch in (1, 3, 2)]
    return Subject(module, initial, inputs, labels, classes, seed=3, curve=curve, after_first_epoch=lambda: initial, right=right)


def dense(*, bias: bool = True, batch_norm: bool = False) -> nn.Sequential:
    """12 inputs, 7 ReLU units, 3 outputs."""
    torch.manual_seed(0)
    norms = [nn.BatchNorm1d(7)] if batch_norm else []
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 7, bias=bias), *norms, nn.ReLU(), nn.Linear(7, 3, bias=bias))


def linear(weight: torch.Tensor, inputs: torch.Tensor, labels: torch.Tensor, seed: int = 0) -> Subject:
    """Outputs ``weight @ input``, whatever the inputs' shape; at initialization the weight was 0."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(weight.shape[1], weight.shape[0], bias=False))
    initial = copy.deepcopy(module)
    with torch.no_grad():
        module[1].weight.copy_(weight)
        initial[1].weight.zero_()
    return Subject(module, initial, inputs, labels, len(weight), seed)
