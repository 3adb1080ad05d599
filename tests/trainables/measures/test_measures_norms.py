"""Norms of weights, path norm and counts against NumPy, dense matrices, enumerated paths and sums by hand."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.trainables.made_up_subject import dense, trained
from trainables.measures import Subject, measure_all
from trainables.measures.bundled.counts import vc_dimension_bound, vc_gap_bound
from trainables.measures.bundled.spectral import convolution_norm, matrix_norm
from trainables.models import build, parameter_count
from trainables.point.config import Model


def dense_matrix(kernel: Tensor, size: tuple[int, int], stride: tuple[int, int], groups: int, padding: str) -> np.ndarray:
    """The convolution as a (outputs, inputs) matrix: its values on each unit vector."""
    channels = kernel.shape[1] * groups
    unit = torch.eye(channels * size[0] * size[1], dtype=torch.float64).reshape(-1, channels, *size)
    height, width = kernel.shape[2:]
    margins = (width // 2, width - 1 - width // 2, height // 2, height - 1 - height // 2)
    padded = nn.functional.pad(unit, margins, mode=padding)
    return nn.functional.conv2d(padded, kernel.double(), stride=stride, groups=groups).flatten(1).T.numpy()


CONVOLUTIONS = [
    ((6, 6), (1, 1), 1, (3, 3)),
    ((5, 7), (1, 1), 1, (3, 3)),
    ((6, 8), (2, 2), 1, (3, 3)),
    ((6, 4), (3, 1), 1, (3, 3)),
    ((6, 6), (1, 1), 2, (3, 1)),
    ((4, 6), (2, 2), 1, (1, 1)),
    ((7, 5), (1, 1), 1, (5, 4)),
]


@pytest.mark.parametrize(("size", "stride", "groups", "window"), CONVOLUTIONS)
def test_convolution_norm_is_that_of_the_dense_circular_matrix(
    size: tuple[int, int], stride: tuple[int, int], groups: int, window: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    kernel = torch.randn(4, 6 // groups, *window)
    expected = np.linalg.svd(dense_matrix(kernel, size, stride, groups, "circular"), compute_uv=False)[0]
    assert convolution_norm(kernel, size, stride=stride, groups=groups) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("window", [(3, 3), (5, 3), (1, 1)])
def test_zero_padding_stays_below_the_larger_torus(window: tuple[int, int]) -> None:
    torch.manual_seed(1)
    for _ in range(5):
        kernel = torch.randn(3, 2, *window)
        zero_padded = np.linalg.svd(dense_matrix(kernel, (6, 5), (1, 1), 1, "constant"), compute_uv=False)[0]
        larger = (6 + window[0] - 1, 5 + window[1] - 1)
        assert zero_padded <= convolution_norm(kernel, larger) * (1 + 1e-12)


def test_convolution_norm_on_a_torus_smaller_than_the_kernel_uses_one_as_large() -> None:
    kernel = torch.randn(2, 2, 5, 5)
    assert convolution_norm(kernel, (3, 4)) == convolution_norm(kernel, (5, 5))


@pytest.mark.parametrize("shape", [(5, 9), (9, 5), (4, 3, 3, 3), (1, 6)])
def test_matrix_norm_is_numpys(shape: tuple[int, ...]) -> None:
    weight = torch.randn(shape)
    expected = np.linalg.svd(weight.double().flatten(1).numpy(), compute_uv=False)[0]
    assert matrix_norm(weight) == pytest.approx(expected, rel=1e-12)


def convolutional() -> Subject:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3)
    )
    return trained(module, (2, 6, 6), steps=200)


@pytest.mark.parametrize("kind", ["", "_fft"])
def test_norm_measures_are_their_formulas(kind: str) -> None:
    subject = convolutional()
    n = subject.samples
    kernels = [(subject.module[index].weight.detach(), subject.initial[index].weight.detach()) for index in (0, 2, 5)]
    shapes = [((6, 6), (1, 1)), ((6, 6), (2, 2)), None]

    def spectral(weight: Tensor, shape: tuple[tuple[int, int], tuple[int, int]] | None) -> float:
        matrix = dense_matrix(weight, *shape, 1, "circular") if kind and shape else weight.double().flatten(1).numpy()
        return float(np.linalg.svd(matrix, compute_uv=False)[0])

    frobenius = np.array([w.double().square().sum().item() for w, _ in kernels])
    moved = np.array([(w - w0).double().square().sum().item() for w, w0 in kernels])
    norms = np.array([spectral(w, shape) ** 2 for (w, _), shape in zip(kernels, shapes, strict=True)])
    moved_norms = np.array([spectral(w - w0, shape) ** 2 for (w, w0), shape in zip(kernels, shapes, strict=True)])

    with torch.no_grad():
        outputs = subject.module.eval()(subject.inputs).double().numpy()
    right = outputs[np.arange(n), subject.labels]
    others = outputs.copy()
    others[np.arange(n), subject.labels] = -np.inf
    gamma = np.percentile(right - others.max(axis=1), 10)
    assert gamma > 0

    logs, product, product_frobenius = 2 * np.log(gamma), np.log(norms).sum(), np.log(frobenius).sum()
    roots = {
        "l2_norm": np.sqrt(frobenius.sum()),
        "l2_distance": np.sqrt(moved.sum()),
        "parameter_norm": frobenius.sum(),
        "frobenius_distance": moved.sum(),
        "inverse_margin": gamma**-2,
        f"spectral_distance{kind}": moved_norms.sum(),
        f"frobenius_over_spectral{kind}": (frobenius / norms).sum(),
    }
    halves = {
        "log_prod_frobenius": product_frobenius,
        "log_prod_frobenius_over_margin": product_frobenius - logs,
        "log_sum_frobenius": np.log(3) + product_frobenius / 3,
        "log_sum_frobenius_over_margin": np.log(3) + (product_frobenius - logs) / 3,
        f"log_prod_spectral{kind}": product,
        f"log_prod_spectral_over_margin{kind}": product - logs,
        f"log_sum_spectral{kind}": np.log(3) + product / 3,
        f"log_sum_spectral_over_margin{kind}": np.log(3) + (product - logs) / 3,
        f"log_spectral_orig{kind}": product - logs + np.log((frobenius / norms).sum()),
        f"log_spectral_init{kind}": product - logs + np.log((moved / norms).sum()),
    }
    expected = {name: np.sqrt(v / n) for name, v in roots.items()} | {name: (v - np.log(n)) / 2 for name, v in halves.items()}
    assert measure_all(expected, subject) == pytest.approx(expected, rel=1e-5)


def test_dilated_convolution_is_one_with_zeros_in_its_kernel() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 3, 3, dilation=2, padding=2), nn.Flatten(), nn.Linear(147, 3))
    wide = torch.zeros(3, 1, 5, 5)
    wide[:, :, ::2, ::2] = module[0].weight.detach()
    subject = trained(module, (1, 7, 7), steps=0)
    linear_norm = np.linalg.svd(module[2].weight.detach().double().numpy(), compute_uv=False)[0]
    map_norm = np.linalg.svd(dense_matrix(wide, (7, 7), (1, 1), 1, "circular"), compute_uv=False)[0]
    expected = np.log(linear_norm) + np.log(map_norm) - np.log(subject.samples) / 2
    assert measure_all(["log_prod_spectral_fft"], subject)["log_prod_spectral_fft"] == pytest.approx(expected, rel=1e-6)


def test_margin_measures_are_undefined_on_a_network_that_does_not_fit() -> None:
    subject = trained(dense(), (3, 2, 2), steps=0)
    values = measure_all(["inverse_margin", "log_prod_spectral_over_margin", "path_norm_over_margin", "path_norm"], subject)
    assert [math.isnan(value) for value in values.values()] == [True, True, True, False]


def test_path_norm_is_the_sum_over_enumerated_paths() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    subject = trained(module, (3, 1, 1), classes=2, steps=20)
    layers = [(layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy()) for layer in (module[1], module[3], module[5])]
    total = 0.0
    for depth, (_, bias) in enumerate(layers):  # paths that start at an input (depth 0) or at a bias of layer `depth`
        later = [weight for weight, _ in layers[depth + 1 :]]
        for path in itertools.product(*(range(len(weight)) for weight, _ in layers[depth:])):
            tail = math.prod(weight[after, before] ** 2 for weight, (before, after) in zip(later, itertools.pairwise(path), strict=True))
            total += bias[path[0]] ** 2 * tail
            if depth == 0:
                total += sum(layers[0][0][path[0], start] ** 2 for start in range(3)) * tail
    assert measure_all(["path_norm"], subject)["path_norm"] == pytest.approx(math.sqrt(total / subject.samples), rel=1e-5)


def test_path_norm_of_a_convolution_is_that_of_its_dense_matrix() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(60, 3, bias=False))
    subject = trained(module, (2, 4, 5), steps=20)
    first = dense_matrix(module[0].weight.detach(), (4, 5), (1, 1), 1, "constant")
    second = module[3].weight.detach().double().numpy()
    expected = math.sqrt(((second**2) @ (first**2)).sum() / subject.samples)
    assert measure_all(["path_norm"], subject)["path_norm"] == pytest.approx(expected, rel=1e-5)


def test_path_norm_counts_a_batch_norm_that_stays() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 3))
    subject = trained(module, (1, 2, 2), steps=30)
    norm, layer = module[1], module[3]
    scale = (norm.weight / torch.sqrt(norm.running_var + norm.eps)).detach()
    shift = (norm.bias - norm.running_mean * scale).detach()
    expected = ((scale**2 + shift**2) * layer.weight.detach() ** 2).sum() + (layer.bias.detach() ** 2).sum()
    assert measure_all(["path_norm"], subject)["path_norm"] == pytest.approx(math.sqrt(expected / subject.samples), rel=1e-5)


def test_parameters_is_the_published_count() -> None:
    module = build(Model(name="mlp", width=512, depth=1, batch_norm=False), 0.0, (3, 28, 28), 10, seed=0)
    subject = Subject(module, module, torch.zeros(50, 3, 28, 28), torch.zeros(50, dtype=torch.int64), 10)
    assert measure_all(["parameters"], subject)["parameters"] == pytest.approx(math.sqrt(1_209_866 / 50))


def test_parameters_leaves_out_what_is_not_trained() -> None:
    model = Model(name="inception_small", width=6, batch_norm=True, depth=0)
    module = build(model, 0.0, (1, 8, 8), 10, seed=0)
    subject = Subject(module, module, torch.zeros(10, 1, 8, 8), torch.zeros(10, dtype=torch.int64), 10)
    assert measure_all(["parameters"], subject)["parameters"] == pytest.approx(math.sqrt(parameter_count(model, (1, 8, 8), 10) / 10))


def test_vc_dimension_counts_layers_by_hand() -> None:
    """2 -> 3 -> 1: 9 then 4 parameters, 3 then 1 units, so sum W_i = 9 + 13 and R = 1*3 + 2*1."""
    expected = 2 + 22 * math.log2(4 * math.e * 5 * math.log2(2 * math.e * 5))
    assert vc_dimension_bound([9, 4], [3, 1]) == pytest.approx(expected)
    module = nn.Sequential(nn.Flatten(), nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    subject = Subject(module, module, torch.zeros(7, 2, 1, 1), torch.zeros(7, dtype=torch.int64), 1)
    assert measure_all(["vc_dimension"], subject)["vc_dimension"] == pytest.approx(math.sqrt(expected / 7))


def test_vc_dimension_counts_all_positions_of_a_convolution_and_shared_weights_once() -> None:
    """On 2x6x6: 57 parameters, 3*36 units; 112 and 4*9; 111 and 3."""
    expected = vc_dimension_bound([57, 112, 111], [108, 36, 3])
    subject = convolutional()
    assert measure_all(["vc_dimension"], subject)["vc_dimension"] == pytest.approx(math.sqrt(expected / subject.samples))


@pytest.mark.parametrize(("dimension", "samples"), [(1, 200), (10, 200), (50, 400), (399, 200), (400, 200), (10**5, 200)])
def test_vc_bound_is_just_above_the_one_with_the_exact_growth_function(dimension: int, samples: int) -> None:
    """Sauer's lemma: a class of VC dimension d takes at most sum_{i <= d} C(2n, i) forms on 2n samples."""
    growth = sum(math.comb(2 * samples, size) for size in range(min(dimension, 2 * samples) + 1))
    exact = math.sqrt(8 / samples * (math.log(growth) + math.log(4 / 0.1)))
    bound = vc_gap_bound(dimension, samples, confidence=0.9)
    assert exact * (1 - 1e-12) <= bound <= (1.1 if dimension < samples else 1.2) * exact
    if dimension >= 2 * samples:
        assert bound == pytest.approx(exact)
        assert bound > 1


def test_counts_do_not_see_the_labels() -> None:
    """What the paper says of capacity: it is the same for true and for random labels."""
    true = trained(dense(), (3, 2, 2))
    shuffled = Subject(true.module, true.initial, true.inputs, true.labels.flip(0), 3)
    names = ["parameters", "vc_dimension", "vc_bound"]
    assert measure_all(names, shuffled) == measure_all(names, true)


@pytest.mark.parametrize("samples", [1, 10, 1000])
def test_vc_bound_rises_with_the_dimension_without_a_jump(samples: int) -> None:
    found = [vc_gap_bound(share * samples, samples) for share in (0.01 * step for step in range(1, 401))]
    assert all(first <= second for first, second in itertools.pairwise(found))
    assert max(second - first for first, second in itertools.pairwise(found)) < 0.3
    log_growth = 2 * samples * math.log(2)
    assert found[-1] == found[199] == pytest.approx(math.sqrt(8 / samples * (log_growth + math.log(80))))
