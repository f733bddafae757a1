"""Scoring of a One-Class SVM: the kernel function, vectorised over support vectors.

Distances are sums of squared differences, as in libsvm. The expansion as a matrix product,
``|x|² + |s|² - 2 x·s``, cancels catastrophically for a row close to a support vector, and is no
faster: with few columns, the exponential dominates.

Support vectors are stored as (n_features, n_support_vectors), so that the values of a sensor are
contiguous.
"""

from __future__ import annotations

import numpy as np
from numba import float64, int64

from vigie.detectors.base import FARTHEST, Arrays, Floats
from vigie.detectors.compiled.blocks import in_blocks
from vigie.detectors.compiled.compiler import compiled, read_only, writable
from vigie.detectors.compiled.functions import exp, tanh

BLOCK = 256
TILE = 256
"""Support vectors that a block of rows is compared with at a time, to stay in the cache."""
RBF, LINEAR, POLY, SIGMOID = range(4)
KERNELS = {"rbf": RBF, "linear": LINEAR, "poly": POLY, "sigmoid": SIGMOID}


# Reassociation is safe here: the order of the sum over a tile is the same for every row.
@compiled(
    *(
        read_only(float64, 2),
        *2 * [read_only(float64, 1)],
        read_only(float64, 2),
        read_only(float64, 1),
    ),
    *(float64, float64, int64, writable(float64, 2), writable(float64, 1)),
    fastmath={"contract", "reassoc", "nsz"},
)
def _decision_function(
    X: Floats,
    center: Floats,
    scale: Floats,
    support: Floats,
    coefficients: Floats,
    gamma: float,
    intercept: float,
    kernel: int,
    scaled: Floats,
    scores: Floats,
) -> None:
    """Write the negated decision function of each row.

    Parameters
    ----------
    X : ndarray of shape (n, n_features)
    center, scale : ndarray of shape (n_features,)
    support : ndarray of shape (n_features, n_support_vectors)
    coefficients : ndarray of shape (n_support_vectors,)
    gamma, intercept : float
    kernel : int
        RBF, LINEAR, POLY or SIGMOID.
    scaled : ndarray of shape (n, n_features)
        Output: the standardised rows.
    scores : ndarray of shape (n,)
        Output.
    """
    n, n_features = X.shape
    n_vectors = support.shape[1]
    products = np.empty(TILE)
    for row in range(n):
        scores[row] = -intercept
        for column in range(n_features):
            value = (X[row, column] - center[column]) / scale[column]
            value = FARTHEST if value > FARTHEST else value
            scaled[row, column] = -FARTHEST if value < -FARTHEST else value
    whole = n_features - n_features % 4
    for first in range(0, n_vectors, TILE):
        m = min(TILE, n_vectors - first)
        weights = coefficients[first : first + m]
        for row in range(n):
            products[:m] = 0.0
            for column in range(0, whole, 4):
                a, b = scaled[row, column], scaled[row, column + 1]
                c, d = scaled[row, column + 2], scaled[row, column + 3]
                sa = support[column, first : first + m]
                sb = support[column + 1, first : first + m]
                sc = support[column + 2, first : first + m]
                sd = support[column + 3, first : first + m]
                if kernel == RBF:
                    for j in range(m):
                        products[j] += (
                            (a - sa[j]) ** 2
                            + (b - sb[j]) ** 2
                            + ((c - sc[j]) ** 2 + (d - sd[j]) ** 2)
                        )
                else:
                    for j in range(m):
                        products[j] += a * sa[j] + b * sb[j] + (c * sc[j] + d * sd[j])
            for column in range(whole, n_features):
                a, sa = scaled[row, column], support[column, first : first + m]
                if kernel == RBF:
                    for j in range(m):
                        products[j] += (a - sa[j]) ** 2
                else:
                    for j in range(m):
                        products[j] += a * sa[j]
            total = 0.0
            if kernel == RBF:
                for j in range(m):
                    total += weights[j] * exp(-gamma * products[j])
            elif kernel == LINEAR:
                for j in range(m):
                    total += weights[j] * products[j]
            elif kernel == POLY:
                for j in range(m):
                    # The cube must stay finite.
                    product = min(max(gamma * products[j], -FARTHEST), FARTHEST)
                    total += weights[j] * (product * product * product)
            else:
                for j in range(m):
                    total += weights[j] * tanh(gamma * products[j])
            scores[row] -= total


@compiled(read_only(float64, 2), read_only(float64, 2), float64, writable(float64, 2))
def _fill_gram_matrix(rows: Floats, columns: Floats, gamma: float, matrix: Floats) -> None:
    n, n_features = rows.shape
    for first in range(0, n, TILE):
        m = min(TILE, n - first)
        for row in range(n):
            products = matrix[row, first : first + m]
            products[:] = 0.0
            for column in range(n_features):
                a, others = rows[row, column], columns[column, first : first + m]
                for j in range(m):
                    products[j] += (a - others[j]) ** 2
            for j in range(m):
                products[j] = exp(-gamma * products[j])


def gram_matrix(rows: Floats, gamma: float) -> Floats:
    """Return the RBF kernel of all pairs of scaled rows, shape (n_samples, n_samples)."""
    rows = np.ascontiguousarray(rows)
    matrix = np.empty((len(rows), len(rows)))
    _fill_gram_matrix(rows, rows.T.copy(), gamma, matrix)
    return matrix


def raw_scores(arrays: Arrays, kernel: str, X: Floats) -> Floats:
    """Return the negated decision function for rows of shape (n_samples, n_features)."""
    scores = np.empty(len(X))
    center, scale = arrays["center"], arrays["scale"]
    support, coefficients = arrays["support_vectors"], arrays["dual_coef"]
    gamma, intercept = float(arrays["gamma"][0]), float(arrays["intercept"][0])

    def work(start: int, stop: int) -> None:
        rows = X[start:stop]
        scaled = np.empty(rows.shape)
        _decision_function(
            *(rows, center, scale, support, coefficients, gamma, intercept, KERNELS[kernel]),
            *(scaled, scores[start:stop]),
        )

    in_blocks(work, len(X), BLOCK)
    return scores
