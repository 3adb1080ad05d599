"""Any ``nn.Module``, all members in one pass: `torch.func.vmap` of the module over stacked parameters and buffers.

PyTorch makes a convolution of K members one convolution of K groups, a linear layer one batched product, and a batch norm one over K times
the channels, whose running statistics are written in place. A step then starts as many operations as one member's does alone, which pays
where starting them is what takes the time, and costs where grouped convolutions are slower than plain ones: `choice` measures which.

The members share a module's code (`trainables.engines.modules.shareable`), and may differ in parameters, buffers and dropout rates alone.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from trainables.data.protocol import Source
from trainables.engines.base import State, Stream, losses_and_errors
from trainables.engines.graphs import RecordedPass, Recorder, Recordings, WholeSteps
from trainables.engines.modules import Dropouts, InRows, MaskDraws
from trainables.engines.optimizers import StackedOptimizer
from trainables.engines.rows import RowOptimizer, SlotOptimizer
from trainables.gpu_memory import uploaded
from trainables.point.config import ImageShape, Optimizer


class UnfoldedConv2d(nn.Conv2d):
    """A convolution as one matrix product of its unfolded inputs, which is a batched product over members."""

    def forward(self, input: Tensor) -> Tensor:
        """(batch, channels, height, width) to (batch, outputs, rows, columns), as ``nn.Conv2d`` gives it."""
        vertical, horizontal = (int(size) for size in self.padding)
        padded = nn.functional.pad(input, (horizontal, horizontal, vertical, vertical))
        windows = padded.unfold(2, self.kernel_size[0], self.stride[0]).unfold(3, self.kernel_size[1], self.stride[1])
        batch, _, rows, columns = windows.shape[:4]
        flat = windows.permute(1, 4, 5, 0, 2, 3).reshape(self.weight.shape[1] * self.kernel_size[0] * self.kernel_size[1], -1)
        outputs = self.weight.flatten(1) @ flat
        if self.bias is not None:
            outputs = outputs + self.bias[:, None]
        return outputs.reshape(-1, batch, rows, columns).transpose(0, 1)


def unfold_convolutions(module: nn.Module) -> None:
    """Let the convolutions of a module that are plain ones be `UnfoldedConv2d`, with the parameters that they have."""
    for layer in module.modules():
        plain = type(layer) is nn.Conv2d and layer.groups == 1 and layer.dilation == (1, 1) and layer.padding_mode == "zeros"
        if plain and not isinstance(layer.padding, str):
            layer.__class__ = UnfoldedConv2d


class FusedEngine(InRows, WholeSteps):
    """All members in one pass (see `trainables.engines.Engine`). Dropout is drawn from the members' streams, as `ModuleEngine` draws it.

    Args:
        loss, precision, image_shape: as of `trainables.engines.make_engine`.
        unfold: multiply unfolded inputs in place of grouped convolutions.
        rows: as of `trainables.engines.modules.ModuleEngine`.
        recorder: records passes as graphs; then there are slots as in `trainables.engines.graphs.GraphEngine`.

    Raises:
        ValueError: the precision is bfloat16, as PyTorch's autocast leaves convolutions under ``vmap`` as they are; or a module has other
            layers than the first (from `refill`).
    """

    def __init__(
        self,
        loss: str,
        precision: str,
        image_shape: ImageShape,
        *,
        unfold: bool = False,
        rows: bool = False,
        recorder: Recorder | None = None,
    ) -> None:
        if precision == "bfloat16":
            raise ValueError("autocast does not reach convolutions under vmap: modules and graphs train in bfloat16")
        self._loss, self._image_shape, self._unfold, self._in_rows = loss, image_shape, unfold, rows
        self._recordings = Recordings(recorder) if recorder else None
        self._asked: tuple[list[int], Tensor] | None = None
        self.name = "fused" + ", unfolded" * unfold + " in graphs" * bool(recorder)
        self._template: nn.Module | None = None
        self._stacked: State = {}
        self._rates: list[list[float]] = []
        self._slots = 0

    def refill(self, keep: list[int], modules: list[nn.Module]) -> None:
        if self._template is None:
            self._begin(modules[0])
        own = [dict(module.state_dict(keep_vars=True)) | dict(module.named_buffers()) for module in modules]
        for module in modules:
            if repr(Dropouts(copy.deepcopy(module)).module) != self._layers:
                raise ValueError("members in one pass must have the same layers")
        count = len(keep) + len(modules)
        stays = self._recordings is not None and self._slots // 2 < count <= self._slots
        for name in self._names:
            parts = [self._chosen(self._stacked[name].detach(), keep)] if keep else []
            parts += [torch.stack([tensors[name].detach() for tensors in own])] if own else []
            if stays:
                self._stacked[name].detach()[:count].copy_(torch.cat(parts))
            else:
                self._stacked[name] = torch.cat(parts)
        self._rates = [self._rates[member] for member in keep] + [Dropouts.rates_of(module) for module in modules]
        self._draws = MaskDraws(self._rates)
        if not stays:
            self._make_slots(count)
        self.parameters = [leaf.detach()[:count] for leaf in self._leaves]
        self.gradients = [gradient[:count] for gradient in self._all_gradients]
        if self._in_rows:
            self.parameter_rows, self.gradient_rows = (rows.first(count) for rows in self.all_rows)

    def _make_slots(self, count: int) -> None:
        """Settle where parameters and gradients lie; what was recorded elsewhere is forgotten."""
        self._slots = count
        stacked = [self._stacked[name] for name in self._trainable]
        if self._in_rows:
            self.lay_out(stacked)
            stacked = self.parameter_rows.parts
        self._leaves = [parameter.detach().requires_grad_() for parameter in stacked]
        self._stacked |= dict(zip(self._trainable, self._leaves, strict=True))
        made = self.gradient_rows.parts if self._in_rows else [torch.zeros_like(parameter) for parameter in stacked]
        self._all_gradients = made
        self._passes: dict[tuple[object, ...], RecordedPass] = {}

    def optimizer(self, rule: Optimizer) -> StackedOptimizer:
        if not self._in_rows:
            return StackedOptimizer(rule)
        return SlotOptimizer(rule, self) if self._recordings else RowOptimizer(rule, self)

    def _begin(self, module: nn.Module) -> None:
        """Take over the layers of the first module: how members compute, and what of them is stacked."""
        parameters = dict(module.named_parameters())
        self._trainable = [name for name, parameter in parameters.items() if parameter.requires_grad]
        self._names = [*parameters, *dict(module.named_buffers())]
        kept = module.state_dict(keep_vars=True)
        first = {id(tensor): name for name, tensor in [*module.named_buffers(), *parameters.items()]}
        self._state = {name: first[id(tensor)] for name, tensor in kept.items()}  # two names may be of one tensor
        self._dropouts = Dropouts(copy.deepcopy(module))
        self._template = self._dropouts.module
        self._layers = repr(self._template)
        if self._unfold:
            unfold_convolutions(self._template)

    def _train(self, inputs: Tensor, targets: Tensor, streams: list[Stream], optimizer: SlotOptimizer | None) -> None:
        masks = self._masks(inputs, streams)
        if self._recordings is None:
            self._differentiate(inputs, targets, masks)
            return
        one = self._pass_of(inputs, targets, masks, optimizer)
        one.take(inputs, targets)
        for mask, drawn in zip(one.masks, masks, strict=True):
            mask[: len(drawn)].copy_(drawn)
        self._run(one, optimizer)

    def logits(self, inputs: Tensor, members: list[int]) -> Tensor:
        if self._recordings is None or members != list(range(len(self._rates))):
            return self._evaluated(inputs, members).transpose(1, 2).contiguous()
        one = self._pass_of(inputs, None, [], None)
        one.take(inputs, None)
        self._run(one, None)
        return one.outputs[: len(members)].transpose(1, 2).contiguous()

    def _differentiate(self, inputs: Tensor, targets: Tensor, masks: list[Tensor]) -> None:
        """Write the gradients of all slots."""
        assert self._template is not None
        self._template.train()
        outputs = self._outputs(inputs, None, masks)
        aims = targets.transpose(1, 2)
        if self._loss == "squared":
            losses = (outputs - aims).square().sum(2).mean(1) / 2
        else:
            losses = -(outputs.log_softmax(2) * aims).sum(2).mean(1)
        found = torch.autograd.grad(losses.sum(), self._leaves, allow_unused=True, materialize_grads=True)
        torch._foreach_copy_(self._all_gradients, list(found))

    def _evaluated(self, inputs: Tensor, members: list[int] | None) -> Tensor:
        """The outputs (M, B, classes) of some members, or of all slots (None), in evaluation mode."""
        assert self._template is not None
        self._template.eval()
        with torch.no_grad():
            return self._outputs(inputs, members, [])

    def _run(self, one: RecordedPass, optimizer: SlotOptimizer | None) -> None:
        assert self._recordings is not None
        self._recordings.do(one, partial(self._do, one, optimizer))
        if not self._recordings.go_on:
            self.name = self.name.removesuffix(" in graphs")

    def _do(self, one: RecordedPass, optimizer: SlotOptimizer | None) -> None:
        """A pass of all slots, and the optimizer's step after it."""
        if one.targets is None:
            one.outputs.copy_(self._evaluated(one.inputs, None))
        else:
            self._differentiate(one.inputs, one.targets, one.masks)
        if optimizer is not None:
            optimizer.apply(self._all_gradients)

    def _pass_of(self, inputs: Tensor, targets: Tensor | None, masks: list[Tensor], optimizer: SlotOptimizer | None) -> RecordedPass:
        """The pass of batches of this size, training with targets and evaluation without."""
        key = (inputs.shape[1], targets is not None, bool(masks), optimizer.form if optimizer else None)
        if key not in self._passes:
            count = self._slots
            aims = None if targets is None else targets.new_zeros(count, *targets.shape[1:])
            one = self._passes[key] = RecordedPass(inputs.new_zeros(count, *inputs.shape[1:]), aims)
            one.masks = [mask.new_ones(count, *mask.shape[1:]) for mask in masks]
            if targets is None:
                one.outputs = torch.empty_like(self._evaluated(one.inputs, None))
        return self._passes[key]

    def losses(self, inputs: Source, index: Tensor, labels: Tensor, members: list[int]) -> tuple[Tensor, Tensor]:
        return losses_and_errors(self.logits, (inputs, index, labels), members, self._loss, self.rows)

    def state(self, member: int) -> State:
        copied = self._copied(member)
        return {name: copied[stacked] for name, stacked in self._state.items()}

    def _copied(self, member: int) -> State:
        return {name: stacked[member].detach().clone() for name, stacked in self._stacked.items()}

    def _outputs(self, inputs: Tensor, members: list[int] | None, masks: list[Tensor]) -> Tensor:
        """The outputs (M, B, classes) of some members, or of all (None), for inputs (M, B, D)."""
        stacked = self._stacked
        if members is not None and members != list(range(len(self._rates))):
            stacked = {name: self._chosen(tensor, members) for name, tensor in stacked.items()}
        outputs: Tensor = vmap(self._of_one)(stacked, inputs, masks)
        return outputs

    def _of_one(self, tensors: State, inputs: Tensor, masks: Sequence[Tensor]) -> Tensor:
        assert self._template is not None
        with self._dropouts.using(masks):
            outputs: Tensor = functional_call(self._template, tensors, (inputs.reshape(-1, *self._image_shape),))
        return outputs

    def _masks(self, inputs: Tensor, streams: list[Stream]) -> list[Tensor]:
        """The dropout masks of a step, each (K, *shape), in the order in which the layers use them; none where nothing is dropped."""
        if not self._draws.any:
            return []
        with torch.no_grad():
            uses = self._dropouts.uses(tuple(inputs.shape[1:]), lambda: self._of_one(self._copied(0), inputs[0], []))
        return self._draws.masks(uses, streams, inputs.device)

    def _chosen(self, stacked: Tensor, members: list[int]) -> Tensor:
        """Some members' part of a tensor (K, ...); who is meant is uploaded once for as long as the same are."""
        if self._asked is None or self._asked[0] != members:
            self._asked = list(members), uploaded(members, torch.int64, stacked.device)
        return stacked.index_select(0, self._asked[1])
