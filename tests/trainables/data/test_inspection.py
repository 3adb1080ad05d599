"""A look at data sets that are sound, and at made-up ones with one fault each."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import binom

from trainables.data.sets.dataset import Dataset, Target
from trainables.data.sets.inspection import inspect, resolution
from trainables.data.sets.sources import load
from trainables.point.config import Data


def made_up(train: int = 300, test: int = 200, classes: int = 3, shape: tuple[int, ...] = (1, 4, 4)) -> Dataset:
    draw = torch.Generator().manual_seed(5)
    images = torch.rand(train + test, *shape, generator=draw)
    labels = torch.arange(train + test) % classes
    return Dataset(images[:train], labels[:train], images[train:], labels[train:], classes)


def test_sound_sets_have_no_warning() -> None:
    assert inspect(made_up()).warnings == []
    assert inspect(load(Data(name="digits"))).warnings == []


def test_the_facts_are_those_of_the_set() -> None:
    facts = dict(inspect(load(Data(name="digits"))).facts)
    assert facts["training samples"] == "1,437"
    assert facts["a sample"] == "an image of 8x8 pixels"
    assert facts["values"] == "uint8, 0 to 255"
    named = replace(made_up(shape=(7, 1, 1)), class_names=("ant", "bird", "cat"))
    assert dict(inspect(named).facts)["classes"] == "3: ant, bird, cat are taken as 0 to 2"
    assert dict(inspect(named).facts)["a sample"] == "a row of 7 numbers"
    assert dict(inspect(load(Data(name="modular_addition", classes=5))).facts)["a sample"] == "a sequence of 2 tokens out of 5, one-hot"


@pytest.mark.parametrize("samples", [100, 1_000, 10_000])
def test_the_resolution_is_that_of_the_binomial(samples: int) -> None:
    low, high = binom.interval(0.95, samples, 0.5)
    assert resolution(samples) == pytest.approx((high - low) / 2 / samples, abs=1 / samples)


def test_faults_are_said() -> None:
    sound = made_up()
    uneven = torch.zeros(300, dtype=torch.int64)
    uneven[:5], uneven[5:9] = 1, 2
    contradicting = sound.train_images.clone()
    contradicting[1] = contradicting[0]
    leaking = torch.cat([sound.train_images[:20], sound.test_images[20:]])
    constant = made_up(shape=(3, 1, 1))
    constant.train_images[:, 1] = 2.0
    faults = {
        "1 test sample: chance alone": replace(sound, test_images=sound.test_images[:1], test_labels=sound.test_labels[:1]),
        "the largest class has 291 training samples and the smallest 4": replace(sound, train_labels=uneven),
        "1 of the 3 classes has no test sample": replace(sound, test_labels=sound.test_labels.clamp_max(1)),
        "every test sample is a training sample too": replace(
            sound, test_images=sound.train_images[:200], test_labels=sound.train_labels[:200]
        ),
        "20 test samples (10.0%) are training samples too": replace(sound, test_images=leaking),
        "1 training sample has the content of another one and a different label": replace(sound, train_images=contradicting),
        "values run from": replace(sound, train_images=sound.train_images * 900),
        "images have 28 channels of 3x28 pixels": made_up(shape=(28, 3, 28)),
        "1 of 3 columns has one value": constant,
    }
    for said, dataset in faults.items():
        assert any(said in warning for warning in inspect(dataset).warnings), (said, inspect(dataset).warnings)


def test_given_labels_are_counted_against_the_true_ones() -> None:
    sound = made_up()
    given = sound.train_labels.clone()
    given[:30] = (given[:30] + 1) % 3
    facts = dict(inspect(replace(sound, given_labels=given)).facts)
    assert facts["wrong labels"].startswith("10.00% of those given")
    assert np.isclose((given != sound.train_labels).double().mean().item(), 0.1)


@pytest.mark.parametrize(("samples", "far", "others"), [(320, 7, 1.0), (100, 1, 1.0), (5_000, 3, 0.01)])
def test_few_targets_that_are_most_of_the_variance_are_said(samples: int, far: int, others: float) -> None:
    """Among few samples none lies 20 standard deviations from the mean, however far it is from the others."""
    dice = np.random.default_rng(0)
    targets = others * dice.normal(size=samples)
    targets[:far] += 500
    share = np.sort((targets - targets.mean()) ** 2)[-max(1, round(samples / 50)) :].sum() / (samples * targets.var())
    (said,) = inspect(numbers(targets)).warnings
    assert f"{np.abs(targets - targets.mean()).max() / targets.std():.3g} standard deviations from the mean" in said
    assert f"{share:.0%} of the squared deviations" in said


def test_targets_of_ordinary_distributions_are_not_called_far() -> None:
    dice = np.random.default_rng(1)
    for samples in (20, 50, 100, 3_000):
        for targets in (dice.normal(size=samples), dice.exponential(size=samples), dice.random(samples), np.arange(samples) % 7):
            assert inspect(numbers(targets)).warnings == []


def numbers(targets: np.ndarray) -> Dataset:
    """A set of these training targets, whose test targets are drawn from them."""
    scaled = torch.from_numpy((targets - targets.mean()) / targets.std()).float()[:, None]
    set_aside = scaled.flatten()[torch.randperm(len(scaled), generator=torch.Generator().manual_seed(1))].repeat(10)[:400, None]
    images = torch.rand(len(scaled) + len(set_aside), 3, 1, 1, generator=torch.Generator().manual_seed(2))
    known = (Target("", float(targets.mean()), float(targets.std())),)
    return Dataset(images[: len(scaled)], scaled, images[len(scaled) :], set_aside, 1, targets=known)
