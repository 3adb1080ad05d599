"""PAC-Bayes measures: how much Gaussian noise the weights bear.

sigma is the largest noise at which the mean training accuracy falls by 0.1: found by bisection in [0, 2], at most 15 steps, to an
accuracy of 0.01, over 10 draws (the search of Dziugaite et al. 2020). All parameters of the folded network are perturbed, biases
too; the norms in the bounds are of the weights.

**sigma is a standard deviation here.** The code of Dziugaite et al. 2020 draws ``torch.normal(0, sigma**2)``, whose second argument is
the standard deviation: the noise that it draws is sigma^2 strong, its sigma the square root of ours, and what it puts into the bounds
is not the noise that was borne. Likewise sigma': here the noise of a weight has the standard deviation sqrt(sigma'^2 w^2 + epsilon^2).

Each step of the bisection reuses the same 10 draws, scaled: the search is on one fixed function of sigma. Where no
noise up to 2 costs 0.1 of the accuracy, sigma is 2; where any noise costs more (for sigma', epsilon alone), it is 2/2^15.

Those are correlates. `pacbayes_certificate` is a bound that holds, with its terms beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import log, nan

import torch
from torch import Tensor

from trainables.measures.bundled.compression import largest_error
from trainables.measures.bundled.norms import squared_distance, squared_norm
from trainables.measures.folding import fold_batch_norm
from trainables.measures.layers import parameters, root_per_sample
from trainables.measures.outputs import accuracy, logits, outputs
from trainables.measures.registry import Common, measure
from trainables.measures.subject import Subject
from trainables.point.streams import generator

EPSILON = 1e-3
"""Least noise of a weight in the magnitude-aware forms, so that a weight of 0 is perturbed too."""
DROP = 0.1
"""Training accuracy given up."""
_TOLERANCE, _LARGEST, _STEPS, _DRAWS = 0.01, 2.0, 15, 10
_PLAIN: Common = {
    "cost": "150 forward passes or fewer, once for pacbayes_orig, _init and _flatness",
    "cheap": False,
    "epochs": 50,
    "ignores": "that rescaled ReLU layers compute the same function",
}
_MAGNITUDE: Common = {
    "cost": "150 forward passes or fewer, once for pacbayes_mag_orig, _init and _flatness",
    "cheap": False,
    "epochs": 50,
    "ignores": "that a prior made from the trained weights gives no valid bound",
}
BOUND_FAILS, DRAWS_FAIL = 0.04, 0.01
"""delta, of the bound over training sets, and delta', of the estimate over draws of the noise: together the bound fails in 5 %."""
NOISES = tuple(2 ** (1 - step / 2) for step in range(24))
"""Deviations of prior and posterior, fixed beforehand: from 2 to 0.0007. Choosing one of them is paid for."""
FINAL_DRAWS, _TRIAL_DRAWS = 300, 3
_CERTIFICATE: Common = {
    "cost": "a training on half of the samples, and 370 forward passes of the other half or fewer, once for all of pacbayes_certificate",
    "cheap": False,
    "epochs": 110,
    "ignores": "the network as trained: it is of the one with noise on its weights",
}

Deviation = Callable[[Tensor, float], Tensor]
"""A function (a parameter, sigma) -> the standard deviation of each of its entries, shaped to broadcast."""


@measure("pacbayes_orig", **_PLAIN)
def pacbayes_orig(subject: Subject) -> float:
    """sqrt(v/n), v = |w|^2 / (4 sigma^2) + log(n/sigma) + 10. Source: Jiang et al. 2020, eq. 49."""
    return _bound(subject, subject.once(squared_norm))


@measure("pacbayes_init", **_PLAIN)
def pacbayes_init(subject: Subject) -> float:
    """sqrt(v/n), v = |w - w0|^2 / (4 sigma^2) + log(n/sigma) + 10. Source: Jiang et al. 2020, eq. 48."""
    return _bound(subject, subject.once(squared_distance))


@measure("pacbayes_flatness", **_PLAIN)
def pacbayes_flatness(subject: Subject) -> float:
    """sqrt(v/n), v = 1/sigma^2. Source: Jiang et al. 2020, eq. 53."""
    return root_per_sample(subject.once(sigma) ** -2, subject.samples)


