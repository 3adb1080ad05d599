"""Fully connected members stacked in batched products, with a hand-written backward pass.

Why by hand: a step is some twenty operations on small tensors, and the layouts decide. Logits are kept as (K, classes, B), so
that softmax runs along the batch (27 times faster on a CPU than over a last axis of 10), and their gradient meets both
products of the last layer in the order that measures fastest (`make bench` compares them). Buffers are reused.

Bit-equality (design promise 3): batched products give each member the bits that it gets alone, on one thread, except
that a batch of one with a side of length one takes another kernel; `_product` avoids that case.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trainables.engines import State, Stream
from trainables.models.random_features import FourierFeatures
from trainables.streams import generator

_CACHE_BYTES = 4 * 2**20
"""Working set of a stack on a CPU: about twice a core's second-level cache. Measured by tests/benchmarks/bench_engine.py."""
_GPU_SHARE = 0.2
"""Share of a GPU's memory that a stack may take."""
_MOST_MEMBERS = 64


def layers_of(module: nn.Module) -> list[tuple[str, nn.Module]] | None:
    """The named linear (and leading fixed-feature) layers of a stackable module; None if it is not stackable.

    Only these very classes, all trained: a subclass, a parametrization or a frozen layer computes something else.
    """
    if type(module) is not nn.Sequential or not all(parameter.requires_grad for parameter in module.parameters()):
        return None
    named = list(module.named_children())
    if not named or type(named[0][1]) is not nn.Flatten or type(named[-1][1]) is not nn.Linear:
        return None
    found: list[tuple[str, nn.Module]] = []
    expected: tuple[type, ...] = (nn.Linear, FourierFeatures)
    for name, layer in named[1:]:
        if isinstance(layer, nn.Dropout) and found and expected == (nn.Linear,):
            continue
        if type(layer) not in expected:
            return None
        if isinstance(layer, FourierFeatures):
            found.append((name, layer))
            expected = (nn.Linear,)
        elif isinstance(layer, nn.Linear):
            found.append((name, layer))
            expected = (nn.ReLU,)
        else:
            expected = (nn.Linear,)
    return found


def _rates_of(module: nn.Module) -> list[float]:
    """The dropout rate of each hidden layer of a stackable module: that of the dropout layers after it, 0 without."""
    rates: list[float] = []
    for layer in list(module.children())[1:-1]:
        if isinstance(layer, nn.Linear | FourierFeatures):
            rates.append(0.0)
        elif isinstance(layer, nn.Dropout):
            rates[-1] = layer.p
    return rates


def stack_size(module: nn.Module, batch_size: int, inputs: int, device: torch.device) -> int:
    """Members whose batch, activations, parameters, gradients and momentum fit the cache (CPU) or memory (GPU) together."""
    layers = [layer for _, layer in layers_of(module) or []]
    sizes = [layer.out_features for layer in layers if isinstance(layer, nn.Linear)]
    sizes += [len(layer.phases) for layer in layers if isinstance(layer, FourierFeatures)]
    parameters = sum(tensor.numel() for tensor in module.state_dict().values())
    each = 4 * (batch_size * (inputs + 2 * sum(sizes)) + 3 * parameters)
    room = _CACHE_BYTES if device.type == "cpu" else _GPU_SHARE * torch.cuda.get_device_properties(device).total_memory
    return max(1, min(_MOST_MEMBERS if device.type == "cpu" else 16 * _MOST_MEMBERS, int(room / each)))


