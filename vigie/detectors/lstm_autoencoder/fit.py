"""Training of LSTM autoencoders on a CPU, in a third of PyTorch's time.

PyTorch takes as long to call its layers as they take to compute, and holds the GIL meanwhile; here
several networks are trained in parallel. The steps are the same: batches, gradients, clipping, Adam
and the average of the weights, in single precision.

All weights are in one array, each matrix as (n_inputs, n_outputs) as in ``score.py``: per layer
the weights of the input, those of the state and two biases; last the head's weights and bias. The
rows of a tile of windows are ordered by step.

References
----------
Werbos. Backpropagation through time: what it does and how to do it. Proc. IEEE 78(10), 1990.
Kingma, Ba. Adam: a method for stochastic optimization. ICLR, 2015.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import factorial
from typing import Any

import numpy as np
from numba import boolean, float32, float64, int64, types
from numpy.typing import NDArray

from vigie.detectors.compiled.compiler import compiled, helper, read_only, writable
from vigie.detectors.lstm_autoencoder.score import add_product

Singles = NDArray[np.float32]
Ints = NDArray[np.int64]

TILE = 16
"""Windows whose states and gates of all steps fit into the L2 cache."""


def _single(number: float) -> Any:
    """Return a constant that does not promote expressions to double precision."""
    return np.float32(number)


ZERO, ONE, TWO = _single(0.0), _single(1.0), _single(2.0)
LOG2_E, LN2_HIGH, LN2_LOW = _single(1.44269504), _single(0.693359375), _single(-2.12194440e-4)
ROUND = _single(12582912.0)
"""1.5 * 2**23, as in ``vigie.detectors.compiled.functions``."""
LOWEST, HIGHEST = _single(-87.0), _single(88.0)
TERMS = tuple(_single(1.0 / factorial(n)) for n in range(2, 7))
BITS, BIAS = np.int32(23), np.int32(127)

BETA_1, BETA_2, EPSILON = _single(0.9), _single(0.999), _single(1e-8)
"""Adam's usual parameters."""
MAX_NORM = 1.0
"""Norm to which gradients are clipped."""


