"""A fully connected member's training step, its evaluation and stochastic gradient descent as machine code, for a CPU.

Everything between two matrix products is one or two loops, compiled by Numba and vectorized as they are written: no fast math,
so a sum has one order and what comes out does not depend on where in memory it stands. The products are `sgemm` of the library
that PyTorch carries (MKL on x86).

Members stand side by side as rows of (K, P): `sizes` (layers + 1,) int64 are those of the inputs, of the hidden layers, and
of the classes; `weights_at` and `biases_at` (layers,) say where in a row a layer's begin, -1 for no bias. Weights are (in, out),
those of the last layer (out, in). Arrays are C-ordered float32; an address is that of such an array.

Importing this module raises ImportError where there is no Numba, or a PyTorch without `sgemm_`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import llvmlite.binding
import numpy as np
from numba import njit, types

from trainables.compat import sgemm_address

if (_address_of_sgemm := sgemm_address()) is None:
    raise ImportError("PyTorch's matrix product cannot be called")
llvmlite.binding.add_symbol("gaplab_sgemm", _address_of_sgemm)
_sgemm: Any = types.ExternalFunction("gaplab_sgemm", types.void(*[types.voidptr] * 13))


def _compiled(*arguments: types.Type) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Machine code for arguments of these types, kept in a file where one can be written.

    It is there when the module is imported, so that no point's time goes into compiling.
    """

    def decorator(function: Callable[..., None]) -> Callable[..., None]:
        options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
        try:
            return njit(types.void(*arguments), cache=True, **options)(function)
        except RuntimeError:  # neither beside the source nor in the home folder
            return njit(types.void(*arguments), **options)(function)

    return decorator


_number, _flag = types.int64, types.boolean
_vector, _matrix, _stack = types.float32[::1], types.float32[:, ::1], types.float32[:, :, ::1]
_numbers, _table, _flags = types.int64[::1], types.int64[:, ::1], types.boolean[:, ::1]
_shapes = (_numbers, _numbers, _numbers)
_rule = (_vector, _vector, _matrix, _numbers, _flag)


@njit(inline="always")
def _address(floats: Any, place: int) -> Any:
    """Of an array's float."""
    return np.int64(floats.ctypes.data) + 4 * place


@njit(inline="always")
def _product(
    turn_left: int,
    turn_right: int,
    rows: int,
    columns: int,
    inner: int,
    left: int,
    left_step: int,
    right: int,
    right_step: int,
    out: int,
    call: Any,
) -> None:
    """out (rows, columns) = left (rows, inner) @ right (inner, columns), from the addresses of C-ordered matrices, each perhaps turned.

    Fortran's `sgemm` sees a C-ordered matrix turned; so it is asked for the turned product, right by left. Its numbers are
    passed by address: `call` holds them, then 1.0, 0.0, "N", "T".
    """
    call[0], call[1], call[2], call[3], call[4], call[5] = columns, rows, inner, right_step, left_step, columns
    at = np.int64(call.ctypes.data)
    letters = at + 32
    _sgemm(
        letters + 4 * turn_right, letters + 4 * turn_left, at, at + 4, at + 8, at + 24, right, at + 12, left, at + 16, at + 28, out, at + 20
    )


@njit(inline="always")
def _call() -> Any:
    call = np.empty(10, np.int32)
    call[6], call[7], call[8], call[9] = 0x3F800000, 0, 78, 84
    return call


@njit(inline="always")
def _add_and_rectify(hidden: Any, biases: Any, biased: bool) -> None:
    """max(hidden + biases, 0) in place, (B, size) and (size,). Not a number stays so."""
    zero = np.float32(0)
    for row in range(hidden.shape[0]):
        for column in range(hidden.shape[1]):
            value = hidden[row, column] + biases[column] if biased else hidden[row, column]
            hidden[row, column] = zero if value < zero else value


@njit(inline="always")
def _through_rectifier(outer: Any, hidden: Any, bias_gradient: Any, biased: bool) -> None:
    """The gradient `outer` (B, size) towards what `hidden` was made of, in place, and its sum over the batch."""
    zero = np.float32(0)
    if biased:
        for column in range(hidden.shape[1]):
            bias_gradient[column] = zero
    for row in range(hidden.shape[0]):
        active, errors = hidden[row], outer[row]
        for column in range(hidden.shape[1]):
            errors[column] = zero if active[column] <= zero else errors[column]
        if biased:
            for column in range(hidden.shape[1]):
                bias_gradient[column] += errors[column]


