"""The PAC-Bayes certificate: its inversion, that it holds where the true risk is known, and what it says of true and random labels."""

from __future__ import annotations

from functools import partial
from math import log

import numpy as np
import pytest
import torch

from tests.trainables.made_up_subject import dense, trained
from trainables.data.inputs import point_data
from trainables.measures import find_measure, measure_all
from trainables.measures.bundled.compression import largest_error
from trainables.measures.bundled.pacbayes import BOUND_FAILS, DRAWS_FAIL, FINAL_DRAWS, NOISES, certificate
from trainables.point.config import TrialConfig, with_fields
from trainables.point.streams import generator
from trainables.resolution import resolve
from trainables.training.loop import Training


@pytest.mark.parametrize("seen", [0.0, 0.07, 0.5])
@pytest.mark.parametrize("divergence", [0.003, 0.1, 1.5])
def test_the_inverse_of_the_divergence_by_brute_force(seen: float, divergence: float) -> None:
    grid = np.linspace(seen, 1, 2_000_001)[1:-1]
    first = seen * np.log(seen / grid) if seen else 0.0
    allowed = grid[first + (1 - seen) * np.log((1 - seen) / (1 - grid)) <= divergence]
    assert largest_error(seen, divergence) == pytest.approx(allowed.max(), abs=2e-6)


def noisy_threshold(mean: float, inputs: np.ndarray, labels: np.ndarray, level: float, draw: int) -> float:
    """Error of x > mean + level * z on a sample."""
    threshold = mean + level * torch.randn((), generator=generator(0, "draw", draw)).item()
    return float(((inputs > threshold) != labels).mean())


def true_error(mean: float, level: float) -> float:
    """Over uniform x with labels x > 1/2 of which a tenth are wrong: 0.1 + 0.8 E|threshold clipped to [0, 1] - 1/2|."""
    thresholds = np.clip(mean + level * torch.randn(4000, generator=torch.Generator().manual_seed(1)).numpy(), 0, 1)
    return float(0.1 + 0.8 * np.abs(thresholds - 0.5).mean())


def test_it_holds_in_more_than_its_share_of_runs_where_the_error_seen_does_not() -> None:
    """100 training sets of 300: the posterior is at the threshold that fits best, the prior at that of samples of its own."""
    draw = np.random.default_rng(0)
    failed, naive, useful = 0, 0, 0
    for _ in range(100):
        inputs, flips = draw.random(300), draw.random(300) < 0.1
        labels = (inputs > 0.5) != flips
        ends = np.append(0.0, inputs)
        best = [ends[np.argmin([((inputs[part] > end) != labels[part]).mean() for end in ends])] for part in (slice(150), slice(300))]
        found = certificate((best[1] - best[0]) ** 2, 150, partial(noisy_threshold, best[1], inputs[150:], labels[150:]))
        truth = true_error(best[1], found.noise)
        failed += truth > found.bound
        naive += truth > found.error
        useful += found.bound < 0.5
    assert failed <= 100 * (BOUND_FAILS + DRAWS_FAIL)
    assert naive > 25
    assert useful > 80


def test_its_terms_make_it() -> None:
    found = certificate(0.02, 500, lambda level, draw: min(0.5, 0.01 + level + 0.001 * (draw % 2)))
    highest = largest_error(found.error, log(1 / DRAWS_FAIL) / FINAL_DRAWS)
    assert found.divergence == pytest.approx(0.01 / found.noise**2)
    assert found.error == pytest.approx(0.0105 + found.noise)
    budget = log(2 * 500**0.5 * len(NOISES) / BOUND_FAILS)
    assert found.bound == pytest.approx(largest_error(highest, (found.divergence + budget) / 500))


def test_without_a_training_on_half_the_prior_is_the_initialization() -> None:
    subject = trained(dense(), (3, 2, 2))
    values = measure_all([f"pacbayes_certificate{term}" for term in ("", "_kl", "_noise")], subject)
    moved = sum(
        (new - old).detach().double().square().sum()
        for new, old in zip(subject.module.parameters(), subject.initial.parameters(), strict=True)
    )
    assert values["pacbayes_certificate_kl"] == pytest.approx(float(moved) / (2 * values["pacbayes_certificate_noise"] ** 2), rel=1e-6)


@pytest.mark.parametrize("level", [0.0, 1.0], ids=["true labels", "random labels"])
def test_it_tells_true_from_random_labels_on_digits(level: float) -> None:
    """With more parameters than samples; on random labels it says nothing. True labels: it holds, and is better than guessing."""
    same = {"data.name": "digits", "model.width": 64, "optimizer.learning_rate": 0.05, "optimizer.batch_size": 32}
    point = resolve(with_fields(TrialConfig(), same | {"corruption.level": level, "budget.epochs": 8, "budget.evaluate_every": 8}))
    names = ["pacbayes_certificate", "pacbayes_certificate_kl", "pacbayes_certificate_error"]
    training = Training([point], torch.device("cpu"), measures=names)
    results = []
    while not training.finished:
        results += training.epoch()
    (result,) = results
    assert result.status == "completed", result.reason
    bound, error = (float(result.outcome[f"measure.{name}"]) for name in (names[0], names[2]))  # type: ignore[arg-type]
    assert bound > 0.9 if level else float(result.outcome["test_error"]) < bound < 0.8  # type: ignore[arg-type]
    assert error <= bound
    assert len(point_data(point, torch.device("cpu")).train.index) == 1437


def test_it_says_what_it_costs() -> None:
    assert "training on half" in find_measure("pacbayes_certificate").cost
