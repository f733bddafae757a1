"""Isolation Forest: walks down many trees at once, for as many nodes a second as memory gives.

A walk is a chain: the next node is known only when this one has been compared. So eight walks go
on side by side, of eight rows down one tree, or of one row down eight trees, and while one waits
for memory the others compare. There is no branch to mispredict: a leaf points at itself, and every
walk has as many steps as its tree has levels.

How a forest stands in memory: ``trees.py``.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numba import boolean, float64, int32
from numpy.typing import NDArray

from app.detectors.base import Arrays, Floats
from app.detectors.kernels import FARTHEST, FARTHEST_BEYOND, trees
from app.detectors.kernels.blocks import in_blocks
from app.detectors.kernels.compiled import compiled, filled, given, part_of_kernels

Ints: TypeAlias = NDArray[np.int32]
Place: TypeAlias = Any
"""An unsigned index, for numba wraps signed ones around the end of an array, which takes time."""
Eight: TypeAlias = tuple[Any, Any, Any, Any, Any, Any, Any, Any]

BLOCK = 2048
TILE = 64
"""Rows that go down one tree together: they and the tree fit into the fastest cache."""
LARGEST = float(np.finfo(np.float32).max)
COLUMN, CHILD, LENGTH = np.uintp(trees.COLUMN), np.uintp(trees.CHILD), np.uintp(trees.LENGTH)
TWICE = np.uintp(2)


@part_of_kernels
def _next(keys: Ints, nodes: Ints, row: Place, node: Place) -> Place:
    """Return where the child begins that a row goes on to."""
    right = keys[row + np.uintp(nodes[node + COLUMN])] > nodes[node]
    return np.uintp(nodes[node + CHILD]) + (np.uintp(right) << TWICE)


@part_of_kernels
def _eight(keys: Ints, nodes: Ints, lengths: Floats, rows: Eight, at: Eight, n_steps: int) -> Eight:
    """Walk down from eight nodes, each with its row; return the path lengths at their ends."""
    r0, r1, r2, r3, r4, r5, r6, r7 = rows
    a0, a1, a2, a3, a4, a5, a6, a7 = at
    for _ in range(n_steps):
        a0 = _next(keys, nodes, r0, a0)
        a1 = _next(keys, nodes, r1, a1)
        a2 = _next(keys, nodes, r2, a2)
        a3 = _next(keys, nodes, r3, a3)
        a4 = _next(keys, nodes, r4, a4)
        a5 = _next(keys, nodes, r5, a5)
        a6 = _next(keys, nodes, r6, a6)
        a7 = _next(keys, nodes, r7, a7)
    return (
        lengths[np.uintp(nodes[a0 + LENGTH])],
        lengths[np.uintp(nodes[a1 + LENGTH])],
        lengths[np.uintp(nodes[a2 + LENGTH])],
        lengths[np.uintp(nodes[a3 + LENGTH])],
        lengths[np.uintp(nodes[a4 + LENGTH])],
        lengths[np.uintp(nodes[a5 + LENGTH])],
        lengths[np.uintp(nodes[a6 + LENGTH])],
        lengths[np.uintp(nodes[a7 + LENGTH])],
    )


# A fused product and sum would round a reading in another way than the estimator does.
@compiled(
    *(given(float64, 2), *4 * [given(float64, 1)], filled(int32, 2), filled(float64, 1)),
    returns=boolean,
    fastmath=False,
)
def _prepare(
    X: Floats,
    center: Floats,
    scale: Floats,
    box_scale: Floats,
    box_min: Floats,
    keys: Ints,
    distances: Floats,
) -> bool:
    """Make keys of rows in standard deviations, and find the rows outside the training box.

    Parameters
    ----------
    X : ndarray of shape (n, n_features)
    center, scale, box_scale, box_min : ndarray of shape (n_features,)
        A row in standard deviations, times ``box_scale`` plus ``box_min``, lies within [-1, 1]
        where it is in the box.
    keys : ndarray of int32 of shape (n, n_features + 1)
        Written: the sensors, and *beyond* of a row in the box.
    distances : ndarray of shape (n,)
        Written: how far from the middle of the box, in its half widths; NaN if a value is NaN.

    Returns
    -------
    bool
        Whether any row lies outside.
    """
    any_outside = False
    for row in range(X.shape[0]):
        distance = unknown = 0.0
        for column in range(X.shape[1]):
            scaled = (X[row, column] - center[column]) / scale[column]
            scaled = FARTHEST if scaled > FARTHEST else scaled
            scaled = -FARTHEST if scaled < -FARTHEST else scaled
            distance = max(distance, abs(scaled * box_scale[column] + box_min[column]))
            unknown += scaled - scaled
            within = LARGEST if scaled > LARGEST else scaled
            within = -LARGEST if within < -LARGEST else within
            bits = np.float32(np.float32(within) + np.float32(0.0)).view(np.int32)
            keys[row, column] = bits ^ ((bits >> np.int32(31)) & np.int32(0x7FFFFFFF))
        keys[row, X.shape[1]] = 0
        distances[row] = distance + unknown
        any_outside |= distance > 1.0
    return any_outside


@compiled(
    *(given(int32, 1), given(int32, 1), given(int32, 1), given(int32, 1), given(float64, 1)),
    *(float64, given(float64, 1), filled(float64, 1)),
    fastmath=False,
)
def _walk(
    keys: Ints,
    nodes: Ints,
    roots: Ints,
    levels: Ints,
    lengths: Floats,
    normaliser: float,
    distances: Floats,
    scores: Floats,
) -> None:
    """Write the score of each row.

    Parameters
    ----------
    keys : ndarray of int32 of shape (n * (n_features + 1),)
    nodes : ndarray of int32 of shape (4 * n_nodes,)
    roots, levels : ndarray of int32 of shape (n_trees,)
        Where in ``nodes`` a tree begins, and how many steps lead to its deepest leaf. The number
        of trees is a multiple of 8: trees of a single leaf fill up.
    lengths : ndarray of shape (n_lengths,)
    normaliser : float
        Number of trees times the mean path length of an unsuccessful search.
    distances, scores : ndarray of shape (n,)
    """
    n, n_trees = scores.shape[0], roots.shape[0]
    width = np.uintp(keys.shape[0] // max(n, 1))
    for first in range(0, n, TILE):
        last = min(first + TILE, n)
        rest = last - (last - first) % 8
        for row in range(first, last):
            scores[row] = 0.0
        for tree in range(n_trees):
            root = np.uintp(roots[tree])
            for row in range(first, rest, 8):
                r0 = np.uintp(row) * width
                r1 = r0 + width
                r2 = r1 + width
                r3 = r2 + width
                r4 = r3 + width
                r5 = r4 + width
                r6 = r5 + width
                rows = (r0, r1, r2, r3, r4, r5, r6, r6 + width)
                at = (root, root, root, root, root, root, root, root)
                ends = _eight(keys, nodes, lengths, rows, at, levels[tree])
                scores[row] += ends[0]
                scores[row + 1] += ends[1]
                scores[row + 2] += ends[2]
                scores[row + 3] += ends[3]
                scores[row + 4] += ends[4]
                scores[row + 5] += ends[5]
                scores[row + 6] += ends[6]
                scores[row + 7] += ends[7]
        for row in range(rest, last):
            r = np.uintp(row) * width
            rows = (r, r, r, r, r, r, r, r)
            total = 0.0
            for tree in range(0, n_trees, 8):
                r0 = np.uintp(roots[tree])
                r1 = np.uintp(roots[tree + 1])
                r2 = np.uintp(roots[tree + 2])
                r3 = np.uintp(roots[tree + 3])
                r4 = np.uintp(roots[tree + 4])
                r5 = np.uintp(roots[tree + 5])
                r6 = np.uintp(roots[tree + 6])
                at = (r0, r1, r2, r3, r4, r5, r6, np.uintp(roots[tree + 7]))
                n_steps = levels[tree]
                for other in range(tree + 1, tree + 8):
                    n_steps = max(n_steps, levels[other])
                ends = _eight(keys, nodes, lengths, rows, at, n_steps)
                total = total + ends[0] + ends[1] + ends[2] + ends[3]
                total = total + ends[4] + ends[5] + ends[6] + ends[7]
            scores[row] = total
        for row in range(first, last):
            unknown = distances[row] != distances[row]
            scores[row] = np.nan if unknown else 2.0 ** (-scores[row] / normaliser) - 0.5


def raw_scores(arrays: Arrays, X: Floats) -> Floats:
    """Return ``2 ** (-mean path length / c) - 0.5`` for rows of shape (n_samples, n_features)."""
    n_features = X.shape[1]
    scores = np.empty(len(X))
    # Averages have no box: a width of nothing, in which every row lies.
    nowhere = np.zeros(n_features)
    box_scale, box_min = arrays.get("box_scale", nowhere), arrays.get("box_min", nowhere)
    center, scale, nodes = arrays["center"], arrays["scale"], arrays["nodes"].reshape(-1)
    roots, levels, lengths = arrays["roots"], arrays["levels"], arrays["lengths"]
    normaliser = float(arrays["normaliser"][0])

    def work(start: int, stop: int) -> None:
        keys = np.empty((stop - start, n_features + 1), np.int32)
        distances = np.empty(stop - start)
        if _prepare(X[start:stop], center, scale, box_scale, box_min, keys, distances):
            # By numpy's own logarithm, as in the estimator.
            outside = np.flatnonzero(distances > 1.0)
            beyond = np.square(np.log(np.minimum(distances[outside], FARTHEST_BEYOND)))
            keys[outside, n_features] = trees.as_keys(beyond)
        flat = keys.reshape(-1)
        _walk(flat, nodes, roots, levels, lengths, normaliser, distances, scores[start:stop])

    in_blocks(work, len(X), BLOCK)
    return scores
