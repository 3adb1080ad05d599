"""What it is to have fit: the train error that a point stops at, and that tells whether it interpolated."""

from __future__ import annotations

from trainables.point.config import TrialConfig

NUMBERS_FIT = 0.01
"""Train error (`train_nmse`) at which numbers count as fit: 99 % of their variance is explained. No float is exact."""


def is_regression(point: TrialConfig) -> bool:
    """Whether a resolved point's targets are numbers."""
    return point.data.task == "regression"


def error_at_fit(point: TrialConfig) -> float:
    """The train error at most at which a resolved point has fit, unless `budget.stop_at_train_loss` says when it has."""
    return point.budget.stop_at_train_error or (NUMBERS_FIT if is_regression(point) else 0.0)
