"""Solving (K + ridge I) a = y for a kernel matrix K that is never held whole.

Conjugate gradients in float64, whose products with K are computed block by block from the points, after one of three
preconditioners; which one is a question of memory:

- `float64`: the Cholesky factor of K + ridge I, its lower triangle alone, in block rows: n^2/2 numbers, so that 60,000 points take
  14.4 GB instead of the 28.8 GB of K. The answer is exact at once; the iterations only confirm it.
- `float32`: the same factor in single precision, 7.2 GB for 60,000 points. Each iteration adds the digits that single
  precision lost; a few reach float64 accuracy. Where K is near singular to single precision, there is no such factor or they are
  many: then the float64 factor is made after all, if three quarters of the machine's memory hold it.
- `low_rank`: K ~ F F^T from `rank` columns chosen by randomly pivoted Cholesky (Chen, Epperly, Tropp and Webber 2022, arXiv
  2207.06503, in blocks), and (F F^T + mu I)^-1 by the Woodbury identity (Diaz, Epperly, Frangella, Tropp and Webber 2023, arXiv
  2304.12465, with mu = ridge). Without a ridge there is no such mu: here it is the ridge plus the mean eigenvalue of K - F F^T.
  Memory n * rank; for any n.

A Cholesky factor costs n^3/6 multiplications and as many additions, a product with K n^2 d/2 of each: the factor is the cheaper way as
long as it fits, unless n/(3d) iterations do (25 for 60,000 points in 784 dimensions).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from trainables.host_memory import machine_bytes

Factor = Literal["float64", "float32", "low_rank"]
_ROWS = 1024
"""Rows of K computed at a time."""
_SHARE = 0.75
"""Share of a machine's memory that a factor may take."""


class Kernel(Protocol):
    """A positive semidefinite kernel k(x, x')."""

    def __call__(self, left: Tensor, right: Tensor) -> Tensor:
        """Compute k of all pairs, (a, d) and (b, d) -> (a, b), in their dtype."""
        ...

    def diagonal(self, points: Tensor) -> Tensor:
        """Compute k(x, x) of each point, (a, d) -> (a,)."""
        ...


@dataclass(frozen=True)
class GaussianKernel:
    """The kernel exp(-gamma |x - x'|^2); a width s is gamma = 1/(2 s^2).

    >>> GaussianKernel(0.02)(torch.zeros(1, 4), torch.tensor([[5.0, 0.0, 0.0, 0.0]])).item() == torch.exp(torch.tensor(-0.5)).item()
    True
    """

    gamma: float

    def __call__(self, left: Tensor, right: Tensor) -> Tensor:
        products = left @ right.T
        products.mul_(2).sub_(left.square().sum(1)[:, None]).sub_(right.square().sum(1)).clamp_(max=0)
        return products.mul_(self.gamma).exp_()

    def diagonal(self, points: Tensor) -> Tensor:
        return points.new_ones(len(points))


@dataclass(frozen=True)
class LinearKernel:
    """The kernel <x, x'>."""

    def __call__(self, left: Tensor, right: Tensor) -> Tensor:
        return left @ right.T

    def diagonal(self, points: Tensor) -> Tensor:
        return points.square().sum(1)


@dataclass(frozen=True)
class SystemSolution:
    """The answer of `solve`.

    Attributes:
        coefficients: a, (n, outputs), float64.
        products: K a, (n, outputs), float64.
        residual: |(K + ridge I) a - y| / |y|, Frobenius norms.
        iterations: conjugate gradient steps after the preconditioner's own answer.
        factor: the preconditioner that was used.
    """

    coefficients: Tensor
    products: Tensor
    residual: float
    iterations: int
    factor: Factor


