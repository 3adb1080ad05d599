"""When a sample is misclassified: the one definition that every error of a record is counted by."""

from __future__ import annotations

from torch import Tensor


def misclassified(outputs: Tensor, labels: Tensor, axis: int = -1, *, guesses: int = 1) -> Tensor:
    """Whether each sample's label is not among its largest outputs, as bool of the shape of `labels`.

    A tie counts as an error: a constant network has learnt nothing. So does an output that is no number.

    Args:
        outputs: one along `axis` for each class. They are overwritten.
        labels: int64, of the shape of `outputs` without that axis.
        guesses: how many of the largest outputs may be the label's.

    >>> import torch
    >>> misclassified(torch.tensor([[1.0, 2.0], [2.0, 2.0]]), torch.tensor([1, 1])).tolist()
    [False, True]
    """
    own_class = labels.unsqueeze(axis)
    own = outputs.gather(axis, own_class)
    others = outputs.scatter_(axis, own_class, float("-inf"))
    if guesses == 1:
        largest = others.amax(axis, keepdim=True)
    else:
        count = min(guesses, others.shape[axis])  # where that is all of them, the last is the label's own, now -inf
        largest = others.topk(count, axis).values.narrow(axis, count - 1, 1)
    return (own > largest).logical_not_().squeeze(axis)
