"""Any ``nn.Module``, member by member through autograd: convolutional families, batch norm, custom models."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

from trainables.data.protocol import Source
from trainables.engines.base import Engine, State, Stream, losses_and_errors
from trainables.engines.optimizers import StackedOptimizer
from trainables.engines.rows import Layout, RowOptimizer, Rows
from trainables.gpu_memory import uploaded
from trainables.point import device_streams
from trainables.point.config import ImageShape, Optimizer
from trainables.point.streams import derive

_DRAWING = (
    *(nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout, nn.RReLU),
    *(nn.FractionalMaxPool2d, nn.FractionalMaxPool3d, nn.MultiheadAttention, nn.RNNBase),
)
"""Layers of PyTorch that draw for themselves, or can: ``nn.Dropout`` alone is drawn for by engines."""


def shareable(module: nn.Module) -> bool:
    """Whether members may share a module's code: its layers are PyTorch's and gaplab's, and draw nothing that no engine knows of.

    What layers of others keep beside parameters and buffers might be one member's own.
    """
    layers = list(module.modules())
    known = all(type(layer).__module__.startswith(("torch.nn.", "trainables.")) for layer in layers)
    return known and not any(isinstance(layer, _DRAWING) for layer in layers)


@dataclass(frozen=True)
class DropoutUse:
    """Where a forward pass drops: which of the module's dropout layers, and the shape and type of what it drops from."""

    layer: int
    shape: tuple[int, ...]
    dtype: torch.dtype


class Dropouts:
    """A module whose dropout layers take masks that were drawn before its forward pass, in the order in which it uses them.

    So a pass of several members, or one that was captured, drops in each member what its own stream says.

    Args:
        module: is changed: `_Masked` layers take the place of its ``nn.Dropout``.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self._pass = _SharedPass()
        for layer, (name, _) in enumerate(_dropouts_of(module)):
            module.set_submodule(name, _Masked(self._pass, layer))
        self._uses: dict[tuple[int, ...], list[DropoutUse]] = {}

    @staticmethod
    def rates_of(module: nn.Module) -> list[float]:
        """The rates of a module's own dropout layers, in the order in which `DropoutUse` counts them."""
        return [layer.p for _, layer in _dropouts_of(module)]

    def uses(self, shape: tuple[int, ...], forward: Callable[[], object]) -> list[DropoutUse]:
        """Where the module drops from inputs of one shape.

        Args:
            shape: of the inputs.
            forward: a pass of such inputs, taken once, in evaluation mode.
        """
        if shape not in self._uses:
            self._pass.noted, training = [], self.module.training
            try:
                self.module.eval()
                forward()
                self._uses[shape] = self._pass.noted
            finally:
                self._pass.noted = None
                self.module.train(training)
        return self._uses[shape]

    @contextmanager
    def using(self, masks: Sequence[Tensor]) -> Iterator[None]:
        """Drop by these masks, one for each use, in the passes inside; nothing is dropped without any."""
        self._pass.masks, self._pass.taken = masks, 0
        try:
            yield
        finally:
            self._pass.masks = ()


class MaskDraws:
    """Draws the dropout masks of members, each by its own rates from its own stream.

    On a CPU they are those that ``nn.Dropout`` draws there. On a GPU they come from draws made there, of all members in one go.

    Args:
        rates: of each member's dropout layers (`Dropouts.rates_of`).
    """

    def __init__(self, rates: Sequence[Sequence[float]]) -> None:
        self._rates = rates
        self.any = any(map(any, rates))
        """Whether a member drops at all."""
        self._keys = device_streams.Keys()
        self._uploaded: dict[int, tuple[Tensor, Tensor]] = {}

    def masks(self, uses: Sequence[DropoutUse], streams: Sequence[Stream], device: torch.device) -> list[Tensor]:
        """The masks (K, *shape) of each use, 0 or 1/(1 - rate)."""
        if device.type == "cuda":
            return self._on_device(uses, streams, device)
        masks = [torch.empty(len(self._rates), *use.shape, dtype=use.dtype) for use in uses]
        for member, (rates, stream) in enumerate(zip(self._rates, streams, strict=True)):
            _seed(stream, False)
            for mask, use in zip(masks, uses, strict=True):
                mask[member] = nn.functional.dropout(torch.ones(use.shape, dtype=use.dtype), rates[use.layer])
        return masks

    def _on_device(self, uses: Sequence[DropoutUse], streams: Sequence[Stream], device: torch.device) -> list[Tensor]:
        keys, step = self._keys.of(streams, device)
        sizes = [prod(use.shape) for use in uses]
        draws = device_streams.uniform(keys, step, sum(sizes)).split(sizes, 1)
        masks = []
        for drawn, use in zip(draws, uses, strict=True):
            if use.layer not in self._uploaded:
                rates = uploaded([[own[use.layer]] for own in self._rates], torch.float32, device)
                self._uploaded[use.layer] = rates, 1 / (1 - rates)
            rates, scales = self._uploaded[use.layer]
            masks.append(drawn.ge(rates).mul(scales).to(use.dtype).reshape(-1, *use.shape))
        return masks


