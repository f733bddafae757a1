"""The held-out parts of a calibration: contiguous blocks, or shorter pieces where those are blind.

Contiguous blocks let the drift from block to block count as healthy. They are blind where a mode of
operation fills a block: held out, it is unlike all other rows, so its scores are enormous, and no
fault is odd any more. Then the parts are made of pieces spread over the whole recording.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from vigie.detectors.base import Floats, standardisation

Parts = list[list[tuple[int, int]]]
"""For each fold, the stretches of rows that it holds out: (start, stop)."""

PIECES = 8
"""Pieces of each part, where blocks are blind."""
NEIGHBOURS = 3
"""The distance of a row is that to its third nearest neighbour; two may be chance."""
MOST_COMPARED = 2048
"""Most rows that are compared with each other."""
STRETCH = 0.25
"""Share of a block that a mode fills at least, to be seen."""
ORDINARY, LEAST = 99.5, 10.0
"""A stretch is apart if its least distances (percentile) are beyond ordinary ones (percentile)."""
APART = 1.5
"""... by this factor. Healthy recordings with drift, seasons or mixed modes stay below 1.35, with
a mode of their own in a block they are above 2.2; see ``docs/concepts/scores.md``."""


def blocks(n_rows: int, folds: int) -> Parts:
    """Return contiguous blocks."""
    edges = np.linspace(0, n_rows, folds + 1).astype(int).tolist()
    return [[stretch] for stretch in pairwise(edges)]


def pieces(n_rows: int, folds: int) -> Parts:
    """Return parts of ``PIECES`` pieces each, in turn."""
    edges = np.linspace(0, n_rows, folds * PIECES + 1).astype(int).tolist()
    stretches = list(pairwise(edges))
    return [stretches[fold::folds] for fold in range(folds)]


def are_blind(X: Floats, folds: int) -> bool:
    """Return whether a block holds rows that are unlike those of all other blocks.

    The distance of each row to its nearest rows in other blocks is compared with that to its
    nearest rows in other ``pieces``, some of which are close by in time. Under drift, both are
    alike; in a mode of its own, a whole stretch of rows has no neighbours at all.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        Rows in time order.
    folds : int
        Number of blocks.
    """
    every = -(-len(X) // MOST_COMPARED)
    rows = X[::every]
    center, scale = standardisation(rows)
    scaled = (rows - center) / scale
    squares = np.square(scaled).sum(axis=1)
    distances = squares[:, None] + squares - 2.0 * scaled @ scaled.T
    n = len(rows)
    apart = _nearest(distances, _numbers(blocks(n, folds), n))
    ordinary = np.percentile(_nearest(distances, _numbers(pieces(n, folds), n)), ORDINARY)
    length = max(int(STRETCH * n / folds), 1)
    starts = range(0, n - length + 1, max(length // 4, 1))
    least = [float(np.percentile(apart[i : i + length], LEAST)) for i in starts]
    return bool(max(least) > APART * ordinary)


def _numbers(parts: Parts, n_rows: int) -> NDArray[np.intp]:
    """Return the number of the part that holds out each row, shape (n_rows,)."""
    numbers = np.empty(n_rows, np.intp)
    for number, stretches in enumerate(parts):
        for start, stop in stretches:
            numbers[start:stop] = number
    return numbers


def _nearest(squares: Floats, numbers: NDArray[np.intp]) -> Floats:
    """Return the distance of each row to its nearest rows in other parts, shape (n_rows,)."""
    others = np.where(numbers[:, None] == numbers, np.inf, squares)
    k = min(NEIGHBOURS, len(others)) - 1
    nearest: Floats = np.sqrt(np.maximum(np.partition(others, k, axis=1)[:, k], 0.0))
    return nearest
