"""Fully connected members stacked in batched products, with a hand-written backward pass.

Why by hand: a step is some twenty operations on small tensors, and the layouts decide. Logits are kept as (K, classes, B), so
that softmax runs along the batch (27 times faster on a CPU than over a last axis of 10), and the logit gradients enter both
products of the last layer in the order that measures fastest. Weights of all layers but the last are kept transposed,
(K, in, out), which makes both products of a layer faster (8 % of a step). Buffers are reused (`make bench` measures it).

Bit-equality (design promise 3): batched products give each member the bits that it gets alone, on one thread, except
that a batch of one with a side of length one takes another kernel; `_product` avoids that case.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from trainables.compat import through_rectifier
from trainables.data.protocol import Source
from trainables.engines.base import Engine, State, Stream, losses_and_errors
from trainables.engines.optimizers import StackedOptimizer
from trainables.engines.rows import Layout, RowOptimizer, Rows
from trainables.gpu_memory import granted_bytes, uploaded
from trainables.models.chains import activation_of, layers_of
from trainables.models.fourier import FourierFeatures
from trainables.point import device_streams
from trainables.point.config import Optimizer
from trainables.point.streams import generator

_CACHE_BYTES = 3 * 2**20
"""Working set of a stack on a CPU: about one and a half times a core's second-level cache. Measured by tests/benchmarks/bench_engine.py."""
_GPU_SHARE = 0.2
"""Share of a process' memory on a GPU that a stack may take: images, evaluation and the allocator's slack take the rest."""
_MOST_MEMBERS = 64
"""Members of a stack on a CPU at most; a GPU takes 16 times as many."""


def _rates_of(module: nn.Module) -> list[float]:
    """Dropout rate of each hidden layer of a stackable module: the rate of the dropout layer after it, 0 where there is none."""
    rates: list[float] = []
    for layer in list(module.children())[1:-1]:
        if isinstance(layer, nn.Linear | FourierFeatures):
            rates.append(0.0)
        elif isinstance(layer, nn.Dropout):
            rates[-1] = layer.p
    return rates


def stack_size(module: nn.Module, batch_size: int, inputs: int, device: torch.device) -> int:
    """Number of members whose batch, activations, parameters, gradients and momentum together fit the cache (CPU) or memory (GPU)."""
    layers = [layer for _, layer in layers_of(module) or []]
    sizes = [layer.out_features for layer in layers if isinstance(layer, nn.Linear)]
    sizes += [len(layer.phases) for layer in layers if isinstance(layer, FourierFeatures)]
    parameters = sum(tensor.numel() for tensor in module.state_dict().values())
    bytes_each = 4 * (batch_size * (inputs + 2 * sum(sizes)) + 3 * parameters)
    available = _CACHE_BYTES if device.type == "cpu" else stacks_in_memory(device)
    return max(1, min(_MOST_MEMBERS if device.type == "cpu" else 16 * _MOST_MEMBERS, int(available / bytes_each)))


def stacks_in_memory(device: torch.device) -> float:
    """Bytes of a GPU that the members in the slots may take."""
    return _GPU_SHARE * granted_bytes(device)


