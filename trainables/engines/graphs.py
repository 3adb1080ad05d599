"""Any ``nn.Module``, member by member with the kernels that it has alone, all members' kernels of a pass in one CUDA graph.

A step of a small network is hundreds of kernels of a few microseconds, and starting each from Python takes longer than it runs. A graph is
recorded once and started as a whole; in it every member has a branch of its own, so that kernels which fill a fraction of a GPU run side
by side. What a graph reads and writes stays where it was recorded: batches, targets and dropout masks are copied there, members that come
are copied into slots that others have left, and nothing is recorded anew. Where parameters lie in rows of one piece of memory, the graph
ends with the optimizer's few operations on these (`trainables.engines.rows.SlotOptimizer`): a step is some copies and one start.

With a compiler the members' forward and backward passes on full batches are compiled (`torch.compile`), which fuses what lies between the
products of large networks. Members of an architecture share what was compiled once; where it cannot be, they train as they are.

`Recorder` is what a GPU does about it (`CudaRecorder`), or a stand-in that does everything at once (`AtOnce`): that one serves where CUDA
refuses to record, and lets all else be tested without a GPU.
"""

from __future__ import annotations

import copy
import warnings
from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn

from trainables.engines.base import Engine, State, Stream
from trainables.engines.modules import Dropouts, DropoutUse, MaskDraws, ModuleEngine, shareable
from trainables.engines.optimizers import StackedOptimizer
from trainables.engines.rows import SlotOptimizer
from trainables.point.config import ImageShape, Optimizer

WARM_UPS = 3
"""Passes of a size that are taken on a side stream before it is recorded: libraries choose kernels and take memory in the first ones."""
MOST_BRANCHES = 32
"""Members of a graph: PyTorch has as many streams."""
_LATEST: list[object] = [None]
"""What this process has compiled last."""


class Recorder(Protocol):
    """Records what a function starts on a device."""

    def warmed(self, work: Callable[[], None]) -> None:
        """Do the work, which will be recorded later."""

    def recorded(self, work: Callable[[], None]) -> Callable[[], None]:
        """Record the work; what is returned does it.

        Raises:
            RuntimeError: it cannot be recorded.
        """

    def side_by_side(self, branches: Sequence[Callable[[], None]]) -> None:
        """Within recorded or warmed work: do all of these, none of which waits for another, and go on when all are done."""


class AtOnce:
    """Records nothing: work is done when it is asked for, and branches one after another."""

    def warmed(self, work: Callable[[], None]) -> None:
        work()

    def recorded(self, work: Callable[[], None]) -> Callable[[], None]:
        return work

    def side_by_side(self, branches: Sequence[Callable[[], None]]) -> None:
        for branch in branches:
            branch()


class CudaRecorder:
    """CUDA graphs, as PyTorch's notes on them ask for: warm-up on a side stream, and one pool of memory for all graphs of an engine."""

    def __init__(self, device: torch.device) -> None:
        self._side = torch.cuda.Stream(device)
        self._streams: list[torch.cuda.Stream] = []
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()

    def warmed(self, work: Callable[[], None]) -> None:
        here = torch.cuda.current_stream(self._device)
        self._side.wait_stream(here)
        with torch.cuda.stream(self._side):
            work()
        here.wait_stream(self._side)

    def recorded(self, work: Callable[[], None]) -> Callable[[], None]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, stream=self._side, capture_error_mode="thread_local"):  # others may pin memory
            work()
        return graph.replay

    def side_by_side(self, branches: Sequence[Callable[[], None]]) -> None:
        while len(self._streams) < len(branches):
            self._streams.append(torch.cuda.Stream(self._device))
        here = torch.cuda.current_stream(self._device)
        begun = here.record_event()
        ended = []
        for stream, branch in zip(self._streams, branches, strict=False):
            stream.wait_event(begun)
            with torch.cuda.stream(stream):
                branch()
            ended.append(stream.record_event())
        for event in ended:
            here.wait_event(event)


