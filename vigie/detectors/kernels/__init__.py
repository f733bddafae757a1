"""Raw scores from plain arrays: what a process that only serves needs, and all it needs.

Each function computes what the fitted estimator of its algorithm would, from the arrays that the
algorithm took out of it. Larger means more unusual; NaN where a value is NaN. A row's score is the
same, to the last bit, alone and among others.

The compiled parts stand in modules of their own, each imported when it is first asked for, as in
``kernels.rows``: numba takes a third of a second to import, which no process shall pay that only
starts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from vigie.detectors.base import Arrays, Floats
from vigie.detectors.kernels.blocks import in_blocks

if TYPE_CHECKING:
    from vigie.detectors.kernels import averaging, evidence, forest, lstm, odds, rows, svm  # noqa: F401

COMPILED = ("averaging", "evidence", "forest", "lstm", "odds", "rows", "svm")
"""Modules of compiled kernels."""
FARTHEST = 1e100
"""In standard deviations; beyond it, squares and products would not stay finite."""
FARTHEST_BEYOND = 100.0
"""A forest tells no distances apart that are larger, in half widths of the training box."""
IN_FULL: Arrays = {
    "low": np.array(-FARTHEST),
    "high": np.array(FARTHEST),
    "room": np.array(1.0),
}
"""Limits for averages in which every value counts in full."""
BLOCK = 2048
"""Examples averaged at a time, so that memory stays bounded however long the input is."""


def __getattr__(name: str) -> ModuleType:
    """Import a module of compiled kernels; from then on it is an attribute like any other."""
    if name not in COMPILED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(f"{__name__}.{name}")


def isolation_forest(arrays: Arrays, params: Mapping[str, Any], X: Floats) -> Floats:
    """Return ``2 ** (-mean path length / c) - 0.5`` for rows of shape (n_samples, n_features)."""
    from vigie.detectors.kernels import forest

    return forest.raw_scores(arrays, _in_a_row(X))


def one_class_svm(arrays: Arrays, params: Mapping[str, Any], X: Floats) -> Floats:
    """Return the negated decision function for rows of shape (n_samples, n_features)."""
    from vigie.detectors.kernels import svm

    return svm.raw_scores(arrays, params["kernel"], _in_a_row(X))


def lstm_autoencoder(arrays: Arrays, params: Mapping[str, Any], windows: Floats) -> Floats:
    """Return the error of restoring windows of shape (n_windows, window, n_features).

    The mean squared error, in which a single far value would be lost among all the others; so
    how far the last row leaves the box of all training rows counts as the error of a whole row.
    """
    from vigie.detectors.kernels import lstm

    return lstm.raw_scores(arrays, np.asarray(windows, dtype=np.float64))


def reconstruction_errors(arrays: Arrays, params: Mapping[str, Any], windows: Floats) -> Floats:
    """Return squared errors of shape (n_windows, window, n_features), in standard deviations²."""
    from vigie.detectors.kernels import lstm

    return lstm.reconstruction_errors(arrays, np.asarray(windows, dtype=np.float64))


RAW_SCORES: dict[str, Callable[[Arrays, Mapping[str, Any], Floats], Floats]] = {
    "isolation_forest": isolation_forest,
    "one_class_svm": one_class_svm,
    "lstm_autoencoder": lstm_autoencoder,
}


def raw_scores(
    algorithm: str, arrays: Arrays, params: Mapping[str, Any], examples: Floats
) -> Floats:
    """Score rows (n, n_features) or windows (n, window, n_features); shape (n,)."""
    score = RAW_SCORES[algorithm]
    if "averaged_rows" not in params:
        return score(arrays, params, examples)
    scores = np.empty(len(examples))

    def work(start: int, stop: int) -> None:
        scores[start:stop] = score(arrays, params, seen(arrays, params, examples[start:stop]))

    in_blocks(work, len(examples), BLOCK)
    return scores


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
        looked_at = averages(arrays, rows, n_rows, at_least)
        window -= n_rows - 1
    if len(looked_at) < window:
        return np.empty(0)
    if window > 1:
        looked_at = windows_of(looked_at, window)
    return RAW_SCORES[algorithm](arrays, params, looked_at)


def windows_of(rows: Floats, window: int) -> Floats:
    """Return a view of all ``window`` consecutive rows, (n - window + 1, window, n_features).

    What numpy's ``sliding_window_view`` does, for a tenth of its price; so it shall only be read.
    """
    rows = np.ascontiguousarray(rows)
    step, across = rows.strides
    shape = (len(rows) - window + 1, window, rows.shape[1])
    return np.ndarray(shape, rows.dtype, rows, 0, (step, step, across))


def seen(arrays: Arrays, params: Mapping[str, Any], examples: Floats) -> Floats:
    """Return what the algorithm itself looks at: the examples, or their averages."""
    if "averaged_rows" not in params:
        return examples
    averaged = averages(arrays, examples, params["averaged_rows"], params["averaged_at_least"])
    return averaged[:, 0] if averaged.shape[1] == 1 else averaged


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
    from vigie.detectors.kernels import averaging

    rows = np.asarray(rows, dtype=np.float64)
    length, n_features = rows.shape[-2:]
    low, high, room = (limits[name] for name in ("low", "high", "room"))
    if limits is IN_FULL:
        low, high, room = (np.repeat(one, n_features) for one in (low, high, room))
    averaged = np.empty((*rows.shape[:-2], max(length - n_rows + 1, 0), n_features))
    averaging.average(
        rows.reshape(-1, length, n_features),
        *(low, high, room, n_rows, at_least),
        averaged.reshape(-1, *averaged.shape[-2:]),
    )
    return averaged


def warm_up() -> None:
    """Compile all kernels, or read what was compiled before, so that no score waits for it.

    May be called any number of times, from any thread.
    """
    for name in COMPILED:
        import_module(f"{__name__}.{name}")


def _in_a_row(X: Floats) -> Floats:
    return np.ascontiguousarray(X, dtype=np.float64)
