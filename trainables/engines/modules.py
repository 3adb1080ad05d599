"""Any ``nn.Module``, member by member through autograd: convolutional families, batch norm, custom models."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trainables.data.protocol import Source
from trainables.engines.base import Engine, State, Stream
from trainables.engines.losses import losses_and_errors
from trainables.point.config import ImageShape
from trainables.point.streams import derive


class ModuleEngine(Engine):
    """Modules member by member (see `trainables.engines.Engine`). They act as in PyTorch; dropout is drawn from the member's seed."""

    def __init__(self, loss: str, precision: str, image_shape: ImageShape) -> None:
        self._modules: list[nn.Module] = []
        self._loss, self._precision, self._image_shape = loss, precision, image_shape

    def refill(self, keep: list[int], modules: list[nn.Module]) -> None:
        self._modules = [self._modules[member] for member in keep] + modules
        device = next(self._modules[0].parameters()).device.type
        self._autocast = torch.autocast(device, torch.bfloat16, enabled=self._precision == "bfloat16")
        trainable = [[parameter for parameter in module.parameters() if parameter.requires_grad] for module in self._modules]
        self.parameters = [torch.stack([one.detach() for one in same]) for same in zip(*trainable, strict=True)]
        self.gradients = [torch.zeros_like(parameter) for parameter in self.parameters]
        for member, own in enumerate(trainable):
            for parameter, stacked, gradient in zip(own, self.parameters, self.gradients, strict=True):
                parameter.data, parameter.grad = stacked[member], gradient[member]

    def logits(self, inputs: Tensor, members: list[int]) -> Tensor:
        modules = [self._modules[member] for member in members]
        with torch.no_grad(), self._autocast:
            outputs = [module.eval()(self._images(images)).float() for module, images in zip(modules, inputs, strict=True)]
        return torch.stack(outputs).transpose(1, 2).contiguous()

    def losses(self, inputs: Source, index: Tensor, labels: Tensor, members: list[int]) -> tuple[Tensor, Tensor]:
        return losses_and_errors(self.logits, inputs, index, labels, members, self._loss)

    def gradient(self, inputs: Tensor, targets: Tensor, streams: list[Stream]) -> None:
        for gradient in self.gradients:
            gradient.zero_()
        for module, images, target, stream in zip(self._modules, inputs, targets, streams, strict=True):
            torch.default_generator.manual_seed(derive(*stream))
            if images.is_cuda:
                torch.cuda.manual_seed(derive(*stream))
            with self._autocast:
                outputs = module.train()(self._images(images)).float()
            if self._loss == "squared":
                loss = (outputs - target.T).square().sum(1).mean() / 2
            else:
                loss = nn.functional.cross_entropy(outputs, target.T)
            torch.autograd.backward(loss)

    def state(self, member: int) -> State:
        return {name: tensor.detach().clone() for name, tensor in self._modules[member].state_dict().items()}

    def _images(self, flat: Tensor) -> Tensor:
        return flat.reshape(-1, *self._image_shape)
