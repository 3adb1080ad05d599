"""Folding batch norm: a network without it that computes the same function in evaluation mode.

Measures of weights say nothing about a network with batch norm as it stands, since the normalization undoes any scale of
the weights before it. After a convolution or linear layer that feeds it alone, it is merged into that layer's weights and bias.
Elsewhere (before the convolutions of a pre-activation ResNet) nothing linear stands before it; it becomes a `ChannelAffine`.
The path norm counts that scale; measures made from the weights layer by layer leave it out.
"""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from trainables.point.errors import ConfigError, leave_if_stopped

BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d | nn.SyncBatchNorm


class ChannelAffine(nn.Module):
    """An affine map a channel, x * weight + bias, (batch, channels, ...) to the same shape: what evaluation makes of a batch norm."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)

    def forward(self, inputs: Tensor) -> Tensor:
        shape = (1, -1, *[1] * (inputs.ndim - 2))
        return inputs * self.weight.view(shape) + self.bias.view(shape)


def fold_batch_norm(module: nn.Module) -> nn.Module:
    """A copy in evaluation mode that computes the same outputs without batch norm. All its parameters require gradients.

    Raises:
        ConfigError: the module keeps no running statistics, or its ``forward`` branches on data, so that
            `torch.fx` cannot see what feeds a batch norm.
    """
    folded = copy.deepcopy(module).eval().requires_grad_()
    norms = {name: layer for name, layer in folded.named_modules() if isinstance(layer, BatchNorm)}
    if not norms:
        return folded
    sources = _what_feeds(folded, norms)
    for name, norm in norms.items():
        if norm.running_mean is None or norm.running_var is None:
            raise ConfigError(f"the batch norm {name!r} keeps no running statistics: measures need track_running_stats=True")
        source = sources.get(name)
        if source is None:
            folded.set_submodule(name, _affine(norm))
            continue
        layer = folded.get_submodule(source)
        fused = fuse_linear_bn_eval(layer, norm) if isinstance(layer, nn.Linear) else fuse_conv_bn_eval(cast(nn.Conv2d, layer), norm)
        folded.set_submodule(source, fused.requires_grad_())
        folded.set_submodule(name, nn.Identity())
    return folded


def _what_feeds(module: nn.Module, norms: dict[str, BatchNorm]) -> dict[str, str]:
    """Find, for each batch norm that alone follows a convolution or linear layer, the name of that layer."""
    try:
        graph = fx.symbolic_trace(module).graph
    except BaseException as error:  # a traced forward may raise anything
        leave_if_stopped(error)
        raise ConfigError(f"measures cannot fold the batch norm of {type(module).__name__}: torch.fx cannot trace it ({error})") from error
    calls = [node for node in graph.nodes if node.op == "call_module"]
    times = {node.target: sum(other.target == node.target for other in calls) for node in calls}
    found: dict[str, str] = {}
    for node in calls:
        source = node.args[0] if node.args else None
        if node.target not in norms or not isinstance(source, fx.Node) or source.op != "call_module":
            continue
        layer = module.get_submodule(str(source.target))
        linear = isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Linear)
        if linear and len(source.users) == 1 and times[source.target] == times[node.target] == 1:
            found[str(node.target)] = str(source.target)
    return found


def _affine(norm: BatchNorm) -> ChannelAffine:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = torch.rsqrt(norm.running_var + norm.eps) * (1 if norm.weight is None else norm.weight)
    shift = (0 if norm.bias is None else norm.bias) - norm.running_mean * scale
    return ChannelAffine(scale.detach(), shift.detach())
