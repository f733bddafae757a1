"""Scoring of an LSTM autoencoder in compiled code, without the overhead of a framework.

Weights are stored as (n_inputs, n_outputs), transposed from PyTorch's, so that the weights of
neighbouring outputs are contiguous. A tile of windows is processed step by step together, so that
four rows of weights are loaded once for all of them.

Every window starts from a zero state, so each reading of a stream costs a whole window: even two
windows that share nine of ten rows have different states. Only the products of the rows with the
first layer's input weights could be shared, a seventh of the work in the default network.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import float64, types

from vigie.detectors.base import FARTHEST, Arrays, Floats
from vigie.detectors.compiled.blocks import in_blocks
from vigie.detectors.compiled.compiler import compiled, helper, read_only, writable
from vigie.detectors.compiled.functions import exp

BLOCK = 64
TILE = 16
"""Windows whose gates fit into the L1 cache."""
HUGE = 1e150
"""Upper limit with a finite square, where tanh is saturated."""


def add_product(rows: Any, weights: Any, sums: Any) -> None:
    """Add rows (m, n_inputs) times weights (n_inputs, n_outputs) to sums (m, n_outputs)."""
    n_inputs, n_outputs = weights.shape
    whole = n_inputs - n_inputs % 4
    for k in range(0, whole, 4):
        wa, wb, wc, wd = weights[k], weights[k + 1], weights[k + 2], weights[k + 3]
        for row in range(rows.shape[0]):
            a, b, c, d = rows[row, k], rows[row, k + 1], rows[row, k + 2], rows[row, k + 3]
            total = sums[row]
            for j in range(n_outputs):
                total[j] += a * wa[j] + b * wb[j] + (c * wc[j] + d * wd[j])
    for k in range(whole, n_inputs):
        wa = weights[k]
        for row in range(rows.shape[0]):
            a = rows[row, k]
            total = sums[row]
            for j in range(n_outputs):
                total[j] += a * wa[j]


_add_product = helper(add_product)


@helper
def _open_gates(gates: Floats, size: int, cell: Floats, state: Floats) -> None:
    """Advance one window's cell and state, both of shape (size,), by a step.

    ``sigmoid(a) * tanh(b)`` takes a single division of exponentials. Simple loops over contiguous
    numbers are vectorised.
    """
    for j in range(4 * size):
        gates[j] = exp(-gates[j])
    enter, forget = gates[:size], gates[size : 2 * size]
    new, leave = gates[2 * size : 3 * size], gates[3 * size :]
    for j in range(size):
        opposite = (HUGE if new[j] > HUGE else new[j]) ** 2
        update = (1.0 - opposite) / ((1.0 + enter[j]) * (1.0 + opposite))
        cell[j] = cell[j] / (1.0 + forget[j]) + update
    for j in range(size):
        opposite = exp(-2.0 * cell[j])
        state[j] = (1.0 - opposite) / ((1.0 + leave[j]) * (1.0 + opposite))


@compiled(
    types.Array(float64, 3, "A", readonly=True),
    *(read_only(float64, 1), read_only(float64, 1), writable(float64, 3)),
)
def _standardise(windows: Floats, center: Floats, scale: Floats, scaled: Floats) -> None:
    """Write standardised windows of shape (n, window, n_features)."""
    for window in range(windows.shape[0]):
        for step in range(windows.shape[1]):
            for column in range(windows.shape[2]):
                value = (windows[window, step, column] - center[column]) / scale[column]
                value = FARTHEST if value > FARTHEST else value
                scaled[window, step, column] = -FARTHEST if value < -FARTHEST else value


@compiled(
    *(read_only(float64, 3), read_only(float64, 2), read_only(float64, 2), read_only(float64, 1)),
    *(read_only(float64, 1), writable(float64, 3)),
)
def _layer(
    inputs: Floats, into: Floats, recurrent: Floats, bias: Floats, more_bias: Floats, states: Floats
) -> None:
    """Write all hidden states of one layer.

    Parameters
    ----------
    inputs : ndarray of shape (n, n_steps, n_inputs)
        The last step is repeated if ``states`` has more steps.
    into, recurrent : ndarray of shape (n_inputs, 4 * size), (size, 4 * size)
        Weights of the input, forget, cell and output gates, in this order.
    bias, more_bias : ndarray of shape (4 * size,)
    states : ndarray of shape (n, n_steps, size)
    """
    n, n_steps, size = states.shape
    driven = np.empty((TILE, 4 * size))
    gates = np.empty((TILE, 4 * size))
    hidden = np.empty((TILE, size))
    cells = np.empty((TILE, size))
    for first in range(0, n, TILE):
        m = min(TILE, n - first)
        hidden[:m] = 0.0
        cells[:m] = 0.0
        for step in range(n_steps):
            if step < inputs.shape[1]:
                for window in range(m):
                    for j in range(4 * size):
                        driven[window, j] = bias[j] + more_bias[j]
                _add_product(inputs[first : first + m, step], into, driven[:m])
            gates[:m] = driven[:m]
            if step > 0:
                _add_product(hidden[:m], recurrent, gates[:m])
            for window in range(m):
                _open_gates(gates[window], size, cells[window], hidden[window])
                states[first + window, step] = hidden[window]


@compiled(
    *(read_only(float64, 3), read_only(float64, 3), read_only(float64, 2), read_only(float64, 1)),
    *(read_only(float64, 1), read_only(float64, 1), writable(float64, 3), writable(float64, 1)),
)
def _errors(
    scaled: Floats,
    states: Floats,
    weights: Floats,
    bias: Floats,
    lowest: Floats,
    highest: Floats,
    errors: Floats,
    scores: Floats,
) -> None:
    """Write the squared reconstruction errors and the scores of windows.

    Parameters
    ----------
    scaled : ndarray of shape (n, window, n_features)
    states : ndarray of shape (n, window, size)
    weights, bias : ndarray of shape (size, n_features), (n_features,)
    lowest, highest : ndarray of shape (n_features,)
    errors : ndarray of shape (n, window, n_features)
    scores : ndarray of shape (n,)
    """
    n, length, n_features = scaled.shape
    for window in range(n):
        for step in range(length):
            errors[window, step] = bias
        _add_product(states[window], weights, errors[window])
        total = 0.0
        for step in range(length):
            for column in range(n_features):
                error = (errors[window, step, column] - scaled[window, step, column]) ** 2
                errors[window, step, column] = error
                total += error
        beyond = 0.0
        for column in range(n_features):
            last = scaled[window, length - 1, column]
            beyond = max(beyond, lowest[column] - last, last - highest[column])
        scores[window] = total / (length * n_features) + beyond**2 / length


def raw_scores(arrays: Arrays, windows: Floats) -> Floats:
    """Return the reconstruction errors of windows of shape (n_windows, window, n_features)."""
    scores = np.empty(len(windows))

    def work(start: int, stop: int) -> None:
        part = windows[start:stop]
        _reconstruct(arrays, part, np.empty(part.shape), scores[start:stop])

    in_blocks(work, len(windows), BLOCK)
    return scores


def reconstruction_errors(arrays: Arrays, windows: Floats) -> Floats:
    """Return squared errors of shape (n_windows, window, n_features), in standard deviations²."""
    errors, scores = np.empty(windows.shape), np.empty(len(windows))
    _reconstruct(arrays, windows, errors, scores)
    return errors


def _reconstruct(arrays: Arrays, windows: Floats, errors: Floats, scores: Floats) -> None:
    scaled = np.empty(windows.shape)
    _standardise(windows, arrays["center"], arrays["scale"], scaled)
    states = _stack(arrays, "encoder", scaled, windows.shape[1])
    states = _stack(arrays, "decoder", states[:, -1:].copy(), windows.shape[1])
    head = arrays["head.weight"], arrays["head.bias"]
    _errors(scaled, states, *head, arrays["lowest"], arrays["highest"], errors, scores)


def _stack(arrays: Arrays, name: str, states: Floats, n_steps: int) -> Floats:
    """Return the output of the encoder or decoder layers."""
    layer = 0
    while f"{name}.{layer}.weight_ih_l0" in arrays:
        prefix = f"{name}.{layer}."
        recurrent = arrays[prefix + "weight_hh_l0"]
        inputs, states = states, np.empty((len(states), n_steps, recurrent.shape[0]))
        into = arrays[prefix + "weight_ih_l0"]
        biases = arrays[prefix + "bias_ih_l0"], arrays[prefix + "bias_hh_l0"]
        _layer(inputs, into, recurrent, *biases, states)
        layer += 1
    return states
