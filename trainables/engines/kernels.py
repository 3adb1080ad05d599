"""A fully connected member's training step, its evaluation and stochastic gradient descent as machine code, for a CPU.

Everything between two matrix products is one or two loops, compiled by Numba and vectorized as they are written. They have no
fast math, so a sum has one order, and its result does not depend on where in memory the numbers stand. The products are `sgemm`
of the library that PyTorch carries (MKL on x86).

Members stand side by side as rows of (K, P). `sizes` (layers + 1,) int64 are the sizes of the inputs, of the hidden layers, and
of the outputs (classes); `weights_at` and `biases_at` (layers,) say where in a row a layer's weights and biases begin, -1 where it
has no biases. Weights are (in, out), those of the last layer (out, in). Arrays are C-ordered float32, and addresses point into such arrays.

All of it stands in one file because Numba's cache of machine code notices changes of the file of a compiled function only, not
of the files of the functions that it calls.

Importing this module raises ImportError where there is no Numba, or a PyTorch without `sgemm_`.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding
import numpy as np
from numba import njit, types
from numba.extending import intrinsic

from trainables.compat import sgemm_address
from trainables.engines.machine_code import Kernels

if (_address_of_sgemm := sgemm_address()) is None:
    raise ImportError("PyTorch's matrix product cannot be called")
llvmlite.binding.add_symbol("gaplab_sgemm", _address_of_sgemm)
_sgemm: Any = types.ExternalFunction("gaplab_sgemm", types.void(*[types.voidptr] * 13))


_kernels = Kernels()
_called = njit(error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)
"""A function that kernels call: compiled once for all of them, of which an own copy would take as long as the kernel."""
_PLAIN, _TURNED, _KEPT = np.int64(0), np.int64(1), np.bool_(False)
"""Whether a matrix is stored transposed, and that nothing is dropped: numbers, as for literals Numba compiles an own copy each."""


_number, _flag = types.int64, types.boolean
_vector, _matrix = types.float32[::1], types.float32[:, ::1]
_numbers, _table, _flags = types.int64[::1], types.int64[:, ::1], types.boolean[:, ::1]
_shapes = (_numbers, _numbers, _numbers)
_rule = (_matrix, _vector, _matrix, _numbers, _flag)


@intrinsic
def _address(context: Any, array: Any, index: Any) -> Any:
    """Address of an element, by its index, of an array whose elements take four bytes."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        begins = context.make_array(signature.args[0])(context, builder, values[0]).data
        number = context.get_value_type(signature.return_type)
        return builder.add(builder.ptrtoint(begins, number), builder.mul(values[1], number(4)))

    return types.int64(array, types.int64), generate


@_called
def _product(
    transpose_left: int, transpose_right: int, rows: int, columns: int, inner: int, left: int, left_step: int, right: int, right_step: int,
    out: int, call: Any,
) -> None:  # fmt: skip
    """Multiply: out (rows, columns) = left (rows, inner) @ right (inner, columns).

    The matrices are given by their addresses, C-ordered, with the length of a row as it is stored (`left_step`, `right_step`);
    `transpose_left` and `transpose_right` (0 or 1) say which of them are stored transposed. Fortran's `sgemm` sees a C-ordered
    matrix transposed, so it is asked for the transposed product, right by left. It takes its arguments by address, from `call`.
    """
    call[0], call[1], call[2], call[3], call[4], call[5] = columns, rows, inner, right_step, left_step, columns
    at = _address(call, 0)
    letters = at + 32
    left_letter, right_letter = letters + 4 * transpose_left, letters + 4 * transpose_right
    _sgemm(right_letter, left_letter, at, at + 4, at + 8, at + 24, right, at + 12, left, at + 16, at + 28, out, at + 20)


@_called
def _call() -> Any:
    """Memory for the arguments of `sgemm`: six sizes, then 1.0, 0.0, "N" and "T", which stay."""
    call = np.empty(10, np.int32)
    call[6], call[7], call[8], call[9] = 0x3F800000, 0, 78, 84
    return call


@_called
def _add_and_rectify(hidden: Any, biases: Any, biased: bool) -> None:
    """Replace `hidden` (B, size) by max(hidden + biases, 0), with `biases` (size,). NaN stays NaN."""
    zero = np.float32(0)
    for row in range(hidden.shape[0]):
        for column in range(hidden.shape[1]):
            value = hidden[row, column] + biases[column] if biased else hidden[row, column]
            hidden[row, column] = zero if value < zero else value