class StackedDense:
    """See `trainables.engines.Engine`."""

    def __init__(self, template: nn.Module, loss: str, precision: str) -> None:
        layers = layers_of(template)
        assert layers is not None
        self._linear = [(name, layer.bias is not None) for name, layer in layers if isinstance(layer, nn.Linear)]
        self._features = [(name, layer.amplitude) for name, layer in layers if isinstance(layer, FourierFeatures)]
        self._trainable = [f"{name}.{part}" for name, biased in self._linear for part in (("weight", "bias") if biased else ("weight",))]
        self._stacked: State = {}
        self._rates: list[list[float]] = []
        self._loss = loss
        self._type = torch.bfloat16 if precision == "bfloat16" else torch.float32

    def seat(self, keep: list[int], modules: list[nn.Module]) -> None:
        kept = {name: tensor[keep] for name, tensor in self._stacked.items()} if keep else {}
        states = [module.state_dict() for module in modules]
        fixed = [f"{name}.{part}" for name, _ in self._features for part in ("frequencies", "phases")]
        for name in [*self._trainable, *fixed]:
            joined = [kept[name]] if keep else []
            joined += [torch.stack([state[name] for state in states])] if states else []
            self._stacked[name] = torch.cat(joined)
        self.parameters = [self._stacked[name] for name in self._trainable]
        self.gradients = [torch.empty_like(parameter) for parameter in self.parameters]
        gradients = dict(zip(self._trainable, self.gradients, strict=True))
        self._weights = [self._stacked[f"{name}.weight"] for name, _ in self._linear]
        self._biases = [self._stacked.get(f"{name}.bias") for name, _ in self._linear]
        self._weight_gradients = [gradients[f"{name}.weight"] for name, _ in self._linear]
        self._bias_gradients = [gradients.get(f"{name}.bias") for name, _ in self._linear]
        self._rates = [self._rates[place] for place in keep] + [_rates_of(module) for module in modules]
        self._buffers: dict[tuple[str, tuple[int, ...]], Tensor] = {}

    def logits(self, inputs: Tensor, members: list[int]) -> Tensor:
        return self._forward(inputs, None, members)[-1]

    def gradient(self, inputs: Tensor, targets: Tensor, streams: list[Stream]) -> None:
        masks = self._dropout_masks(inputs, streams)
        *activations, logits = self._forward(inputs, masks, list(range(len(inputs))))
        outer = logits if self._loss == "squared" else torch.softmax(logits, 1)
        outer = outer.sub_(targets).mul_(1 / inputs.shape[1])
        self._product(outer, activations[-1], self._weight_gradients[-1])
        last_bias = self._bias_gradients[-1]
        if last_bias is not None:
            torch.sum(outer, 2, out=last_bias)
        outer = outer.transpose(1, 2)
        for layer in range(len(self._weights) - 1, 0, -1):
            hidden = activations[layer]
            inner = self._product(outer, self._weights[layer], self._buffer(f"gradient {layer}", hidden.shape))
            if masks is not None:
                inner.mul_(masks[layer - 1])
            torch.ops.aten.threshold_backward.grad_input(inner, hidden, 0, grad_input=inner)
            self._product(inner.transpose(1, 2), activations[layer - 1], self._weight_gradients[layer - 1])
            bias_gradient = self._bias_gradients[layer - 1]
            if bias_gradient is not None:
                torch.sum(inner, 1, out=bias_gradient)
            outer = inner

    def state(self, member: int) -> State:
        return {name: tensor[member].clone() for name, tensor in self._stacked.items()}

    def _forward(self, inputs: Tensor, masks: list[Tensor] | None, members: list[int]) -> list[Tensor]:
        """Inputs of each linear layer, (K, B, size), then the logits, (K, classes, B), of those members."""
        count, batch = inputs.shape[:2]
        everyone = count == len(self._weights[0])

        def of_members(stacked: Tensor) -> Tensor:
            return stacked if everyone else stacked[members]

        for name, amplitude in self._features:
            frequencies, phases = (of_members(self._stacked[f"{name}.{part}"]) for part in ("frequencies", "phases"))
            features = self._buffer("features", (count, batch, frequencies.shape[1]))
            inputs = self._product(inputs, frequencies.transpose(1, 2), features).add_(phases[:, None, :]).cos_().mul_(amplitude)
            if masks is not None:
                inputs = inputs.mul_(masks[0])
        passed = [inputs]
        for layer, (weight, bias) in enumerate(zip(self._weights[:-1], self._biases[:-1], strict=True)):
            hidden = self._buffer(f"hidden {layer}", (count, batch, weight.shape[1]))
            self._product(passed[-1], of_members(weight).transpose(1, 2), hidden)
            if bias is not None:
                hidden.add_(of_members(bias)[:, None, :])
            hidden.clamp_min_(0)
            if masks is not None:
                hidden.mul_(masks[layer])
            passed.append(hidden)
        weight, bias = of_members(self._weights[-1]), self._biases[-1]
        logits = self._product(weight, passed[-1].transpose(1, 2), self._buffer("logits", (count, weight.shape[1], batch)))
        return [*passed, logits if bias is None else logits.add_(of_members(bias)[:, :, None])]

    def _product(self, left: Tensor, right: Tensor, out: Tensor) -> Tensor:
        """Batched ``left @ right`` into `out`, the same bits for a member alone as in any stack."""
        if self._type != torch.float32:
            return out.copy_(torch.bmm(left.to(self._type), right.to(self._type)))
        if len(left) == 1 and 1 in (left.shape[1], left.shape[2], right.shape[2]):
            return out.copy_(torch.bmm(_twice(left), _twice(right))[:1])
        return torch.bmm(left, right, out=out)

    def _dropout_masks(self, inputs: Tensor, streams: list[Stream]) -> list[Tensor] | None:
        """For each hidden layer 0 or 1/(1 - rate), (K, B, size); None when no member drops."""
        if not any(map(any, self._rates)):
            return None
        sizes = [weight.shape[2] for weight in (self._weights if self._features else self._weights[1:])]
        masks = [torch.ones(*inputs.shape[:2], size) for size in sizes]
        for member, (rates, stream) in enumerate(zip(self._rates, streams, strict=True)):
            draw = generator(*stream)
            for rate, mask in zip(rates, masks, strict=True):
                if rate:
                    mask[member] = torch.rand(mask.shape[1:], generator=draw).ge_(rate).mul_(1 / (1 - rate))
        return [mask.to(inputs.device) for mask in masks]

    def _buffer(self, name: str, shape: tuple[int, ...] | torch.Size) -> Tensor:
        """Working memory, kept for the next step: fresh pages cost as much as the arithmetic on small tensors."""
        key = (name, tuple(shape))
        if key not in self._buffers:
            self._buffers[key] = torch.empty(shape, device=self.parameters[0].device)
        return self._buffers[key]


def _twice(one: Tensor) -> Tensor:
    """(1, rows, columns) to (2, rows, columns) with the same strides inside, for they choose the kernel."""
    return torch.empty_strided((2, *one.shape[1:]), (one[0].numel(), *one.stride()[1:]), dtype=one.dtype, device=one.device).copy_(one)
