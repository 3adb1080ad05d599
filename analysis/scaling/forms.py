"""Forms of scaling laws and their fit: Huber's loss on log residuals, many fits at once.

Sizes enter as centred logarithms z = log x - mean log x, which keeps scale and exponent apart. A law is
E + sign·Σ exp(a_i -+ alpha_i·z_i); a peak is E + exp(a - (z - c)²/(2w²)).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
FormName = Literal["constant", "power", "decreasing", "saturating", "rising", "peaked"]

EFFICIENT = 1.345
"""Huber 1964: residuals beyond this many deviations count linearly; 95 % efficient where they are normal."""
NARROWEST = 1e-3
"""Width of the loss in Hoffmann et al. 2022, approach 3; here the least one, for data with less noise than that."""
EXPONENTS = (1e-3, 5.0)
"""Exponents looked for."""
_STARTS = (0.05, 0.15, 0.3, 0.5, 0.8, 1.3, 2.2)
_STEPS = 200
_KEPT = 6
_TINY = 1e-12


@dataclass(frozen=True)
class Form:
    """A kind of law.

    Attributes:
        name: of the form.
        formula: with x for a size.
        offset: whether it has an offset E.
        sign: of what is added to the offset.
        direction: -1 where that falls with size, +1 where it grows; 0 for a constant and a peak.
    """

    name: FormName
    formula: str
    offset: bool
    sign: int
    direction: int

    def parameters(self, sizes: int) -> int:
        """How many parameters it has for this many sizes."""
        return {"constant": 1, "peaked": 4}.get(self.name, self.offset + 2 * sizes)


FORMS: dict[str, Form] = {
    form.name: form
    for form in (
        Form("constant", "E", True, 0, 0),
        Form("power", "A/x^alpha", False, 1, -1),
        Form("decreasing", "E + A/x^alpha", True, 1, -1),
        Form("saturating", "E - A/x^alpha", True, -1, -1),
        Form("rising", "E + A·x^alpha", True, 1, 1),
        Form("peaked", "E + A·exp(-log²(x/c)/(2w²))", True, 1, 0),
    )
}
"""The simplest first."""


@dataclass(frozen=True)
class Scale:
    """The scale on which residuals are taken.

    Attributes:
        log: logarithms of predicted over observed; else differences over ``deviations``.
        deviations: of the observed means, shape (cells,).
    """

    log: bool
    deviations: Floats

    def residuals(self, value: Floats, observed: Floats) -> Floats:
        """The residuals of predicted values, shape (fits, cells)."""
        if self.log:
            return np.asarray(np.log(np.maximum(value, _TINY)) - np.log(observed))
        return np.asarray((value - observed) / self.deviations)

    def derivative(self, value: Floats) -> Floats:
        """The derivative of the residuals by the value."""
        return np.where(value > _TINY, 1 / np.maximum(value, _TINY), 0.0) if self.log else np.broadcast_to(1 / self.deviations, value.shape)


def evaluate(form: Form, theta: Floats, z: Floats) -> Floats:
    """The value of each fit.

    Args:
        form: of the law.
        theta: parameters (E, a, alpha, a, alpha ...; or E, a, c, w), shape (fits, parameters).
        z: centred log sizes, shape (sizes, cells), or (fits, sizes, cells).

    Returns:
        Shape (fits, cells).
    """
    return _value_and_derivatives(form, theta, z, derivatives=False)[0]


def _value_and_derivatives(form: Form, theta: Floats, z: Floats, *, derivatives: bool = True) -> tuple[Floats, Floats]:
    fits, cells = len(theta), z.shape[-1]
    offset = theta[:, :1] if form.offset else np.zeros((fits, 1))
    columns = [np.ones((fits, cells))] if form.offset else []
    if form.name == "constant":
        return np.broadcast_to(offset, (fits, cells)), np.stack(columns, axis=1)
    if form.name == "peaked":
        a, c, w = (theta[:, index, None] for index in (1, 2, 3))
        away = (z[..., 0, :] - c) / w
        bump = np.exp(a - away**2 / 2)
        return offset + bump, np.stack([*columns, bump, bump * away / w, bump * away**2 / w], axis=1) if derivatives else bump
    first = int(form.offset)
    exponents = form.direction * theta[:, first + 1 :: 2, None] * z
    terms = form.sign * np.exp(np.minimum(theta[:, first::2, None] + exponents, 300))
    value = offset + terms.sum(axis=1)
    if not derivatives:
        return value, value
    moved = form.direction * z * terms
    for index in range(terms.shape[1]):
        columns += [terms[:, index], moved[:, index]]
    return value, np.stack(columns, axis=1)


def bounds_of(form: Form, z: Floats, y: Floats, within: tuple[float, float]) -> Floats:
    """Lowest and highest value of each parameter, shape (parameters, 2); ``within`` bounds the offset where it is finite."""
    span = max(float(np.ptp(y)), 1e-3 * float(np.abs(y).max()), 1e-9)
    low = within[0] if np.isfinite(within[0]) else float(y.min()) - 10 * span
    high = within[1] if np.isfinite(within[1]) else float(y.max()) + 10 * span
    offset, height = [(low, high)], (np.log(span) - 25, np.log(span) + 25)
    if form.name == "constant":
        return np.array(offset)
    if form.name == "peaked":
        reach = float(np.ptp(z))
        return np.array([*offset, height, (z.min(), z.max()), (reach / 50, reach)])
    return np.array((offset if form.offset else []) + [height, EXPONENTS] * len(z))


def fit(form: Form, z: Floats, y: Floats, scale: Scale, within: tuple[float, float]) -> tuple[Floats, float]:
    """The parameters of one fit, and the width of Huber's loss that its residuals led to.

    All starts run at once, first under a wide loss; the best go on with 1.345 times the deviation that their residuals show.

    Args:
        form: of the law.
        z: centred log sizes, shape (sizes, cells).
        y: observed means, shape (cells,).
        scale: of the residuals.
        within: where the quantity can be.
    """
    bounds = bounds_of(form, z, y, within)
    width = 0.1 if scale.log else 3.0
    theta, cost = minimise(form, z, y[None], scale, np.clip(_starts(form, z, y, scale), *bounds.T), width, bounds, steps=25)
    theta = theta[np.argsort(cost)[:_KEPT]]
    for _ in range(3):
        theta, cost = minimise(form, z, y[None], scale, theta, width, bounds)
        best = theta[[np.argmin(cost)]]
        spare = max(len(y) - form.parameters(len(z)), 1)
        deviation = 1.4826 * float(np.median(np.abs(scale.residuals(evaluate(form, best, z), y)))) * (len(y) / spare) ** 0.5
        width = max(EFFICIENT * deviation, NARROWEST)
    theta, cost = minimise(form, z, y[None], scale, theta, width, bounds)
    return theta[np.argmin(cost)], width


def minimise(
    form: Form, z: Floats, y: Floats, scale: Scale, theta: Floats, width: float, bounds: Floats, *, steps: int = _STEPS
) -> tuple[Floats, Floats]:
    """Many fits at once by Levenberg and Marquardt's method within bounds, with Huber's weights; those that are done step aside.

    Args:
        form: of the law.
        z: centred log sizes, shape (sizes, cells).
        y: observed values, shape (fits, cells) or (1, cells).
        scale: of the residuals.
        theta: where each fit starts, shape (fits, parameters).
        width: of Huber's loss.
        bounds: as from `bounds_of`.
        steps: at most.

    Returns:
        The parameters and the loss of each fit.
    """
    theta = theta.copy()
    active = np.arange(len(theta))
    damping = np.full(len(theta), 1e-2)
    y = np.broadcast_to(y, (len(theta), y.shape[1]))
    value, derivatives = _value_and_derivatives(form, theta, z)
    residuals = scale.residuals(value, y)
    costs = huber(residuals, width)
    for _ in range(steps):
        now = theta[active]
        jacobian = derivatives * scale.derivative(value)[:, None]
        weights = np.minimum(1, width / np.maximum(np.abs(residuals), 1e-300))
        weighted = jacobian * weights[:, None]
        gradient = np.einsum("bpn,bn->bp", weighted, residuals)
        held = ((now <= bounds[:, 0]) & (gradient > 0)) | ((now >= bounds[:, 1]) & (gradient < 0))
        curvature = np.where(held[:, :, None] | held[:, None, :], 0.0, weighted @ np.swapaxes(jacobian, 1, 2))
        diagonal = np.einsum("bpp->bp", curvature)
        diagonal += damping[active, None] * diagonal + np.where(held, 1.0, 1e-14 * diagonal.max(axis=1, keepdims=True) + 1e-300)
        step = np.linalg.solve(curvature, -np.where(held, 0.0, gradient)[..., None])[..., 0]
        moved = np.clip(now + step, *bounds.T)
        new_value, new_derivatives = _value_and_derivatives(form, moved, z)
        new_residuals = scale.residuals(new_value, y[active])
        new_costs = huber(new_residuals, width)
        better = new_costs < costs[active]
        gain = costs[active] - new_costs
        done = (np.abs(gain) <= 1e-9 * costs[active]) | (new_costs < 1e-24) | (~better & (damping[active] > 1e8))
        theta[active[better]], costs[active[better]] = moved[better], new_costs[better]
        value, derivatives, residuals = (
            np.where(better[(...,) + (None,) * (old.ndim - 1)], new, old)
            for new, old in ((new_value, value), (new_derivatives, derivatives), (new_residuals, residuals))
        )
        damping[active] = np.clip(np.where(better, damping[active] / 5, damping[active] * 5), 1e-12, 1e12)
        if done.any():
            active, value, derivatives, residuals = active[~done], value[~done], derivatives[~done], residuals[~done]
            if not len(active):
                break
    return theta, costs


def huber(residuals: Floats, width: float) -> Floats:
    """Huber's loss, summed over cells."""
    size = np.abs(residuals)
    return np.asarray(np.where(size <= width, size**2 / 2, width * (size - width / 2)).sum(axis=-1))