class StackedDense(Engine):
    """Fully connected members in batched products (see `trainables.engines.Engine`)."""

    name = "stacked"

    def __init__(self, template: nn.Module, loss: str, precision: str) -> None:
        layers = layers_of(template)
        assert layers is not None
        self._linear = [(name, layer.bias is not None) for name, layer in layers if isinstance(layer, nn.Linear)]
        self._features = [(name, layer.amplitude) for name, layer in layers if isinstance(layer, FourierFeatures)]
        self._trainable = [f"{name}.{part}" for name, biased in self._linear for part in (("weight", "bias") if biased else ("weight",))]
        self._stacked: State = {}
        self._rates: list[list[float]] = []
        self._activation = activation_of(template)
        self._function = self._activation.layer() if self._activation else None
        self._loss = loss
        self._type = torch.bfloat16 if precision == "bfloat16" else torch.float32
        self._device = next(template.parameters()).device
        self._asked: tuple[list[int], Tensor] | None = None
        self._streams = device_streams.Keys()

    def refill(self, keep: list[int], modules: list[nn.Module]) -> None:
        kept = {name: tensor.index_select(0, self._index(keep)) for name, tensor in self._stacked.items()} if keep else {}
        states = [module.state_dict() for module in modules]
        fixed = [f"{name}.{part}" for name, _ in self._features for part in ("frequencies", "phases")]
        for name in [*self._trainable, *fixed]:
            joined = [kept[name]] if keep else []
            joined += [self._transposed(name, torch.stack([state[name] for state in states]))] if states else []
            self._stacked[name] = torch.cat(joined).contiguous()
        gradients = self._lay_out()
        self.parameters = [self._transposed(name, self._stacked[name]) for name in self._trainable]
        self.gradients = [self._transposed(name, gradients[name]) for name in self._trainable]
        self._weights = [self._stacked[f"{name}.weight"] for name, _ in self._linear]
        self._transposed_weights = [weight.transpose(1, 2) for weight in self._weights]
        *inner, last = [self._stacked.get(f"{name}.bias") for name, _ in self._linear]
        self._row_biases = [bias if bias is None else bias[:, None, :] for bias in inner]
        self._row_biases.append(last if last is None else last[:, :, None])
        self._weight_gradients = [gradients[f"{name}.weight"] for name, _ in self._linear]
        self._bias_gradients = [gradients.get(f"{name}.bias") for name, _ in self._linear]
        self._rates = [self._rates[member] for member in keep] + [_rates_of(module) for module in modules]
        self._drops = any(map(any, self._rates))
        self._unit_rates: tuple[Tensor, Tensor] | None = None  # dropout of each hidden unit, and what is left is multiplied by
        self._workspaces: dict[tuple[int, int], _Workspace] = {}

    def _lay_out(self) -> State:
        """Settle where the stacked parameters lie, and return memory for their gradients."""
        stacked = [self._stacked[name] for name in self._trainable]
        self.layout = Layout([tensor.shape[1:] for tensor in stacked])
        self.parameter_rows, self.gradient_rows = (self.layout.rows(len(stacked[0]), stacked[0].device) for _ in range(2))
        for name, part, tensor in zip(self._trainable, self.parameter_rows.parts, stacked, strict=True):
            self._stacked[name] = part.copy_(tensor)
        return dict(zip(self._trainable, self.gradient_rows.parts, strict=True))

    def moments(self) -> tuple[Rows, list[Tensor]]:
        """See `trainables.engines.rows.LaidOut`."""
        rows = self.layout.rows(len(self.parameter_rows.whole), self.parameter_rows.whole.device)
        return rows, [self._transposed(name, part) for name, part in zip(self._trainable, rows.parts, strict=True)]

    def optimizer(self, rule: Optimizer) -> StackedOptimizer:
        return RowOptimizer(rule, self)

    def logits(self, inputs: Tensor, members: list[int]) -> Tensor:
        everyone = len(members) == len(self._weights[0])
        return self._forward(inputs, None, None if everyone else members, self._workspace_for(inputs))[1]

    def losses(self, inputs: Source, index: Tensor, labels: Tensor, members: list[int]) -> tuple[Tensor, Tensor]:
        return losses_and_errors(self.logits, (inputs, index, labels), members, self._loss, self.rows)

    def gradient(self, inputs: Tensor, targets: Tensor, streams: list[Stream]) -> None:
        masks = self._dropout_masks(inputs, streams) if self._drops else None
        workspace = self._workspace_for(inputs)
        activations, gradient = self._forward(inputs, masks, None, workspace)
        if self._loss == "cross_entropy":
            torch.softmax(gradient, 1, out=gradient)
        gradient.sub_(targets).mul_(1 / inputs.shape[1])  # of the logits from here on
        self._product(gradient, activations[-1], self._weight_gradients[-1])
        bias_gradient = self._bias_gradients[-1]
        if bias_gradient is not None:
            torch.sum(gradient, 2, out=bias_gradient)
        gradient, weight = workspace.transposed_logits, self._weights[-1]
        for layer in range(len(self._weights) - 2, -1, -1):
            gradient = self._product(gradient, weight, workspace.hidden_gradients[layer])
            if masks is not None:
                gradient.mul_(masks[layer])
            if self._activation is None:
                through_rectifier(gradient, workspace.hidden[layer])
            else:
                gradient.mul_(_apart(self._activation.derivative, workspace.before[layer]))
            self._product(activations[layer].transpose(1, 2), gradient, self._weight_gradients[layer])
            bias_gradient = self._bias_gradients[layer]
            if bias_gradient is not None:
                torch.sum(gradient, 1, out=bias_gradient)
            weight = self._transposed_weights[layer]

    def state(self, member: int) -> State:
        return {
            name: self._transposed(name, tensor)[member].clone(memory_format=torch.contiguous_format)
            for name, tensor in self._stacked.items()
        }

    def _transposed(self, name: str, stacked: Tensor) -> Tensor:
        """Convert from the modules' layout to the engine's or back: a view in which all layers' weights but the last's are transposed."""
        hidden_weights = [f"{layer}.weight" for layer, _ in self._linear[:-1]]
        return stacked.transpose(1, 2) if name in hidden_weights else stacked

    def _forward(
        self, inputs: Tensor, masks: list[Tensor] | None, members: list[int] | None, workspace: _Workspace
    ) -> tuple[list[Tensor], Tensor]:
        """Compute the inputs of each linear layer, (K, B, size), and the logits, (K, classes, B), of some members or of all (None)."""

        chosen = None if members is None else self._index(members)

        def of_members(stacked: Tensor) -> Tensor:
            return stacked if chosen is None else stacked.index_select(0, chosen)

        passed = [self._featured(inputs, masks, members, workspace)]
        for layer, hidden in enumerate(workspace.hidden):
            self._product(passed[-1], of_members(self._weights[layer]), hidden)
            bias = self._row_biases[layer]
            if bias is not None:
                hidden.add_(of_members(bias))
            if self._function is None:
                hidden.clamp_min_(0)
            else:
                hidden.copy_(_apart(self._function, workspace.before[layer].copy_(hidden)))
            if masks is not None:
                hidden.mul_(masks[layer])
            passed.append(hidden)
        last = passed[-1].transpose(1, 2) if not workspace.hidden else workspace.transposed_hidden
        logits = self._product(of_members(self._weights[-1]), last, workspace.logits)
        bias = self._row_biases[-1]
        return passed, logits if bias is None else logits.add_(of_members(bias))

    def _featured(self, inputs: Tensor, masks: list[Tensor] | None, members: list[int] | None, workspace: _Workspace) -> Tensor:
        """Return the inputs of the first linear layer: the members' inputs, or fixed features of them."""
        for name, amplitude in self._features:
            stacked = (self._stacked[f"{name}.{part}"] for part in ("frequencies", "phases"))
            frequencies, phases = stacked if members is None else (part.index_select(0, self._index(members)) for part in stacked)
            features = self._product(inputs, frequencies.transpose(1, 2), workspace.features)
            inputs = features.add_(phases[:, None, :]).cos_().mul_(amplitude)
            if masks is not None:
                inputs = inputs.mul_(masks[0])
        return inputs

    def _product(self, left: Tensor, right: Tensor, out: Tensor) -> Tensor:
        """Write the batched product ``left @ right`` into `out`: a member's bits are the same alone as in any stack."""
        if self._type != torch.float32:
            return out.copy_(torch.bmm(left.to(self._type), right.to(self._type)))
        if len(left) == 1 and 1 in (left.shape[1], left.shape[2], right.shape[2]):
            return out.copy_(torch.bmm(_twice(left), _twice(right))[:1])
        return torch.bmm(left, right, out=out)

    def _dropout_masks(self, inputs: Tensor, streams: list[Stream]) -> list[Tensor]:
        """Draw the dropout masks of each hidden layer: 0 or 1/(1 - rate), (K, B, size)."""
        sizes = [frequencies.shape[1] for frequencies in (self._stacked[f"{name}.frequencies"] for name, _ in self._features)]
        sizes += [weight.shape[2] for weight in self._weights[:-1]]
        if inputs.is_cuda:
            return self._masks_on_device(inputs, streams, sizes)
        masks = [torch.ones(*inputs.shape[:2], size) for size in sizes]
        for member, (rates, stream) in enumerate(zip(self._rates, streams, strict=True)):
            draw = generator(*stream)
            for rate, mask in zip(rates, masks, strict=True):
                if rate:
                    mask[member] = torch.rand(mask.shape[1:], generator=draw).ge_(rate).mul_(1 / (1 - rate))
        return masks

    def _masks_on_device(self, inputs: Tensor, streams: list[Stream], sizes: list[int]) -> list[Tensor]:
        """The same from draws on a GPU: all units of a member in one go, those of the first layer before the others."""
        if self._unit_rates is None:
            units = [[rate for rate, size in zip(rates, sizes, strict=True) for _ in range(size)] for rates in self._rates]
            rates = uploaded(units, torch.float32, inputs.device)[:, None]
            self._unit_rates = rates, 1 / (1 - rates)
        keys, step = self._streams.of(streams, inputs.device)
        rates, scales = self._unit_rates
        return list(device_streams.uniform(keys, step, inputs.shape[1], sum(sizes)).ge_(rates).mul_(scales).split(sizes, 2))

    def _index(self, members: list[int]) -> Tensor:
        """The members as a tensor on the device, uploaded once for as long as these are the ones asked for."""
        if self._asked is None or self._asked[0] != members:
            self._asked = list(members), uploaded(members, torch.int64, self._device)
        return self._asked[1]

    def _workspace_for(self, inputs: Tensor) -> _Workspace:
        shape = (inputs.shape[0], inputs.shape[1])
        if shape not in self._workspaces:
            features = [self._stacked[f"{name}.frequencies"].shape[1] for name, _ in self._features]
            hidden = [weight.shape[2] for weight in self._weights[:-1]]
            classes, kept = self._weights[-1].shape[1], self._function is not None
            self._workspaces[shape] = _Workspace(shape, features, hidden, classes, inputs.device, kept)
        return self._workspaces[shape]