@measure("pacbayes_mag_orig", **_MAGNITUDE)
def pacbayes_mag_orig(subject: Subject) -> float:
    """sqrt(v/n), v = 1/4 sum_i log[(e^2 + (s^2 + 1) |w|^2 / k) / (e^2 + s^2 (w_i - w0_i)^2)] + log(n/s) + 10.

    s is sigma', e = 0.001, k the number of weights w. Source: Jiang et al. 2020, eq. 57.
    """
    return _magnitude_aware_bound(subject, subject.once(squared_norm))


@measure("pacbayes_mag_init", **_MAGNITUDE)
def pacbayes_mag_init(subject: Subject) -> float:
    """The bound of `pacbayes_mag_orig`, with |w - w0|^2 for |w|^2. Source: Jiang et al. 2020, eq. 56."""
    return _magnitude_aware_bound(subject, subject.once(squared_distance))


@measure("pacbayes_mag_flatness", **_MAGNITUDE)
def pacbayes_mag_flatness(subject: Subject) -> float:
    """sqrt(v/n), v = 1/sigma'^2. Source: Jiang et al. 2020, eq. 61."""
    return root_per_sample(subject.once(magnitude_aware_sigma) ** -2, subject.samples)


def sigma(subject: Subject) -> float:
    """Search the standard deviation of noise on each parameter that costs 0.1 of the training accuracy."""
    return noise_level(subject, lambda parameter, level: parameter.new_tensor(level))


def magnitude_aware_sigma(subject: Subject) -> float:
    """Search sigma', as `sigma` does sigma, where a parameter w has noise of standard deviation sqrt(sigma'^2 w^2 + epsilon^2)."""
    return noise_level(subject, magnitude_aware)


def magnitude_aware(parameter: Tensor, level: float) -> Tensor:
    """Compute the standard deviation sqrt(level^2 w^2 + epsilon^2), shaped as the parameter."""
    return (level**2 * parameter.square() + EPSILON**2).sqrt()


def noise_level(subject: Subject, deviation: Deviation) -> float:
    """Search the level of Gaussian noise, in [0, 2], at which the mean accuracy over 10 draws is 0.1 lower, to a tolerance of 0.01."""
    reached = accuracy(subject, subject.once(logits))
    low, high = 0.0, _LARGEST
    level = high
    for _ in range(_STEPS):
        level = (low + high) / 2
        drop = reached - sum(accuracy(subject, outputs(subject, noisy(subject, deviation, level, draw))) for draw in range(_DRAWS)) / _DRAWS
        if abs(drop - DROP) < _TOLERANCE:
            break
        low, high = (low, level) if drop > DROP else (level, high)
    return level


def noisy(subject: Subject, deviation: Deviation, level: float, draw: int) -> dict[str, Tensor]:
    """Add one draw of Gaussian noise to the parameters. The draw depends on the subject's seed and the draw's number alone."""
    source = generator(subject.seed, "weight noise", draw)
    theta = parameters(subject.folded)
    return {name: value + deviation(value, level) * torch.randn(value.shape, generator=source).to(value) for name, value in theta.items()}


def _bound(subject: Subject, squared: float) -> float:
    level = subject.once(sigma)
    return root_per_sample(squared / (4 * level**2) + log(subject.samples / level) + 10, subject.samples)


def _magnitude_aware_bound(subject: Subject, squared: float) -> float:
    level = subject.once(magnitude_aware_sigma)
    moved = torch.cat([(layer.weight - layer.initial).double().flatten() for layer in subject.layers])
    numerator = EPSILON**2 + (level**2 + 1) * squared / len(moved)
    logs = (numerator / (EPSILON**2 + level**2 * moved.square())).log()
    return root_per_sample(logs.sum().item() / 4 + log(subject.samples / level) + 10, subject.samples)


@dataclass(frozen=True)
class Certificate:
    """A PAC-Bayes bound with its terms.

    Attributes:
        bound: on the error of the network with noise on its weights; 1 says nothing.
        divergence: KL(posterior, prior), in nats.
        error: of the noisy network on the samples of the bound, mean over the draws.
        noise: deviation of the noise.
    """

    bound: float
    divergence: float
    error: float
    noise: float


