"""Which samples are memorised: functions of what was recorded during and over trainings."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from trainables.measures.registry import measure
from trainables.measures.subject import Subject


@measure(
    "forgetting_events",
    cost="one forward pass of all samples of the data set; keeps a table of them",
    cheap=True,
    ignores="samples left out",
)
def mean_forgetting_events(subject: Subject) -> float:
    """Mean over training samples of `forgetting_events`. Naming it also keeps what the network does on each sample.

    That table, ``STORAGE/STUDY/samples``, has a row a point; `analysis.records.schema.SAMPLES` says what of. NaN without the history of
    training.
    """
    if not subject.right:
        return float("nan")
    return float(forgetting_events(np.stack([one.cpu().numpy() for one in subject.right])).mean())


def forgetting_events(correct: np.ndarray) -> np.ndarray:
    """Count how often each sample was forgotten: right at one evaluation and wrong at the next.

    Source: Toneva et al. 2019, "An empirical study of example forgetting", who look at each presentation in a batch; here at each
    evaluated epoch, so that forgetting within an epoch is missed. A sample that was never right counts 0; `learning_epoch` tells it apart.

    Args:
        correct: (epochs, n) bool.

    Returns:
        (n,) int64 in [0, epochs / 2].

    >>> forgetting_events(np.array([[0, 1, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]], dtype=bool)).tolist()
    [1, 1, 0]
    """
    events: np.ndarray = (correct[:-1] & ~correct[1:]).sum(axis=0)
    return events


def learning_speed(correct: np.ndarray) -> np.ndarray:
    """Share of the evaluated epochs at which each sample was right: (n,) float64 in [0, 1], near 1 if learned at once and kept.

    Source: a proxy of the C-score, Jiang et al. 2021 ("Characterizing structural regularities of labeled data").
    """
    shares: np.ndarray = correct.mean(axis=0)
    return shares


def learning_epoch(correct: np.ndarray) -> np.ndarray:
    """First evaluated epoch (row, from 0) from which on each sample stayed right: (n,) float64, NaN if wrong at the end.

    >>> learning_epoch(np.array([[1, 0], [0, 1], [1, 0]], dtype=bool)).tolist()
    [2.0, nan]
    """
    kept = np.logical_and.accumulate(correct[::-1], axis=0).sum(axis=0)
    return np.where(kept > 0, len(correct) - kept, np.nan)


class MemorisationScores(NamedTuple):
    """Scores and their standard errors, each (n,) float64, NaN where a sample was in none or in all of the subsets.

    `standard_error` is sqrt(p(1-p)/k + q(1-q)/m) of the two shares p of k and q of m: 0 where both are 0 or 1, which says
    that the models agree, not that the score is exact.
    """

    scores: np.ndarray
    standard_error: np.ndarray


def memorisation_scores(subsets: np.ndarray, correct: np.ndarray) -> MemorisationScores:
    """How much more often a sample is right when it was trained on: P[right | in the subset] - P[right | not in it], in [-1, 1].

    Source: Feldman and Zhang 2020, "What neural networks memorize and why", the subsampled estimate. Cost: as many trainings as
    rows; with M models and subsets of 70 % the standard error is at most sqrt(1/(4*0.7 M) + 1/(4*0.3 M)), 0.02 at M = 2,976.

    Args:
        subsets: (models, n) bool, whether the sample was trained on.
        correct: (models, n) bool, whether the model is right on it, against the label trained on.

    >>> inside = np.array([[1, 0], [1, 1], [0, 1], [0, 0]], dtype=bool)
    >>> right = np.array([[1, 1], [1, 1], [0, 1], [0, 1]], dtype=bool)
    >>> memorisation_scores(inside, right).scores.tolist()
    [1.0, 0.0]
    """
    trained, left_out = subsets.sum(axis=0), (~subsets).sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        inside = (subsets & correct).sum(axis=0) / trained
        outside = (~subsets & correct).sum(axis=0) / left_out
        variance = inside * (1 - inside) / trained + outside * (1 - outside) / left_out
    return MemorisationScores(inside - outside, np.sqrt(variance))
