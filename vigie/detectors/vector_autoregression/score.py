"""Scoring of a vector autoregression: forecast errors, and what they add up to over some rows.

The forecast error of a row is *whitened*: multiplied by a square root of the inverse covariance of
the errors in training. Healthy whitened errors are uncorrelated with variance 1, and their squared
length is Hotelling's T².

Every sum runs over the rows of one window, in a fixed order, so that a score is bit-identical
alone and in a batch.

References
----------
Hotelling. Multivariate quality control. In: Techniques of statistical analysis. McGraw-Hill, 1947.
Wilson, Hilferty. The distribution of chi-square. PNAS 17(12), 1931.
Alcala, Qin. Reconstruction-based contribution for process monitoring. Automatica 45(7), 2009.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
from numba import float64, int64
from numpy.typing import NDArray

from vigie.detectors.base import Arrays, Floats, Params, StepScorer
from vigie.detectors.compiled.compiler import compiled, helper, read_only, writable

MOST_BEFORE = 10.0
"""Limit of earlier values, in standard deviations: a glitch must not ruin the next forecasts."""
MOST_NOW = 1e6
"""Limit of the forecast value, in standard deviations, so that squares stay finite."""
MOST_ODD = 8.0
"""Limit of the normal score of one row: a single odd row must not decide on the asset."""
FILL_SWEEPS = 25
"""Sweeps of coordinate descent that fill in the errors of missing sensors."""


@helper
def _normal_score(square: float, n: float) -> float:
    """Return the standard normal score of a chi-squared value (Wilson and Hilferty)."""
    part = 2.0 / (9.0 * n)
    root: float = (square / n) ** (1.0 / 3.0)
    return (root - (1.0 - part)) / math.sqrt(part)


@helper
def _fill(means: Floats, total: Floats, count: Floats) -> None:
    """Replace each mean without any value by that of the next longer horizon, or the usual value.

    ``means`` has the shape (n_horizons, n_features); ``total`` and ``count`` are those of all rows
    before.
    """
    for column in range(means.shape[1]):
        last = total[column] / count[column] if count[column] else 0.0
        for h in range(len(means) - 1, -1, -1):
            if means[h, column] != means[h, column]:
                means[h, column] = last
            last = means[h, column]


@compiled(
    *(read_only(float64, 2), read_only(float64, 1), read_only(float64, 1)),
    *(read_only(int64, 1), read_only(float64, 2), read_only(float64, 2), read_only(float64, 1)),
    writable(float64, 2),
)
def _whitened_errors(
    rows: Floats,
    center: Floats,
    scale: Floats,
    horizons: NDArray[np.int64],
    coefficients: Floats,
    whitening: Floats,
    judged: Floats,
    errors: Floats,
) -> None:
    """Write the whitened error of the forecast of each row from the rows before it.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n_features)
        NaN for a missing value.
    center, scale : ndarray of shape (n_features,)
    horizons : ndarray of int of shape (n_horizons,)
        The forecast uses the means of so many last rows; ascending.
    coefficients : ndarray of shape (n_horizons * n_features, n_features)
    whitening : ndarray of shape (n_features, n_features)
        Upper triangular; row vectors are multiplied by it.
    judged : ndarray of shape (n_features,)
        1 for a sensor whose errors count, 0 for a switch.
    errors : ndarray of shape (n_rows - horizons[-1], n_features)
        Output: NaN for a row without any value, in it or in all rows before it.
    """
    n_features, longest = rows.shape[1], horizons[-1]
    n_used = coefficients.shape[0] // n_features
    scaled = np.empty(rows.shape)
    for row in range(len(rows)):
        for column in range(n_features):
            scaled[row, column] = (rows[row, column] - center[column]) / scale[column]
    total, count = np.empty(n_features), np.empty(n_features)
    before = np.empty((n_used, n_features))
    error = np.empty(n_features)
    for i in range(len(errors)):
        now, whitened = scaled[i + longest], errors[i]
        total[:] = 0.0
        count[:] = 0.0
        h = 0
        for ago in range(1, longest + 1):
            then = scaled[i + longest - ago]
            for column in range(n_features):
                value = then[column]
                known = value == value
                limited = min(max(value, -MOST_BEFORE), MOST_BEFORE)
                total[column] += limited if known else 0.0
                count[column] += 1.0 if known else 0.0
            while h < n_used and horizons[h] == ago:
                for column in range(n_features):
                    before[h, column] = total[column] / count[column]
                h += 1
        n_before, n_missing = 0.0, 0
        for column in range(n_features):
            n_before += count[column]
            n_missing += now[column] != now[column]
            error[column] = min(max(now[column], -MOST_NOW), MOST_NOW)
        if n_missing == n_features or n_before == 0.0:
            whitened[:] = np.nan
            continue
        if n_before < longest * n_features:
            _fill(before, total, count)
        for h in range(n_used):
            for column in range(n_features):
                weight = before[h, column]
                shares = coefficients[h * n_features + column]
                for other in range(n_features):
                    error[other] -= weight * shares[other]
        whitened[:] = 0.0
        for column in range(n_features):
            if judged[column] != 0.0 and now[column] == now[column]:
                shares = whitening[column]
                for other in range(column, n_features):
                    whitened[other] += error[column] * shares[other]
        if n_missing:
            # The expected errors of missing sensors given the others minimise the length.
            for _ in range(FILL_SWEEPS):
                for column in range(n_features):
                    if now[column] != now[column]:
                        shares = whitening[column]
                        along, square = 0.0, 0.0
                        for other in range(column, n_features):
                            along += shares[other] * whitened[other]
                            square += shares[other] ** 2
                        for other in range(column, n_features):
                            whitened[other] -= along / square * shares[other]


@compiled(
    *(read_only(float64, 2), int64, int64, int64, float64, writable(float64, 1)),
    fastmath=False,
)
def _accumulated(
    errors: Floats, step: int, n_rows: int, n_baseline: int, n_judged: float, scores: Floats
) -> None:
    """Write the evidence of some consecutive rows: that they are shifted, or odd one by one.

    Parameters
    ----------
    errors : ndarray of shape (n, n_features)
        Whitened errors; NaN for a row without any value.
    step : int
        Rows from the first row of a window to that of the next.
    n_rows : int
        Rows that are judged together.
    n_baseline : int
        Rows before them whose mean error is their baseline; 0 for none.
    n_judged : float
        Sensors whose errors count.
    scores : ndarray of shape ((n - n_rows - n_baseline) // step + 1,)
        Output: the larger one of two normal scores: of T² of the mean error, and of the mean
        oddness of the rows. NaN with less than half of the rows.
    """
    n_features = errors.shape[1]
    # A healthy error is hardly longer: three deviations of T².
    longest = math.sqrt(n_judged + 3.0 * math.sqrt(2.0 * n_judged))
    limited = np.empty_like(errors)
    known = np.empty(len(errors), np.bool_)
    for i in range(len(errors)):
        square = 0.0
        for column in range(n_features):
            square += errors[i, column] ** 2
        known[i] = square == square
        share = 1.0 if square <= longest * longest else longest / math.sqrt(square)
        for column in range(n_features):
            limited[i, column] = share * errors[i, column] if known[i] else 0.0
    base, mean = np.empty(n_features), np.empty(n_features)
    for i in range(len(scores)):
        base[:] = 0.0
        mean[:] = 0.0
        n_before, n_now = 0, 0
        start = i * step
        for row in range(start, start + n_baseline):
            n_before += known[row]
            for column in range(n_features):
                base[column] += limited[row, column]
        for row in range(start + n_baseline, start + n_baseline + n_rows):
            n_now += known[row]
            for column in range(n_features):
                mean[column] += limited[row, column]
        if 2 * n_now < n_rows or 2 * n_before < n_baseline:
            scores[i] = np.nan
            continue
        square = 0.0
        for column in range(n_features):
            base[column] /= max(n_before, 1)
            square += (mean[column] / n_now - base[column]) ** 2
        variance = 1.0 / n_now + (1.0 / n_before if n_baseline else 0.0)
        shifted = _normal_score(square / variance, n_judged)
        odd = 0.0
        for row in range(start + n_baseline, start + n_baseline + n_rows):
            if known[row]:
                square = 0.0
                for column in range(n_features):
                    square += (errors[row, column] - base[column]) ** 2
                odd += min(_normal_score(square, n_judged), MOST_ODD)
        scores[i] = max(shifted, odd / math.sqrt(n_now))


def whitened_errors(arrays: Arrays, params: Params, rows: Floats) -> Floats:
    """Return the whitened forecast errors of rows (n, n_features); (n - longest, n_features)."""
    rows = np.ascontiguousarray(rows, dtype=np.float64)
    horizons = np.array(params["horizons"], np.int64)
    errors = np.empty((max(len(rows) - int(horizons[-1]), 0), rows.shape[1]))
    center, scale = arrays["center"], arrays["scale"]
    fitted = arrays["coefficients"], arrays["whitening"], arrays["judged"]
    _whitened_errors(rows, center, scale, horizons, *fitted, errors)
    return errors


def scores_of_errors(arrays: Arrays, all_params: Sequence[Params], errors: Floats) -> list[Floats]:
    """Score windows of whitened errors, for each of some parameters.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        Of the model.
    all_params : sequence of mapping
        The longest span that any of them needs, accumulated rows and their baseline, is a window.
    errors : ndarray of shape (n, n_features) or (n_windows, span, n_features)
        Of consecutive rows, or of the rows of each window.

    Returns
    -------
    list of ndarray of shape (max(n - span + 1, 0),) or (n_windows,)
    """
    spans = [max(params["accumulated_rows"], 1) + params["baseline_rows"] for params in all_params]
    if errors.ndim == 3:
        return [
            _scores(arrays, params, errors[:, -span:].reshape(-1, errors.shape[2]), span)
            for params, span in zip(all_params, spans, strict=True)
        ]
    n = max(len(errors) - max(spans) + 1, 0)
    return [
        _scores(arrays, params, errors[len(errors) - n - span + 1 :] if n else errors[:0])
        for params, span in zip(all_params, spans, strict=True)
    ]


def _scores(arrays: Arrays, params: Params, errors: Floats, step: int = 1) -> Floats:
    n_rows, n_baseline = params["accumulated_rows"], params["baseline_rows"]
    if n_rows == 0:
        squares: Floats = np.square(errors).sum(axis=1)
        return squares
    scores = np.empty(max((len(errors) - n_rows - n_baseline) // step + 1, 0))
    _accumulated(errors, step, n_rows, n_baseline, float(arrays["judged"].sum()), scores)
    return scores


def raw_scores(arrays: Arrays, params: Params, windows: Floats) -> Floats:
    """Score windows of shape (n, window, n_features); shape (n,)."""
    scores = np.empty(len(windows))
    for i, rows in enumerate(windows):
        errors = whitened_errors(arrays, params, rows)
        scores[i] = scores_of_errors(arrays, [params], errors)[0][0]
    return scores


def with_step(arrays: Arrays, params: Params, rows: Floats, first: int) -> StepScorer:
    """Return a scorer of rows in which one sensor steps at row ``first``.

    The errors are a linear function of the rows, so the rows are forecast once for all steps. Of
    earlier values beyond ``MOST_BEFORE``, the limit is that of the step alone.

    Parameters
    ----------
    arrays, params : mapping
        Of a model of rows together.
    rows : ndarray of shape (n, n_features)
        Consecutive rows, without missing values.
    first : int
        The first row with the step; at least ``window - 1``.
    """
    errors = whitened_errors(arrays, params, rows)
    horizons, n_features = params["horizons"], rows.shape[1]
    longest = horizons[-1]
    n_rows, n_baseline = params["accumulated_rows"], params["baseline_rows"]
    whitening, judged = arrays["whitening"], arrays["judged"]
    coefficients = arrays["coefficients"].reshape(-1, n_features, n_features)
    # The share of the rows before that have the step already, by rows since it began.
    since = np.arange(longest + 1)
    shares = np.minimum(since[:, None] / np.array(horizons[: len(coefficients)]), 1.0)
    n_judged, at = float(judged.sum()), first - longest

    @cache
    def responses(sensor: int) -> tuple[Floats, Floats]:
        """Return the whitened error of a step by 1, and that of its share in the forecasts."""
        earlier: Floats = (judged * (shares @ coefficients[:, sensor])) @ whitening
        return judged[sensor] * whitening[sensor], earlier

    def scores(sensor: int, step: float, ends: NDArray[np.intp]) -> Floats:
        now = step / float(arrays["scale"][sensor])
        before = min(max(now, -MOST_BEFORE), MOST_BEFORE)
        own, earlier = responses(sensor)
        shift = min(max(now, -MOST_NOW), MOST_NOW) * own - before * earlier
        changed = errors.copy()
        changed[at : at + longest] += shift[: min(longest, len(errors) - at)]
        changed[at + longest :] += shift[longest]
        found = np.empty(len(ends))
        for number, end in enumerate(ends.tolist()):
            stop = at + end + 1
            part = changed[stop - n_rows - n_baseline : stop]
            _accumulated(part, 1, n_rows, n_baseline, n_judged, found[number : number + 1])
        return found

    return scores


def contributions(arrays: Arrays, params: Params, windows: Floats) -> Floats:
    """Return the part of each value in the score, shape (n, window, n_features).

    A sensor's part of T² is its error times its element of the error multiplied by the inverse
    covariance; the parts add up to T², and a fault in one sensor has all of it (Alcala and Qin).
    Where rows add up, each has the part of its own error and an equal part of their mean.
    """
    whitening = arrays["whitening"]
    unwhitening = np.linalg.inv(whitening)
    parts = np.zeros(windows.shape)
    n_rows, n_baseline = params["accumulated_rows"], params["baseline_rows"]
    last = max(n_rows, 1)

    def decomposed(whitened: Floats) -> Floats:
        products: Floats = (whitened @ unwhitening) * (whitened @ whitening.T)
        return np.maximum(products, 0.0)

    for part, rows in zip(parts, windows, strict=True):
        errors = np.nan_to_num(whitened_errors(arrays, params, rows))
        before = errors[: len(errors) - last][-n_baseline:].mean(axis=0) if n_baseline else 0.0
        now = errors[-last:] - before
        part[-last:] = decomposed(now)
        if n_rows:
            part[-last:] += last * decomposed(now.mean(axis=0))
    return parts