class RecordedPass:
    """What is done for batches of one size, and the memory in which it finds them.

    Attributes:
        inputs: (slots, B, D); `targets` (slots, classes, B) in training, `outputs` (slots, B, classes) in evaluation.
        uses: where members drop, if anyone does; `masks` (slots, *shape) for each.
        compiled: whether it is taken by what `torch.compile` made of the members.
        taken: how often it was done.
        replay: does it as it was recorded.
    """

    outputs: Tensor

    def __init__(self, inputs: Tensor, targets: Tensor | None) -> None:
        self.inputs, self.targets = inputs, targets
        self.uses: list[DropoutUse] = []
        self.masks: list[Tensor] = []
        self.compiled = False
        self.taken = 0
        self.replay: Callable[[], None] | None = None

    def take(self, inputs: Tensor, targets: Tensor | None) -> None:
        """Copy the batches of the members, (K, B, D) and (K, classes, B), into the first slots."""
        self.inputs[: len(inputs)].copy_(inputs)
        if targets is not None and self.targets is not None:
            self.targets[: len(targets)].copy_(targets)


class Recordings:
    """Does passes, and records each once it was done often enough, until CUDA refuses.

    Attributes:
        recorder: of the members' device, or `AtOnce` once it has refused.
        go_on: whether it has not.
    """

    def __init__(self, recorder: Recorder) -> None:
        self.recorder, self.go_on = recorder, True

    def do(self, one: RecordedPass, work: Callable[[], None]) -> None:
        """Do a pass: by what was recorded of it, or the work itself, which is not kept: what knows itself is not freed at once."""
        if one.replay is None and one.taken >= WARM_UPS and self.go_on:
            try:
                one.replay = self.recorder.recorded(work)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                said = _first_line(error)
                warnings.warn(f"CUDA does not record this network as a graph, and it trains without: {said}", stacklevel=2)
                self.recorder, self.go_on = AtOnce(), False
        if one.replay is None:
            self.recorder.warmed(work)
        else:
            one.replay()
        one.taken += 1


class WholeSteps(Engine):
    """An engine that takes a step as one pass, so that it can be recorded whole, with an optimizer that has slots."""

    def gradient(self, inputs: Tensor, targets: Tensor, streams: list[Stream]) -> None:
        self._train(inputs, targets, streams, None)

    def step(self, optimizer: StackedOptimizer, inputs: Tensor, targets: Tensor, streams: list[Stream]) -> None:
        if isinstance(optimizer, SlotOptimizer):
            optimizer.advance()
            self._train(inputs, targets, streams, optimizer)
        else:
            super().step(optimizer, inputs, targets, streams)

    @abstractmethod
    def _train(self, inputs: Tensor, targets: Tensor, streams: list[Stream], optimizer: SlotOptimizer | None) -> None:
        """Write the gradients, and apply them by an optimizer that has advanced, if there is one."""
        ...


