"""The tangent kernel of a network at its start: what training by gradient descent reaches if the network stays linear in its weights.

Jacot et al. 2018; Lee et al. 2019, "Wide neural networks of any depth evolve as linear models under gradient descent". With the Jacobians J
of all outputs at initialization, K = J J^T, and half the squared distance to the one-hot labels as the loss, gradient flow of time t over n
samples takes the outputs on new samples to

    f(x) = f_0(x) - K(x, X) K^-1 (1 - exp(-K t / n)) (f_0(X) - y),        t = steps * learning rate / (1 - momentum),

which is kernel regression for large t. Here the outputs keep their own kernel each, of finite width: K is (n C, n C) and no mean over
classes. For a linear layer a sample's Jacobian is the product of what comes in, a, and of the outputs' gradients g at what goes out, so
that the layer adds (a . a' + 1) g . g' to K, and networks of these have no Jacobians made (`Tangents`). Others have (`Jacobians`).

Whether the network is linear as far as training has to take it is tried: it is moved by the solution of the linear problem, and its
outputs there are compared with the linear ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap

from trainables.data.inputs import point_data
from trainables.models import build
from trainables.point.config import TrialConfig
from trainables.point.streams import derive
from trainables.predictions.regime import OutOfRegime, spread_evenly

LARGEST_KERNEL = 4096
"""Most outputs on training samples, n C."""
LARGEST_JACOBIAN = 2e8
"""Most numbers of a Jacobian that is made: 1.6 GB."""
_BLOCK = 32
"""Samples whose Jacobians are made at a time."""
MOST_TESTED = 500
"""Test samples that the mean is over; of more, so many spread evenly."""
TOLERANCE = 0.1
"""How far the network's test loss may be from the linear one's where the linear problem is solved, relatively."""


@dataclass(frozen=True, eq=False)
class Tangents:
    """A network's outputs on samples, and what they depend on, layer by layer.

    Attributes:
        outputs: (n, C).
        layers: of each linear layer what comes in, (n, inputs), with a 1 for its bias, and the outputs' gradients, (n, C, units).
    """

    outputs: Tensor
    layers: list[tuple[Tensor, Tensor]]

    @classmethod
    def of(cls, module: nn.Module, inputs: Tensor) -> Tangents:
        """Of a network whose parameters are those of linear layers, each run once, in evaluation mode."""
        seen: list[tuple[Tensor, Tensor]] = []

        def hook(layer: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> None:
            incoming = given[0].detach()
            seen.append((incoming if layer.bias is None else torch.cat([incoming, torch.ones_like(incoming[:, :1])], 1), made))

        hooks = [layer.register_forward_hook(hook) for layer in module.modules() if isinstance(layer, nn.Linear)]
        try:
            outputs = module(inputs)
        finally:
            for one in hooks:
                one.remove()
        made = [outgoing for _, outgoing in seen]
        gradients = [torch.autograd.grad(outputs[:, out].sum(), made, retain_graph=True) for out in range(outputs.shape[1])]
        return cls(outputs.detach(), [(a, torch.stack(g, 1)) for (a, _), *g in zip(seen, *gradients, strict=True)])

    def kernel(self, other: Tangents) -> Tensor:
        """K of all outputs of these samples and of others, (n C, m C)."""
        (n, classes), m = self.outputs.shape, len(other.outputs)
        total = self.outputs.new_zeros(n, classes, m, classes)
        for (left, first), (right, second) in zip(self.layers, other.layers, strict=True):
            inner = first.flatten(0, 1) @ second.flatten(0, 1).T
            total += inner.view(n, classes, m, classes) * (left @ right.T)[:, None, :, None]
        return total.view(n * classes, m * classes)


@dataclass(frozen=True, eq=False)
class Jacobians:
    """The same of any network without buffers, such as convolutions.

    Attributes:
        outputs: (n, C).
        matrix: of the outputs by all parameters, (n C, p).
    """

    outputs: Tensor
    matrix: Tensor

    @classmethod
    def of(cls, module: nn.Module, inputs: Tensor) -> Jacobians:
        """Of a network in evaluation mode."""
        theta = {name: parameter.detach() for name, parameter in module.named_parameters()}

        def outputs(values: dict[str, Tensor], image: Tensor) -> Tensor:
            found: Tensor = functional_call(module, values, (image[None],))[0]
            return found

        with torch.no_grad():
            found: Tensor = module(inputs)
        blocks = (vmap(jacrev(outputs), (None, 0))(theta, block) for block in torch.split(inputs, _BLOCK))
        rows = [torch.cat([part.flatten(2) for part in block.values()], 2).flatten(0, 1) for block in blocks]
        return cls(found, torch.cat(rows))

    def kernel(self, other: Jacobians) -> Tensor:
        """K of all outputs of these samples and of others, (n C, m C)."""
        return self.matrix @ other.matrix.T


def predict(point: TrialConfig, outcome: Mapping[str, Any]) -> dict[str, float]:
    """The test loss and error that a resolved point reaches in the epochs that were recorded, if it stays linear.

    Raises:
        OutOfRegime: it is no network trained by plain gradient descent on the squared loss, it normalizes batches, there are too many
            outputs or parameters, the learning rate is too large for the kernel, or the network is not linear as far as it has to go.
    """
    _check(point)
    data = point_data(point, torch.device("cpu"))
    module = build(point.model, 0.0, data.image_shape, data.classes, seed=derive(point.seed, "initialization")).double().eval()
    linearized = _linearized(point, module, data.classes)
    index = data.test.index[spread_evenly(len(data.test.index), MOST_TESTED)]
    train, test = (
        some.inputs.gather(rows).double().reshape(-1, *data.image_shape)
        for some, rows in ((data.train, data.train.index), (data.test, index))
    )
    targets = nn.functional.one_hot(data.train.labels, data.classes).double()
    labels = data.test.labels[spread_evenly(len(data.test.index), MOST_TESTED)]
    tangents = linearized(module, train)
    values, vectors = torch.linalg.eigh(tangents.kernel(tangents))
    optimizer, n = point.optimizer, len(train)
    rate = optimizer.learning_rate * float(values[-1]) / n
    if rate > 2 * (1 + optimizer.momentum):
        raise OutOfRegime(
            f"ntk describes small steps, and a learning rate of {optimizer.learning_rate:g} is {rate / 2 / (1 + optimizer.momentum):.2g} "
            "times the largest at which the linear network would not diverge"
        )
    time = (outcome["epochs"] or 0) * -(-n // optimizer.batch_size) * optimizer.learning_rate / (1 - optimizer.momentum)
    left = (tangents.outputs - targets).flatten()
    decay = -torch.expm1(-values.clamp_min(0) * time / n) / values.clamp_min(torch.finfo(values.dtype).tiny)
    weights = -(vectors @ (decay * (vectors.T @ left)))
    tested = (linearized(module, block) for block in torch.split(test, _BLOCK))
    outputs = torch.cat([some.outputs + (some.kernel(tangents) @ weights).view_as(some.outputs) for some in tested])
    predicted, moved = (_score(some, labels) for some in (outputs, _moved(module, train, weights.view_as(targets), test)))
    apart = abs(moved[0] / predicted[0] - 1)
    if apart > TOLERANCE:
        raise OutOfRegime(
            f"ntk takes the network to be linear in its weights, and at width {point.model.width:,} it is not as far as these labels take "
            f"it: moved by the linear solution its test loss differs by {apart:.0%}; wider networks, fewer samples or epochs differ less"
        )
    return {"test_loss": predicted[0], "test_error": predicted[1]}


def _check(point: TrialConfig) -> None:
    optimizer, regularizers = point.optimizer, point.regularizers
    if point.is_solved or optimizer.name != "sgd":
        raise OutOfRegime(f"ntk is about gradient descent, and optimizer.name is {optimizer.name}: sgd is what it knows")
    if optimizer.loss != "squared":
        raise OutOfRegime("ntk is about the squared loss, and optimizer.loss is cross_entropy: it has no limit that a kernel reaches")
    if optimizer.schedule != "constant" or optimizer.warmup or point.model.parameterization == "mup":
        raise OutOfRegime("ntk takes one learning rate for all steps and layers: optimizer.schedule constant, no warmup, no mup")
    names = ("weight_decay", "dropout", "crop", "flip", "label_smoothing", "mixup", "gradient_clip")
    if used := [name for name in names if getattr(regularizers, name)]:
        raise OutOfRegime(f"ntk is about the loss alone, and regularizers.{used[0]} is on")


def _linearized(point: TrialConfig, module: nn.Module, classes: int) -> Callable[[nn.Module, Tensor], Any]:
    """What takes the network apart: its layers where all of them are linear, else Jacobians."""
    outputs = (point.data.train_size or 0) * classes
    if outputs > LARGEST_KERNEL:
        raise OutOfRegime(
            f"ntk takes a kernel matrix of all outputs apart, of up to {LARGEST_KERNEL:,}, and here are {outputs:,} ({classes} a sample)"
        )
    linear = {id(parameter) for layer in module.modules() if isinstance(layer, nn.Linear) for parameter in layer.parameters()}
    if all(id(parameter) in linear for parameter in module.parameters()):
        return Tangents.of
    if any(True for _ in module.buffers()):
        raise OutOfRegime(
            f"ntk is about each sample for itself, and {point.model.name} normalizes batches: model.batch_norm false does not"
        )
    parameters = sum(parameter.numel() for parameter in module.parameters())
    if outputs * parameters > LARGEST_JACOBIAN:
        raise OutOfRegime(
            f"ntk makes the Jacobian of a network that is not of linear layers alone, of up to {LARGEST_JACOBIAN:,.0f} numbers: "
            f"{outputs:,} outputs by {parameters:,} parameters are more"
        )
    return Jacobians.of


def _moved(module: nn.Module, train: Tensor, weights: Tensor, test: Tensor) -> Tensor:
    """The network's outputs on the test samples with its parameters moved by J^T weights."""
    named = dict(module.named_parameters())
    steps = torch.autograd.grad((module(train) * weights).sum(), list(named.values()))
    with torch.no_grad():
        moved = {name: value + step for (name, value), step in zip(named.items(), steps, strict=True)}
        found: Tensor = functional_call(module, moved, (test,))
    return found


def _score(outputs: Tensor, labels: Tensor) -> tuple[float, float]:
    targets = nn.functional.one_hot(labels, outputs.shape[1])
    return float((outputs - targets).square().sum(1).mean() / 2), float((outputs.argmax(1) != labels).double().mean())
