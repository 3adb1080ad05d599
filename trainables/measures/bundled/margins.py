"""Measures of the outputs on the training set."""

from __future__ import annotations

import torch

from trainables.measures.layers import root_per_sample
from trainables.measures.outputs import logits
from trainables.measures.registry import measure
from trainables.measures.subject import Subject


@measure("inverse_margin", cost="one forward pass", cheap=True, ignores="the scale of the weights, which stretches margins")
def inverse_margin(subject: Subject) -> float:
    """sqrt(v/n), v = 1/gamma^2 with gamma of `margin`. Source: Jiang et al. 2020, eq. 22."""
    return root_per_sample(subject.once(margin) ** -2, subject.samples)


@measure("output_entropy", cost="one forward pass", cheap=True)
def output_entropy(subject: Subject) -> float:
    """Mean entropy of the softmax outputs on the training set, in nats, in [0, log classes].

    Source: among the measures of Jiang et al. 2020. Ignores the labels: certain and wrong counts as certain.
    """
    log_probabilities = subject.once(logits).double().log_softmax(1)
    return -(log_probabilities.exp() * log_probabilities).sum(1).mean().item()


def margin(subject: Subject) -> float:
    """Compute gamma, the 10th percentile over training samples of (output at the label - largest other output).

    NaN when it is not positive, since a margin-normalised measure then has no meaning. The code of Dziugaite et al. 2020
    takes the absolute value; on networks that fit the two agree, up to interpolation between two samples.
    """
    outputs = subject.once(logits).double()
    labels = subject.labels[:, None]
    others = outputs.scatter(1, labels, -torch.inf).max(1).values
    gamma = (outputs.gather(1, labels).squeeze(1) - others).quantile(0.1).item()
    return gamma if gamma > 0 else float("nan")
