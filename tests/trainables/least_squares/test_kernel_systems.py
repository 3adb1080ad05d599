"""The kernel solver against dense solutions, with each preconditioner."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor

from trainables.least_squares import kernel_systems
from trainables.least_squares.kernel_systems import Factor, GaussianKernel, Kernel, LinearKernel, solve


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven block rows, the last one short, for the sizes below."""
    monkeypatch.setattr(kernel_systems, "_ROWS", 48)


def sample(n: int = 300, d: int = 6, outputs: int = 3, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(n, d, generator=generator, dtype=torch.float64).to(dtype)
    return points, torch.randn(n, outputs, generator=generator, dtype=torch.float64)


def gram(kernel: Kernel, points: Tensor) -> np.ndarray:
    """K entry by entry from its definition, without the solver's blocks."""
    differences = points[:, None].double().numpy() - points[None].double().numpy()
    if isinstance(kernel, GaussianKernel):
        return np.exp(-kernel.gamma * (differences**2).sum(-1))
    return points.double().numpy() @ points.double().numpy().T


@pytest.mark.parametrize("ridge", [0.0, 0.3])
@pytest.mark.parametrize("factor", ["float64", "float32", "low_rank"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gaussian_system_equals_the_dense_solution(factor: Factor, ridge: float, dtype: torch.dtype) -> None:
    """The error of a solution is at most the residual times the condition number."""
    kernel = GaussianKernel(0.4)
    points, targets = sample(dtype=dtype)
    dense = gram(kernel, points) + ridge * np.eye(len(points))
    expected = scipy.linalg.solve(dense, targets.numpy(), assume_a="pos")
    solved = solve(kernel, points, targets, ridge=ridge, factor=factor, rank=60, tolerance=1e-11)
    bound = 1e-10 * np.linalg.cond(dense) * np.linalg.norm(expected)
    assert np.linalg.norm(solved.coefficients.numpy() - expected) < bound
    assert np.linalg.norm(solved.products.numpy() - gram(kernel, points) @ expected) < 1e-8
    assert solved.residual <= 1e-11
    assert solved.factor == factor


@pytest.mark.parametrize("factor", ["float64", "float32", "low_rank"])
def test_linear_system_with_fewer_points_than_dimensions(factor: Factor) -> None:
    points, targets = sample(n=100, d=250)
    expected = np.linalg.solve(gram(LinearKernel(), points), targets.numpy())
    solved = solve(LinearKernel(), points, targets, factor=factor, rank=20, tolerance=1e-12)
    np.testing.assert_allclose(solved.coefficients.numpy(), expected, rtol=0, atol=1e-10 * np.abs(expected).max())


def test_exact_factor_needs_no_iteration_and_single_precision_few() -> None:
    points, targets = sample()
    iterations = {
        factor: solve(GaussianKernel(0.4), points, targets, factor=factor, tolerance=1e-10).iterations for factor in ("float64", "float32")
    }
    assert iterations["float64"] == 0
    assert 1 <= iterations["float32"] <= 5


def test_more_rank_needs_fewer_iterations() -> None:
    """With a ridge, once F F^T holds what exceeds the ridge, conjugate gradients end in a few steps (Diaz et al. 2023)."""
    points, targets = sample()
    steps = [solve(GaussianKernel(0.02), points, targets, ridge=0.1, factor="low_rank", rank=rank).iterations for rank in (1, 20, 120)]
    assert steps[0] > steps[1] > steps[2]
    assert steps[2] <= 10


def test_pivots_go_where_the_kernel_is_not_yet_explained() -> None:
    """480 points in one heap and 20 far apart: 60 pivots in proportion to what is left find all 20; 60 of 500 at random would not."""
    generator = torch.Generator().manual_seed(0)
    heap = 0.01 * torch.randn(480, 2, generator=generator, dtype=torch.float64)
    apart = 100.0 * torch.arange(1, 21, dtype=torch.float64)[:, None].expand(-1, 2)
    targets = torch.randn(500, 1, generator=generator, dtype=torch.float64)
    solved = solve(GaussianKernel(1.0), torch.cat([heap, apart]), targets, ridge=1e-3, factor="low_rank", rank=60)
    assert solved.iterations <= 2


def test_memory_decides_the_factor() -> None:
    """300 points: 300 * 348 / 2 numbers in the lower block triangle."""
    points, targets = sample()
    numbers = 300 * (300 + 48) / 2
    chosen = [
        solve(GaussianKernel(0.4), points, targets, memory=memory).factor for memory in (8 * numbers, 8 * numbers - 1, 4 * numbers - 1)
    ]
    assert chosen == ["float64", "float32", "low_rank"]


def test_a_factor_leaves_a_quarter_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """By default 8 GB are allowed, of which a small machine has not as many: such a run was ended by the kernel."""
    points, targets = sample()
    numbers = 300 * (300 + 48) / 2
    chosen = []
    for machine in (8 * numbers / 0.75, 8 * numbers / 0.75 - 2, 4 * numbers / 0.75 - 2):
        monkeypatch.setattr("trainables.least_squares.kernel_systems.machine_bytes", lambda machine=machine: machine)
        chosen.append(solve(GaussianKernel(0.4), points, targets).factor)
    assert chosen == ["float64", "float32", "low_rank"]


def test_zero_targets_and_zero_columns() -> None:
    points, targets = sample()
    targets[:, 1] = 0
    for factor in ("float32", "low_rank"):
        solved = solve(GaussianKernel(0.4), points, targets, factor=factor, rank=60)
        assert not solved.coefficients[:, 1].any()
        assert not solve(GaussianKernel(0.4), points, 0 * targets, factor=factor).coefficients.any()


def test_it_leaves_its_arguments_alone() -> None:
    points, targets = sample()
    before = points.clone(), targets.clone()
    solve(GaussianKernel(0.4), points, targets)
    assert torch.equal(points, before[0])
    assert torch.equal(targets, before[1])


def test_singular_systems_are_said_to_be() -> None:
    points, targets = sample()
    with pytest.raises(ValueError, match=r"singular .* point 6 adds nothing to those before it"):
        solve(LinearKernel(), points, targets)
    with pytest.raises(ValueError, match="singular"):
        solve(GaussianKernel(0.4), torch.cat([points, points[:1]]), torch.cat([targets, targets[:1]]))
    assert solve(LinearKernel(), points, targets, ridge=1.0).residual < 1e-8


def test_what_single_precision_cannot_solve_is_solved_in_double() -> None:
    """A smooth kernel: its smallest eigenvalue, 4e-12 of the largest, is below float32's rounding and above float64's."""
    points = torch.rand(150, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    targets = torch.randn(150, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    kernel = GaussianKernel(2.0)
    gram = kernel(points, points)
    with pytest.warns(UserWarning, match="with the float32 factor"):
        assert solve(kernel, points, targets, factor="float32").residual > 1e-3
    memory_for_single_precision = 5 * 150 * (150 + 1024) / 2
    solved = solve(kernel, points, targets, memory=memory_for_single_precision)
    assert solved.factor == "float64"
    rounding = 150 * torch.finfo(torch.float64).eps * gram.norm() * solved.coefficients.norm()
    assert (gram @ solved.coefficients - targets).norm() < 1e-8 * targets.norm() + rounding
    assert rounding < 0.01 * targets.norm()


def test_what_has_no_factor_in_single_precision_is_solved_in_double() -> None:
    """Far from the origin the squared distances of float32 are wrong by more than they are."""
    points = 300 + torch.rand(150, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    targets = torch.randn(150, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    kernel = GaussianKernel(8.0)
    with pytest.raises(ValueError, match=r"singular to torch\.float32"):
        solve(kernel, points, targets, factor="float32")
    solved = solve(kernel, points, targets, memory=5 * 150 * (150 + 1024) / 2)
    assert solved.factor == "float64"
    assert solved.residual < 1e-8


def test_too_few_iterations_are_said_to_be() -> None:
    points, targets = sample()
    with pytest.warns(UserWarning, match="after 2 iterations with the low_rank factor"):
        solved = solve(GaussianKernel(0.4), points, targets, factor="low_rank", rank=10, max_iterations=2)
    assert solved.residual > 1e-3


def test_errors_are_said_in_a_sentence() -> None:
    points, targets = sample()
    with pytest.raises(ValueError, match=r"\(n, d\) and \(n, outputs\) are needed"):
        solve(GaussianKernel(0.4), points, targets[:-1])
    with pytest.raises(ValueError, match="float32 or float64 is needed"):
        solve(GaussianKernel(0.4), points.long(), targets)
    with pytest.raises(ValueError, match="ridge is -1"):
        solve(GaussianKernel(0.4), points, targets, ridge=-1)
    with pytest.raises(ValueError, match="points hold a number that is not finite"):
        solve(GaussianKernel(0.4), points.clone().fill_(torch.nan), targets)
