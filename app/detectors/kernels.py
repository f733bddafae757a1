"""Raw scores from plain arrays: what a process that only serves needs, and all it needs.

Each function computes what the fitted estimator of its algorithm would, from the arrays that the
algorithm took out of it. Larger means more unusual.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
AVERAGED_AT_A_TIME = 512
"""Averages made at a time, so that the rows stay in the cache while they are added up."""


def isolation_forest(arrays: Arrays, params: Mapping[str, Any], X: Floats) -> Floats:
    """Return ``2 ** (-mean path length / c) - 0.5`` for rows of shape (n_samples, n_features)."""
    # scikit-learn compares float32 readings with float64 thresholds; anything else would send
    # a reading near a cut down the other branch.
    largest = np.finfo(np.float32).max
    columns = scaled = _standardised(arrays, X)
    if "box_scale" in arrays:
        distance = np.abs(scaled * arrays["box_scale"] + arrays["box_min"]).max(axis=1)
        beyond = np.square(np.log(np.clip(distance, 1.0, FARTHEST_BEYOND)))
        columns = np.column_stack([scaled, beyond])
    rows = np.clip(columns, -largest, largest).astype(np.float32)
    at = np.arange(len(X))[:, None]
    node = np.broadcast_to(arrays["root"], (len(X), len(arrays["root"])))
    for _ in range(int(arrays["depth"][0])):
        right = rows[at, arrays["feature"][node]] > arrays["threshold"][node]
        node = arrays["children"][node, right.view(np.int8)]
    length = arrays["path"][node].sum(axis=1)
    scores: Floats = np.exp2(-length / arrays["normaliser"][0]) - 0.5
    return scores


def one_class_svm(arrays: Arrays, params: Mapping[str, Any], X: Floats) -> Floats:
    """Return the negated decision function for rows of shape (n_samples, n_features)."""
    rows = _standardised(arrays, X)
    support, gamma = arrays["support_vectors"], arrays["gamma"][0]
    product = rows @ support.T
    match params["kernel"]:
        case "rbf":
            squares = (rows**2).sum(axis=1)[:, None] + (support**2).sum(axis=1)
            kernel = np.exp(-gamma * np.maximum(squares - 2.0 * product, 0.0))
        case "linear":
            kernel = product
        case "poly":
            kernel = (gamma * product) ** 3
        case _:
            kernel = np.tanh(gamma * product)
    scores: Floats = -(kernel @ arrays["dual_coef"] + arrays["intercept"][0])
    return scores


def lstm_autoencoder(arrays: Arrays, params: Mapping[str, Any], windows: Floats) -> Floats:
    """Return the error of restoring windows of shape (n_windows, window, n_features).

    The mean squared error, in which a single far value would be lost among all the others; so
    how far the last row leaves the box of all training rows counts as the error of a whole row.
    """
    errors = reconstruction_errors(arrays, params, windows).mean(axis=(1, 2))
    last = _standardised(arrays, windows[:, -1])
    beyond = np.maximum(arrays["lowest"] - last, last - arrays["highest"]).max(axis=1)
    scores: Floats = errors + np.maximum(beyond, 0.0) ** 2 / windows.shape[1]
    return scores


def reconstruction_errors(arrays: Arrays, params: Mapping[str, Any], windows: Floats) -> Floats:
    """Return squared errors of shape (n_windows, window, n_features), in standard deviations²."""
    scaled = _standardised(arrays, windows)
    states = scaled
    for layer in range(len(params["encoder_layers"])):
        states = _lstm(arrays, f"encoder.{layer}", states)
    states = np.repeat(states[:, -1:], windows.shape[1], axis=1)
    for layer in range(len(params["decoder_layers"])):
        states = _lstm(arrays, f"decoder.{layer}", states)
    restored = states @ arrays["head.weight"].T + arrays["head.bias"]
    return (restored - scaled) ** 2


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
    nearer = np.clip(rows, limits["low"], limits["high"])
    far = rows != nearer
    # Few values are far, and logarithms are what costs.
    if far.any():
        room, edge = np.broadcast_to(limits["room"], rows.shape)[far], nearer[far]
        with np.errstate(over="ignore"):
            beyond = np.minimum(np.abs(rows[far] - edge) / room, FARTHEST)
        nearer[far] = edge + room * np.sign(rows[far] - edge) * np.log1p(beyond)
    missing = np.isnan(nearer)
    n_averages = max(rows.shape[-2] - n_rows + 1, 0)
    if not missing.any():
        return _sums(nearer, n_rows, n_averages) / n_rows
    count = _sums(~missing, n_rows, n_averages)
    total = _sums(np.where(missing, 0.0, nearer), n_rows, n_averages)
    return np.where(count >= at_least, total / np.maximum(count, 1.0), np.nan)


def _sums(rows: NDArray[Any], n_rows: int, n_sums: int) -> Floats:
    """Return the sum of each ``n_rows`` consecutive rows (..., n, n_features).

    One row after the other: the same sum, to the last digit, alone and among others.
    """
    total = np.zeros((*rows.shape[:-2], n_sums, rows.shape[-1]))
    for first in range(n_rows if n_sums else 0):
        total += rows[..., first : first + n_sums, :]
    return total


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
        _scores(algorithm, arrays, params, seen(arrays, params, examples[start : start + BLOCK]))
        for start in range(0, len(examples), BLOCK)
    ]
    return np.concatenate(blocks) if blocks else np.empty(0)


def raw_scores_along(
    algorithm: str, arrays: Arrays, params: Mapping[str, Any], rows: Floats, window: int
) -> Floats:
    """Score every window of consecutive rows (n, n_features), each as if it had come alone.

    Neighbouring windows share all rows but one, so none is ever copied out, and averages are made
    once for all windows that see them. Returns shape (max(n - window + 1, 0),).
    """
    looked_at = rows
    if "averaged_rows" in params:
        n_rows, at_least = params["averaged_rows"], params["averaged_at_least"]
        looked_at = np.concatenate(
            [
                averages(arrays, rows[start : start + AVERAGED_AT_A_TIME + n_rows - 1], n_rows,
                         at_least)
                for start in range(0, max(len(rows) - n_rows + 1, 1), AVERAGED_AT_A_TIME)
            ]
        )  # fmt: skip
        window -= n_rows - 1
    if len(looked_at) < window:
        return np.empty(0)
    if window > 1:
        views = np.lib.stride_tricks.sliding_window_view(looked_at, window, axis=0)
        looked_at = np.moveaxis(views, -1, 1)
    blocks = [
        _scores(algorithm, arrays, params, looked_at[start : start + BLOCK])
        for start in range(0, len(looked_at), BLOCK)
    ]
    return np.concatenate(blocks) if blocks else np.empty(0)


def _scores(algorithm: str, arrays: Arrays, params: Mapping[str, Any], looked_at: Floats) -> Floats:
    known = ~np.isnan(looked_at.reshape(len(looked_at), -1)).any(axis=1)
    if known.all():
        return RAW_SCORES[algorithm](arrays, params, looked_at)
    scores = np.full(len(looked_at), np.nan)
    scores[known] = RAW_SCORES[algorithm](arrays, params, looked_at[known])
    return scores
