"""Speed of fitting, from the learning curve: epochs until the training loss fell to a level.

Jiang et al. 2020 count optimizer steps; epochs are steps times batch size over n. Between two evaluated epochs the loss is taken to fall
exponentially. NaN where the curve never comes down to the level, or is empty. Ignores the final network.
"""

from __future__ import annotations

from math import isnan, log, nan

from trainables.measures.registry import measure
from trainables.measures.subject import Subject


@measure("epochs_to_tenth", cost="none", cheap=True, ignores="the final network")
def epochs_to_tenth(subject: Subject) -> float:
    """Epochs until the training loss is first at most 0.1. Source: in steps, among the measures of Jiang et al. 2020."""
    return epochs_to(subject, 0.1)


@measure("epochs_one_to_tenth", cost="none", cheap=True, ignores="the final network")
def epochs_one_to_tenth(subject: Subject) -> float:
    """Epochs from a training loss of 1 to one of 0.1: the descent without the plateau before it, long on random labels."""
    return epochs_to(subject, 0.1) - epochs_to(subject, 1.0)


@measure("epochs_tenth_to_hundredth", cost="none", cheap=True, ignores="the final network")
def epochs_tenth_to_hundredth(subject: Subject) -> float:
    """Epochs from a training loss of 0.1 to one of 0.01. Source: in steps, as `epochs_to_tenth`."""
    return epochs_to(subject, 0.01) - epochs_to(subject, 0.1)


def epochs_to(subject: Subject, level: float) -> float:
    """Epoch, a fraction, at which the training loss first reached the level: the first row's if it starts there, NaN if never."""
    before: tuple[float, float] | None = None
    for row in sorted(subject.curve, key=lambda row: row["epoch"]):
        epoch, loss = float(row["epoch"]), row["train_loss"]
        if loss is None or isnan(loss):
            continue
        if loss > level:
            before = epoch, loss
        elif before is None or loss == 0:
            return epoch
        else:
            start, above = before
            return start + (epoch - start) * log(above / level) / log(above / loss)
    return nan
