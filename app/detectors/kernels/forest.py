"""Isolation Forest: walks down many trees at once, for as many nodes a second as memory gives.

A walk is a chain: the next node is known only when this one has been compared. So eight walks go
on side by side, of eight rows down one tree, or of one row down eight trees, and while one waits
for memory the others compare. There is no branch to mispredict: a leaf points at itself, and every
walk has as many steps as its tree has levels.

Many rows go down a tree as a tile, and are spared steps in one of two ways:

- Neighbours in time are alike, averages of them all the more. A box around a few of them walks in
  their place, for as long as no cut goes through it; mostly that is down to a leaf.
- Where they are not, the first levels of a tree, its crown, are so few nodes that all rows are
  compared with all of them: no step waits for another, and vector instructions do eight at once.

Whatever the way, a row ends in the same leaves, and what stands there is added up tree by tree.

How a forest stands in memory: ``trees.py``.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numba import boolean, float64, int32, int64, uint8, uint16
from numpy.typing import NDArray

from app.detectors.base import Arrays, Floats
from app.detectors.kernels import FARTHEST, FARTHEST_BEYOND, trees
from app.detectors.kernels.blocks import in_blocks
from app.detectors.kernels.compiled import compiled, filled, given, part_of_kernels

Ints: TypeAlias = NDArray[np.int32]
Keys: TypeAlias = NDArray[np.int32]
Packed: TypeAlias = NDArray[np.int64]
Place: TypeAlias = Any
"""An unsigned index, for numba wraps signed ones around the end of an array, which takes time."""
Eight: TypeAlias = tuple[Any, Any, Any, Any, Any, Any, Any, Any]

BLOCK = 2048
TILE, TOGETHER = 128, 8
"""Rows that go down one tree together, all and side by side: they fit into the fastest cache."""
BOX = 16
"""Neighbouring rows that a box goes around; a tile is eight boxes."""
N_BOXES = TILE // BOX
CROWN = 4
"""Levels of a tree in its crown."""
FEW = 24
"""Fewer rows are not worth a tile."""
TRIALS = 8
"""Trees after which a tile goes on with boxes or without them."""
LARGEST = float(np.finfo(np.float32).max)
COLUMN, CHILD, LENGTH = np.uintp(trees.COLUMN), np.uintp(trees.CHILD), np.uintp(trees.LENGTH)
TWICE = np.uintp(2)
CHILD_BITS, CUT_BITS = np.int64(16), np.int64(32)


@part_of_kernels
def _next(keys: Ints, nodes: Ints, row: Place, node: Place) -> Place:
    """Return where the child begins that a row goes on to."""
    right = keys[row + np.uintp(nodes[node + COLUMN])] > nodes[node]
    return np.uintp(nodes[node + CHILD]) + (np.uintp(right) << TWICE)


@part_of_kernels
def _next_in_tile(tile: Keys, nodes: Packed, row: Place, node: Place) -> Place:
    """Return the child that a row of a tile goes on to."""
    packed = nodes[node]
    right = tile[np.uintp(np.uint16(packed)) + row] > np.int32(packed >> CUT_BITS)
    return np.uintp(np.uint16(packed >> CHILD_BITS)) + np.uintp(right)


@part_of_kernels
def _next_of_box(low: Keys, high: Keys, nodes: Packed, box: Place, node: Place) -> Place:
    """Return the child that a box goes on to; a cut that goes through it holds it."""
    packed = nodes[node]
    cut = np.int32(packed >> CUT_BITS)
    place = np.uintp(np.uint16(packed)) // np.uintp(BOX) + box
    right = low[place] > cut
    child = np.uintp(np.uint16(packed >> CHILD_BITS)) + np.uintp(right)
    return child if right == (high[place] > cut) else node


@part_of_kernels
def _eight(keys: Ints, nodes: Ints, rows: Eight, at: Eight, n_steps: int) -> Eight:
    """Walk down from eight nodes, each with its row; return the nodes at which they end."""
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
    return a0, a1, a2, a3, a4, a5, a6, a7


@part_of_kernels
def _eight_in_tile(tile: Keys, nodes: Packed, row: Place, at: Eight, n_steps: int) -> Eight:
    """Walk down with eight rows of a tile, the first of which is given; see ``_eight``."""
    r1, r2, r3, r4 = row + np.uintp(1), row + np.uintp(2), row + np.uintp(3), row + np.uintp(4)
    r5, r6, r7 = row + np.uintp(5), row + np.uintp(6), row + np.uintp(7)
    a0, a1, a2, a3, a4, a5, a6, a7 = at
    for _ in range(n_steps):
        a0 = _next_in_tile(tile, nodes, row, a0)
        a1 = _next_in_tile(tile, nodes, r1, a1)
        a2 = _next_in_tile(tile, nodes, r2, a2)
        a3 = _next_in_tile(tile, nodes, r3, a3)
        a4 = _next_in_tile(tile, nodes, r4, a4)
        a5 = _next_in_tile(tile, nodes, r5, a5)
        a6 = _next_in_tile(tile, nodes, r6, a6)
        a7 = _next_in_tile(tile, nodes, r7, a7)
    return a0, a1, a2, a3, a4, a5, a6, a7


@part_of_kernels
def _eight_boxes(low: Ints, high: Ints, nodes: Packed, n_steps: int) -> Eight:
    """Walk down a tree with eight boxes; return the nodes at which they end."""
    b0 = np.uintp(0)
    b1, b2, b3, b4 = np.uintp(1), np.uintp(2), np.uintp(3), np.uintp(4)
    b5, b6, b7 = np.uintp(5), np.uintp(6), np.uintp(7)
    a0 = a1 = a2 = a3 = a4 = a5 = a6 = a7 = b0
    for _ in range(n_steps):
        a0 = _next_of_box(low, high, nodes, b0, a0)
        a1 = _next_of_box(low, high, nodes, b1, a1)
        a2 = _next_of_box(low, high, nodes, b2, a2)
        a3 = _next_of_box(low, high, nodes, b3, a3)
        a4 = _next_of_box(low, high, nodes, b4, a4)
        a5 = _next_of_box(low, high, nodes, b5, a5)
        a6 = _next_of_box(low, high, nodes, b6, a6)
        a7 = _next_of_box(low, high, nodes, b7, a7)
    return a0, a1, a2, a3, a4, a5, a6, a7


@part_of_kernels
def _through_crown(tile: Keys, cuts: Ints, columns: Ints, ends: Ints, at: Ints) -> None:
    """Write the nodes below the crown of a tree at which the rows of a tile come out."""
    x0, k0 = tile[columns[0]], cuts[0]
    x1, k1 = tile[columns[1]], cuts[1]
    x2, k2 = tile[columns[2]], cuts[2]
    x3, k3 = tile[columns[3]], cuts[3]
    x4, k4 = tile[columns[4]], cuts[4]
    x5, k5 = tile[columns[5]], cuts[5]
    x6, k6 = tile[columns[6]], cuts[6]
    x7, k7 = tile[columns[7]], cuts[7]
    x8, k8 = tile[columns[8]], cuts[8]
    x9, k9 = tile[columns[9]], cuts[9]
    x10, k10 = tile[columns[10]], cuts[10]
    x11, k11 = tile[columns[11]], cuts[11]
    x12, k12 = tile[columns[12]], cuts[12]
    x13, k13 = tile[columns[13]], cuts[13]
    x14, k14 = tile[columns[14]], cuts[14]
    e0, e1, e2, e3, e4, e5, e6, e7 = (
        ends[0],
        ends[1],
        ends[2],
        ends[3],
        ends[4],
        ends[5],
        ends[6],
        ends[7],
    )
    e8, e9, e10, e11, e12, e13, e14, e15 = (
        ends[8],
        ends[9],
        ends[10],
        ends[11],
        ends[12],
        ends[13],
        ends[14],
        ends[15],
    )
    for row in range(TILE):
        p14 = e15 if x14[row] > k14 else e14
        p13 = e13 if x13[row] > k13 else e12
        p12 = e11 if x12[row] > k12 else e10
        p11 = e9 if x11[row] > k11 else e8
        p10 = e7 if x10[row] > k10 else e6
        p9 = e5 if x9[row] > k9 else e4
        p8 = e3 if x8[row] > k8 else e2
        p7 = e1 if x7[row] > k7 else e0
        p6 = p14 if x6[row] > k6 else p13
        p5 = p12 if x5[row] > k5 else p11
        p4 = p10 if x4[row] > k4 else p9
        p3 = p8 if x3[row] > k3 else p7
        p2 = p6 if x2[row] > k2 else p5
        p1 = p4 if x1[row] > k1 else p3
        p0 = p2 if x0[row] > k0 else p1
        at[row] = p0


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


@part_of_kernels
def _score(length: float, normaliser: float, distance: float) -> float:
    """Return the score of a row by the sum of its path lengths; NaN if a value is NaN."""
    return np.nan if distance != distance else 2.0 ** (-length / normaliser) - 0.5


@part_of_kernels
def _eight_from(nodes: Ints, first: Place) -> Eight:
    """Return the nodes that stand in eight places."""
    return (
        np.uintp(nodes[first]),
        np.uintp(nodes[first + np.uintp(1)]),
        np.uintp(nodes[first + np.uintp(2)]),
        np.uintp(nodes[first + np.uintp(3)]),
        np.uintp(nodes[first + np.uintp(4)]),
        np.uintp(nodes[first + np.uintp(5)]),
        np.uintp(nodes[first + np.uintp(6)]),
        np.uintp(nodes[first + np.uintp(7)]),
    )


@compiled(
    *(given(int32, 2), given(int32, 1), given(int32, 1), given(int32, 1), given(float64, 1)),
    *(float64, given(float64, 1), filled(float64, 1)),
    fastmath=False,
)
def _walk_alone(
    keys: Keys,
    nodes: Ints,
    roots: Ints,
    levels: Ints,
    lengths: Floats,
    normaliser: float,
    distances: Floats,
    scores: Floats,
) -> None:
    """Write the score of each row, one row after the other.

    Parameters
    ----------
    keys : ndarray of int32 of shape (n, n_features + 1)
    nodes : ndarray of int32 of shape (4 * n_nodes,)
    roots, levels : ndarray of int32 of shape (n_trees,)
        Where in ``nodes`` a tree begins, and how many steps lead to its deepest leaf. The number
        of trees is a multiple of 8: trees of a single leaf fill up.
    lengths : ndarray of shape (n_lengths,)
    normaliser : float
        Number of trees times the mean path length of an unsuccessful search.
    distances, scores : ndarray of shape (n,)
    """
    r = np.uintp(0)
    for row in range(len(scores)):
        total = 0.0
        for tree in range(0, len(roots), TOGETHER):
            n_steps = levels[tree]
            for other in range(tree + 1, tree + TOGETHER):
                n_steps = max(n_steps, levels[other])
            at = _eight_from(roots, np.uintp(tree))
            ends = _eight(keys[row], nodes, (r, r, r, r, r, r, r, r), at, n_steps)
            total = total + lengths[np.uintp(nodes[ends[0] + LENGTH])]
            total = total + lengths[np.uintp(nodes[ends[1] + LENGTH])]
            total = total + lengths[np.uintp(nodes[ends[2] + LENGTH])]
            total = total + lengths[np.uintp(nodes[ends[3] + LENGTH])]
            total = total + lengths[np.uintp(nodes[ends[4] + LENGTH])]
            total = total + lengths[np.uintp(nodes[ends[5] + LENGTH])]
            total = total + lengths[np.uintp(nodes[ends[6] + LENGTH])]
            total = total + lengths[np.uintp(nodes[ends[7] + LENGTH])]
        scores[row] = _score(total, normaliser, distances[row])


@part_of_kernels
def _add_walks(
    tile: Keys,
    nodes: Packed,
    lengths: Floats,
    which: Any,
    at: Ints,
    todo: Any,
    n_steps: Ints,
    sums: Floats,
) -> None:
    """Walk down with rows of a tile from where they are, and add the path lengths at their ends.

    Eight at a time, the first of which is in ``todo``; each time so many steps.
    """
    for turn in range(len(todo)):
        r0 = todo[turn]
        ends = _eight_in_tile(tile, nodes, r0, _eight_from(at, r0), n_steps[turn])
        sums[r0] += lengths[which[ends[0]]]
        sums[r0 + np.uintp(1)] += lengths[which[ends[1]]]
        sums[r0 + np.uintp(2)] += lengths[which[ends[2]]]
        sums[r0 + np.uintp(3)] += lengths[which[ends[3]]]
        sums[r0 + np.uintp(4)] += lengths[which[ends[4]]]
        sums[r0 + np.uintp(5)] += lengths[which[ends[5]]]
        sums[r0 + np.uintp(6)] += lengths[which[ends[6]]]
        sums[r0 + np.uintp(7)] += lengths[which[ends[7]]]


@part_of_kernels
def _spread(held: Eight, at: Ints) -> None:
    """Write the node of each box where its first row stands."""
    h0, h1, h2, h3, h4, h5, h6, h7 = held
    at[0], at[BOX], at[2 * BOX], at[3 * BOX] = h0, h1, h2, h3
    at[4 * BOX], at[5 * BOX], at[6 * BOX], at[7 * BOX] = h4, h5, h6, h7


@part_of_kernels
def _fill_tile(keys: Keys, first: int, tile: Keys, low: Keys, high: Keys) -> None:
    """Write the keys of a tile by column, the last row filling up, and the boxes around them."""
    for row in range(TILE):
        same = min(first + row, len(keys) - 1)
        for column in range(keys.shape[1]):
            tile[column, row] = keys[same, column]
    for column in range(keys.shape[1]):
        for box in range(N_BOXES):
            least = most = tile[column, box * BOX]
            for row in range(box * BOX + 1, (box + 1) * BOX):
                least, most = min(least, tile[column, row]), max(most, tile[column, row])
            low[column * N_BOXES + box], high[column * N_BOXES + box] = least, most


@compiled(
    *(given(int32, 2), given(int64, 1), given(uint16, 1), given(uint8, 1), given(int32, 1)),
    *(given(float64, 1), *3 * [given(int32, 2)], float64, given(float64, 1), filled(float64, 1)),
    fastmath=False,
)
def _walk_in_tiles(
    keys: Keys,
    nodes: Packed,
    which: NDArray[np.uint16],
    heights: NDArray[np.uint8],
    starts: Ints,
    lengths: Floats,
    cuts: Keys,
    columns: Ints,
    ends: Ints,
    normaliser: float,
    distances: Floats,
    scores: Floats,
) -> None:
    """Write the score of each row; for the parameters see ``Grove`` and ``_walk_alone``."""
    n, width = keys.shape
    tile = np.empty((width, TILE), np.int32)
    low, high = np.empty(width * N_BOXES, np.int32), np.empty(width * N_BOXES, np.int32)
    at, sums = np.empty(TILE, np.int32), np.empty(TILE)
    todo, n_steps = np.empty(TILE // TOGETHER, np.uintp), np.empty(TILE // TOGETHER, np.int32)
    flat = tile.reshape(-1)
    for first in range(0, n, TILE):
        n_rows = min(TILE, n - first)
        _fill_tile(keys, first, tile, low, high)
        sums[:] = 0.0
        whole = 0
        for tree in range(len(starts) - 1):
            start, stop = starts[tree], starts[tree + 1]
            own, own_which, own_heights = nodes[start:stop], which[start:stop], heights[start:stop]
            n_todo = 0
            if tree < TRIALS or 4 * whole > tree * N_BOXES:
                _spread(_eight_boxes(low, high, own, own_heights[0]), at)
                for box in range(0, n_rows, BOX):
                    node = np.uintp(at[box])
                    if own_heights[node] == 0:
                        whole += 1
                        length = lengths[own_which[node]]
                        for row in range(box, box + BOX):
                            sums[row] += length
                    else:
                        for row in range(box, box + BOX):
                            at[row] = at[box]
                        for row in range(box, min(box + BOX, n_rows), TOGETHER):
                            todo[n_todo], n_steps[n_todo] = row, own_heights[node]
                            n_todo += 1
            else:
                _through_crown(tile, cuts[tree], columns[tree], ends[tree], at)
                for row in range(0, n_rows, TOGETHER):
                    todo[n_todo], n_steps[n_todo] = row, own_heights[0] - CROWN
                    n_todo += 1
            _add_walks(flat, own, lengths, own_which, at, todo[:n_todo], n_steps, sums)
        for row in range(n_rows):
            scores[first + row] = _score(sums[row], normaliser, distances[first + row])


@compiled(given(int32, 1), filled(uint8, 1), fastmath=False)
def _measure_heights(nodes: Ints, heights: NDArray[np.uint8]) -> None:
    """Write for each node how many steps lead from it to the deepest leaf below."""
    # Children stand behind their parents.
    for node in range(len(heights) - 1, -1, -1):
        child = nodes[trees.PER_NODE * node + trees.CHILD] // trees.PER_NODE
        heights[node] = 0 if child == node else 1 + max(heights[child], heights[child + 1])


@dataclass(frozen=True)
class Grove:
    """A forest prepared for many rows: half as large, so that more of it is near.

    Attributes
    ----------
    nodes : ndarray of int64 of shape (n_nodes,)
        From the highest bits on: the cut, in 32; the left child, in 16, counted from the root of
        its tree; where in a tile the column begins, in 16.
    which : ndarray of uint16 of shape (n_nodes,)
        Which of ``lengths`` ends at each node.
    heights : ndarray of uint8 of shape (n_nodes,)
        How many steps lead from a node to the deepest leaf below.
    starts : ndarray of int32 of shape (n_trees + 1,)
        The first node of each tree; the last number is where they all end.
    lengths : ndarray of shape (n_lengths,)
    cuts, columns : ndarray of int32 of shape (n_trees, 15)
        Of the nodes in each crown: the root, its children, theirs, from left to right. Where a
        leaf has no children, it stands in place of both.
    ends : ndarray of int32 of shape (n_trees, 16)
        The children of the last of them, counted from the root.
    """

    nodes: Packed
    which: NDArray[np.uint16]
    heights: NDArray[np.uint8]
    starts: Ints
    lengths: Floats
    cuts: Keys
    columns: Ints
    ends: Ints

    @classmethod
    def of(cls, arrays: Arrays) -> Grove | None:
        """Prepare a forest as ``trees.py`` has it; None if its numbers are too large for that."""
        cut, column, child, which = arrays["nodes"].T
        child = child // trees.PER_NODE
        # The trees that fill up are one leaf.
        roots = np.unique(arrays["roots"]) // trees.PER_NODE
        starts = np.append(roots, len(cut)).astype(np.int32)
        sizes = np.diff(starts)
        root = np.repeat(roots, sizes)
        offset = child - root
        largest = max(sizes.max(), TILE * (column.max() + 1), len(arrays["lengths"]))
        in_order = arrays["roots"][: len(roots)] == trees.PER_NODE * roots
        if not (in_order.all() and roots[0] == 0 and (offset < np.repeat(sizes, sizes)).all()):
            return None
        if largest > np.iinfo(np.uint16).max or arrays["levels"].max() > np.iinfo(np.uint8).max:
            return None
        heights = np.empty(len(cut), np.uint8)
        _measure_heights(arrays["nodes"].reshape(-1), heights)
        packed = cut.astype(np.int64) << 32 | offset.astype(np.int64) << 16 | TILE * column
        levels = [starts[:-1, None]]
        for _ in range(CROWN):
            left = child[levels[-1]]
            right = left + (left != levels[-1])
            levels.append(np.stack([left, right], axis=2).reshape(len(left), -1))
        crown = np.concatenate(levels[:-1], axis=1)
        ends = levels[-1] - starts[:-1, None]
        return cls(
            nodes=packed,
            which=which.astype(np.uint16),
            heights=heights,
            starts=starts,
            lengths=arrays["lengths"],
            cuts=cut[crown],
            columns=column[crown],
            ends=ends.astype(np.int32),
        )


_groves: dict[int, Grove | None] = {}


def _grove(arrays: Arrays) -> Grove | None:
    """Return a forest prepared for many rows; it is kept for as long as the forest is."""
    nodes = arrays["nodes"]
    if id(nodes) not in _groves:
        _groves[id(nodes)] = Grove.of(arrays)
        weakref.finalize(nodes, _groves.pop, id(nodes), None)
    return _groves[id(nodes)]


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
    grove = _grove(arrays) if len(X) >= FEW else None

    def work(start: int, stop: int) -> None:
        keys = np.empty((stop - start, n_features + 1), np.int32)
        distances = np.empty(stop - start)
        if _prepare(X[start:stop], center, scale, box_scale, box_min, keys, distances):
            # By numpy's own logarithm, as in the estimator.
            outside = np.flatnonzero(distances > 1.0)
            beyond = np.square(np.log(np.minimum(distances[outside], FARTHEST_BEYOND)))
            keys[outside, n_features] = trees.as_keys(beyond)
        found = normaliser, distances, scores[start:stop]
        if grove is None:
            _walk_alone(keys, nodes, roots, levels, lengths, *found)
        else:
            packed = grove.nodes, grove.which, grove.heights, grove.starts, grove.lengths
            crowns = grove.cuts, grove.columns, grove.ends
            _walk_in_tiles(keys, *packed, *crowns, *found)

    in_blocks(work, len(X), BLOCK)
    return scores