class _Workspace:
    """Workspace for batches of one shape (K, B), kept from step to step: fresh pages cost as much as the arithmetic."""

    def __init__(
        self, shape: tuple[int, int], features: list[int], hidden: list[int], classes: int, device: torch.device, inputs_kept: bool
    ) -> None:
        count, batch = shape
        for size in features:
            self.features = torch.empty(count, batch, size, device=device)
        self.hidden = [torch.empty(count, batch, size, device=device) for size in hidden]
        self.before = [torch.empty_like(one) for one in self.hidden] if inputs_kept else []  # what activations were applied to
        self.hidden_gradients = [torch.empty_like(one) for one in self.hidden]
        self.logits = torch.empty(count, classes, batch, device=device)
        self.transposed_logits = self.logits.transpose(1, 2)
        if hidden:
            self.transposed_hidden = self.hidden[-1].transpose(1, 2)


def _apart(function: Callable[[Tensor], Tensor], stacked: Tensor) -> Tensor:
    """A function of each element, on a CPU member by member: the last few numbers of an array may have other bits there, and are not a
    member's last ones where members follow each other."""
    return function(stacked) if stacked.is_cuda else torch.stack([function(own) for own in stacked])


def _twice(one: Tensor) -> Tensor:
    """Repeat (1, rows, columns) as (2, rows, columns), with the same strides inside, because they choose the kernel."""
    return torch.empty_strided((2, *one.shape[1:]), (one[0].numel(), *one.stride()[1:]), dtype=one.dtype, device=one.device).copy_(one)
