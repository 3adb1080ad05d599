"""Margins, gradients, noise, sharpness and curves against linear models, where each has a closed form, and against autograd."""

import copy
import math

import numpy as np
import pytest
import torch
from scipy.stats import norm as gaussian
from torch import nn

from tests.trainables.made_up_points import point, train
from tests.trainables.made_up_subject import dense, linear, trained
from trainables.measures import Subject, measure_all
from trainables.measures.bundled.fitting import epochs_to
from trainables.measures.bundled.margins import margin
from trainables.measures.bundled.pacbayes import magnitude_aware_sigma, sigma
from trainables.measures.bundled.sharpness import alpha, magnitude_aware_alpha

GRADIENT_NOISE = ("gradient_noise", "gradient_noise_first_epoch")


def value(name: str, subject: Subject) -> float:
    return measure_all([name], subject)[name]


def scores_as_inputs(scores: np.ndarray, labels: np.ndarray) -> Subject:
    """A network whose outputs are its inputs."""
    inputs = torch.tensor(scores, dtype=torch.float32)[:, :, None, None]
    return linear(torch.eye(scores.shape[1]), inputs, torch.tensor(labels))


def test_margin_is_the_tenth_percentile() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 4, 37)
    scores = random.normal(size=(37, 4)) + 5 * np.eye(4)[labels]
    margins = [scores[i, labels[i]] - max(scores[i, j] for j in range(4) if j != labels[i]) for i in range(37)]
    subject = scores_as_inputs(scores, labels)
    assert margin(subject) == pytest.approx(np.percentile(margins, 10), rel=1e-5)
    assert value("inverse_margin", subject) == pytest.approx(np.percentile(margins, 10) ** -1 / math.sqrt(37), rel=1e-5)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [([0.0, 0.0, 0.0, 0.0], math.log(4)), ([80.0, 0.0, 0.0, 0.0], 0.0), ([80.0, 80.0, 0.0, 0.0], math.log(2))],
)
def test_output_entropy_of_known_distributions(scores: list[float], expected: float) -> None:
    assert value("output_entropy", scores_as_inputs(np.array([scores, scores]), np.array([0, 1]))) == pytest.approx(expected, abs=1e-12)


def test_fisher_rao_is_the_closed_form_of_a_relu_network_without_biases() -> None:
    """Liang et al. 2019: <theta, gradient> = L <d loss / d output, output>, here with L = 3 layers."""
    torch.manual_seed(0)
    layers = [nn.Linear(6, 8, bias=False), nn.ReLU(), nn.Linear(8, 5, bias=False), nn.ReLU(), nn.Linear(5, 3, bias=False)]
    subject = trained(nn.Sequential(nn.Flatten(), *layers), (6, 1, 1), steps=10)
    with torch.no_grad():
        outputs = subject.module(subject.inputs).double()
    outer = outputs.softmax(1) - nn.functional.one_hot(subject.labels, 3)
    assert value("fisher_rao", subject) == pytest.approx(3 * ((outer * outputs).sum(1) ** 2).mean().sqrt().item(), rel=1e-4)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_per_sample_gradients_agree_with_one_backward_pass_a_sample(batch_norm: bool) -> None:
    torch.manual_seed(0)
    norms = [nn.BatchNorm2d(3)] if batch_norm else []
    module = nn.Sequential(nn.Conv2d(2, 3, 3, bias=not batch_norm), *norms, nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12, 3))
    subject = trained(module, (2, 6, 6), samples=25, steps=10)
    network = copy.deepcopy(subject.folded)
    gradients = []
    for image, label in zip(subject.inputs, subject.labels, strict=True):
        network.zero_grad()
        nn.functional.cross_entropy(network(image[None]), label[None]).backward()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in network.parameters()]).double())
    stacked, theta = torch.stack(gradients), torch.cat([parameter.detach().flatten() for parameter in network.parameters()]).double()
    assert value("fisher_rao", subject) == pytest.approx((stacked @ theta).square().mean().sqrt().item(), rel=1e-4)
    assert value("gradient_noise", subject) == pytest.approx(stacked.var(0, correction=0).sum().item(), rel=1e-4)


def test_gradient_noise_of_softmax_regression_is_its_closed_form() -> None:
    random = np.random.default_rng(0)
    inputs, labels, weight = random.normal(size=(40, 5)), random.integers(0, 3, 40), random.normal(size=(3, 5))
    exponentials = np.exp(inputs @ weight.T)
    outer = exponentials / exponentials.sum(1, keepdims=True) - np.eye(3)[labels]
    gradients = np.einsum("nc,nd->ncd", outer, inputs)
    expected = gradients.var(axis=0).sum()
    subject = linear(torch.tensor(weight), torch.tensor(inputs, dtype=torch.float32)[:, :, None, None], torch.tensor(labels))
    assert value("gradient_noise", subject) == pytest.approx(expected, rel=1e-4)


