"""Measures made from the gradient of each sample's loss. The loss is cross-entropy, whatever the network was trained on."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.functional import cross_entropy

from trainables.measures.folding import fold_batch_norm
from trainables.measures.layers import parameters
from trainables.measures.outputs import GRADIENT_BATCH
from trainables.measures.registry import measure
from trainables.measures.subject import Subject

_GRADIENT_NUMBERS = 2**23
"""Numbers in the gradients held at once: 32 MiB of float32; fewer cost more calls, more fall out of the cache."""
_COST = "a backward pass for each sample alone"


@measure("fisher_rao", cost="about two epochs of training", cheap=True, ignores="samples that are fitted well: their gradients vanish")
def fisher_rao(subject: Subject) -> float:
    """Fisher-Rao norm: sqrt(mean over samples of <theta, gradient of the sample's loss>^2), theta all parameters with biases.

    For a ReLU network of L layers without biases <theta, gradient> = L <d loss / d output, output>, the form in which Liang
    et al. 2019 state it ("Fisher-Rao metric, geometry, and complexity of neural networks"). Here the inner product is the derivative
    along theta, exact with biases and skip connections as well. The Fisher matrix is the empirical one, at the labels trained on.

    Unchanged when a ReLU unit's inputs are scaled and its outputs scaled back. Falls with the loss: near 0 for any network that fits.
    """
    theta = {name: value.clone().requires_grad_() for name, value in parameters(subject.folded).items()}
    total = 0.0
    for inputs, labels in zip(torch.split(subject.inputs, GRADIENT_BATCH), torch.split(subject.labels, GRADIENT_BATCH), strict=True):
        losses = cross_entropy(functional_call(subject.folded, theta, (inputs,)), labels, reduction="none")
        total += _along(theta, losses).double().square().sum().item()
    norm: float = (total / subject.samples) ** 0.5
    return norm


@measure(
    "gradient_noise",
    cost=_COST,
    cheap=False,
    epochs=30,
    ignores="that rescaled ReLU layers compute the same function",
)
def gradient_noise(subject: Subject) -> float:
    """Variance of the gradient over training samples: mean of |g_i - g|^2, g_i the gradient of sample i, g their mean.

    The trace of the gradient's covariance at the trained network, for batches of one.
    Source: "gradient noise, final" of Jiang et al. 2020.
    """
    return gradient_variance(subject.folded, subject)


@measure(
    "gradient_noise_first_epoch",
    cost=f"{_COST}, and one epoch of training",
    cheap=False,
    epochs=30,
    ignores="that rescaled ReLU layers compute the same function",
)
def gradient_noise_first_epoch(subject: Subject) -> float:
    """`gradient_noise` after the first epoch, for which the network is trained once more. Source: among Jiang et al. 2020's measures."""
    if subject.after_first_epoch is None:
        return float("nan")
    return gradient_variance(fold_batch_norm(subject.after_first_epoch()), subject)


def gradient_variance(folded: nn.Module, subject: Subject) -> float:
    """Trace of the covariance of the samples' gradients at a network without batch norm."""
    theta = parameters(folded)

    def loss(values: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        return cross_entropy(functional_call(folded, values, (image[None],)), label[None])

    per_sample = vmap(grad(loss), in_dims=(None, 0, 0))
    at_once = min(GRADIENT_BATCH, max(1, _GRADIENT_NUMBERS // sum(tensor.numel() for tensor in theta.values())))
    squares, sums = 0.0, {name: torch.zeros_like(tensor, dtype=torch.float64) for name, tensor in theta.items()}
    for images, labels in zip(torch.split(subject.inputs, at_once), torch.split(subject.labels, at_once), strict=True):
        for name, gradient in per_sample(theta, images, labels).items():
            flat = gradient.flatten(1)
            squares += torch.linalg.vector_norm(flat, dim=1).double().square().sum().item()
            sums[name] += gradient.sum(0)
    mean_square = sum((total / subject.samples).square().sum().item() for total in sums.values())
    return squares / subject.samples - mean_square


def _along(theta: dict[str, Tensor], losses: Tensor) -> Tensor:
    """Derivative of each loss in the direction theta, (n,): the product J theta, as the gradient in v of the linear v J theta.

    The same as `torch.func.jvp`, whose first use compiles TorchScript: half a second in each process and a deprecation warning.
    """
    weights = torch.zeros_like(losses, requires_grad=True)
    gradients = torch.autograd.grad(losses, list(theta.values()), weights, create_graph=True)
    inner = torch.stack([(gradient * value).sum() for gradient, value in zip(gradients, theta.values(), strict=True)]).sum()
    return torch.autograd.grad(inner, weights)[0]
