"""SGD, Adam and AdamW for stacked members, each with its own learning rate, momentum and weight decay.

PyTorch's update rules to the letter (`torch.optim.SGD`, `Adam`, `AdamW` with their defaults; the tests compare them), with
hyperparameters as (K, 1, ...) tensors: `torch.optim` takes one number for all. The rate of each parameter may have a factor of its own.
Every member goes through the same operations whatever its neighbours' values, so its bits do not depend on them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from math import cos, pi

import torch
from torch import Tensor

from trainables.gpu_memory import uploaded
from trainables.point.config import Optimizer, TrialConfig

_BETAS, _EPSILON = (0.9, 0.999), 1e-8


@dataclass(frozen=True, eq=False)
class Pieces:
    """Stacked parameters, or their gradients, as operations act on them: as few tensors (K, ...) as may be.

    Attributes:
        whole: all of them.
        parts: the same, so that each is either of parameters of two or more dimensions, or of others.
        matrices: which of the parts are the former: weight decay acts on these, and with `decay_biases` on the others.
    """

    whole: list[Tensor]
    parts: list[Tensor]
    matrices: list[bool]


class StackedOptimizer:
    """An optimizer that steps K members at once. They share the rule's name and `nesterov`."""

    def __init__(self, rule: Optimizer) -> None:
        self._rule = rule
        self._moments: list[Tensor] = []
        self._steps: list[int] = []
        self._factors: tuple[float, ...] = ()
        self._since = 0  # steps that all have taken since these were counted
        self._corrections: list[Tensor] = []  # Adam's, (K, 2) each, of the next steps, the last of them first

    def scale(self, factors: tuple[float, ...]) -> None:
        """Multiply the learning rate of each parameter by its own factor from the next `refill` on, and divide its weight decay by that.

        Together they leave the share of a parameter that decays in a step as it is. Empty for rates as they are.
        """
        self._factors = factors

    def refill(
        self, keep: list[int], points: list[TrialConfig], parameters: list[Tensor], moments: list[list[Tensor] | None], steps: list[int]
    ) -> None:
        """Go on with the members `keep` in the first slots, and new ones after them.

        Args:
            keep: indices so far of the members that stay, in their new order.
            points: the resolved points of all members.
            parameters: the parameters of all members, each (K, *shape).
            moments: the moments of each new member, as `state` gave them; None to start from zero.
            steps: number of steps that each new member has already taken.
        """
        device = parameters[0].device
        kept: list[Tensor] = []
        if keep:
            stayed = uploaded(keep, torch.int64, device)
            kept = [moment.index_select(0, stayed) for moment in self._moments]
        self._moments = self._zeros(parameters)
        for index, moment in enumerate(self._moments):
            if keep:
                moment[: len(keep)] = kept[index]
            for member, own in enumerate(moments, start=len(keep)):
                if own is not None:
                    moment[member] = own[index]
        self._steps = [self._steps[member] + self._since for member in keep] + steps
        self._since, self._corrections = 0, []
        self._pieces = self._pieces_of_parameters(parameters)

        def column(values: list[float]) -> Tensor:
            return uploaded(values, torch.float32, device)

        momentum = column([point.optimizer.momentum for point in points])
        self._momenta = self._settled("momenta", [_shaped(momentum, piece) for piece in self._pieces.whole])
        (self._clips,) = self._settled("clips", [column([point.regularizers.gradient_clip or float("inf") for point in points])])
        decays = [point.regularizers.weight_decay for point in points]
        biases = [decay if point.regularizers.decay_biases else 0.0 for decay, point in zip(decays, points, strict=True)]
        each, others, parts = column(decays), column(biases), zip(self._pieces.parts, self._pieces.matrices, strict=True)
        shares = [_shaped(each if matrix else others, part) for part, matrix in parts]
        if self._factors:
            shares = [decay / factor for decay, factor in zip(shares, self._factors, strict=True)]
        self._decays = self._settled("decays", shares)
        self._any_decay = any(decays)
        self._any_clip = any(point.regularizers.gradient_clip for point in points)

    def set_rates(self, rates: Tensor) -> None:
        """Set the learning rate of each member from now on, (K,) float32."""
        self._rates = self._settled("rates", self._scaled([_shaped(rates, part) for part in self._pieces.parts]))
        down = [-rate for rate in self._scaled([_shaped(rates, piece) for piece in self._pieces.whole])]
        self._down = self._settled("down", down)

    def _scaled(self, rates: list[Tensor]) -> list[Tensor]:
        return [rate * factor for rate, factor in zip(rates, self._factors, strict=True)] if self._factors else rates

    def foresee(self, steps: int) -> None:
        """Bring to the device, in one go, what changes from step to step in the next ones; else each step does so for itself."""
        if self._rule.name == "sgd":
            return
        first_beta, second_beta = _BETAS
        counts = [[count + self._since + step for count in self._steps] for step in range(1, steps + 1)]
        corrections = [[[1 - first_beta**n, (1 - second_beta**n) ** 0.5] for n in row] for row in counts]
        self._corrections = list(uploaded(corrections, torch.float32, self._pieces.whole[0].device).unbind())[::-1]

    def step(self, gradients: list[Tensor]) -> None:
        """Update the parameters in place; `gradients` are overwritten."""
        self.advance()
        self.apply(gradients)

    def advance(self) -> None:
        """Count one step, and make ready what is its own."""
        if self._rule.name != "sgd":
            if not self._corrections:
                self.foresee(1)
            (self._correction,) = self._settled("correction", [self._corrections.pop()])
        self._since += 1

    def apply(self, gradients: list[Tensor]) -> None:
        """Update the parameters by the step that `advance` counted: operations on the device alone, which can be recorded."""
        if self._any_clip:
            self._clip(gradients)
        pieces = self._pieces_of_gradients(gradients)
        if self._any_decay:
            self._decay(pieces.parts)
        if self._rule.name == "sgd":
            self._sgd(pieces.whole)
        else:
            self._adam(pieces.whole)

    def state(self, member: int) -> list[Tensor]:
        """Copy one member's moments."""
        return [moment[member].clone() for moment in self._moments]

    @property
    def _kinds(self) -> int:
        """Moments of a parameter."""
        return 1 if self._rule.name == "sgd" else 2

    def _zeros(self, parameters: list[Tensor]) -> list[Tensor]:
        """Make the moments that a member starts from, shaped like the parameters, those of the first one first."""
        zeros = [torch.zeros_like(parameter) for parameter in parameters for _ in range(self._kinds)]
        self._moment_pieces = [zeros[kind :: self._kinds] for kind in range(self._kinds)]
        return zeros

    def _settled(self, name: str, values: list[Tensor]) -> list[Tensor]:
        """What `name` is from now on, (K, ...) each: these values, or memory that they were copied to."""
        return values

    def _pieces_of_parameters(self, parameters: list[Tensor]) -> Pieces:
        """The pieces of parameters; one each where rates have factors."""
        return Pieces(parameters, parameters, [parameter.dim() > 2 for parameter in parameters])

    def _pieces_of_gradients(self, gradients: list[Tensor]) -> Pieces:
        return Pieces(gradients, gradients, self._pieces.matrices)

    def _clip(self, gradients: list[Tensor]) -> None:
        squares = [gradient.reshape(len(gradient), -1).square().sum(1) for gradient in gradients]
        norms = reduce(torch.add, squares).sqrt()  # one by one: torch.sum's order would depend on the number of members
        factors = (self._clips / (norms + 1e-6)).clamp_max(1.0).where(self._clips.isfinite(), 1.0)
        for gradient in gradients:
            gradient.mul_(_shaped(factors, gradient))

    def _decay(self, gradients: list[Tensor]) -> None:
        for parameter, gradient, decay, rate in zip(self._pieces.parts, gradients, self._decays, self._rates, strict=True):
            if self._rule.name == "adamw":
                parameter.mul_(1 - rate * decay)
            else:
                gradient.addcmul_(parameter, decay)

    def _sgd(self, gradients: list[Tensor]) -> None:
        each = zip(self._pieces.whole, gradients, *self._moment_pieces, self._momenta, self._down, strict=True)
        for parameter, gradient, buffer, momentum, down in each:
            torch.addcmul(gradient, buffer, momentum, out=buffer)
            update = gradient.addcmul_(buffer, momentum) if self._rule.nesterov else buffer
            parameter.addcmul_(update, down)

    def _adam(self, gradients: list[Tensor]) -> None:
        first_beta, second_beta = _BETAS
        first, second = self._correction.unbind(1)
        for parameter, gradient, mean, square, down in zip(self._pieces.whole, gradients, *self._moment_pieces, self._down, strict=True):
            mean.lerp_(gradient, 1 - first_beta)
            square.mul_(second_beta).addcmul_(gradient, gradient, value=1 - second_beta)
            scale = square.sqrt().div_(_shaped(second, square)).add_(_EPSILON)
            parameter.addcmul_(mean.div(scale), down / _shaped(first, parameter))