class Learner:
    """A network in training, and the average of its weights.

    Parameters
    ----------
    rows : ndarray of float32 of shape (n_samples, n_features)
        Standardised rows.
    length : int
        Rows in a window.
    layers : sequence of (int, int)
        Inputs and units of each layer.
    n_encoder : int
        Number of encoder layers; the others form the decoder.
    weights : ndarray of float32 of shape (n_weights,)
        Initial weights.
    learning_rate : float
        Learning rate after the warm-up.
    warm_up : int
        Steps of the warm-up.
    recent : float
        Exponent of the weighting in the average of the weights.

    Attributes
    ----------
    average : ndarray of float32 of shape (n_weights,)
        The averaged weights.
    """

    def __init__(
        self,
        rows: Singles,
        length: int,
        layers: Sequence[tuple[int, int]],
        n_encoder: int,
        weights: Singles,
        learning_rate: float,
        warm_up: int,
        recent: float,
    ):
        self.average = weights.copy()
        self._network = rows, length, np.array(layers, dtype=np.int64), n_encoder
        self._weights = weights.copy()
        self._moments = np.zeros((2, len(weights)), dtype=np.float32)
        self._schedule = learning_rate, warm_up, recent
        self._steps = 0

    def learn(self, starts: Ints, batch_size: int) -> float:
        """Train for one epoch on the windows at ``starts``; return their mean loss."""
        total = _learn(
            *self._network, starts, batch_size, *self._schedule, self._steps,
            self._weights, self.average, *self._moments,
        )  # fmt: skip
        self._steps += -(-len(starts) // batch_size)
        return total / len(starts)

    def loss(self, starts: Ints) -> float:
        """Return the mean loss of the averaged weights on the windows at ``starts``."""
        weights, total = self.average, 0.0
        for first in range(0, len(starts), TILE):
            tile = starts[first : first + TILE]
            total += _pass(*self._network, tile, weights, weights, weights, ONE, False)
        return total / len(starts)


@helper
def _exp(x: Any) -> Any:
    """Return e**x in single precision, with x clipped to [-87, 88]."""
    x = LOWEST if x < LOWEST else x
    x = HIGHEST if x > HIGHEST else x
    shifted = x * LOG2_E + ROUND
    n = shifted - ROUND
    r = (x - n * LN2_HIGH) - n * LN2_LOW
    # Taylor series; the first omitted term is 1e-7.
    p = TERMS[4]
    p = p * r + TERMS[3]
    p = p * r + TERMS[2]
    p = p * r + TERMS[1]
    p = p * r + TERMS[0]
    bits = np.int32((np.float32(shifted).view(np.int32) << BITS) + (BIAS << BITS))
    power: Any = (p * (r * r) + r + ONE) * bits.view(np.float32)
    return power


@helper
def _sigmoid(x: Any) -> Any:
    return ONE / (ONE + _exp(-x))


@helper
def _tanh(x: Any) -> Any:
    return TWO / (ONE + _exp(-TWO * x)) - ONE


_add_product = compiled(
    types.Array(float32, 2, "A", readonly=True), read_only(float32, 2), writable(float32, 2)
)(add_product)


@helper
def _forward(
    inputs: Singles,
    into: Singles,
    recurrent: Singles,
    biases: Singles,
    m: int,
    gates: Singles,
    cells: Singles,
    tangents: Singles,
    states: Singles,
) -> None:
    """Write the states of one layer for ``m`` windows, with its gates, cells and their tanh."""
    size = states.shape[1]
    for row in range(len(gates)):
        for j in range(4 * size):
            gates[row, j] = biases[0, j] + biases[1, j]
    _add_product(inputs, into, gates)
    zeros = np.zeros(size, dtype=np.float32)
    for first in range(0, len(gates), m):
        if first:
            _add_product(states[first - m : first], recurrent, gates[first : first + m])
        for row in range(first, first + m):
            gate = gates[row]
            before = cells[row - m] if first else zeros
            cell, tangent, state = cells[row], tangents[row], states[row]
            enter, forget = gate[:size], gate[size : 2 * size]
            new, leave = gate[2 * size : 3 * size], gate[3 * size :]
            # Only loops from 0 are vectorised: numba takes another index for a negative one.
            for j in range(2 * size):
                gate[j] = _sigmoid(gate[j])
            for j in range(size):
                new[j] = _tanh(new[j])
            for j in range(size):
                leave[j] = _sigmoid(leave[j])
            for j in range(size):
                cell[j] = forget[j] * before[j] + enter[j] * new[j]
            for j in range(size):
                tangent[j] = _tanh(cell[j])
            for j in range(size):
                state[j] = leave[j] * tangent[j]


@helper
def _backward(
    inputs: Singles,
    transposed_recurrent: Singles,
    m: int,
    gates: Singles,
    cells: Singles,
    tangents: Singles,
    states: Singles,
    of_states: Singles,
    of_into: Singles,
    of_recurrent: Singles,
    of_biases: Singles,
) -> None:
    """Add the gradient of a layer's weights, and overwrite its gates with their gradient.

    ``of_states`` is the gradient of the states, except through later states of the layer.
    """
    size = states.shape[1]
    of_cells = np.zeros((m, size), dtype=np.float32)
    zeros = np.zeros(size, dtype=np.float32)
    for first in range(len(gates) - m, -1, -m):
        for row in range(first, first + m):
            gate, tangent, of_state = gates[row], tangents[row], of_states[row]
            before, of_cell = cells[row - m] if first else zeros, of_cells[row - first]
            enter, forget = gate[:size], gate[size : 2 * size]
            new, leave = gate[2 * size : 3 * size], gate[3 * size :]
            for j in range(size):
                i, f, n, o, t = enter[j], forget[j], new[j], leave[j], tangent[j]
                through = of_cell[j] + of_state[j] * o * (ONE - t * t)
                enter[j] = through * n * i * (ONE - i)
                forget[j] = through * before[j] * f * (ONE - f)
                new[j] = through * i * (ONE - n * n)
                leave[j] = of_state[j] * t * o * (ONE - o)
                of_cell[j] = through * f
        if first:
            _add_product(
                gates[first : first + m], transposed_recurrent, of_states[first - m : first]
            )
    _add_product(inputs.T, gates, of_into)
    if len(gates) > m:
        _add_product(states[:-m].T, gates[m:], of_recurrent)
    for row in range(len(gates)):
        for j in range(4 * size):
            of_biases[0, j] += gates[row, j]
    of_biases[1] = of_biases[0]


@helper
def _part(weights: Singles, start: int, n_rows: int, n_columns: int) -> Singles:
    return weights[start : start + n_rows * n_columns].reshape(n_rows, n_columns)


@helper
def _transpose(layers: Ints, n_features: int, weights: Singles, transposed: Singles) -> None:
    """Write the transpose of every weight matrix, at the same offset."""
    start = 0
    for layer in range(len(layers) + 1):
        last = layer == len(layers)
        n_outputs = n_features if last else 4 * layers[layer, 1]
        for part in range(1 if last else 2):
            n_inputs = layers[layer - 1, 1] if last else layers[layer, part]
            matrix = _part(weights, start, n_inputs, n_outputs)
            _part(transposed, start, n_outputs, n_inputs)[:] = matrix.T
            start += n_inputs * n_outputs
        start += n_outputs if last else 2 * n_outputs


@compiled(
    *(read_only(float32, 2), int64, writable(int64, 2), int64, read_only(int64, 1)),
    *(writable(float32, 1), writable(float32, 1), writable(float32, 1), float32, boolean),
    returns=float64,
)
def _pass(
    rows: Singles,
    length: int,
    layers: Ints,
    n_encoder: int,
    starts: Ints,
    weights: Singles,
    transposed: Singles,
    gradient: Singles,
    unit: Any,
    gradient_wanted: bool,
) -> float:
    """Return the loss of a tile of windows, summed over them, and add its gradient.

    The gradient is that of ``unit`` times the sum of all squared errors.
    """
    n_layers, m, n_features = len(layers), len(starts), rows.shape[1]
    n = length * m
    sequences = np.empty((n, n_features), dtype=np.float32)
    for step in range(length):
        for window in range(m):
            sequences[step * m + window] = rows[starts[window] + step]
    all_inputs, all_gates, all_cells = [sequences], [sequences], [sequences]
    all_tangents, all_states = [sequences], [sequences]
    inputs, start = sequences, 0
    for layer in range(n_layers):
        n_inputs, size = layers[layer]
        if layer == n_encoder:
            repeated = np.empty((n, n_inputs), dtype=np.float32)
            for step in range(length):
                repeated[step * m : (step + 1) * m] = inputs[n - m :]
            inputs = repeated
        into = _part(weights, start, n_inputs, 4 * size)
        start += n_inputs * 4 * size
        recurrent = _part(weights, start, size, 4 * size)
        start += size * 4 * size
        biases = _part(weights, start, 2, 4 * size)
        start += 2 * 4 * size
        gates = np.empty((n, 4 * size), dtype=np.float32)
        cells = np.empty((n, size), dtype=np.float32)
        tangents, states = np.empty_like(cells), np.empty_like(cells)
        _forward(inputs, into, recurrent, biases, m, gates, cells, tangents, states)
        all_inputs.append(inputs)
        all_gates.append(gates)
        all_cells.append(cells)
        all_tangents.append(tangents)
        all_states.append(states)
        inputs = states
    size = inputs.shape[1]
    head = _part(weights, start, size, n_features)
    head_bias = weights[start + size * n_features :]
    errors = np.empty_like(sequences)
    for row in range(n):
        errors[row] = head_bias
    _add_product(inputs, head, errors)
    total: Any = 0.0
    for row in range(n):
        of_row = ZERO
        for column in range(n_features):
            error = errors[row, column] - sequences[row, column]
            errors[row, column] = TWO * unit * error
            of_row += error * error
        total += of_row
    loss: float = total / (length * n_features)
    if not gradient_wanted:
        return loss
    _add_product(inputs.T, errors, _part(gradient, start, size, n_features))
    of_head_bias = gradient[start + size * n_features :]
    for row in range(n):
        for column in range(n_features):
            of_head_bias[column] += errors[row, column]
    of_states = np.zeros((n, size), dtype=np.float32)
    _add_product(errors, _part(transposed, start, n_features, size), of_states)
    for layer in range(n_layers - 1, -1, -1):
        n_inputs, size = layers[layer]
        start -= (n_inputs + size + 2) * 4 * size
        recurrent_start = start + n_inputs * 4 * size
        gates = all_gates[layer + 1]
        _backward(
            all_inputs[layer + 1],
            _part(transposed, recurrent_start, 4 * size, size),
            m,
            gates,
            all_cells[layer + 1],
            all_tangents[layer + 1],
            all_states[layer + 1],
            of_states,
            _part(gradient, start, n_inputs, 4 * size),
            _part(gradient, recurrent_start, size, 4 * size),
            _part(gradient, recurrent_start + size * 4 * size, 2, 4 * size),
        )
        if layer == 0:
            break
        of_states = np.zeros((n, n_inputs), dtype=np.float32)
        _add_product(gates, _part(transposed, start, 4 * size, n_inputs), of_states)
        if layer == n_encoder:
            for step in range(length - 1):
                for row in range(m):
                    for j in range(n_inputs):
                        of_states[n - m + row, j] += of_states[step * m + row, j]
            of_states[: n - m] = ZERO
    return loss


@compiled(
    *(read_only(float32, 2), int64, writable(int64, 2), int64),
    *(read_only(int64, 1), int64, float64, int64, float64, int64),
    *(writable(float32, 1), writable(float32, 1), writable(float32, 1), writable(float32, 1)),
    returns=float64,
)
def _learn(
    rows: Singles,
    length: int,
    layers: Ints,
    n_encoder: int,
    starts: Ints,
    batch_size: int,
    learning_rate: float,
    warm_up: int,
    recent: float,
    steps: int,
    weights: Singles,
    average: Singles,
    first_moment: Singles,
    second_moment: Singles,
) -> float:
    """Take a step for each batch; return the losses before the steps, summed over the windows."""
    gradient, transposed = np.empty_like(weights), np.empty_like(weights)
    total = 0.0
    for begin in range(0, len(starts), batch_size):
        batch = starts[begin : begin + batch_size]
        gradient[:] = ZERO
        _transpose(layers, rows.shape[1], weights, transposed)
        unit = np.float32(1.0 / (len(batch) * length * rows.shape[1]))
        for tile in range(0, len(batch), TILE):
            total += _pass(
                rows, length, layers, n_encoder, batch[tile : tile + TILE],
                weights, transposed, gradient, unit, True,
            )  # fmt: skip
        squares = 0.0
        for i in range(len(gradient)):
            squares += gradient[i] * gradient[i]
        clipped = np.float32(min(MAX_NORM / (np.sqrt(squares) + 1e-6), 1.0))
        steps += 1
        warmed_up_rate = learning_rate * min(steps / warm_up, 1.0)
        rate = np.float32(warmed_up_rate / (1.0 - 0.9**steps))
        spread = np.float32(1.0 / np.sqrt(1.0 - 0.999**steps))
        share = np.float32(min((1.0 + recent) / (steps + recent), 1.0))
        for i in range(len(weights)):
            slope = clipped * gradient[i]
            first = BETA_1 * first_moment[i] + (ONE - BETA_1) * slope
            second = BETA_2 * second_moment[i] + (ONE - BETA_2) * (slope * slope)
            first_moment[i], second_moment[i] = first, second
            weights[i] -= rate * first / (np.sqrt(second) * spread + EPSILON)
            average[i] += share * (weights[i] - average[i])
    return total