@njit(inline="always")
def _exponentials(logits: Any, space: Any) -> None:
    """exp(logits - their largest) in place, (classes, B); the largest and the sum over classes in rows 0 and 2 of `space`, (3, B).

    exp(x) = 2^n exp(r) with n = round(x / ln 2), exp(r) by the polynomial of Cephes' `expf` (2 units in the last place), and
    2^n by adding n to the exponent's bits, in which n stands after 1.5 * 2^23 was added to it.
    """
    classes, batch = logits.shape
    top, shifted, total = space[0], space[1], space[2]
    least, magic = np.float32(-87), np.float32(12582912)
    for column in range(batch):
        top[column] = logits[0, column]
        total[column] = np.float32(0)
    for row in range(1, classes):
        for column in range(batch):
            top[column] = max(top[column], logits[row, column])
    for row in range(classes):
        each = logits[row]
        for column in range(batch):
            below = each[column] - top[column]
            below = least if below < least else below
            power = below * np.float32(1.44269504) + magic
            shifted[column] = power
            power = power - magic
            rest = below - power * np.float32(0.693359375) + power * np.float32(2.12194440e-4)
            value = np.float32(1.9875691500e-4) * rest + np.float32(1.3981999507e-3)
            value = value * rest + np.float32(8.3334519073e-3)
            value = value * rest + np.float32(4.1665795894e-2)
            value = value * rest + np.float32(1.6666665459e-1)
            value = value * rest + np.float32(5.0000001201e-1)
            each[column] = value * rest * rest + rest + np.float32(1)
        bits, powers = each.view(np.int32), shifted.view(np.int32)
        for column in range(batch):
            bits[column] = bits[column] + (powers[column] << 23)
        for column in range(batch):
            total[column] += each[column]


@njit(inline="always")
def _softmax(logits: Any, space: Any) -> None:
    """Over the classes of `logits` (classes, B), in place; `space` is (3, B)."""
    _exponentials(logits, space)
    total = space[2]
    for column in range(logits.shape[1]):
        total[column] = np.float32(1) / total[column]
    for row in range(logits.shape[0]):
        for column in range(logits.shape[1]):
            logits[row, column] *= total[column]


@njit(inline="always")
def _forward(
    inputs: int, weights: Any, sizes: Any, weights_at: Any, biases_at: Any, masks: Any, drops: bool, hidden: Any, logits: Any, call: Any
) -> None:
    """One member's logits (classes, B), and its activations one after another in `hidden`, from the address of its inputs."""
    batch = logits.shape[1]
    passed, begins = inputs, 0
    for layer in range(len(sizes) - 2):
        size = sizes[layer + 1]
        place = _address(hidden, begins)
        _product(0, 0, batch, size, sizes[layer], passed, sizes[layer], _address(weights, weights_at[layer]), size, place, call)
        own = hidden[begins : begins + batch * size]
        bias = max(0, biases_at[layer])
        _add_and_rectify(own.reshape(batch, size), weights[bias : bias + size], biases_at[layer] >= 0)
        if drops:
            for number in range(batch * size):
                own[number] *= masks[begins + number]
        passed, begins = place, begins + batch * size
    classes, width, last = sizes[-1], sizes[-2], len(sizes) - 2
    _product(0, 1, classes, batch, width, _address(weights, weights_at[last]), width, passed, width, _address(logits, 0), call)
    if biases_at[last] >= 0:
        for row in range(classes):
            bias_of_class = weights[biases_at[last] + row]
            for column in range(batch):
                logits[row, column] += bias_of_class


@njit(inline="always")
def _gather(pixels: Any, index: Any, batch: Any) -> None:
    """Rows `index` (B,) of `pixels` one after another into `batch`."""
    width = pixels.shape[1]
    for row in range(len(index)):
        image, copied = pixels[index[row]], batch[row * width : (row + 1) * width]
        for column in range(width):
            copied[column] = image[column]


@njit(inline="always")
def _judge(logits: Any, labels: Any, squared: bool, space: Any, lost: Any, mistakes: Any) -> None:
    """Loss and mistakes (B,) of logits (classes, B), which are overwritten."""
    classes, batch = logits.shape
    right, others, least = space[3], space[4], np.float32(-np.inf)
    for column in range(batch):
        others[column] = least
    for row in range(classes):
        for column in range(batch):
            value, same = logits[row, column], labels[column] == row
            right[column] = value if same else right[column]
            others[column] = max(others[column], least if same else value)
    for column in range(batch):
        mistakes[column] = not right[column] > others[column]
    if squared:
        for column in range(batch):
            lost[column] = np.float32(0)
        for row in range(classes):
            for column in range(batch):
                lost[column] += logits[row, column] * logits[row, column]
        for column in range(batch):
            lost[column] = (lost[column] - np.float32(2) * right[column] + np.float32(1)) / np.float32(2)
    else:
        _exponentials(logits, space)
        for column in range(batch):
            lost[column] = np.log(space[2, column]) + (space[0, column] - right[column])


