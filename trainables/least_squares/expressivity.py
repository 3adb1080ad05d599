"""Theorem 1 of Zhang et al. 2017: a ReLU network with 2n + d weights takes any values on any n points in d dimensions.

    c(x) = sum_j w_j max(<a, x> - b_j, 0),        a in R^d,  b and w in R^n

Sort the projections z_i = <a, x_i>. With b_1 < z_1 <= b_2 < z_2 <= ... (the paper's < throughout is not needed) the matrix
A_ij = max(z_i - b_j, 0) is lower triangular with the gaps z_i - b_i on its diagonal, so A w = y has one solution. Built here in
O(n (d + log n)) time and O(n + d) memory, without A, and sound in float64 for a million points:

- **Offsets.** b_{i+1} = z_i, the smallest that keeps A triangular, makes every gap (so lambda_min(A), the least of them) as
  large as the direction allows. c then joins the points by straight lines: slope i is a divided difference, and weight i the
  change of slope at b_i. Offsets in the middle of the gaps instead carry each step's error into the next.
- **Weights.** Slopes reach |dy| / gap, with the least of n gaps of order 1/n^2, so sums of weights cancel. Each slope is rounded to the
  last place of the largest of itself and its two neighbours: then every weight, a difference of two, is a float64 without
  rounding, and the slopes are exactly the weights' prefix sums.
- **Evaluation.** Sorted prefix sums instead of an n x n matrix: c(x) = value at the last offset below <a, x>, plus slope times
  distance. Prefix sums are compensated, so they do not depend on the order of a parallel scan.
- **Projection.** <a, x> is summed in one fixed order, whatever the batch: a training point gets the same 64 bits at
  construction and ever after (a matrix product's last bits may depend on batch and device, which steep slopes would magnify).

Measured, one thread of a 2-core CPU, standard normal points and targets: n = 1,000,000 in R^20, built in 0.8 s, evaluated in 0.7 s, largest
error 1.0e-9 (where the least gap is 5e-14 of the span):

    python -c "import torch; from trainables.least_squares import interpolant; torch.set_num_threads(1); torch.manual_seed(0)
    x, y = torch.randn(1_000_000, 20), torch.randn(1_000_000); print((interpolant(x, y)(x) - y).abs().max())"

and on the 50,000 images of CIFAR-10 as bytes (d = 3,072), largest errors 2.7e-11 with standard normal targets and 8.3e-11 with random
labels at depth 2 (103,072 weights), 3.6e-11 and 6.7e-11 at depth 11 (148,117 weights, at most 5,003 units a layer), built in 2 to 6 s.

The corollary's depth-k network (our construction) has the same units, dealt out over k - 1 hidden layers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_ATTEMPTS = 8
"""Directions drawn before giving up on distinct projections."""
_BLOCK = 1 << 22
"""Numbers of the inputs that are multiplied at a time: 32 MiB in float64."""


class ReluInterpolant(nn.Module):
    """The network of Theorem 1, or with more than one group of units that of its corollary.

    Inputs are (samples, ...), flattened to (samples, d), of any dtype: the parameters' (float64) is computed in. Outputs are (samples,).
    Takes O((n + samples) log n) time beside the projection and, without gradients, O(n + samples) memory. Every parameter may be trained:
    offsets need not stay sorted.

    Depth k has k - 1 hidden layers. Each has its group of units max(u - b_j, 0), where u is <a, x> in the first and
    max(<a, x> - b_1, 0), handed on, in the others; and, from the second on, one unit that hands on the sum of the groups before it, plus a
    shift that keeps it positive. Each group but the last ends in a unit that sets its slope to zero.

    Args:
        direction: a, (d,).
        offsets: b of each hidden layer's group, (units,) each; the first of all is the smallest.
        weights: w of each hidden layer's group, (units,) each.
        shift: at least the largest -c(x) over all x; 0 for depth 2, which does not use it.
    """

    def __init__(self, direction: Tensor, offsets: list[Tensor], weights: list[Tensor], shift: float) -> None:
        super().__init__()
        self.direction = nn.Parameter(direction)
        self.offsets = nn.ParameterList(offsets)
        self.weights = nn.ParameterList(weights)
        self.shift = nn.Parameter(direction.new_tensor(shift)) if len(offsets) > 1 else None

    @property
    def depth(self) -> int:
        """Number of layers of weights: 2 for Theorem 1."""
        return len(self.offsets) + 1

    def forward(self, inputs: Tensor) -> Tensor:
        projected = project(inputs, self.direction)
        total = _sum_of_ramps(projected, self.offsets[0], self.weights[0])
        if self.shift is None:
            return total
        handed_on = torch.relu(projected - self.offsets[0][0])
        total = total + self.shift
        for offsets, weights in zip(self.offsets[1:], self.weights[1:], strict=True):
            total = torch.relu(total) + _sum_of_ramps(handed_on, offsets, weights)
        return total - self.shift


@torch.no_grad()
def interpolant(inputs: Tensor, targets: Tensor, *, depth: int = 2, seed: int = 0) -> ReluInterpolant:
    """Build the network that takes the values `targets` at `inputs`.

    Args:
        inputs: (n, ...) distinct points, flattened to (n, d); any real dtype.
        targets: (n,) finite numbers; class labels are numbers too, to be read off by rounding.
        depth: layers of weights, from 2 (Theorem 1, 2n + d weights) to n + 1; see `weight_count` for more than 2.
        seed: seed of the random direction.

    Returns:
        a float64 module on the device of `inputs`.

    Raises:
        ValueError: shapes do not fit, a number is not finite, two inputs are equal, or no direction tells all of them apart.

    >>> network = interpolant(torch.tensor([[0.0, 1.0], [2.0, 3.0], [1.0, 0.0]]), torch.tensor([5.0, -1.0, 4.0]))
    >>> network(torch.tensor([[0.0, 1.0], [2.0, 3.0], [1.0, 0.0]])).tolist()
    [5.0, -1.0, 4.0]
    >>> sum(parameter.numel() for parameter in network.parameters())  # 2n + d
    8
    """
    values = targets.to(inputs.device, torch.float64)
    _check(inputs, values, depth)
    direction, projected = _distinct_projections(inputs.flatten(1), seed)
    projected, order = projected.sort()
    return _assemble(direction, projected, values[order], depth - 1)


def weight_count(n: int, d: int, depth: int = 2) -> int:
    """Number of non-zero weights and biases of the network, the direction counted once (as the theorem does): 2n + d at depth 2.

    At depth k > 2, with h = k - 1 hidden layers and m = ceil(n/h) units in the first group, it is 3n - m + d + 5(h - 1): an offset and an
    output weight for each of the n units and the h - 1 that end a group; a weight 1 into each unit beyond the first layer; what hands the
    input and the sum on; the shift, added and taken off. O(n + d), and the widest layer has ceil(n/h) + 3 units at most: O(n/k).

    >>> weight_count(50_000, 3072), weight_count(50_000, 3072, depth=11)
    (103072, 148117)
    """
    if depth == 2:
        return 2 * n + d
    hidden = depth - 1
    return 3 * n - -(-n // hidden) + d + 5 * (hidden - 1)


def project(inputs: Tensor, direction: Tensor) -> Tensor:
    """Compute <direction, x> of each row, (samples, ...) -> (samples,), with its additions in an order that d alone fixes.

    The second half of the products is added to the first, and so on; an odd last one waits for the next round.
    """
    points = inputs.flatten(1)
    rows = max(1, _BLOCK // max(1, points.shape[1]))
    blocks = [_fold(block.to(direction) * direction) for block in torch.split(points, rows)]
    return torch.cat(blocks)


def _fold(terms: Tensor) -> Tensor:
    while terms.shape[1] > 1:
        half = terms.shape[1] // 2
        folded = terms[:, :half] + terms[:, half : 2 * half]
        terms = folded if terms.shape[1] == 2 * half else torch.cat([folded, terms[:, 2 * half :]], dim=1)
    return terms[:, 0]


def _check(inputs: Tensor, values: Tensor, depth: int) -> None:
    n = len(inputs)
    if inputs.ndim < 2 or inputs.numel() == 0:
        raise ValueError(f"inputs have shape {tuple(inputs.shape)}: (n, d) is needed, at least one point with at least one coordinate")
    if values.shape != (n,):
        raise ValueError(f"targets have shape {tuple(values.shape)}: one number for each of the {n} inputs is needed, ({n},)")
    if not 2 <= depth <= n + 1:
        raise ValueError(f"depth is {depth}: it must be at least 2 and, with {n} points, at most {n + 1}")
    for name, numbers in (("inputs", inputs), ("targets", values)):
        if not numbers.isfinite().all():
            raise ValueError(f"{name} hold a number that is not finite")


def _distinct_projections(points: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Draw a random unit direction on which no two points coincide; return it with their projections."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(_ATTEMPTS):
        direction = torch.randn(points.shape[1], generator=generator, dtype=torch.float64)
        direction = (direction / direction.norm()).to(points.device)
        projected = project(points, direction)
        ordered, order = projected.sort()
        tied = ((ordered - _lowest_offset(ordered)).diff() == 0).nonzero()[:, 0]
        if len(tied) == 0:
            return direction, projected
        lower, upper = order[tied], order[tied + 1]
        equal = (points[lower] == points[upper]).all(dim=1)
        pair = sorted((int(lower[equal.int().argmax()]), int(upper[equal.int().argmax()])))
        if equal.any():
            raise ValueError(
                f"inputs {pair[0]} and {pair[1]} are the same point ({int(equal.sum())} such pairs): keep one of each, since Theorem 1 is "
                "about distinct points"
            )
    raise ValueError(
        f"inputs {pair[0]} and {pair[1]} differ, but so little beside the spread of the inputs that they coincide in float64 on each of "
        f"{_ATTEMPTS} random directions: leave one of them out, or subtract the mean from the inputs"
    )


def _lowest_offset(ordered: Tensor) -> Tensor:
    """Offset b_1, below the first of the sorted projections by their mean gap."""
    return ordered[0] - ((ordered[-1] - ordered[0]) / (len(ordered) - 1) if len(ordered) > 1 else 1.0)


def _assemble(direction: Tensor, projected: Tensor, values: Tensor, hidden: int) -> ReluInterpolant:
    """Assemble the network from sorted projections and their values; each hidden layer takes a stretch of them.

    A group is zero up to the last point of the stretch before, and constant after its own: the sum of the groups joins the points.
    """
    n = len(projected)
    lowest = _lowest_offset(projected)
    knots = torch.cat([lowest[None], projected])
    heights = torch.cat([values.new_zeros(1), values])
    offsets, weights = [], []
    start = 0
    for layer in range(hidden):
        stop = start + n // hidden + (layer < n % hidden)
        at = knots[start : stop + 1] if layer == 0 else knots[start : stop + 1] - lowest
        slopes = heights[start : stop + 1].diff() / at.diff()
        if stop == n:
            at = at[:-1]
        else:
            slopes = torch.cat([slopes, slopes.new_zeros(1)])
        offsets.append(at)
        weights.append(_differences(slopes))
        start = stop
    return ReluInterpolant(direction, offsets, weights, max(0.0, -float(values.min())))


def _differences(slopes: Tensor) -> Tensor:
    """Compute weights whose exact prefix sums are the slopes, each rounded to a place that its neighbours' differences can hold.

    Multiples of q below 2^53 q are float64s. With q two units in the last place of the larger of two neighbours, both
    rounded to multiples of it, their difference is one.
    """
    padded = nn.functional.pad(slopes.abs(), (1, 1))
    largest = torch.maximum(torch.maximum(padded[:-2], padded[2:]), slopes.abs())
    mantissa, _ = torch.frexp(largest)
    power = torch.where(largest > 0, largest / mantissa, 1.0)  # a power of two above `largest`, exactly
    quantum = power * 2.0**-52
    rounded = torch.round(slopes / quantum) * quantum
    return torch.diff(rounded, prepend=rounded.new_zeros(1))


def _sum_of_ramps(at: Tensor, offsets: Tensor, weights: Tensor) -> Tensor:
    """Compute sum_j weights_j max(at - offsets_j, 0) for each number of `at`, by sorted prefix sums."""
    knots, order = offsets.sort()
    slopes = _prefix_sums(weights[order])
    rises = slopes[:-1] * knots.diff()
    values = _prefix_sums(torch.cat([rises.new_zeros(1), rises]))
    below = torch.searchsorted(knots.detach(), at.detach().contiguous(), right=True) - 1
    last = below.clamp(min=0)
    return torch.where(below >= 0, values[last] + slopes[last] * (at - knots[last]), torch.zeros_like(at))


def _prefix_sums(terms: Tensor) -> Tensor:
    """Sum as `cumsum` does, each sum corrected by what the additions before it lost (compensated; any order of addition underneath)."""
    sums = terms.cumsum(0)
    with torch.no_grad():
        before = torch.cat([sums.new_zeros(1), sums[:-1]])
        step = sums - before
        back = step - sums
        step_error = (sums - (step - back)) - (before + back)  # sums - before = step + step_error, exactly (Knuth)
        lost = (terms - step) - step_error
        correction = lost.cumsum(0)
    return sums + correction