class GraphEngine(WholeSteps, ModuleEngine):
    """Members in the branches of a graph (see `trainables.engines.Engine`).

    There are as many slots as members were there first; fewer members leave the last slots empty, which are computed all the same. When
    half of them are empty, or more members come than there are slots, slots are made anew, and what was recorded is recorded again.

    Args:
        loss, precision, image_shape: as of `trainables.engines.make_engine`.
        channels_last, rows: as of `ModuleEngine`.
        recorder: of the members' device.
        compiler: a backend of `torch.compile`; None to compile nothing.
    """

    def __init__(
        self,
        loss: str,
        precision: str,
        image_shape: ImageShape,
        recorder: Recorder,
        *,
        channels_last: bool = False,
        rows: bool = False,
        compiler: str | None = None,
    ) -> None:
        super().__init__(loss, precision, image_shape, channels_last=channels_last, rows=rows)
        self._one_by_one, self._compiler = self.name, compiler
        self.name = self._named("graphs")
        self._recordings = Recordings(recorder)
        self._slots: list[Dropouts] = []
        self._rates: list[list[float]] = []
        self._layers = ""

    def refill(self, keep: list[int], modules: list[nn.Module]) -> None:
        count = len(keep) + len(modules)
        arrived = [Dropouts(copy.deepcopy(module)) for module in modules]
        alike = all(repr(one.module) == self._layers and shareable(one.module) for one in arrived)
        self._rates = [self._rates[member] for member in keep] + [Dropouts.rates_of(module) for module in modules]
        self._draws = MaskDraws(self._rates)
        if alike and len(self._slots) // 2 < count <= len(self._slots):
            states = [_copied(self._slots[old].module) if old != new else None for new, old in enumerate(keep)]
            states += [_tensors(one.module) for one in arrived]
            for slot, state in zip(self._slots, states, strict=False):
                if state is not None:
                    _write(state, _tensors(slot.module))
        else:
            self._slots = [self._slots[member] for member in keep] + arrived
            self._layers = repr(self._slots[0].module)
            super().refill([], [slot.module for slot in self._slots])
            device, rounds = next(self._slots[0].module.parameters()).device.type, self._precision == "bfloat16"
            self._autocast = torch.autocast(device, torch.bfloat16, enabled=rounds, cache_enabled=False)  # it would outlive a recording
            self._stacked, self._stacked_gradients = self.parameters, self.gradients
            self._passes: dict[tuple[object, ...], RecordedPass] = {}
            self._compiled: list[Callable[[Tensor], Tensor]] = []
            self._compiled_size: int | None = None
        self._modules = [slot.module for slot in self._slots[:count]]
        self.parameters = [stacked[:count] for stacked in self._stacked]
        self.gradients = [stacked[:count] for stacked in self._stacked_gradients]
        if self._in_rows:
            self.parameter_rows, self.gradient_rows = (rows.first(count) for rows in self.all_rows)

    def optimizer(self, rule: Optimizer) -> StackedOptimizer:
        return SlotOptimizer(rule, self) if self._in_rows else StackedOptimizer(rule)

    def _train(self, inputs: Tensor, targets: Tensor, streams: list[Stream], optimizer: SlotOptimizer | None) -> None:
        one = self._pass_of(inputs, targets, self._draws.any, optimizer)
        one.take(inputs, targets)
        if one.masks:
            for mask, drawn in zip(one.masks, self._draws.masks(one.uses, streams, inputs.device), strict=True):
                mask[: len(drawn)].copy_(drawn)
        self._run(one, optimizer)

    def logits(self, inputs: Tensor, members: list[int]) -> Tensor:
        if members != list(range(len(self._modules))):
            return super().logits(inputs, members)
        evaluation = self._pass_of(inputs, None, False, None)
        evaluation.take(inputs, None)
        self._run(evaluation, None)
        return evaluation.outputs[: len(members)].transpose(1, 2).contiguous()

    def _run(self, one: RecordedPass, optimizer: SlotOptimizer | None) -> None:
        self._recordings.do(one, partial(self._do, one, optimizer))
        if not self._recordings.go_on:
            self.name = self._named("modules")

    def _named(self, kind: str) -> str:
        return kind + ", compiled" * (self._compiler is not None) + self._one_by_one.removeprefix("modules")

    def _do(self, one: RecordedPass, optimizer: SlotOptimizer | None) -> None:
        """A pass of all slots, in as many branches, and the optimizer's step after them."""
        member_pass = self._evaluated if one.targets is None else self._stepped
        self._recordings.recorder.side_by_side([partial(member_pass, one, member) for member in range(len(self._slots))])
        if optimizer is not None:
            optimizer.apply(self._stacked_gradients)

    def _pass_of(self, inputs: Tensor, targets: Tensor | None, drops: bool, optimizer: SlotOptimizer | None) -> RecordedPass:
        """The pass of batches of this size, training with targets and evaluation without."""
        key = (inputs.shape[1], targets is not None, drops, optimizer.form if optimizer else None)
        if key not in self._passes:
            self._passes[key] = self._made(inputs, targets, drops)
        return self._passes[key]

    def _made(self, inputs: Tensor, targets: Tensor | None, drops: bool) -> RecordedPass:
        count = len(self._slots)
        one = RecordedPass(
            inputs.new_zeros(count, *inputs.shape[1:]), None if targets is None else targets.new_zeros(count, *targets.shape[1:])
        )
        first = self._slots[0]
        if drops:
            with torch.no_grad(), self._autocast:
                one.uses = first.uses(tuple(one.inputs.shape[1:]), lambda: first.module(self._images(one.inputs[0])))
            one.masks = [torch.ones(count, *use.shape, dtype=use.dtype, device=inputs.device) for use in one.uses]
        if targets is None:
            with torch.no_grad(), self._autocast:
                outputs = first.module.eval()(self._images(one.inputs[0])).to(inputs.dtype)
            one.outputs = outputs.new_empty(count, *outputs.shape)
        elif self._compiler is not None and self._compiled_size in (None, inputs.shape[1]):
            one.compiled = self._compiles(one, self._compiler)
        return one

    def _compiles(self, one: RecordedPass, compiler: str) -> bool:
        """Have members compiled for batches of this size, the first one in training: an epoch's last is not worth it.

        Whether it works is tried on empty inputs; if not, a warning says why in a line, and members train as they are.
        """
        self._compiled_size = size = one.inputs.shape[1]
        one.compiled, before = True, _copied(self._slots[0].module)
        try:
            if _LATEST[0] != (which := (self._layers, size, self._precision, self._format)):
                torch.compiler.reset()  # PyTorch keeps eight forms of a function, and would take no other one
                _LATEST[0] = which
            self._compiled = [torch.compile(slot.module, backend=compiler, dynamic=False) for slot in self._slots]
            self._stepped(one, 0)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # of any kind: a compiler that is missing, one that fails, a construct that it does not know
            warnings.warn(f"PyTorch does not compile this network, and it trains as it is: {_first_line(error)}", stacklevel=2)
            self._compiler = None
            self.name = self._named("graphs")
            return False
        finally:
            _write(before, _tensors(self._slots[0].module))  # running statistics
        return True

    def _stepped(self, one: RecordedPass, member: int) -> None:
        """Write one member's gradients."""
        assert one.targets is not None
        slot = self._slots[member]
        slot.module.train()
        forward = self._compiled[member] if one.compiled else slot.module
        with self._autocast, slot.using([mask[member] for mask in one.masks]):
            outputs = forward(self._images(one.inputs[member])).to(one.inputs.dtype)
        loss = self._loss_of(outputs, one.targets[member])
        trained = [parameter for parameter in slot.module.parameters() if parameter.requires_grad]
        found = torch.autograd.grad(loss, trained, allow_unused=True, materialize_grads=True)
        torch._foreach_copy_([gradient[member] for gradient in self._stacked_gradients], list(found))

    def _evaluated(self, one: RecordedPass, member: int) -> None:
        """Write one member's outputs."""
        with torch.no_grad(), self._autocast:
            one.outputs[member].copy_(self._slots[member].module.eval()(self._images(one.inputs[member])))


def _first_line(error: Exception) -> str:
    """What an error says, or the one that PyTorch's compiler has wrapped in it."""
    inner = getattr(error, "inner_exception", error)
    return (str(inner).strip().splitlines() or [type(inner).__name__])[0]


def _tensors(module: nn.Module) -> State:
    """All parameters and buffers by name, kept in a ``state_dict`` or not."""
    return {name: tensor.detach() for name, tensor in (*module.named_parameters(), *module.named_buffers())}


def _copied(module: nn.Module) -> State:
    return {name: tensor.clone() for name, tensor in _tensors(module).items()}


def _write(state: State, into: State) -> None:
    for name, tensor in into.items():
        tensor.copy_(state[name])