class StreamDropout(nn.Dropout):
    """An ``nn.Dropout`` of a module on a GPU: it drops what `MaskDraws` says there, from draws that it makes in its place of the pass."""

    stream: StreamPass

    def forward(self, input: Tensor) -> Tensor:
        """Drop from an input of any shape, in training mode."""
        if not self.training or self.stream.start is None:
            return super().forward(input)
        begin, self.stream.drawn = self.stream.drawn, self.stream.drawn + input.numel()
        if self.p == 0:
            return input
        kept = device_streams.numbers(self.stream.start, begin, *input.shape)[0].ge(self.p)
        return input * kept.mul(1 / (1 - torch.tensor(self.p, dtype=torch.float32)).item()).to(input.dtype)


class StreamPass:
    """What the `StreamDropout` layers of a module share: where its step's draws start, (1,) int64, and how many of them are made.

    Args:
        module: is changed: the layers take the place of its ``nn.Dropout``, as which they count.
    """

    def __init__(self, module: nn.Module) -> None:
        self.start: Tensor | None = None
        self.drawn = 0
        self.any = False
        for layer in module.modules():
            if type(layer) in (nn.Dropout, StreamDropout):
                layer.__class__ = StreamDropout
                assert isinstance(layer, StreamDropout)
                layer.stream = self
                self.any = self.any or layer.p > 0

    def begin(self, start: Tensor) -> None:
        """Begin a step."""
        self.start, self.drawn = start, 0


class _SharedPass:
    """What the dropout layers of a module share in a forward pass. They do not know the module: what knows itself is not freed at once."""

    noted: list[DropoutUse] | None = None
    masks: Sequence[Tensor] = ()
    taken = 0
    """Masks that the pass has used: a number, which a compiler follows where it does not follow an iterator."""


class _Masked(nn.Module):
    """In the place of a dropout layer."""

    def __init__(self, shared: _SharedPass, layer: int) -> None:
        super().__init__()
        self._shared, self._layer = shared, layer

    def forward(self, inputs: Tensor) -> Tensor:
        if self._shared.noted is not None:
            self._shared.noted.append(DropoutUse(self._layer, tuple(inputs.shape), inputs.dtype))
        if not self._shared.masks:
            return inputs
        mask = self._shared.masks[self._shared.taken]
        self._shared.taken += 1
        return inputs * mask


def _dropouts_of(module: nn.Module) -> list[tuple[str, nn.Dropout]]:
    """The dropout layers by name; one that stands at two places has two names."""
    return [(name, layer) for name, layer in module.named_modules(remove_duplicate=False) if isinstance(layer, nn.Dropout)]


def _seed(stream: Stream, on_gpu: bool) -> None:
    torch.default_generator.manual_seed(derive(*stream))
    if on_gpu:
        torch.cuda.manual_seed(derive(*stream))


class InRows:
    """Parameters and gradients of members in rows of one piece of memory each (see `trainables.engines.rows.LaidOut`)."""

    parameter_rows: Rows
    gradient_rows: Rows
    all_rows: tuple[Rows, Rows]
    layout: Layout

    def lay_out(self, stacked: Sequence[Tensor]) -> None:
        """Make rows with these parameters, (K, *shape) each, and as many for their gradients."""
        self.layout = Layout([parameter.shape[1:] for parameter in stacked])
        first = stacked[0]
        self.parameter_rows, self.gradient_rows = (self.layout.rows(len(first), first.device, first.dtype) for _ in range(2))
        self.all_rows = self.parameter_rows, self.gradient_rows
        for part, parameter in zip(self.parameter_rows.parts, stacked, strict=True):
            part.copy_(parameter)

    def moments(self) -> tuple[Rows, list[Tensor]]:
        """See `trainables.engines.rows.LaidOut`."""
        whole = self.all_rows[0].whole
        rows = self.layout.rows(len(whole), whole.device, whole.dtype)
        return rows, rows.parts


