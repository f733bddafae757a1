"""Raw scores from plain arrays: what a process that only serves needs, and all it needs.

Each function computes what the fitted estimator of its algorithm would, from the arrays that the
algorithm took out of it. Larger means more unusual.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from app.detectors.base import Arrays, Floats

FARTHEST = 1e100
FARTHEST_BEYOND = 100.0
"""A forest tells no distances apart that are larger, in half widths of the training box."""
IN_FULL: Arrays = {
    "low": np.array(-FARTHEST),
    "high": np.array(FARTHEST),
    "room": np.array(1.0),
}
"""Limits for averages in which every value counts in full."""
BLOCK = 2048
"""Examples scored at a time, so that memory stays bounded however long the input is."""


def isolation_forest(arrays: Arrays, params: Mapping[str, Any], X: Floats) -> Floats:
    """Return ``2 ** (-mean path length / c) - 0.5`` for rows of shape (n_samples, n_features)."""
    from app.detectors.kernels import forest

    return forest.raw_scores(arrays, X)


def one_class_svm(arrays: Arrays, params: Mapping[str, Any], X: Floats) -> Floats:
    """Return the negated decision function for rows of shape (n_samples, n_features)."""
    from app.detectors.kernels import svm

    return svm.raw_scores(arrays, params["kernel"], X)


def lstm_autoencoder(arrays: Arrays, params: Mapping[str, Any], windows: Floats) -> Floats:
    """Return the error of restoring windows of shape (n_windows, window, n_features).

    The mean squared error, in which a single far value would be lost among all the others; so
    how far the last row leaves the box of all training rows counts as the error of a whole row.
    """
    from app.detectors.kernels import lstm

    return lstm.raw_scores(arrays, windows)


def reconstruction_errors(arrays: Arrays, params: Mapping[str, Any], windows: Floats) -> Floats:
    """Return squared errors of shape (n_windows, window, n_features), in standard deviations²."""
    from app.detectors.kernels import lstm

    return lstm.reconstruction_errors(arrays, windows)


def averages(limits: Arrays, rows: Floats, n_rows: int, at_least: int) -> Floats:
    """Return the mean of each ``n_rows`` consecutive rows, far values brought nearer first.

    Parameters
    ----------
    limits : mapping of str to ndarray
        ``low`` and ``high`` of each sensor, beyond which a distance ``d`` counts as
        ``room * log(1 + d / room)``; each of shape (n_features,).
    rows : ndarray of shape (..., n, n_features)
        Consecutive rows; NaN where there was none.
    n_rows, at_least : int
        Rows in an average, and how many of them must be there.

    Returns
    -------
    ndarray of shape (..., max(n - n_rows + 1, 0), n_features)
        NaN where too many rows are missing.
    """
    within = np.clip(rows, limits["low"], limits["high"])
    with np.errstate(over="ignore"):
        beyond = np.minimum(np.abs(rows - within) / limits["room"], FARTHEST)
    nearer = within + limits["room"] * np.sign(rows - within) * np.log1p(beyond)
    there = ~np.isnan(nearer)
    nearer = np.where(there, nearer, 0.0)
    n_averages = max(rows.shape[-2] - n_rows + 1, 0)
    # One row after the other: the same average, to the last digit, alone and among others.
    total = np.zeros((*rows.shape[:-2], n_averages, rows.shape[-1]))
    count = np.zeros_like(total)
    for first in range(n_rows if n_averages else 0):
        total += nearer[..., first : first + n_averages, :]
        count += there[..., first : first + n_averages, :]
    return np.where(count >= at_least, total / np.maximum(count, 1.0), np.nan)


def seen(arrays: Arrays, params: Mapping[str, Any], examples: Floats) -> Floats:
    """Return what the algorithm itself looks at: the examples, or their averages."""
    if "averaged_rows" not in params:
        return examples
    averaged = averages(arrays, examples, params["averaged_rows"], params["averaged_at_least"])
    return averaged[:, 0] if averaged.shape[1] == 1 else averaged


def _standardised(arrays: Arrays, X: Floats) -> Floats:
    """Return X in standard deviations, bounded so that squares and products stay finite."""
    with np.errstate(over="ignore"):
        return np.clip((X - arrays["center"]) / arrays["scale"], -FARTHEST, FARTHEST)


def _lstm(arrays: Arrays, layer: str, inputs: Floats) -> Floats:
    """Run one LSTM layer over (n_windows, window, n_inputs); return all hidden states."""
    recurrent = arrays[f"{layer}.weight_hh_l0"].T
    driven = (
        inputs @ arrays[f"{layer}.weight_ih_l0"].T
        + arrays[f"{layer}.bias_ih_l0"]
        + arrays[f"{layer}.bias_hh_l0"]
    )
    size = recurrent.shape[0]
    hidden = np.zeros((len(inputs), size))
    cell = np.zeros_like(hidden)
    states = np.empty((*inputs.shape[:2], size))
    for step in range(inputs.shape[1]):
        gates = driven[:, step] + hidden @ recurrent
        forget = _sigmoid(gates[:, size : 2 * size])
        update = _sigmoid(gates[:, :size]) * np.tanh(gates[:, 2 * size : 3 * size])
        cell = forget * cell + update
        hidden = _sigmoid(gates[:, 3 * size :]) * np.tanh(cell)
        states[:, step] = hidden
    return states


def _sigmoid(x: Floats) -> Floats:
    return 0.5 * (1.0 + np.tanh(0.5 * x))


RAW_SCORES: dict[str, Callable[[Arrays, Mapping[str, Any], Floats], Floats]] = {
    "isolation_forest": isolation_forest,
    "one_class_svm": one_class_svm,
    "lstm_autoencoder": lstm_autoencoder,
}


def raw_scores(
    algorithm: str, arrays: Arrays, params: Mapping[str, Any], examples: Floats
) -> Floats:
    """Score rows (n, n_features) or windows (n, window, n_features) block by block; shape (n,)."""
    blocks = [
        _scores(algorithm, arrays, params, examples[start : start + BLOCK])
        for start in range(0, len(examples), BLOCK)
    ]
    return np.concatenate(blocks) if blocks else np.empty(0)


def _scores(algorithm: str, arrays: Arrays, params: Mapping[str, Any], examples: Floats) -> Floats:
    looked_at = seen(arrays, params, examples)
    known = ~np.isnan(looked_at.reshape(len(looked_at), -1)).any(axis=1)
    if known.all():
        return RAW_SCORES[algorithm](arrays, params, looked_at)
    scores = np.full(len(looked_at), np.nan)
    scores[known] = RAW_SCORES[algorithm](arrays, params, looked_at[known])
    return scores