@_compiled(
    _matrix, _numbers, *_shapes, _matrix, _table, _table, _number, _flag, _vector, _vector, _vector, _vector, _matrix, _flags
)  # fmt: skip
def losses(
    weights: Any, members: Any, sizes: Any, weights_at: Any, biases_at: Any, pixels: Any, index: Any, labels: Any, size: int,
    squared: bool, hidden: Any, logits: Any, space: Any, batch: Any, lost: Any, mistakes: Any,
) -> None:  # fmt: skip
    """Loss and mistakes, (M, n) each, of `members` (M,), which are places in `weights` (K, P).

    Args:
        pixels: (N, sizes[0]); `index` (M, n), or (1, n) for all, says which of them, `labels` (M, n) of which class.
        size: how many go through the network at once.
        hidden, logits, space, batch: working memory, as in `steps`.
    """
    call = _call()
    classes, many = sizes[-1], labels.shape[1]
    for place in range(len(members)):
        own_index, own_labels = index[place if len(index) > 1 else 0], labels[place]
        for start in range(0, many, size):
            stop = min(start + size, many)
            count = stop - start
            _gather(pixels, own_index[start:stop], batch)
            own_logits, own_space = logits[: classes * count].reshape(classes, count), space[: 5 * count].reshape(5, count)
            _forward(_address(batch, 0), weights[members[place]], sizes, weights_at, biases_at, hidden, False, hidden, own_logits, call)
            _judge(own_logits, own_labels[start:stop], squared, own_space, lost[place, start:stop], mistakes[place, start:stop])


@njit(inline="always")
def _member_gradient(
    inputs: int, weights: Any, gradient: Any, sizes: Any, weights_at: Any, biases_at: Any, targets: Any, masks: Any, drops: bool,
    squared: bool, hidden: Any, inner: Any, logits: Any, space: Any, call: Any,
) -> None:  # fmt: skip
    """Of one member's mean loss, into (P,); targets and logits are (classes, B), `inner` (2, B * the widest hidden layer)."""
    last, classes, batch = len(sizes) - 2, logits.shape[0], logits.shape[1]
    share = np.float32(1) / np.float32(batch)
    _forward(inputs, weights, sizes, weights_at, biases_at, masks, drops, hidden, logits, call)
    if not squared:
        _softmax(logits, space)
    for row in range(classes):
        total = np.float32(0)
        for column in range(batch):
            value = (logits[row, column] - targets[row, column]) * share
            logits[row, column] = value
            total += value
        if biases_at[last] >= 0:
            gradient[biases_at[last] + row] = total
    begins = 0
    for layer in range(last - 1):
        begins += batch * sizes[layer + 1]
    passed = _address(hidden, begins) if last else inputs
    place = _address(gradient, weights_at[last])
    _product(0, 0, classes, sizes[last], batch, _address(logits, 0), batch, passed, sizes[last], place, call)
    if last:
        there = _address(weights, weights_at[last])
        _product(1, 0, batch, sizes[last], classes, _address(logits, 0), batch, there, sizes[last], _address(inner[0], 0), call)
    for layer in range(last - 1, -1, -1):
        size, width, side = sizes[layer + 1], sizes[layer], (last - 1 - layer) % 2
        errors = inner[side][: batch * size]
        if drops:
            for number in range(batch * size):
                errors[number] *= masks[begins + number]
        bias = max(0, biases_at[layer])
        activations = hidden[begins : begins + batch * size].reshape(batch, size)
        _through_rectifier(errors.reshape(batch, size), activations, gradient[bias : bias + size], biases_at[layer] >= 0)
        begins -= batch * width
        passed = _address(hidden, begins) if layer else inputs
        place = _address(gradient, weights_at[layer])
        _product(1, 0, width, size, batch, passed, width, _address(errors, 0), size, place, call)
        if layer:
            there = _address(weights, weights_at[layer])
            _product(0, 1, batch, width, size, _address(errors, 0), size, there, size, _address(inner[1 - side], 0), call)