class ModuleEngine(InRows, Engine):
    """Modules member by member (see `trainables.engines.Engine`). They act as in PyTorch; dropout is drawn from the member's seed.

    On a GPU their ``nn.Dropout`` drops by the draws of `MaskDraws`, as in every engine. What else a layer of one's own draws comes from
    PyTorch's generator, seeded for each member and step.

    Args:
        loss, precision, image_shape: as of `trainables.engines.make_engine`.
        channels_last: have the channels of a pixel side by side in memory, which chooses other kernels for convolutions.
        rows: have an optimizer act on all parameters at once, as on GPUs; on a CPU bits come from acting on each by itself.
    """

    def __init__(self, loss: str, precision: str, image_shape: ImageShape, *, channels_last: bool = False, rows: bool = False) -> None:
        self._modules: list[nn.Module] = []
        self._in_rows = rows
        self._loss, self._precision, self._image_shape = loss, precision, image_shape
        self._keys = device_streams.Keys()
        self._format = torch.channels_last if channels_last else torch.contiguous_format
        self.name = "modules, channels last" if channels_last else "modules"

    def refill(self, keep: list[int], modules: list[nn.Module]) -> None:
        self._modules = [self._modules[member] for member in keep] + modules
        device = next(self._modules[0].parameters()).device.type
        self._streamed = [StreamPass(module) for module in self._modules] if device == "cuda" else []
        self._autocast = torch.autocast(device, torch.bfloat16, enabled=self._precision == "bfloat16")
        trainable = [[parameter for parameter in module.parameters() if parameter.requires_grad] for module in self._modules]
        self.parameters = [torch.stack([one.detach() for one in same]) for same in zip(*trainable, strict=True)]
        self.gradients = [torch.zeros_like(parameter) for parameter in self.parameters]
        if self._in_rows:
            self.lay_out(self.parameters)
            self.parameters, self.gradients = self.parameter_rows.parts, self.gradient_rows.parts
        for member, own in enumerate(trainable):
            for parameter, stacked, gradient in zip(own, self.parameters, self.gradients, strict=True):
                parameter.data, parameter.grad = stacked[member], gradient[member]

    def optimizer(self, rule: Optimizer) -> StackedOptimizer:
        return RowOptimizer(rule, self) if self._in_rows else StackedOptimizer(rule)

    def logits(self, inputs: Tensor, members: list[int]) -> Tensor:
        modules = [self._modules[member] for member in members]
        with torch.no_grad(), self._autocast:
            outputs = [module.eval()(self._images(images)).to(images.dtype) for module, images in zip(modules, inputs, strict=True)]
        return torch.stack(outputs).transpose(1, 2).contiguous()

    def losses(self, inputs: Source, index: Tensor, labels: Tensor, members: list[int]) -> tuple[Tensor, Tensor]:
        return losses_and_errors(self.logits, (inputs, index, labels), members, self._loss, self.rows)

    def gradient(self, inputs: Tensor, targets: Tensor, streams: list[Stream]) -> None:
        for gradient in self.gradients:
            gradient.zero_()
        if any(one.any for one in self._streamed):
            starts = device_streams.starts(*self._keys.of(streams, inputs.device))
            for one, start in zip(self._streamed, starts.split(1), strict=True):
                one.begin(start)
        for module, images, target, stream in zip(self._modules, inputs, targets, streams, strict=True):
            _seed(stream, images.is_cuda)
            with self._autocast:
                outputs = module.train()(self._images(images)).to(images.dtype)
            torch.autograd.backward(self._loss_of(outputs, target))
        for one in self._streamed:
            one.start = None

    def state(self, member: int) -> State:
        return {name: tensor.detach().clone() for name, tensor in self._modules[member].state_dict().items()}

    def _loss_of(self, outputs: Tensor, target: Tensor) -> Tensor:
        """One member's mean loss, of outputs (B, classes) and a target (classes, B)."""
        if self._loss == "squared":
            return (outputs - target.T).square().sum(1).mean() / 2
        return nn.functional.cross_entropy(outputs, target.T)

    def _images(self, flat: Tensor) -> Tensor:
        return flat.reshape(-1, *self._image_shape).contiguous(memory_format=self._format)
