"""Theorem 1: the network against brute force, exact arithmetic and hand-counted weights."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import Tensor

from trainables.least_squares.expressivity import ReluInterpolant, interpolant, project, weight_count


def sample(n: int, d: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator), torch.randn(n, generator=generator, dtype=torch.float64)


def layer_by_layer(network: ReluInterpolant, inputs: Tensor) -> tuple[Tensor, int]:
    """The same network as plain dense layers, and its non-zero weights and biases, the direction counted once.

    State between layers: the group's units, then the sum handed on (none after the first layer), then the input handed on.
    """
    groups = [(offsets.detach(), weights.detach()) for offsets, weights in zip(network.offsets, network.weights, strict=True)]
    offsets, weights = groups[0]
    units = torch.relu(project(inputs, network.direction.detach())[:, None] - offsets)
    count = len(network.direction) + len(offsets)
    if len(groups) == 1:
        return units @ weights, count + len(weights)
    assert network.shift is not None
    shift = float(network.shift.detach())
    read_out = weights[:, None]
    bias = shift
    for layer, (offsets, weights) in enumerate(groups[1:], start=2):
        width, last = units.shape[1], layer == len(groups)
        source = 0 if layer == 2 else width - 1  # b_1's own unit is the input handed on by the first layer
        into_group = torch.zeros(width, len(offsets), dtype=torch.float64)
        into_group[source] = 1
        onward = torch.zeros(width, 0 if last else 1, dtype=torch.float64)
        onward[source] = 1
        matrix = torch.cat([into_group, read_out, onward], dim=1)
        biases = torch.cat([-offsets, torch.tensor([bias], dtype=torch.float64), torch.zeros(onward.shape[1], dtype=torch.float64)])
        count += int((matrix != 0).sum() + (biases != 0).sum())
        units = torch.relu(units @ matrix + biases)
        read_out = torch.zeros(units.shape[1], 1, dtype=torch.float64)
        read_out[: len(weights), 0] = weights
        read_out[len(weights)] = 1
        bias = 0.0
    return (units @ read_out)[:, 0] - shift, count + int((read_out != 0).sum()) + 1


@pytest.mark.parametrize(("n", "d"), [(1, 1), (2, 5), (7, 1), (500, 20)])
def test_two_layer_network_has_2n_plus_d_parameters(n: int, d: int) -> None:
    network = interpolant(*sample(n, d))
    assert sum(parameter.numel() for parameter in network.parameters()) == 2 * n + d == weight_count(n, d)


def test_it_interpolates_in_exact_arithmetic() -> None:
    """The formula evaluated in rational numbers on the stored float64s: no part of the error is the evaluation's."""
    inputs, targets = sample(400, 5)
    network = interpolant(inputs, targets)
    offsets, weights = ([Fraction(number) for number in group[0].tolist()] for group in (network.offsets, network.weights))
    for at, target in zip(project(inputs, network.direction).tolist(), targets.tolist(), strict=True):
        exact = sum(w * max(Fraction(at) - b, Fraction(0)) for b, w in zip(offsets, weights, strict=True))
        assert abs(float(exact) - target) < 1e-11


def test_slopes_are_exact_sums_of_the_weights() -> None:
    """Every prefix sum of the weights is a float64, though gaps span six orders of magnitude."""
    at = torch.logspace(0, 6, 300, dtype=torch.float64).cumsum(0)[:, None]
    network = interpolant(at, sample(300, 1)[1])
    exact = Fraction(0)
    for weight in network.weights[0].tolist():
        exact += Fraction(weight)
        assert Fraction(float(exact)) == exact


def test_slopes_survive_cancellation() -> None:
    """(1e16 + 1 - 1e16) max(z, 0) is max(z, 0): a plain running sum in float64 says 0."""
    cancelling = torch.tensor([1e16, 1.0, -1e16], dtype=torch.float64)
    network = ReluInterpolant(torch.ones(1, dtype=torch.float64), [torch.zeros(3, dtype=torch.float64)], [cancelling], 0.0)
    at = torch.tensor([[-2.0], [0.0], [3.0]])
    assert network(at).tolist() == [0.0, 0.0, 3.0]