@_called
def _through_rectifier(gradient: Any, hidden: Any, bias_gradient: Any, biased: bool) -> None:
    """Turn the gradient of a rectifier's outputs `hidden` (B, size) into that of its inputs, in place, and sum it over the batch."""
    zero = np.float32(0)
    if biased:
        for column in range(hidden.shape[1]):
            bias_gradient[column] = zero
    for row in range(hidden.shape[0]):
        active, own = hidden[row], gradient[row]
        for column in range(hidden.shape[1]):
            own[column] = zero if active[column] <= zero else own[column]
        if biased:
            for column in range(hidden.shape[1]):
                bias_gradient[column] += own[column]


@_called
def _exponentials(logits: Any, scratch: Any) -> None:
    """Replace `logits` (classes, B) by exp(logits - the largest of the sample).

    The largest logit and the sum over the classes stand in rows 0 and 2 of `scratch` (3, B) afterwards. exp(x) is 2^n exp(r) with
    n = round(x / ln 2), exp(r) by the polynomial of Cephes' `expf` (2 units in the last place), and 2^n by adding n to the
    exponent's bits, in which n stands after 1.5 * 2^23 was added to it.
    """
    classes, batch = logits.shape
    top, shifted, total = scratch[0], scratch[1], scratch[2]
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


@_called
def _softmax(logits: Any, scratch: Any) -> None:
    """Replace `logits` (classes, B) by their softmax over the classes; `scratch` is (3, B)."""
    _exponentials(logits, scratch)
    total = scratch[2]
    for column in range(logits.shape[1]):
        total[column] = np.float32(1) / total[column]
    for row in range(logits.shape[0]):
        for column in range(logits.shape[1]):
            logits[row, column] *= total[column]


@_called
def _forward(
    inputs: int, weights: Any, sizes: Any, weights_at: Any, biases_at: Any, masks: Any, drops: bool, hidden: Any, logits: Any, call: Any
) -> None:
    """Compute one member's `logits` (classes, B) from the address of its inputs, and in `hidden` all layers' activations in order."""
    batch = logits.shape[1]
    passed, begins = inputs, 0
    for layer in range(len(sizes) - 2):
        size = sizes[layer + 1]
        out = _address(hidden, begins)
        _product(_PLAIN, _PLAIN, batch, size, sizes[layer], passed, sizes[layer], _address(weights, weights_at[layer]), size, out, call)
        own = hidden[begins : begins + batch * size]
        bias = max(0, biases_at[layer])
        _add_and_rectify(own.reshape(batch, size), weights[bias : bias + size], biases_at[layer] >= 0)
        if drops:
            for unit in range(batch * size):
                own[unit] *= masks[begins + unit]
        passed, begins = out, begins + batch * size
    classes, width, last = sizes[-1], sizes[-2], len(sizes) - 2
    _product(_PLAIN, _TURNED, classes, batch, width, _address(weights, weights_at[last]), width, passed, width, _address(logits, 0), call)
    if biases_at[last] >= 0:
        for row in range(classes):
            bias_of_class = weights[biases_at[last] + row]
            for column in range(batch):
                logits[row, column] += bias_of_class


@_called
def _gather(pixels: Any, index: Any, batch: Any) -> None:
    """Copy the rows `index` (B,) of `pixels` one after another into `batch`."""
    width = pixels.shape[1]
    for row in range(len(index)):
        image, copied = pixels[index[row]], batch[row * width : (row + 1) * width]
        for column in range(width):
            copied[column] = image[column]


@_called
def _score(logits: Any, labels: Any, squared: bool, scratch: Any, loss: Any, misclassified: Any) -> None:
    """Compute each sample's loss and whether it is misclassified, (B,) each, from `logits` (classes, B), which are overwritten."""
    classes, batch = logits.shape
    right, others, least = scratch[3], scratch[4], np.float32(-np.inf)
    for column in range(batch):
        others[column] = least
    for row in range(classes):
        for column in range(batch):
            value, same = logits[row, column], labels[column] == row
            right[column] = value if same else right[column]
            others[column] = max(others[column], least if same else value)
    for column in range(batch):
        misclassified[column] = not right[column] > others[column]
    if squared:
        for column in range(batch):
            loss[column] = np.float32(0)
        for row in range(classes):
            for column in range(batch):
                loss[column] += logits[row, column] * logits[row, column]
        for column in range(batch):
            loss[column] = (loss[column] - np.float32(2) * right[column] + np.float32(1)) / np.float32(2)
    else:
        _exponentials(logits, scratch)
        for column in range(batch):
            loss[column] = np.log(scratch[2, column]) + (scratch[0, column] - right[column])