def _starts(form: Form, z: Floats, y: Floats, scale: Scale) -> Floats:
    """A grid of exponents (or places and widths of a peak), each with the offset and scales that serve it best linearly."""
    if form.name == "constant":
        return np.array([[np.median(y)]])
    if form.name == "peaked":
        places, widths = np.quantile(z[0], [0.15, 0.3, 0.5, 0.7, 0.85]), np.ptp(z[0]) * np.array([0.05, 0.1, 0.2, 0.4])
        shapes = np.array(list(product(places, widths)))
        terms = np.exp(-(((z[0] - shapes[:, :1]) / shapes[:, 1:]) ** 2) / 2)[:, None]
    else:
        shapes = np.array(list(product(_STARTS, repeat=len(z))))
        terms = form.sign * np.exp(form.direction * shapes[:, :, None] * z)
    weights = 1 / np.maximum(np.abs(y), _TINY) if scale.log else 1 / scale.deviations
    design = np.concatenate([np.ones((len(terms), 1, len(y))), terms], axis=1) if form.offset else terms
    design = np.swapaxes(design * weights, 1, 2)
    linear = (np.linalg.pinv(design, rcond=1e-10) @ (weights * y)[:, None])[..., 0]
    heights = np.log(np.maximum(linear[:, int(form.offset) :], 1e-4 * np.abs(y).max() + 1e-300))
    columns = [linear[:, 0]] if form.offset else []
    if form.name == "peaked":
        return np.stack([*columns, heights[:, 0], shapes[:, 0], shapes[:, 1]], axis=1)
    for index in range(len(z)):
        columns += [heights[:, index], shapes[:, index]]
    return np.stack(columns, axis=1)