def solve(
    kernel: Kernel,
    points: Tensor,
    targets: Tensor,
    *,
    ridge: float = 0.0,
    memory: float = 8e9,
    factor: Factor | None = None,
    rank: int = 1000,
    tolerance: float = 1e-8,
    max_iterations: int = 200,
    seed: int = 0,
) -> SystemSolution:
    """Solve (K + ridge I) a = y, K_ij = kernel(x_i, x_j).

    Args:
        points: x, (n, d), float32 or float64; everything is computed on their device.
        targets: y, (n, outputs).
        ridge: at least 0.
        memory: largest factor that may be held, in bytes, and never more than three quarters of the machine's. It decides `factor` where
            that is left open: float64 if it fits (up to 44,000 points by default), else float32 (up to 62,000; float64 after all where
            that fails and fits the machine), else low_rank.
        rank: number of columns of the `low_rank` preconditioner.
        tolerance: largest residual, as in `SystemSolution`.
        max_iterations: most steps; a warning says so when they do not reach the tolerance.
        seed: seed of the pivots of `low_rank`.

    Raises:
        ValueError: shapes do not fit, a number is not finite, or K + ridge I is singular to working precision.
    """
    _check(points, targets, ridge)
    system = _System(kernel, points, ridge)
    targets = targets.to(points.device, torch.float64)
    chosen = factor or _factor_that_fits(len(points), min(memory, _SHARE * _memory_of(points.device)))
    if chosen == "low_rank":
        low_rank = _LowRank(system, min(rank, len(points)), seed)
        solved = _refined(system, targets, chosen, low_rank.solve, tolerance, max_iterations)
    elif chosen == "float32" and factor is None and 8 * _numbers(len(points)) <= _SHARE * _memory_of(points.device):
        solved = _single_else_double(system, targets, tolerance, max_iterations)
    else:
        solved = _factored(system, targets, chosen, tolerance, max_iterations)
    if not solved.residual <= tolerance:
        warnings.warn(
            f"the kernel system of {len(points)} points is solved to a relative residual of {solved.residual:.1e}, not {tolerance:.1e}, "
            f"after {solved.iterations} iterations with the {solved.factor} factor: allow more iterations, more rank, or memory for a "
            "larger factor",
            stacklevel=2,
        )
    return solved