@njit(inline="always")
def _member_descent(weights: Any, gradient: Any, moment: Any, rate: Any, momentum: Any, decays: Any, ends: Any, nesterov: bool) -> None:
    """One step of SGD as `torch.optim.SGD` has it, with the weight decay of each parameter; those of a row end at `ends`."""
    begins = 0
    for parameter in range(len(ends)):
        decay, end = decays[parameter], ends[parameter]
        own, slopes, averages = weights[begins:end], gradient[begins:end], moment[begins:end]
        if nesterov:
            for place in range(len(own)):
                slope = slopes[place] + own[place] * decay
                averages[place] = slope + averages[place] * momentum
                own[place] -= (slope + averages[place] * momentum) * rate
        else:
            for place in range(len(own)):
                averages[place] = slopes[place] + own[place] * decay + averages[place] * momentum
                own[place] -= averages[place] * rate
        begins = end


@_compiled(
    _matrix, _matrix, *_shapes, _stack, _stack, _matrix, _flag, _flag, _vector, _matrix, _matrix, _matrix
)  # fmt: skip
def gradient(
    weights: Any, gradients: Any, sizes: Any, weights_at: Any, biases_at: Any, inputs: Any, targets: Any, masks: Any,
    drops: bool, squared: bool, hidden: Any, inner: Any, logits: Any, space: Any,
) -> None:  # fmt: skip
    """Of each member's mean loss, (K, P).

    Args:
        inputs: (K, B, sizes[0]).
        targets: (K, classes, B).
        masks: (K, activations), 0 or 1/(1 - rate), or (1, 0) if nothing `drops`.
        hidden, inner, logits, space: working memory, (B * all hidden,), (2, B * widest hidden), (classes, B), (5, B).
    """
    call = _call()
    for member in range(len(weights)):
        _member_gradient(
            _address(inputs[member], 0), weights[member], gradients[member], sizes, weights_at, biases_at, targets[member],
            masks[member if drops else 0], drops, squared, hidden, inner, logits, space, call,
        )  # fmt: skip


@_compiled(_matrix, _matrix, _matrix, *_rule)
def descent(weights: Any, gradients: Any, moments: Any, rates: Any, momenta: Any, decays: Any, ends: Any, nesterov: bool) -> None:
    """A step of each member: (K, P) of each, rates and momenta (K,), decays (K, parameters)."""
    for member in range(len(weights)):
        rate, momentum = rates[member], momenta[member]
        _member_descent(weights[member], gradients[member], moments[member], rate, momentum, decays[member], ends, nesterov)


@_compiled(
    _matrix, _matrix, _matrix, *_rule, *_shapes, _matrix, _table, _table, _number, _vector, _flag, _vector, _matrix, _vector, _vector,
    _vector, _vector,
)  # fmt: skip
def steps(
    weights: Any, gradients: Any, moments: Any, rates: Any, momenta: Any, decays: Any, ends: Any, nesterov: bool, sizes: Any,
    weights_at: Any, biases_at: Any, pixels: Any, index: Any, labels: Any, size: int, smoothing: Any, squared: bool, hidden: Any,
    inner: Any, logits: Any, space: Any, batch: Any, targets: Any,
) -> None:  # fmt: skip
    """What `gradient` and `descent` do for one batch of `size` after another: first all of one member, then all of the next.

    Args:
        pixels: (n, sizes[0]); `index` and `labels` (K, m) say which of them, in which order, and of which class.
        smoothing: (K,), the share of a target's weight that is spread over all classes.
        batch, targets: working memory, (B * sizes[0],) and (B * classes,); `logits` and `space` are vectors here.
    """
    call = _call()
    classes, many = sizes[-1], index.shape[1]
    for member in range(len(weights)):
        kept, spread = np.float32(1) - smoothing[member], smoothing[member] / np.float32(classes)
        for start in range(0, many, size):
            count = min(size, many - start)
            _gather(pixels, index[member, start : start + count], batch)
            aims = targets[: classes * count].reshape(classes, count)
            own_labels = labels[member, start : start + count]
            for row in range(classes):
                aim = aims[row]
                for column in range(count):
                    aim[column] = (kept if own_labels[column] == row else np.float32(0)) + spread
            own_logits, own_space = logits[: classes * count].reshape(classes, count), space[: 5 * count].reshape(5, count)
            _member_gradient(
                _address(batch, 0), weights[member], gradients[member], sizes, weights_at, biases_at, aims, hidden, False, squared, hidden,
                inner, own_logits, own_space, call,
            )  # fmt: skip
            _member_descent(
                weights[member], gradients[member], moments[member], rates[member], momenta[member], decays[member], ends, nesterov
            )
