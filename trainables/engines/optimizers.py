"""SGD, Adam and AdamW for stacked members, each with its own learning rate, momentum and weight decay.

PyTorch's update rules to the letter (`torch.optim.SGD`, `Adam`, `AdamW` with their defaults; the tests compare them), with
hyperparameters as (K, 1, ...) tensors: `torch.optim` takes one number for all. The rate of each parameter may have a factor of its own.
Every member goes through the same operations whatever its neighbours' values, so its bits do not depend on them.
"""

from __future__ import annotations

from functools import reduce
from math import cos, pi

import torch
from torch import Tensor

from trainables.point.config import Optimizer, TrialConfig

_BETAS, _EPSILON = (0.9, 0.999), 1e-8


class StackedOptimizer:
    """An optimizer that steps K members at once. They share the rule's name and `nesterov`."""

    def __init__(self, rule: Optimizer) -> None:
        self._rule = rule
        self._moments: list[Tensor] = []
        self._steps: list[int] = []
        self._factors: tuple[float, ...] = ()

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
        kept = self._moments if keep else []
        self._moments = self._zeros(parameters)
        for index, moment in enumerate(self._moments):
            if keep:
                moment[: len(keep)] = kept[index][keep]
            for member, own in enumerate(moments, start=len(keep)):
                if own is not None:
                    moment[member] = own[index]
        self._steps = [self._steps[member] for member in keep] + steps
        self._parameters = parameters

        def column(values: list[float]) -> Tensor:
            return torch.tensor(values, dtype=torch.float32, device=device)

        momentum = column([point.optimizer.momentum for point in points])
        self._momenta = [_shaped(momentum, parameter) for parameter in parameters]
        self._clips = column([point.regularizers.gradient_clip or float("inf") for point in points])
        decays = [point.regularizers.weight_decay for point in points]
        biases = [decay if point.regularizers.decay_biases else 0.0 for decay, point in zip(decays, points, strict=True)]
        self._decays = [_shaped(column(decays if parameter.dim() > 2 else biases), parameter) for parameter in parameters]
        if self._factors:
            self._decays = [decay / factor for decay, factor in zip(self._decays, self._factors, strict=True)]
        self._any_decay = any(decays)
        self._any_clip = any(point.regularizers.gradient_clip for point in points)

    def set_rates(self, rates: Tensor) -> None:
        """Set the learning rate of each member from now on, (K,) float32."""
        self._rates = [_shaped(rates, parameter) for parameter in self._parameters]
        if self._factors:
            self._rates = [rate * factor for rate, factor in zip(self._rates, self._factors, strict=True)]
        self._down = [-rate for rate in self._rates]

    def step(self, gradients: list[Tensor]) -> None:
        """Update the parameters in place; `gradients` are overwritten."""
        if self._any_clip:
            self._clip(gradients)
        if self._any_decay:
            self._decay(gradients)
        self._steps = [step + 1 for step in self._steps]
        if self._rule.name == "sgd":
            self._sgd(gradients)
        else:
            self._adam(gradients)

    def state(self, member: int) -> list[Tensor]:
        """Copy one member's moments."""
        return [moment[member].clone() for moment in self._moments]

    def _zeros(self, parameters: list[Tensor]) -> list[Tensor]:
        """Make the moments that a member starts from."""
        return [torch.zeros_like(parameter) for parameter in parameters for _ in range(1 if self._rule.name == "sgd" else 2)]

    def _clip(self, gradients: list[Tensor]) -> None:
        squares = [gradient.flatten(1).square().sum(1) for gradient in gradients]
        norms = reduce(torch.add, squares).sqrt()  # one by one: torch.sum's order would depend on the number of members
        factors = (self._clips / (norms + 1e-6)).clamp_max(1.0).where(self._clips.isfinite(), 1.0)
        for gradient in gradients:
            gradient.mul_(_shaped(factors, gradient))

    def _decay(self, gradients: list[Tensor]) -> None:
        for parameter, gradient, decay, rate in zip(self._parameters, gradients, self._decays, self._rates, strict=True):
            if self._rule.name == "adamw":
                parameter.mul_(1 - rate * decay)
            else:
                gradient.addcmul_(parameter, decay)

    def _sgd(self, gradients: list[Tensor]) -> None:
        each = zip(self._parameters, gradients, self._moments, self._momenta, self._down, strict=True)
        for parameter, gradient, buffer, momentum, down in each:
            torch.addcmul(gradient, buffer, momentum, out=buffer)
            update = gradient.addcmul_(buffer, momentum) if self._rule.nesterov else buffer
            parameter.addcmul_(update, down)

    def _adam(self, gradients: list[Tensor]) -> None:
        first_beta, second_beta = _BETAS
        corrections = [(1 - first_beta**step, (1 - second_beta**step) ** 0.5) for step in self._steps]
        device = self._parameters[0].device
        first, second = (torch.tensor(values, dtype=torch.float32, device=device) for values in zip(*corrections, strict=True))
        each = zip(self._parameters, gradients, self._moments[::2], self._moments[1::2], self._down, strict=True)
        for parameter, gradient, mean, square, down in each:
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