@_kernels.declare(
    _matrix, _numbers, *_shapes, _matrix, _table, _table, _number, _flag, _vector, _vector, _vector, _vector, _matrix, _flags
)  # fmt: skip
def losses(
    weights: Any, members: Any, sizes: Any, weights_at: Any, biases_at: Any, pixels: Any, index: Any, labels: Any, size: int,
    squared: bool, hidden: Any, logits: Any, scratch: Any, batch: Any, loss: Any, misclassified: Any,
) -> None:  # fmt: skip
    """Compute the loss of each sample and whether it is misclassified, (M, n) each, for `members` (M,), which index `weights` (K, P).

    Args:
        pixels: (N, sizes[0]); `index` (M, n), or (1, n) for all members, says which samples of it, `labels` (M, n) of which class.
        size: the number of samples that go through the network at once.
        hidden, logits, scratch, batch: workspace, as in `steps`.
    """
    call = _call()
    classes, many = sizes[-1], labels.shape[1]
    for number in range(len(members)):
        own_index, own_labels = index[number if len(index) > 1 else 0], labels[number]
        for start in range(0, many, size):
            stop = min(start + size, many)
            count = stop - start
            _gather(pixels, own_index[start:stop], batch)
            own_logits, own_scratch = logits[: classes * count].reshape(classes, count), scratch[: 5 * count].reshape(5, count)
            _forward(_address(batch, 0), weights[members[number]], sizes, weights_at, biases_at, hidden, _KEPT, hidden, own_logits, call)
            _score(own_logits, own_labels[start:stop], squared, own_scratch, loss[number, start:stop], misclassified[number, start:stop])


@_called
def _smoothed(labels: Any, kept: float, spread: float, targets: Any) -> None:
    """Fill `targets` (classes, B) with `kept` for each sample's class and 0 for others, plus `spread`."""
    for row in range(targets.shape[0]):
        of_class = targets[row]
        for column in range(targets.shape[1]):
            of_class[column] = (kept if labels[column] == row else np.float32(0)) + spread


@_called
def _member_gradient(
    inputs: int, weights: Any, gradient: Any, sizes: Any, weights_at: Any, biases_at: Any, targets: Any, masks: Any, drops: bool,
    squared: bool, hidden: Any, hidden_gradients: Any, logits: Any, scratch: Any, call: Any,
) -> None:  # fmt: skip
    """Compute the gradient of one member's mean loss, (P,).

    `targets` and `logits` are (classes, B); the logits are overwritten by the logit gradients. `hidden_gradients`, (2, B * the
    widest hidden layer), holds those of a layer and of the one below it.
    """
    last, classes, batch = len(sizes) - 2, logits.shape[0], logits.shape[1]
    share = np.float32(1) / np.float32(batch)
    _forward(inputs, weights, sizes, weights_at, biases_at, masks, drops, hidden, logits, call)
    if not squared:
        _softmax(logits, scratch)
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
    out = _address(gradient, weights_at[last])
    _product(_PLAIN, _PLAIN, classes, sizes[last], batch, _address(logits, 0), batch, passed, sizes[last], out, call)
    if last:
        out, own_weights = _address(hidden_gradients[0], 0), _address(weights, weights_at[last])
        _product(_TURNED, _PLAIN, batch, sizes[last], classes, _address(logits, 0), batch, own_weights, sizes[last], out, call)
    for layer in range(last - 1, -1, -1):
        size, width, side = sizes[layer + 1], sizes[layer], (last - 1 - layer) % 2
        own = hidden_gradients[side][: batch * size]
        if drops:
            for unit in range(batch * size):
                own[unit] *= masks[begins + unit]
        bias = max(0, biases_at[layer])
        activations = hidden[begins : begins + batch * size].reshape(batch, size)
        _through_rectifier(own.reshape(batch, size), activations, gradient[bias : bias + size], biases_at[layer] >= 0)
        begins -= batch * width
        passed = _address(hidden, begins) if layer else inputs
        out = _address(gradient, weights_at[layer])
        _product(_TURNED, _PLAIN, width, size, batch, passed, width, _address(own, 0), size, out, call)
        if layer:
            out, own_weights = _address(hidden_gradients[1 - side], 0), _address(weights, weights_at[layer])
            _product(_PLAIN, _TURNED, batch, width, size, _address(own, 0), size, own_weights, size, out, call)