def _shaped(values: Tensor, like: Tensor) -> Tensor:
    """Reshape (K,) to (K, 1, ...), so that it broadcasts over a stacked parameter."""
    return values.reshape(-1, *[1] * (like.dim() - 1))


def rate_at(point: TrialConfig, epoch: int) -> float:
    """Learning rate in epoch 0, 1, ...: the initial value times the schedule's factor, which changes from epoch to epoch.

    Without the warm-up, which changes it from step to step (`warmed_up`).

    >>> rate_at(TrialConfig(optimizer=Optimizer(learning_rate=0.1, schedule="exponential", decay=0.5)), 2)
    0.025
    """
    rule = point.optimizer
    if rule.schedule == "exponential":
        factor = rule.decay**epoch
    elif rule.schedule == "step":
        factor = rule.decay ** (epoch // rule.decay_every)
    elif rule.schedule == "cosine":
        factor = (1 + cos(pi * epoch / max(1, point.budget.epochs))) / 2
    else:
        factor = 1.0
    return rule.learning_rate * factor


def warmed_up(point: TrialConfig, steps: int) -> float:
    """The share of the learning rate in the step after `steps` steps, which rises linearly to 1 (Goyal et al. 2017, section 2.2).

    >>> [warmed_up(TrialConfig(optimizer=Optimizer(warmup=4)), steps) for steps in (0, 1, 3, 9)]
    [0.25, 0.5, 1.0, 1.0]
    """
    return min(1.0, (steps + 1) / (point.optimizer.warmup or 1))
