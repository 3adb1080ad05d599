"""Label noise by class and by features: against the declared matrix, SciPy's truncated normal, and the algorithm written out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from tests.trainables.made_up_points import CPU, only, point
from trainables.data.corruption import corrupt_labels
from trainables.data.inputs import point_data
from trainables.data.label_noise import instance_dependent, transition_matrix, truncated_normal
from trainables.point.config import Corruption
from trainables.point.errors import ConfigError
from trainables.point.streams import generator
from trainables.point.transitions import as_text, canonical

RARE = 1e-4
"""As in test_corruption.py: a correct draw fails with this probability when it is first run."""
MATRIX = [[0.7, 0.2, 0.1], [0, 1, 0], [0.25, 0.25, 0.5]]
ASYMMETRIC = {9: 1, 2: 0, 4: 7, 3: 5, 5: 3}


def counted(labels: Tensor, new: Tensor, classes: int) -> np.ndarray:
    """How often each true label (row) became each label (column)."""
    return torch.bincount(labels * classes + new, minlength=classes**2).reshape(classes, classes).numpy()


def declared(transition: str, classes: int, level: float) -> np.ndarray:
    """The transition of labels as the sources of the names write it."""
    if transition.startswith("["):
        return (1 - level) * np.eye(classes) + level * np.array(MATRIX)
    matrix = np.eye(classes)
    for label in range(classes):
        others = {"symmetric": [other for other in range(classes) if other != label], "pair_flip": [(label + 1) % classes]}
        becomes = others.get(transition, [ASYMMETRIC[label]] if label in ASYMMETRIC else [label])
        matrix[label, label] -= level
        for other in becomes:
            matrix[label, other] += level / len(becomes)
    return matrix


# By class


@pytest.mark.parametrize(
    ("transition", "classes"), [("symmetric", 10), ("pair_flip", 10), ("pair_flip", 2), ("asymmetric_cifar10", 10), (as_text(MATRIX), 3)]
)
@pytest.mark.parametrize("level", [0.2, 0.45, 1.0])
def test_labels_change_as_the_matrix_says(transition: str, classes: int, level: float) -> None:
    labels = torch.arange(20_000) % classes
    new = corrupt_labels(labels, classes, Corruption("class_conditional", level, 3, transition=transition))
    counts, wanted = counted(labels, new, classes), declared(transition, classes, level)
    for row, probabilities in zip(counts, wanted, strict=True):
        for count, probability in zip(row, probabilities, strict=True):
            low, high = stats.binom.interval(1 - RARE / classes**2, row.sum(), min(1.0, max(0.0, probability)))
            assert low <= count <= high


@given(st.integers(0, 2**40), st.lists(st.floats(0, 1, allow_subnormal=False), min_size=2, max_size=2).map(sorted))
def test_a_higher_level_corrupts_the_same_labels_alike_and_more(seed: int, levels: list[float]) -> None:
    labels = torch.arange(200) % 3
    low, high = (corrupt_labels(labels, 3, Corruption("class_conditional", level, seed, transition=as_text(MATRIX))) for level in levels)
    changed = low != labels
    assert torch.equal(high[changed], low[changed])


def test_symmetric_is_flip_label_by_label() -> None:
    labels = torch.arange(500) % 7
    named = corrupt_labels(labels, 7, Corruption("class_conditional", 0.4, 1, transition="symmetric"))
    assert torch.equal(named, corrupt_labels(labels, 7, Corruption("flip", 0.4, 1)))


def test_the_rate_is_measured_and_no_label_but_the_trained_on_changes(blobs: str) -> None:
    fields = {"data.name": blobs, "data.validation_size": 30, "corruption.kind": "class_conditional", "corruption.transition": "pair_flip"}
    data = point_data(point(fields | {"corruption.level": 1.0}), CPU)
    assert bool(data.train.wrong.all())
    assert data.validation is not None
    assert not bool(data.validation.wrong.any() | data.test.wrong.any())
    half = only(fields | {"corruption.level": 0.5, "budget.epochs": 0})
    low, high = stats.binom.interval(1 - RARE, 60, 0.5)
    assert low <= half.outcome["wrong_label_rate"] * 60 <= high


@pytest.mark.parametrize(
    ("transition", "said"),
    [
        ("pairflip", "it must be symmetric, pair_flip, asymmetric_cifar10, given_matrix, given_rate, or C rows"),
        ([[0.5, 0.5], [0.5]], "it must be symmetric"),
        ([[1, True], [0, 1]], "it must be symmetric"),
        ([[0.5, 0.4], [0, 1]], r"row 0, \[0.5, 0.4\], must be probabilities, from 0 to 1, that sum to 1"),
        ([[1.5, -0.5], [0, 1]], "row 0"),
        ([[float("nan"), 1], [0, 1]], "row 0"),
        (np.eye(99).round(1).tolist(), "characters, more than the 6,000 that are kept"),
        ("asymmetric_cifar10", "which is for CIFAR-10's ten classes; the data has 3"),
        ([[0.5, 0.5], [0, 1]], "is a matrix of 2 classes, but the data has 3"),
        (None, "needs corruption.transition: symmetric"),
    ],
)
def test_what_is_no_matrix_of_the_classes_is_a_sentence(blobs: str, transition: Any, said: str) -> None:
    noise = {"data.name": blobs, "corruption.kind": "class_conditional", "corruption.level": 0.3}
    with pytest.raises(ConfigError, match=said):
        point(noise | {"corruption.transition": as_text(transition) if isinstance(transition, list) else transition})


def test_a_rate_that_nobody_chose_is_a_sentence_and_a_matrix_has_its_own(blobs: str) -> None:
    noise = {"data.name": blobs, "corruption.kind": "class_conditional"}
    with pytest.raises(ConfigError, match=r"corruption.level is left out: pair_flip needs the probability"):
        point(noise | {"corruption.transition": "pair_flip"})
    with pytest.raises(ConfigError, match=r"corruption.level is left out: instance needs the probability"):
        point({"data.name": blobs, "corruption.kind": "instance"})
    assert point(noise | {"corruption.transition": as_text(MATRIX)}).corruption.level == 1


def test_a_matrix_has_one_key_however_it_is_written(blobs: str) -> None:
    noise = {"data.name": blobs, "corruption.kind": "class_conditional"}
    spellings = [as_text(MATRIX), as_text([list(map(float, row)) for row in MATRIX]), str(MATRIX).replace(" ", "")]
    assert len({point(noise | {"corruption.transition": text}).key() for text in spellings}) == 1
    assert canonical(spellings[2]) == spellings[0]


# By features


def images(count: int = 6_000, inputs: int = 8) -> Tensor:
    return torch.randn(count, 2, inputs // 2, 1, generator=torch.Generator().manual_seed(8)) * 3 + 5


SEEN = images()
LABELS = torch.arange(len(SEEN)) % 5


@pytest.mark.parametrize("level", [0.05, 0.2, 0.5, 0.95])
def test_rates_are_those_of_the_truncated_normal(level: float) -> None:
    wanted = stats.truncnorm((0 - level) / 0.1, (1 - level) / 0.1, level, 0.1)
    quantiles = torch.linspace(0, 0.999, 50, dtype=torch.float64)
    np.testing.assert_allclose(truncated_normal(level, quantiles).numpy(), wanted.ppf(quantiles.numpy()), atol=1e-9)
    wrong = int((instance_dependent(LABELS, SEEN, 5, level, 2) != LABELS).sum())
    low, high = stats.binom.interval(1 - RARE, len(LABELS), wanted.mean())
    assert low <= wrong <= high
    if 0.2 <= level <= 0.8:
        assert wanted.mean() == pytest.approx(level, abs=0.006)


def test_labels_are_drawn_by_the_algorithm_as_it_is_written() -> None:
    """Xia et al. 2020, Algorithm 2, one sample at a time in NumPy, with the same draws."""
    some, labels, level, seed = SEEN[:300].double().numpy(), LABELS[:300], 0.6, 7
    standardized = (some - some.mean((0, 2, 3), keepdims=True)) / some.std((0, 2, 3), keepdims=True)
    draws = [torch.rand(300, generator=generator(seed, name), dtype=torch.float64).numpy() for name in (
        "rates of wrong labels", "corrupted labels", "new labels")]  # fmt: skip
    streams = [generator(seed, "weights of wrong labels", label) for label in range(5)]
    weights = [torch.randn(8, 5, generator=stream, dtype=torch.float64).numpy() for stream in streams]
    expected = []
    for x, label, share, chosen, draw in zip(standardized.reshape(300, 8), labels.tolist(), *draws, strict=True):
        rate = stats.truncnorm.ppf(share, (0 - level) / 0.1, (1 - level) / 0.1, level, 0.1)
        p = x @ weights[label]
        p[label] = -np.inf
        p = np.exp(p - p.max())
        p /= p.sum()
        expected.append(int(np.flatnonzero(np.cumsum(p) > draw)[0]) if chosen < rate else label)
    assert instance_dependent(labels, SEEN[:300], 5, level, seed).tolist() == expected
    assert 0 < sum(new != label for new, label in zip(expected, labels.tolist(), strict=True)) < 300


def test_features_decide_what_a_wrong_label_becomes() -> None:
    new = instance_dependent(LABELS, SEEN, 5, 1.0, 3)
    wrong = new != LABELS
    repeated = instance_dependent(LABELS.new_zeros(4000), SEEN[:1].expand(4000, -1, -1, -1) * 1.0, 5, 0.5, 3)
    assert not bool((repeated == 0).all())
    own = (LABELS == 0) & wrong
    feature = SEEN.flatten(1)[own]
    tests = [stats.f_oneway(*(feature[new[own] == label, place].numpy() for label in range(1, 5))).pvalue for place in range(8)]
    assert min(tests) < 1e-12
    shuffled = feature[torch.randperm(len(feature), generator=torch.Generator().manual_seed(1))]
    assert min(stats.f_oneway(*(shuffled[new[own] == label, place].numpy() for label in range(1, 5))).pvalue for place in range(8)) > RARE


@given(st.integers(0, 2**40), st.lists(st.floats(0.01, 1), min_size=2, max_size=2).map(sorted))
def test_a_higher_level_makes_the_same_labels_wrong_alike_and_more(seed: int, levels: list[float]) -> None:
    labels = LABELS[:200]
    low, high = (instance_dependent(labels, SEEN[:200], 5, level, seed) for level in levels)
    changed = low != labels
    assert torch.equal(high[changed], low[changed])


def test_a_samples_label_does_not_depend_on_the_subset_and_level_zero_is_none(blobs: str) -> None:
    noise = {"data.name": blobs, "corruption.kind": "instance", "corruption.level": 0.5, "corruption.seed": 4, "data.seed": 4}
    whole, part = (point_data(point(noise | {"data.train_size": size}), CPU).train for size in (90, 40))
    label_of = dict(zip(whole.index.tolist(), whole.labels.tolist(), strict=True))
    assert part.labels.tolist() == [label_of[sample] for sample in part.index.tolist()]
    assert bool(part.wrong.any())
    clean = point(noise | {"corruption.level": 0.0})
    assert not bool(point_data(clean, CPU).train.wrong.any())
    assert clean.key() == point({"data.name": blobs, "data.seed": 4}).key()


def test_two_classes_and_constant_channels_are_no_trouble() -> None:
    labels = torch.arange(100) % 2
    new = instance_dependent(labels, torch.ones(100, 1, 2, 2), 2, 0.5, 0)
    assert set((new - labels).abs().tolist()) == {0, 1}


def test_the_matrix_of_a_name_has_rows_that_sum_to_one() -> None:
    for name in ("symmetric", "pair_flip", "asymmetric_cifar10"):
        matrix = transition_matrix(name, 10)
        assert torch.allclose(matrix.sum(1), torch.ones(10, dtype=torch.float64))