@measure("pacbayes_certificate", **_CERTIFICATE)
def pacbayes_certificate(subject: Subject) -> float:
    """Upper bound on the test error of the network with Gaussian noise on its weights, at confidence 95 %; 1 and nearly 1 say nothing.

    The PAC-Bayes-kl bound (Maurer 2004; Langford and Seeger 2001) with a prior that a part of the data chose (Dziugaite and Roy 2017;
    Perez-Ortiz et al. 2021): the same network is trained, as it was trained, on half of its samples, and the prior is N(w_half, s^2). The
    posterior is N(w, s^2) around the trained weights. On the m samples of the other half, which the prior does not know, with probability
    1 - delta at once for all posteriors and all of J deviations s,

        kl(e || true error) <= (|w - w_half|^2 / (2 s^2) + ln(2 sqrt(m) J / delta)) / m,

    e the noisy network's error on them. Over D draws of the noise it is estimated, and with probability 1 - delta' it is at most the
    inverse of kl at ln(1/delta')/D (Chernoff). J = 24, D = 300, delta = 0.04, delta' = 0.01. Batch norm is folded first. The test error is
    that on samples with labels as they were trained on. Taken for granted: samples are drawn independently; a study's are balanced over
    classes besides. Where the network cannot be trained again, the prior is N(w_0, s^2) around the initialization, for all n samples.
    """
    return subject.once(certified).bound


@measure("pacbayes_certificate_kl", **_CERTIFICATE)
def pacbayes_certificate_kl(subject: Subject) -> float:
    """The divergence |w - w_half|^2 / (2 s^2) of posterior and prior in `pacbayes_certificate`, in nats."""
    return subject.once(certified).divergence


@measure("pacbayes_certificate_error", **_CERTIFICATE)
def pacbayes_certificate_error(subject: Subject) -> float:
    """The noisy network's error on the samples of `pacbayes_certificate`, mean over 300 draws of the noise."""
    return subject.once(certified).error


@measure("pacbayes_certificate_noise", **_CERTIFICATE)
def pacbayes_certificate_noise(subject: Subject) -> float:
    """The deviation s of the noise in `pacbayes_certificate`."""
    return subject.once(certified).noise


def certified(subject: Subject) -> Certificate:
    """The certificate of a trained network, by `certificate`."""
    prior, unseen = subject.folded_initial, torch.ones(subject.samples, dtype=torch.bool)
    if subject.on_a_half is not None and subject.samples > 1:
        module, unseen = subject.on_a_half()
        prior = fold_batch_norm(module)
    theta, start = parameters(subject.folded), parameters(prior)
    squared = sum(float((theta[name].double() - start[name].double()).square().sum()) for name in theta)
    left = replace(
        subject, inputs=subject.inputs[unseen.to(subject.inputs.device)], labels=subject.labels[unseen.to(subject.labels.device)]
    )

    def error(level: float, draw: int) -> float:
        drawn = noisy(left, lambda parameter, some: parameter.new_tensor(some), level, draw)
        return 1 - accuracy(left, outputs(left, drawn))

    return certificate(squared, left.samples, error)


def certificate(squared: float, samples: int, error: Callable[[float, int], float]) -> Certificate:
    """The bound with the deviation that a few draws favour, evaluated by draws of its own.

    Args:
        squared: |w - w_prior|^2, of a prior that does not depend on the samples.
        samples: m.
        error: on the samples, from a deviation and the number of a draw, at least 0.
    """
    budget = log(2 * samples**0.5 * len(NOISES) / BOUND_FAILS)

    def bound(level: float, seen: float) -> float:
        return largest_error(seen, (squared / (2 * level**2) + budget) / samples)

    if not squared < float("inf"):
        return Certificate(nan, nan, nan, nan)
    hopeful = [level for level in NOISES if bound(level, 0.0) < 1 - 1e-6] or [NOISES[0]]
    guesses = {level: bound(level, sum(error(level, draw) for draw in range(_TRIAL_DRAWS)) / _TRIAL_DRAWS) for level in hopeful}
    level = min(guesses, key=guesses.__getitem__)
    seen = sum(error(level, _TRIAL_DRAWS + draw) for draw in range(FINAL_DRAWS)) / FINAL_DRAWS
    highest = largest_error(seen, log(1 / DRAWS_FAIL) / FINAL_DRAWS)
    return Certificate(bound(level, highest), squared / (2 * level**2), seen, level)