def test_offsets_interleave_and_the_gaps_are_the_largest_possible() -> None:
    """b_1 < z_1 <= b_2 < z_2 <= ...; with b_(i+1) = z_i the diagonal of A holds the differences of sorted projections."""
    inputs, targets = sample(200, 3)
    network = interpolant(inputs, targets)
    ordered, offsets = project(inputs, network.direction).sort().values, network.offsets[0]
    assert bool((offsets < ordered).all())
    assert torch.equal(offsets[1:], ordered[:-1])


def test_agrees_with_the_dense_triangular_solve() -> None:
    """The proof's own route, on few points, where it is well conditioned: solve A w = y, then A' w at new points."""
    inputs, targets = sample(30, 4)
    network = interpolant(inputs, targets)
    ordered, order = project(inputs, network.direction).detach().sort()
    offsets = network.offsets[0].detach()
    triangular = torch.relu(ordered[:, None] - offsets)
    assert torch.equal(triangular, triangular.tril())
    weights = torch.linalg.solve_triangular(triangular, targets[order][:, None], upper=False)[:, 0]
    torch.testing.assert_close(network.weights[0].detach(), weights, rtol=1e-9, atol=1e-9)
    fresh = 3 * sample(1000, 4, seed=1)[0]
    dense = torch.relu(project(fresh, network.direction.detach())[:, None] - offsets) @ weights
    torch.testing.assert_close(network(fresh).detach(), dense, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("depth", [2, 3, 4, 8, 24])
def test_any_depth_is_the_plain_network_that_its_docstring_says(depth: int) -> None:
    """Values at new points, far outside too, and the count of non-zero weights, against dense layers; widths O(n/k)."""
    n, d = 23, 4
    inputs, targets = sample(n, d)
    network = interpolant(inputs, targets, depth=depth)
    fresh = torch.cat([inputs, 10 * sample(500, d, seed=1)[0]])
    dense, count = layer_by_layer(network, fresh)
    torch.testing.assert_close(network(fresh).detach(), dense, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(network(inputs).detach(), targets, rtol=0, atol=1e-11)
    assert count == weight_count(n, d, depth)
    assert network.depth == depth
    assert max(map(len, network.offsets)) + 2 <= -(-n // (depth - 1)) + 3, "a group, the input and the sum handed on"


def test_all_depths_are_one_function() -> None:
    inputs, targets = sample(300, 6)
    fresh = sample(2000, 6, seed=1)[0]
    shallow, deep = (interpolant(inputs, targets, depth=depth)(fresh) for depth in (2, 9))
    torch.testing.assert_close(shallow, deep, rtol=0, atol=1e-9 * float(shallow.detach().abs().max()))


def test_weights_counted_by_hand() -> None:
    """n = 6, d = 3, depth 4 (3 hidden layers of 2 points each), direction 3.

    First layer: 3 offsets (2 and the closing one). Second: into its 3 units a weight and an offset each, input handed on 1, sum handed on 3
    weights and the shift. Third: 2 units, a weight and an offset each; sum handed on 3 + 1. Output: 2 + 1, and the shift.
    """
    assert weight_count(6, 3, depth=4) == 3 + 3 + (6 + 1 + 4) + (4 + 4) + (3 + 1)


def test_real_targets_and_labels_on_many_points() -> None:
    """n = 100,000: the least gap is near 1/n^2 of the span, so that float64 keeps 6 digits of it; slopes reach 1e9."""
    inputs, targets = sample(100_000, 10)
    labels = (10 * torch.rand(100_000, generator=torch.Generator().manual_seed(0))).long()
    with torch.no_grad():
        network = interpolant(inputs, targets)
        ordered = project(inputs, network.direction).sort().values
        assert float(ordered.diff().min() / (ordered[-1] - ordered[0])) < 1e-8
        assert float((network(inputs) - targets).abs().max()) < 1e-9
        assert float((interpolant(inputs, labels, depth=5)(inputs) - labels).abs().max()) < 1e-9


def test_a_point_gets_the_same_bits_whatever_it_is_batched_with() -> None:
    inputs, targets = sample(300, 37)
    network = interpolant(inputs, targets)
    with torch.no_grad():
        together = network(inputs)
        alone = torch.cat([network(inputs[i : i + 1]) for i in range(300)])
        elsewhere = network(inputs.double().flip(0)).flip(0)
    assert torch.equal(together, alone)
    assert torch.equal(together, elsewhere)


def test_images_of_bytes_are_flattened() -> None:
    images = torch.randint(0, 256, (50, 8, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    targets = torch.arange(50)
    network = interpolant(images, targets)
    assert torch.equal(network(images).round().long(), targets)
    assert torch.equal(network(images), network(images.flatten(1)))


def test_projection_is_the_inner_product() -> None:
    for d in (1, 2, 3, 37, 64):
        inputs, direction = sample(20, d)[0].double(), sample(d, 1, seed=2)[1]
        np.testing.assert_allclose(project(inputs, direction).numpy(), inputs.numpy() @ direction.numpy(), rtol=0, atol=1e-13)


def test_projection_adds_in_the_order_that_it_promises() -> None:
    """Second half onto first, an odd last term kept aside for the next round: the same bits on any device."""

    def folded(terms: list[float]) -> float:
        if len(terms) == 1:
            return terms[0]
        half = len(terms) // 2
        return folded([a + b for a, b in zip(terms[:half], terms[half : 2 * half], strict=True)] + terms[2 * half :])

    inputs, direction = sample(50, 37)[0].double(), sample(37, 1)[1]
    expected = [folded([a * b for a, b in zip(row, direction.tolist(), strict=True)]) for row in inputs.tolist()]
    assert project(inputs, direction).tolist() == expected


@pytest.mark.parametrize("depth", [2, 4])
def test_gradients_are_those_of_the_formula(depth: int) -> None:
    """Every parameter's gradient against central differences; offsets are put out of order first."""
    inputs, targets = sample(8, 3)
    network = interpolant(inputs, targets, depth=depth)
    with torch.no_grad():
        network.offsets[-1].copy_(network.offsets[-1].flip(0).clone())
    fresh = sample(16, 3, seed=1)[0].double()
    names = [name for name, _ in network.named_parameters()]

    def outputs(*parameters: Tensor) -> Tensor:
        return torch.func.functional_call(network, dict(zip(names, parameters, strict=True)), (fresh,))

    assert torch.autograd.gradcheck(outputs, tuple(network.parameters()), rtol=1e-4)


def test_errors_are_said_in_a_sentence() -> None:
    inputs, targets = sample(20, 3)
    with pytest.raises(ValueError, match="inputs 4 and 9 are the same point"):
        interpolant(inputs.index_copy(0, torch.tensor([9]), inputs[4:5]), targets)
    near = torch.tensor([[1e20, 1.0], [1e20, 0.0], [0.0, 0.0]], dtype=torch.float64)
    with pytest.raises(ValueError, match="inputs 0 and 1 differ, but so little"):
        interpolant(near, targets[:3])
    with pytest.raises(ValueError, match=r"one number for each of the 20 inputs"):
        interpolant(inputs, targets[:19])
    with pytest.raises(ValueError, match=r"\(n, d\) is needed"):
        interpolant(targets, targets)
    with pytest.raises(ValueError, match="targets hold a number that is not finite"):
        interpolant(inputs, targets.masked_fill(targets == targets[0], torch.nan))
    with pytest.raises(ValueError, match="at most 21"):
        interpolant(inputs, targets, depth=22)
