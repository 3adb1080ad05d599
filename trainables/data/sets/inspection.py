"""A look at a data set before anything trains on it: what it holds, what its test set can tell apart, and what looks wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from trainables.data.sets.dataset import Dataset, digests
from trainables.data.sets.image_files import ImageFiles

FEW_TESTED = 100
"""A test set below this size cannot tell a gap of 0.2 from none: the 95 % interval of an error near one half is wider."""
UNEVEN = 10.0
"""A largest class this many times the smallest is worth a word."""
MOST_TARGETS = 8
"""Targets that are told one by one."""
FARTHEST = 0.02
"""The share of the training samples that should not make up most of the squared deviations from the mean. Of Gaussian targets the
farthest fiftieth makes up a seventh, of exponential ones a third. How many standard deviations they are away would not do: among n
samples none is more than √(n - 1) of them from the mean."""
ENOUGH_TARGETS = 50
"""Of fewer training samples, chance makes one that is most of the squared deviations."""
MOST_CHANNELS = 16
"""More channels than this beside a side of few pixels look like axes in another order."""


@dataclass(frozen=True)
class Inspection:
    """What was found.

    Attributes:
        facts: name and value of each, for a table of two columns.
        warnings: sentences about what is likely to be wrong, and what would be right.
    """

    facts: Sequence[tuple[str, str]]
    warnings: Sequence[str]


def resolution(samples: int) -> float:
    """Half the width of the 95 % interval of an error of one half, measured on that many samples: the most that chance moves it.

    The normal approximation to the binomial, 1.96 * sqrt(0.25 / n).

    >>> round(resolution(10_000), 4)
    0.0098
    """
    return float(1.96 * (0.25 / samples) ** 0.5)


def inspect(dataset: Dataset) -> Inspection:
    """Look at a data set in memory, or at the labels of one whose images stay in their files."""
    train, test = len(dataset.train_labels), len(dataset.test_labels)
    facts = [("training samples", f"{train:,}"), ("test samples", f"{test:,}"), ("a sample", _described(dataset))]
    facts += _target_facts(dataset) if dataset.is_regression else _class_facts(dataset)
    facts += [(name, said) for name, said in dataset.facts if name != "tokens"]
    warnings = [*dataset.doubts, *(_target_warnings(dataset) if dataset.is_regression else _label_warnings(dataset))]
    if dataset.given_labels is not None:
        wrong = (dataset.given_labels != dataset.train_labels).reshape(train, -1).any(1).double().mean().item()
        facts.append(
            ("wrong labels", f"{wrong:.2%} of those given; corruption: {{kind: given}} trains on them, everything else on the true ones")
        )
    if not isinstance(dataset, ImageFiles):
        duplicates, warned = _duplicates(dataset)
        facts += [("values", _values(dataset)), ("duplicates", duplicates)]
        warnings += [*warned, *_value_warnings(dataset)]
    return Inspection(facts, warnings)


@cache
def warnings_of(dataset: Dataset) -> Sequence[str]:
    """The warnings alone, once a process."""
    return inspect(dataset).warnings


def _of(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _described(dataset: Dataset) -> str:
    channels, height, width = dataset.image_shape
    if "tokens" in dict(dataset.facts):
        return f"a sequence of {channels:,} tokens out of {width:,}, one-hot"
    if dataset.is_table:
        return f"a row of {channels:,} numbers"
    return f"an image of {height}x{width} pixels" + (f" with {channels} channels" if channels > 1 else "")


def _class_facts(dataset: Dataset) -> list[tuple[str, str]]:
    spread = f"{_spread(dataset.train_labels, dataset.classes)} to train on, {_spread(dataset.test_labels, dataset.classes)} to test"
    chance = f"chance moves a test error, and so a gap, by up to ±{resolution(len(dataset.test_labels)):.2g} (95 %)"
    return [("classes", _classes(dataset)), ("of a class", spread), ("resolution", chance)]


def error_resolution(targets: Tensor) -> float:
    """Half the width of the 95 % interval of the `test_nmse` of a network that always says the mean, on these test targets.

    The normal approximation, 1.96 * s / sqrt(n), with s the standard deviation of the squared targets. Whoever predicts better has smaller
    residuals, and so is measured more finely.

    Args:
        targets: of the test samples, (n, T), standardized; n is at least 2.
    """
    squares = targets.double().square().mean(1)
    return float(1.96 * squares.std() / len(squares) ** 0.5)


def _target_facts(dataset: Dataset) -> list[tuple[str, str]]:
    labels = torch.cat([dataset.train_labels, dataset.test_labels])
    facts = [
        ("task", f"regression of {_numbers_of(dataset)}, by squared loss; errors are shares of their variance (train_nmse, test_nmse)")
    ]
    for place, target in list(enumerate(dataset.targets))[:MOST_TARGETS]:
        low, high = (float(end) * target.deviation + target.mean for end in labels[:, place].aminmax())
        said = f"{low:.4g} to {high:.4g}, mean {target.mean:.4g}, standard deviation {target.deviation:.4g} over the training samples"
        facts.append((f"target {target.name}".strip(), said))
    if len(dataset.test_labels) > 1:
        chance = f"±{error_resolution(dataset.test_labels):.2g} (95 %)"
        facts.append(("resolution", f"chance moves the test_nmse of always saying the mean, which is about 1, by up to {chance}"))
    return facts


def _numbers_of(dataset: Dataset) -> str:
    count = len(dataset.targets)
    return "one number" if count == 1 else f"{count:,} numbers"


def _target_warnings(dataset: Dataset) -> list[str]:
    found, tested = [], len(dataset.test_labels)
    if tested < FEW_TESTED:
        found.append(f"{tested:,} test samples are few to measure an error of regression on; take more")
    found += _far_targets(dataset)
    shift = dataset.test_labels.double().mean(0).abs().max().item()
    if tested > 1 and shift > 5 * tested**-0.5:
        found.append(f"the mean of the test targets lies {shift:.2g} standard deviations from that of the training targets")
    return found


def _far_targets(dataset: Dataset) -> list[str]:
    """A sentence for each target of which few training samples make up most of the squared deviations from the mean."""
    found = []
    squares = dataset.train_labels.double().square()
    few = max(1, round(FARTHEST * len(squares)))
    for target, square in zip(dataset.targets, squares.T, strict=True):
        farthest = square.topk(few).values
        share = float(farthest.sum() / square.sum())
        if share > 0.5 and len(square) >= ENOUGH_TARGETS:
            name, far = f" of {target.name}" if target.name else "", float(farthest[0].sqrt())
            who = "1 of them is" if few == 1 else f"{few:,} of them are"
            found.append(
                f"training targets{name} lie up to {far:.3g} standard deviations from the mean, and {who} {share:.0%} of the squared "
                "deviations: squared errors are of little else; check that these are right, or take logarithms"
            )
    return found


def _classes(dataset: Dataset) -> str:
    names = dataset.class_names
    if not names or names == tuple(str(label) for label in range(dataset.classes)):
        return f"{dataset.classes}"
    shown = ", ".join(names[:6]) + (", …" if len(names) > 6 else "")
    return f"{dataset.classes}: {shown} are taken as 0 to {dataset.classes - 1}"


def _spread(labels: Tensor, classes: int) -> str:
    counts = labels.bincount(minlength=classes)
    low, high = int(counts.min()), int(counts.max())
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _values(dataset: Dataset) -> str:
    low, high = dataset.train_images.amin().item(), dataset.train_images.amax().item()
    return f"{str(dataset.train_images.dtype).removeprefix('torch.')}, {low:g} to {high:g}"


def _label_warnings(dataset: Dataset) -> list[str]:
    found = []
    counts = dataset.train_labels.bincount(minlength=dataset.classes)
    tested = len(dataset.test_labels)
    if tested < FEW_TESTED:
        found.append(f"{_of(tested, 'test sample')}: chance alone moves a test error by up to ±{resolution(tested):.2g}; take more")
    if counts.max() >= UNEVEN * counts.min():
        share = counts.max().item() / len(dataset.train_labels)
        found.append(
            f"the largest class has {int(counts.max()):,} training samples and the smallest {int(counts.min()):,}: "
            f"always saying the largest is right for {share:.0%} of them, and chance is not 1/C"
        )
    if absent := int((dataset.test_labels.bincount(minlength=dataset.classes) == 0).sum()):
        found.append(f"{absent:,} of the {dataset.classes} classes {'has' if absent == 1 else 'have'} no test sample")
    return found


def _duplicates(dataset: Dataset) -> tuple[str, list[str]]:
    """Duplicates of test samples among the training samples, and of training samples among themselves, by their content."""
    first: dict[bytes, int] = {}
    repeated = contradicting = 0
    for index, digest in enumerate(digests(dataset.train_images)):
        earlier = first.setdefault(digest, index)
        repeated += earlier != index
        contradicting += not torch.equal(dataset.train_labels[earlier], dataset.train_labels[index])
    leaked = sum(digest in first for digest in digests(dataset.test_images))
    warnings = []
    if leaked == len(dataset.test_labels):
        warnings.append("every test sample is a training sample too: the test error says nothing about new samples")
    elif leaked:
        share = leaked / len(dataset.test_labels)
        are = f"{_of(leaked, 'test sample')} ({share:.1%}) {'is a training sample' if leaked == 1 else 'are training samples'} too"
        warnings.append(f"{are}: the test error is too low for what is memorised")
    if contradicting:
        have = f"{_of(contradicting, 'training sample')} {'has' if contradicting == 1 else 'have'}"
        warnings.append(f"{have} the content of another one and a different label: no network fits both")
    return f"{leaked:,} test samples in the training set; {repeated:,} training samples of which there is an earlier one", warnings


def _value_warnings(dataset: Dataset) -> list[str]:
    found = []
    images = dataset.train_images
    channels, height, width = dataset.image_shape
    low, high = images.amin().item(), images.amax().item()
    if images.is_floating_point() and not dataset.is_table and (low < 0 or high > 1):
        found.append(
            f"values run from {low:g} to {high:g}: data.preprocessing unit would leave them so; standardize, the default, scales them"
        )
    if channels > MOST_CHANNELS and not dataset.is_table and min(height, width) > 1:
        found.append(f"images have {channels} channels of {height}x{width} pixels: check that the axes are N x H x W x C")
    constant = int((images.transpose(0, 1).reshape(channels, -1).float().std(1) == 0).sum())
    if constant:
        what = "columns" if dataset.is_table else "channels"
        have, they = ("has", "it tells") if constant == 1 else ("have", "they tell")
        found.append(f"{constant:,} of {channels:,} {what} {have} one value in all training samples: {they} nothing")
    return found