def _single_else_double(system: _System, targets: Tensor, tolerance: float, max_iterations: int) -> SystemSolution:
    """Solve by the float32 factor if there is one and its iterations cost no more than the float64 factor, else by that one."""
    n, dimension = system.points.shape
    try:
        solved = _factored(system, targets, "float32", tolerance, min(max_iterations, 10 + n // (3 * dimension)))
    except _SingularError:
        solved = None
    return solved if solved and solved.residual <= tolerance else _factored(system, targets, "float64", tolerance, max_iterations)


def _factored(
    system: _System, targets: Tensor, factor: Literal["float64", "float32"], tolerance: float, max_iterations: int
) -> SystemSolution:
    cholesky = _Cholesky(system, torch.float64 if factor == "float64" else torch.float32)
    return _refined(system, targets, factor, cholesky.solve, tolerance, max_iterations)


def _refined(
    system: _System, targets: Tensor, factor: Factor, precondition: Callable[[Tensor], Tensor], tolerance: float, max_iterations: int
) -> SystemSolution:
    answer, left_over, iterations = _conjugate_gradients(system.multiply, targets, precondition, tolerance, max_iterations)
    residual = float(left_over.norm() / targets.norm()) if targets.any() else 0.0
    return SystemSolution(answer, targets - left_over - system.ridge * answer, residual, iterations, factor)


def _check(points: Tensor, targets: Tensor, ridge: float) -> None:
    if points.ndim != 2 or targets.ndim != 2 or len(points) != len(targets) or len(points) == 0:
        raise ValueError(f"points have shape {tuple(points.shape)} and targets {tuple(targets.shape)}: (n, d) and (n, outputs) are needed")
    if points.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"points are {points.dtype}: float32 or float64 is needed")
    if not ridge >= 0:
        raise ValueError(f"ridge is {ridge}: it must be at least 0")
    for name, numbers in (("points", points), ("targets", targets)):
        if not numbers.isfinite().all():
            raise ValueError(f"{name} hold a number that is not finite")


def _factor_that_fits(n: int, memory: float) -> Factor:
    return "float64" if 8 * _numbers(n) <= memory else "float32" if 4 * _numbers(n) <= memory else "low_rank"


def _numbers(n: int) -> float:
    """Count of numbers in the lower triangle of an (n, n) matrix, held as block rows."""
    return n * (n + _ROWS) / 2


def _memory_of(device: torch.device) -> float:
    """Memory of the device, in bytes."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[1])
    return machine_bytes()


class _SingularError(ValueError):
    """A matrix has no Cholesky factor in the precision tried."""


class _System:
    """The matrix K + ridge I, computed by blocks."""

    def __init__(self, kernel: Kernel, points: Tensor, ridge: float) -> None:
        self.kernel, self.points, self.ridge = kernel, points, ridge
        n = len(points)
        self.blocks = [slice(start, min(start + _ROWS, n)) for start in range(0, n, _ROWS)]

    def lower_row(self, block: slice, dtype: torch.dtype) -> Tensor:
        """Compute the rows `block` of K + ridge I, with the columns up to its end."""
        own = self.points[block].to(dtype)
        rows = own.new_empty(len(own), block.stop)
        for columns in self.blocks[: block.start // _ROWS + 1]:
            rows[:, columns] = self.kernel(own, self.points[columns].to(dtype))
        rows[:, block].diagonal().add_(self.ridge)
        return rows

    def multiply(self, vectors: Tensor) -> Tensor:
        """Multiply (K + ridge I) by vectors, in float64 and from one triangle of K."""
        if isinstance(self.kernel, LinearKernel):
            return self._multiply_linear(vectors)
        product = torch.zeros_like(vectors)
        for block in self.blocks:
            rows = self.lower_row(block, torch.float64)
            product[block] += rows @ vectors[: block.stop]
            product[: block.start] += rows[:, : block.start].T @ vectors[block]
        return product

    def _multiply_linear(self, vectors: Tensor) -> Tensor:
        """Multiply X (X^T vectors), without K."""
        weights = torch.zeros(self.points.shape[1], vectors.shape[1], dtype=vectors.dtype, device=vectors.device)
        for block in self.blocks:
            weights += self.points[block].double().T @ vectors[block]
        return torch.cat([self.points[block].double() @ weights for block in self.blocks]) + self.ridge * vectors


class _Cholesky:
    """The factor L of K + ridge I = L L^T, held as block rows of its lower triangle."""

    def __init__(self, system: _System, dtype: torch.dtype) -> None:
        self.blocks, self.dtype = system.blocks, dtype
        self.rows: list[Tensor] = []
        diagonal = system.kernel.diagonal(system.points).double()
        # In single precision K is only known to rounding, of spectral norm near 2 eps sqrt(n): lifted by that, it stays definite.
        lift = 2 * torch.finfo(dtype).eps * len(diagonal) ** 0.5 * float(diagonal.max()) if dtype == torch.float32 else 0.0
        for block in self.blocks:
            row = system.lower_row(block, dtype)
            for earlier, factor in zip(self.blocks, self.rows, strict=False):
                row[:, earlier] -= row[:, : earlier.start] @ factor[:, : earlier.start].T
                row[:, earlier] = torch.linalg.solve_triangular(factor[:, earlier].T, row[:, earlier], upper=True, left=False)
            own = row[:, block] - row[:, : block.start] @ row[:, : block.start].T
            own.diagonal().add_(lift)
            row[:, block], failed = torch.linalg.cholesky_ex(own)
            if failed:
                raise _SingularError(
                    f"the kernel matrix of {len(diagonal)} points is singular to {dtype} precision: point {block.start + int(failed) - 1} "
                    "adds nothing to those before it. Give a ridge, leave out equal points, or (linear kernel) use linear_regression"
                )
            self.rows.append(row)

    def solve(self, targets: Tensor) -> Tensor:
        """Multiply (L L^T)^-1 by targets."""
        answer = targets.to(self.dtype, copy=True)
        for block, row in zip(self.blocks, self.rows, strict=True):
            rest = answer[block] - row[:, : block.start] @ answer[: block.start]
            answer[block] = torch.linalg.solve_triangular(row[:, block], rest, upper=False)
        for block, row in zip(reversed(self.blocks), reversed(self.rows), strict=True):
            answer[block] = torch.linalg.solve_triangular(row[:, block].T, answer[block], upper=True)
            answer[: block.start] -= row[:, : block.start].T @ answer[block]
        return answer.to(targets.dtype)


class _LowRank:
    """The inverse (F F^T + mu I)^-1, with F from randomly pivoted Cholesky."""

    def __init__(self, system: _System, rank: int, seed: int) -> None:
        self.columns, left_over = _pivoted_columns(system, rank, seed)
        self.mu = system.ridge + float(left_over.mean().clamp(min=torch.finfo(torch.float64).eps * float(self.columns.square().sum())))
        gram = self.columns.T @ self.columns
        gram.diagonal().add_(self.mu)
        self.factor = torch.linalg.cholesky(gram)

    def solve(self, targets: Tensor) -> Tensor:
        inner = torch.cholesky_solve(self.columns.T @ targets, self.factor)
        return (targets - self.columns @ inner) / self.mu


def _pivoted_columns(system: _System, rank: int, seed: int) -> tuple[Tensor, Tensor]:
    """Choose F, (n, at most rank), with K ~ F F^T; return it with the diagonal of K - F F^T.

    Pivots are drawn in proportion to that diagonal, in ten rounds; what is down to rounding counts as zero.
    """
    points = system.points.double()
    generator = torch.Generator().manual_seed(seed)
    left_over = system.kernel.diagonal(points)
    noise = 100 * torch.finfo(torch.float64).eps * left_over.max()
    columns = points.new_zeros(len(points), rank)
    done = 0
    while done < rank and left_over.any():
        round_size = min(-(-rank // 10), rank - done, int((left_over > 0).sum()))
        pivots = torch.multinomial(left_over.cpu(), round_size, generator=generator).to(points.device)
        fresh = system.kernel(points, points[pivots]) - columns[:, :done] @ columns[pivots, :done].T
        own = fresh[pivots]
        own.diagonal().add_(noise)
        stop = done + round_size
        columns[:, done:stop] = torch.linalg.solve_triangular(torch.linalg.cholesky(own).T, fresh, upper=True, left=False)
        left_over = left_over - columns[:, done:stop].square().sum(1)
        left_over[pivots] = 0
        left_over = torch.where(left_over > noise, left_over, 0.0)
        done = stop
    return columns[:, :done], left_over


def _conjugate_gradients(
    multiply: Callable[[Tensor], Tensor], targets: Tensor, precondition: Callable[[Tensor], Tensor], tolerance: float, max_iterations: int
) -> tuple[Tensor, Tensor, int]:
    """Solve column by column; return the answer, what is left of the targets, and the steps taken after the preconditioner's answer."""
    answer = precondition(targets)
    left_over = targets - multiply(answer)
    goal = tolerance * targets.norm()
    step = preconditioned = torch.zeros_like(targets)
    weight = torch.zeros_like(targets[0])
    iterations = 0
    while left_over.norm() > goal and iterations < max_iterations:
        preconditioned = precondition(left_over)
        previous, weight = weight, (left_over * preconditioned).sum(0)
        step = preconditioned + torch.where(previous > 0, weight / previous, 0.0) * step
        moved = multiply(step)
        curvature = (step * moved).sum(0)
        length = torch.where(curvature > 0, weight / curvature, 0.0)
        answer = answer + length * step
        left_over = left_over - length * moved
        iterations += 1
    return answer, left_over, iterations
