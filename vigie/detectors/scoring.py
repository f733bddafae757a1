"""Raw scores from plain arrays, without the libraries that fitted the model.

An algorithm scores rows or windows of rows (``vigie.detectors.catalogue``). This module passes it
the examples themselves, or averages of them.
"""

from __future__ import annotations

import numpy as np

from vigie.detectors import compiled
from vigie.detectors.base import FARTHEST, Arrays, Floats, Params
from vigie.detectors.catalogue import algorithm
from vigie.detectors.compiled.blocks import in_blocks

IN_FULL: Arrays = {
    "low": np.array(-FARTHEST),
    "high": np.array(FARTHEST),
    "room": np.array(1.0),
}
"""Limits for plain averages, without compression of far values."""
BLOCK = 2048
"""Examples averaged at a time, to bound memory."""


def raw_scores(name: str, arrays: Arrays, params: Params, examples: Floats) -> Floats:
    """Score rows (n, n_features) or windows (n, window, n_features); shape (n,)."""
    score = algorithm(name).score
    if "averaged_rows" not in params:
        return score(arrays, params, examples)
    scores = np.empty(len(examples))

    def work(start: int, stop: int) -> None:
        scores[start:stop] = score(
            arrays, params, algorithm_inputs(arrays, params, examples[start:stop])
        )

    in_blocks(work, len(examples), BLOCK)
    return scores


def raw_scores_along(
    name: str, arrays: Arrays, params: Params, rows: Floats, window: int
) -> Floats:
    """Score every window of consecutive rows (n, n_features), with the same scores as one by one.

    Neighbouring windows share all rows but one, so no window is copied, and each average is
    computed once. Returns shape (max(n - window + 1, 0),).
    """
    entry = algorithm(name)
    if entry.errors is not None and entry.score_errors is not None:
        return entry.score_errors(arrays, [params], entry.errors(arrays, params, rows))[0]
    inputs = rows
    if "averaged_rows" in params:
        n_rows, at_least = params["averaged_rows"], params["averaged_at_least"]
        inputs = averages(arrays, rows, n_rows, at_least)
        window -= n_rows - 1
    if len(inputs) < window:
        return np.empty(0)
    if window > 1:
        inputs = windows_of(inputs, window)
    return entry.score(arrays, params, inputs)


def windows_of(rows: Floats, window: int) -> Floats:
    """Return a view of all windows of consecutive rows, (n - window + 1, window, n_features).

    Like numpy's ``sliding_window_view``, in a tenth of the time; callers must not write to it.
    """
    rows = np.ascontiguousarray(rows)
    step, across = rows.strides
    shape = (len(rows) - window + 1, window, rows.shape[1])
    return np.ndarray(shape, rows.dtype, rows, 0, (step, step, across))


def algorithm_inputs(arrays: Arrays, params: Params, examples: Floats) -> Floats:
    """Return the input of the algorithm itself: the examples, or their averages."""
    if "averaged_rows" not in params:
        return examples
    averaged = averages(arrays, examples, params["averaged_rows"], params["averaged_at_least"])
    return averaged[:, 0] if averaged.shape[1] == 1 else averaged


def averages(limits: Arrays, rows: Floats, n_rows: int, at_least: int) -> Floats:
    """Return the mean of each ``n_rows`` consecutive rows, with far values compressed.

    Parameters
    ----------
    limits : mapping of str to ndarray
        ``low`` and ``high`` of each sensor, beyond which a distance ``d`` counts as
        ``room * log(1 + d / room)``; each of shape (n_features,).
    rows : ndarray of shape (..., n, n_features)
        Consecutive rows; NaN for a missing value.
    n_rows, at_least : int
        Rows in an average, and the minimum number of them that must not be missing.

    Returns
    -------
    ndarray of shape (..., max(n - n_rows + 1, 0), n_features)
        NaN where too many rows are missing.
    """
    rows = np.asarray(rows, dtype=np.float64)
    length, n_features = rows.shape[-2:]
    low, high, room = (limits[name] for name in ("low", "high", "room"))
    if limits is IN_FULL:
        low, high, room = (np.repeat(limit, n_features) for limit in (low, high, room))
    averaged = np.empty((*rows.shape[:-2], max(length - n_rows + 1, 0), n_features))
    compiled.averaging.average(
        rows.reshape(-1, length, n_features),
        *(low, high, room, n_rows, at_least),
        averaged.reshape(-1, *averaged.shape[-2:]),
    )
    return averaged