@_called
def _member_descent(weights: Any, gradient: Any, moment: Any, rates: Any, momentum: Any, decays: Any, ends: Any, nesterov: bool) -> None:
    """Take one step of SGD as `torch.optim.SGD` does, with rate and weight decay for each parameter; a row's parameters end at `ends`."""
    begins = 0
    for parameter in range(len(ends)):
        rate, decay, end = rates[parameter], decays[parameter], ends[parameter]
        own, gradients, averages = weights[begins:end], gradient[begins:end], moment[begins:end]
        if nesterov:
            for index in range(len(own)):
                decayed = gradients[index] + own[index] * decay
                averages[index] = decayed + averages[index] * momentum
                own[index] -= (decayed + averages[index] * momentum) * rate
        else:
            for index in range(len(own)):
                averages[index] = gradients[index] + own[index] * decay + averages[index] * momentum
                own[index] -= averages[index] * rate
        begins = end


@_kernels.declare(_matrix, _matrix, _matrix, *_rule)
def descent(weights: Any, gradients: Any, moments: Any, rates: Any, momenta: Any, decays: Any, ends: Any, nesterov: bool) -> None:
    """Take a step of SGD with each member: weights, gradients and moments are (K, P), momenta (K,), rates and decays (K, parameters)."""
    for member in range(len(weights)):
        own_rates, momentum = rates[member], momenta[member]
        _member_descent(weights[member], gradients[member], moments[member], own_rates, momentum, decays[member], ends, nesterov)


@_kernels.declare(
    _matrix, _matrix, _matrix, *_rule, *_shapes, _matrix, _table, _table, _number, _vector, _matrix, _flag, _flag, _flag, _vector,
    _matrix, _vector, _vector, _vector, _vector,
)  # fmt: skip
def steps(
    weights: Any, gradients: Any, moments: Any, rates: Any, momenta: Any, decays: Any, ends: Any, nesterov: bool, sizes: Any,
    weights_at: Any, biases_at: Any, pixels: Any, index: Any, labels: Any, size: int, smoothing: Any, masks: Any, drops: bool,
    descends: bool, squared: bool, hidden: Any, hidden_gradients: Any, logits: Any, scratch: Any, batch: Any, targets: Any,
) -> None:  # fmt: skip
    """Compute `gradients` (K, P) of each member's mean loss and, if it `descends`, take steps of SGD, as `descent` does.

    It descends by one batch of `size` after another: first by all of one member, then by all of the next. Else there is one batch,
    which is `pixels`, with the targets given.

    Args:
        pixels: (n, sizes[0]); `index` and `labels` (K, m) say which samples of it, in which order, and of which class. If it does
            not descend, the batches of all members one after another, (K * size, sizes[0]).
        smoothing: (K,), the share of a target's weight that is spread over all classes.
        masks: (K, activations), 0 or 1/(1 - rate), or (1, 0) where `drops` says that there is no dropout.
        hidden, hidden_gradients, logits, scratch: workspace, (B * all hidden,), (2, B * widest hidden), (classes * B,), (5 * B,).
        batch, targets: workspace, (B * sizes[0],) and (B * classes,); if it does not descend, `targets` holds the distributions over
            classes, (K * classes * B,).
    """
    call = _call()
    classes, many = sizes[-1], index.shape[1] if descends else size
    for member in range(len(weights)):
        kept, spread = np.float32(1) - smoothing[member], smoothing[member] / np.float32(classes)
        for start in range(0, many, size):
            count = min(size, many - start)
            begins = 0 if descends else member * classes * count
            own_targets = targets[begins : begins + classes * count].reshape(classes, count)
            inputs = _address(batch, 0)
            if descends:
                _gather(pixels, index[member, start : start + count], batch)
                _smoothed(labels[member, start : start + count], kept, spread, own_targets)
            else:
                inputs = _address(pixels, member * size * sizes[0])
            own_logits, own_scratch = logits[: classes * count].reshape(classes, count), scratch[: 5 * count].reshape(5, count)
            _member_gradient(
                inputs, weights[member], gradients[member], sizes, weights_at, biases_at, own_targets, masks[member if drops else 0], drops,
                squared, hidden, hidden_gradients, own_logits, own_scratch, call,
            )  # fmt: skip
            if descends:
                _member_descent(
                    weights[member], gradients[member], moments[member], rates[member], momenta[member], decays[member], ends, nesterov
                )


_kernels.make()