def test_gradient_noise_after_the_first_epoch_is_that_of_a_run_of_one_epoch() -> None:
    fields = {"data.train_size": 60, "model.width": 8, "model.batch_norm": True, "budget.stop_at_train_error": None, "seed": 4}
    short, long = (point(fields | {"budget.epochs": epochs, "optimizer.schedule": "cosine"}) for epochs in (1, 5))
    of_short, of_long = (train([one], measures=GRADIENT_NOISE)[one.key()].outcome for one in (short, long))
    assert of_long["measure.gradient_noise_first_epoch"] == of_short["measure.gradient_noise"]
    assert of_long["measure.gradient_noise"] != of_short["measure.gradient_noise"]
    assert math.isnan(value("gradient_noise_first_epoch", scores_as_inputs(np.eye(4), np.arange(4))))


def two_class_problem(scale: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(inputs, labels, weight): a linear classifier that is right on all samples, with margins of several sizes."""
    random = np.random.default_rng(0)
    inputs = random.normal(size=(400, 40))
    direction = scale * random.normal(size=40)
    labels = (inputs @ direction > 0).astype(np.int64)
    return inputs, labels, np.stack([-direction, direction])


def expected_accuracy(inputs: np.ndarray, labels: np.ndarray, weight: np.ndarray, deviation: np.ndarray) -> float:
    """Mean accuracy under independent Gaussian noise on the weights: the difference of the two outputs is Gaussian."""
    signs = 2 * labels - 1
    margins = signs * (inputs @ (weight[1] - weight[0]))
    spread = np.sqrt((inputs**2) @ (deviation**2).sum(axis=0))
    return float(gaussian.cdf(margins / spread).mean())


@pytest.mark.parametrize("scale", [0.05, 0.5])
@pytest.mark.parametrize("magnitude_aware", [False, True])
def test_sigma_is_the_standard_deviation_that_costs_a_tenth_of_the_accuracy(scale: float, magnitude_aware: bool) -> None:
    inputs, labels, weight = two_class_problem(scale)
    images = torch.tensor(inputs, dtype=torch.float32)[:, :, None, None]
    subject = linear(torch.tensor(weight), images, torch.tensor(labels), seed=5)
    found = magnitude_aware_sigma(subject) if magnitude_aware else sigma(subject)
    deviation = np.sqrt(found**2 * weight**2 + 1e-6) if magnitude_aware else np.full_like(weight, found)
    random = np.random.default_rng(1)
    draws = [(((inputs @ (weight + deviation * random.normal(size=weight.shape)).T).argmax(1)) == labels).mean() for _ in range(300)]
    standard_error = np.std(draws) / math.sqrt(10)  # of the 10 draws of the search
    assert standard_error < 0.01
    assert 1 - expected_accuracy(inputs, labels, weight, deviation) == pytest.approx(0.1, abs=0.01 + 4 * standard_error)


def test_sigma_at_the_ends_of_its_range() -> None:
    inputs, labels, weight = two_class_problem(1000.0)
    images = torch.tensor(inputs, dtype=torch.float32)[:, :, None, None]
    assert sigma(linear(torch.tensor(weight), images, torch.tensor(labels))) == pytest.approx(2, rel=1e-3)
    assert sigma(linear(torch.tensor(weight * 1e-12), images, torch.tensor(labels))) == pytest.approx(2 / 2**15)


def test_pacbayes_measures_are_their_formulas() -> None:
    subject = trained(dense(), (3, 2, 2), steps=200)
    n, level, aware = subject.samples, subject.once(sigma), subject.once(magnitude_aware_sigma)
    networks = subject.module, subject.initial
    w, w0 = (np.concatenate([network[i].weight.detach().double().numpy().ravel() for i in (1, 3)]) for network in networks)
    norm, moved = (w**2).sum(), ((w - w0) ** 2).sum()

    def bound(squared: float) -> float:
        return squared / (4 * level**2) + math.log(n / level) + 10

    def magnitude_aware_bound(squared: float) -> float:
        logs = np.log((1e-6 + (aware**2 + 1) * squared / len(w)) / (1e-6 + aware**2 * (w - w0) ** 2))
        return logs.sum() / 4 + math.log(n / aware) + 10

    expected = {
        "pacbayes_orig": bound(norm),
        "pacbayes_init": bound(moved),
        "pacbayes_flatness": level**-2,
        "pacbayes_mag_orig": magnitude_aware_bound(norm),
        "pacbayes_mag_init": magnitude_aware_bound(moved),
        "pacbayes_mag_flatness": aware**-2,
    }
    assert measure_all(expected, subject) == pytest.approx({name: math.sqrt(v / n) for name, v in expected.items()}, rel=1e-5)


def one_direction() -> tuple[Subject, np.ndarray, np.ndarray]:
    """A linear classifier of samples that all lie on one line, so that the worst perturbation of a box is one of its corners."""
    line = np.array([1.0, -0.5, 0.25, 2.0])
    weight = np.array([[-0.3, 0.2, -0.1, -0.4], [0.1, -0.4, 0.3, 0.5]])
    sides = np.array([1, -1] * 20)
    images = torch.tensor(sides[:, None] * line, dtype=torch.float32)[:, :, None, None]
    return linear(torch.tensor(weight), images, torch.tensor((sides > 0).astype(np.int64))), line, weight


def test_worst_case_sharpness_of_a_linear_classifier_is_its_closed_form() -> None:
    """All samples turn wrong together where the worst corner of the box eats the margin: |u_i| <= a takes 2 a |x|_1 of it."""
    subject, line, weight = one_direction()
    gap = (weight[1] - weight[0]) @ line
    resolution = math.exp(math.log(2e6) / 2**15)  # of the bisection of log alpha
    assert alpha(subject) == pytest.approx(gap / (2 * np.abs(line).sum()), rel=2 * (resolution - 1))
    assert magnitude_aware_alpha(subject) == pytest.approx(gap / (np.abs(weight).sum(axis=0) @ np.abs(line)), rel=2 * (resolution - 1))
    level = alpha(subject) / math.sqrt(2 * math.log(2 * weight.size / 0.05))
    bound = (weight**2).sum() / (4 * level**2) + math.log(40 / level) + 10
    expected = {
        "sharpness_flatness": 1 / (alpha(subject) * math.sqrt(40)),
        "sharpness_orig": math.sqrt(bound / 40),
        "sharpness_init": math.sqrt(bound / 40),
    }
    assert measure_all(expected, subject) == pytest.approx(expected, rel=1e-5)


def test_noise_of_the_sharpness_bound_stays_in_the_box() -> None:
    """sigma = alpha / sqrt(2 log(2k/0.05)): the largest of k Gaussians exceeds alpha in at most 1 of 20 draws."""
    random = np.random.default_rng(0)
    for count in (10, 1000):
        level = 1 / math.sqrt(2 * math.log(2 * count / 0.05))
        outside = (np.abs(random.normal(scale=level, size=(2000, count))).max(axis=1) > 1).mean()
        assert outside <= 0.05


def test_average_sharpness_of_a_linear_classifier_is_an_integral() -> None:
    """With one distinct sample x the two outputs differ by a Gaussian, and the loss is log(1 + exp(-margin))."""
    subject, line, weight = one_direction()
    gap = (weight[1] - weight[0]) @ line
    spread = 0.1 * math.sqrt(((weight**2).sum(axis=0)) @ (line**2))
    nodes, masses = np.polynomial.hermite_e.hermegauss(60)
    losses = np.log1p(np.exp(-(gap + spread * nodes)))
    mean, square = (masses @ losses) / masses.sum(), (masses @ losses**2) / masses.sum()
    standard_error = math.sqrt((square - mean**2) / 10)
    means = [
        value("sharpness_average", Subject(subject.module, subject.initial, subject.inputs, subject.labels, 2, seed)) for seed in range(40)
    ]
    assert np.mean(means) == pytest.approx(mean - math.log1p(math.exp(-gap)), abs=4 * standard_error / math.sqrt(40))


def curve(*rows: tuple[int, float | None]) -> Subject:
    module = nn.Linear(1, 2)
    data = [{"epoch": epoch, "train_loss": loss, "train_error": 0.0} for epoch, loss in rows]
    return Subject(module, module, torch.zeros(1, 1, 1, 1), torch.zeros(1, dtype=torch.int64), 2, curve=data)


def test_speed_of_fitting_of_an_exponential_loss() -> None:
    """loss = 2 exp(-epoch / 3), evaluated every other epoch: the crossings are exact."""
    subject = curve(*[(epoch, 2 * math.exp(-epoch / 3)) for epoch in range(0, 20, 2)])
    expected = {
        "epochs_to_tenth": 3 * math.log(20),
        "epochs_one_to_tenth": 3 * math.log(10),
        "epochs_tenth_to_hundredth": 3 * math.log(10),
    }
    assert measure_all(expected, subject) == pytest.approx(expected)


def test_speed_of_fitting_at_the_ends_of_the_curve() -> None:
    assert math.isnan(epochs_to(curve(), 0.1))
    assert math.isnan(epochs_to(curve((1, 2.0), (2, 1.0), (3, math.nan), (4, None)), 0.1))
    assert epochs_to(curve((3, 0.05), (4, 0.2)), 0.1) == 3
    assert epochs_to(curve((1, 1.0), (2, 0.0)), 0.1) == 2
    assert epochs_to(curve((2, 0.01), (1, 1.0)), 0.1) == pytest.approx(1.5)
    assert epochs_to(curve((1, 1.0), (2, 0.1), (3, 5.0), (4, 0.01)), 0.1) == 2
