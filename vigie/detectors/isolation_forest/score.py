"""Isolation Forest: walks down many trees at once, for as many nodes a second as memory gives.

A walk is a chain: the next node is known only when this one has been compared. So eight walks go
on side by side, of eight rows down one tree, or of one row down eight trees, and while one waits
for memory the others compare. There is no branch to mispredict: a leaf points at itself, and every
walk has as many steps as its tree has levels.

Many rows are spared these steps in one of two ways:

- Neighbours in time are alike, averages of them all the more. A box around a few of them walks in
  their place, for as long as no cut goes through it; mostly that is down to a leaf.
- Where they are not, 256 of them go together, a bit for each: at a node, those beyond its cut turn
  right and the others left, which is two instructions for all of them, whether any are there or
  not. Which rows are beyond which cut is found out column by column, for all trees at once, by
  where their values lie among the sorted cuts.

Whatever the way, a row ends in the same leaves, and what stands there is added up tree by tree.

How a forest stands in memory: ``nodes.py``.

References
----------
Lucchese et al. QuickScorer: a fast algorithm to rank documents with additive ensembles of
regression trees. SIGIR 2015 (cuts sorted by column, and sets as bits; there of leaves, for a row).
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numba import boolean, float64, int32, int64, uint8, uint16
from numpy.typing import NDArray

from vigie.detectors.base import FARTHEST, Arrays, Floats
from vigie.detectors.compiled.blocks import in_blocks
from vigie.detectors.compiled.compiler import compiled, filled, given, part_of_kernels
from vigie.detectors.isolation_forest import nodes as trees
from vigie.detectors.isolation_forest.nodes import FARTHEST_BEYOND

Ints: TypeAlias = NDArray[np.int32]
Keys: TypeAlias = NDArray[np.int32]
Packed: TypeAlias = NDArray[np.int64]
Bits: TypeAlias = NDArray[np.uint64]
Place: TypeAlias = Any
"""An unsigned index, for numba wraps signed ones around the end of an array, which takes time."""
Eight: TypeAlias = tuple[Any, Any, Any, Any, Any, Any, Any, Any]

BLOCK = 2048
TILE, TOGETHER = 128, 8
"""Rows that go down one tree together, all and side by side: they fit into the fastest cache."""
BOX = 16
"""Neighbouring rows that a box goes around; a tile is eight boxes."""
N_BOXES = TILE // BOX
FEW = 24
"""Fewer rows are not worth a tile."""
TRIALS = 8
"""Trees that tell whether rows are alike enough for boxes."""
ROW_BATCH = 2 * TILE
"""Rows that go through the top levels of a tree together."""
WORD = 64
WORDS = ROW_BATCH // WORD
"""Whole numbers that hold a bit for each of them."""
MANY = 104
"""Fewer rows are not worth a batch."""
TOP_LEVELS, FEWER_TOP_LEVELS = 10, 6
"""Levels in the top of a tree: all, if no tree of the forest has more than ten; else only the
first six, for with each level there are twice as many nodes, and only one more step."""
BELOW = (1 << TOP_LEVELS) - 1
"""Stands for what is no inner node of a top, which has one less at most."""
EACH_BIT = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")
SPREAD = EACH_BIT.view(np.uint64).reshape(-1)
"""The eight bits of each byte, as the lowest ones of eight bytes."""
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
def _count_below(own: Keys, cuts: Keys, first: Place, stop: Place, counts: Ints) -> None:
    """Write for each key of a column how many of its cuts, in ascending order, are below.

    A binary search without branches; all rows take a step before any takes the next.
    """
    n_rows, n_cuts = len(own), stop - first
    # First the stretch between two of sixteen cuts, by vector instructions.
    left = (n_cuts + np.uintp(15)) // np.uintp(16)
    counts[:] = 0
    for pivot in range(first + left - np.uintp(1), stop - np.uintp(1), left):
        cut = cuts[pivot]
        for row in range(n_rows):
            counts[row] += own[row] > cut
    last = stop - left
    for row in range(n_rows):
        counts[row] = min(first + left * np.uintp(counts[row]), last)
    while left > np.uintp(1):
        half = left // np.uintp(2)
        for row in range(n_rows):
            at = np.uintp(counts[row])
            is_below = np.uintp(cuts[at + half - np.uintp(1)] < own[row])
            counts[row] = at + (half & (np.uintp(0) - is_below))
        left -= half
    for row in range(n_rows):
        at = np.uintp(counts[row])
        counts[row] = at + np.uintp(cuts[at] < own[row]) - first


@part_of_kernels
def _compare(
    row_batch: Keys,
    cuts: Keys,
    columns: Ints,
    places: Ints,
    counts: Ints,
    marks: Bits,
    beyond: Bits,
) -> None:
    """Write for each cut of all top levels which rows of a batch are beyond it, a bit for each.

    They are those beyond the next larger one, and those between the two.
    """
    for column in range(len(columns) - 1):
        first, stop = np.uintp(columns[column]), np.uintp(columns[column + 1])
        if first == stop:
            continue
        for tile in range(len(row_batch)):
            own = counts[TILE * tile : TILE * (tile + 1)]
            _count_below(row_batch[tile, column], cuts, first, stop, own)
        marks[: np.uintp(WORDS) * (stop - first + np.uintp(1))] = np.uint64(0)
        for row in range(ROW_BATCH):
            place = np.uintp(WORDS) * np.uintp(counts[row]) + np.uintp(row) // np.uintp(WORD)
            marks[place] |= np.uint64(1) << (np.uint64(row) % np.uint64(WORD))
        rows0 = rows1 = rows2 = rows3 = np.uint64(0)
        cut = stop
        while cut > first:
            between = np.uintp(WORDS) * (cut - first)
            cut -= np.uintp(1)
            rows0 |= marks[between]
            rows1 |= marks[between + np.uintp(1)]
            rows2 |= marks[between + np.uintp(2)]
            rows3 |= marks[between + np.uintp(3)]
            place = np.uintp(WORDS) * np.uintp(places[cut])
            beyond[place] = rows0
            beyond[place + np.uintp(1)] = rows1
            beyond[place + np.uintp(2)] = rows2
            beyond[place + np.uintp(3)] = rows3


@part_of_kernels
def _through_top(beyond: Bits, children: Any, levels: Ints, here: Bits, turns: Bits) -> None:
    """Send a batch of rows down the top of a tree; write which turn right at each level.

    ``here`` has room for which rows are at each node.
    """
    root = np.uintp(levels[0])
    here[:WORDS] = ~np.uint64(0)
    for level in range(len(levels) - 1):
        node, stop = np.uintp(levels[level]), np.uintp(levels[level + 1])
        turns0 = turns1 = turns2 = turns3 = np.uint64(0)
        while node < stop:
            at, cut = np.uintp(WORDS) * (node - root), np.uintp(WORDS) * node
            left = np.uintp(WORDS) * np.uintp(children[np.uintp(2) * node])
            right = np.uintp(WORDS) * np.uintp(children[np.uintp(2) * node + np.uintp(1)])
            all0, all1 = here[at], here[at + np.uintp(1)]
            all2, all3 = here[at + np.uintp(2)], here[at + np.uintp(3)]
            right0, right1 = all0 & beyond[cut], all1 & beyond[cut + np.uintp(1)]
            right2 = all2 & beyond[cut + np.uintp(2)]
            right3 = all3 & beyond[cut + np.uintp(3)]
            left0, left1, left2, left3 = all0 ^ right0, all1 ^ right1, all2 ^ right2, all3 ^ right3
            turns0, turns1 = turns0 | right0, turns1 | right1
            turns2, turns3 = turns2 | right2, turns3 | right3
            here[right], here[right + np.uintp(1)] = right0, right1
            here[right + np.uintp(2)], here[right + np.uintp(3)] = right2, right3
            here[left], here[left + np.uintp(1)] = left0, left1
            here[left + np.uintp(2)], here[left + np.uintp(3)] = left2, left3
            node += np.uintp(1)
        place = np.uintp(WORDS) * np.uintp(level)
        turns[place], turns[place + np.uintp(1)] = turns0, turns1
        turns[place + np.uintp(2)], turns[place + np.uintp(3)] = turns2, turns3


@part_of_kernels
def _as_numbers(turns: Any, first_eight: Bits, others: Bits) -> None:
    """Write the turns of each row one after the other, as the bits of two bytes.

    ``turns`` has a byte for every eight rows, level by level; they come out as eight bytes.
    """
    n = ROW_BATCH // 8
    for i in range(n):
        bits = SPREAD[turns[i]]
        for level in range(1, 8):
            bits |= SPREAD[turns[n * level + i]] << np.uint64(level)
        first_eight[i] = bits
        bits = SPREAD[turns[n * 8 + i]]
        for level in range(9, TOP_LEVELS):
            bits |= SPREAD[turns[n * level + i]] << np.uint64(level - 8)
        others[i] = bits


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
def _by_column(keys: Keys, first: int, tile: Keys) -> None:
    """Write the keys of a tile by column, the last row filling up."""
    for row in range(tile.shape[1]):
        same = min(first + row, len(keys) - 1)
        for column in range(keys.shape[1]):
            tile[column, row] = keys[same, column]


@part_of_kernels
def _box(tile: Keys, low: Keys, high: Keys) -> None:
    """Write the boxes around the rows of a tile."""
    for column in range(len(tile)):
        for box in range(N_BOXES):
            least = most = tile[column, box * BOX]
            for row in range(box * BOX + 1, (box + 1) * BOX):
                least, most = min(least, tile[column, row]), max(most, tile[column, row])
            low[column * N_BOXES + box], high[column * N_BOXES + box] = least, most


@compiled(
    *(given(int32, 2), given(int64, 1), given(uint16, 1), given(uint8, 1), given(int32, 1)),
    *(given(float64, 1), float64, given(float64, 1), filled(float64, 1)),
    fastmath=False,
)
def _walk_in_tiles(
    keys: Keys,
    nodes: Packed,
    which: NDArray[np.uint16],
    heights: NDArray[np.uint8],
    starts: Ints,
    lengths: Floats,
    normaliser: float,
    distances: Floats,
    scores: Floats,
) -> None:
    """Write the score of each row; for the parameters see ``PackedForest`` and ``_walk_alone``."""
    n, width = keys.shape
    tile = np.empty((width, TILE), np.int32)
    low, high = np.empty(width * N_BOXES, np.int32), np.empty(width * N_BOXES, np.int32)
    at, sums = np.empty(TILE, np.int32), np.empty(TILE)
    todo, n_steps = np.empty(TILE // TOGETHER, np.uintp), np.empty(TILE // TOGETHER, np.int32)
    flat = tile.reshape(-1)
    for first in range(0, n, TILE):
        n_rows = min(TILE, n - first)
        _by_column(keys, first, tile)
        _box(tile, low, high)
        sums[:] = 0.0
        whole = 0
        for tree in range(len(starts) - 1):
            start, stop = starts[tree], starts[tree + 1]
            own, own_which, own_heights = nodes[start:stop], which[start:stop], heights[start:stop]
            n_todo = 0
            if tree < TRIALS or 4 * whole > tree * N_BOXES:
                _spread(_eight_boxes(low, high, own, own_heights[0]), at)
            else:
                at[:] = 0
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
            _add_walks(flat, own, lengths, own_which, at, todo[:n_todo], n_steps, sums)
        for row in range(n_rows):
            scores[first + row] = _score(sums[row], normaliser, distances[first + row])


@compiled(
    *(given(int32, 2), given(int64, 1), given(uint8, 1), given(int32, 1)),
    returns=boolean,
    fastmath=False,
)
def _are_alike(keys: Keys, nodes: Packed, heights: NDArray[np.uint8], starts: Ints) -> bool:
    """Return whether half of the boxes around rows reach a leaf, in the first trees and tile."""
    width = keys.shape[1]
    tile, at = np.empty((width, TILE), np.int32), np.empty(TILE, np.int32)
    low, high = np.empty(width * N_BOXES, np.int32), np.empty(width * N_BOXES, np.int32)
    _by_column(keys, 0, tile)
    _box(tile, low, high)
    whole = 0
    n_trees = min(TRIALS, len(starts) - 1)
    for tree in range(n_trees):
        own, own_heights = nodes[starts[tree] :], heights[starts[tree] :]
        _spread(_eight_boxes(low, high, own, own_heights[0]), at)
        for box in range(0, TILE, BOX):
            whole += own_heights[at[box]] == 0
    return 2 * whole > n_trees * N_BOXES


@compiled(
    *(given(int32, 2), given(int64, 1), given(uint16, 1), given(uint8, 1), given(int32, 1)),
    *(given(float64, 1), *3 * [given(int32, 1)], given(uint16, 1), given(int32, 2)),
    *(given(uint16, 2), float64, given(float64, 1), filled(float64, 1)),
    in_vectors=True,
    fastmath=False,
)
def _through_tops(
    keys: Keys,
    nodes: Packed,
    which: NDArray[np.uint16],
    heights: NDArray[np.uint8],
    starts: Ints,
    lengths: Floats,
    cuts: Keys,
    columns: Ints,
    places: Ints,
    children: NDArray[np.uint16],
    levels: Ints,
    ends: NDArray[np.uint16],
    normaliser: float,
    distances: Floats,
    scores: Floats,
) -> None:
    """Write the score of each row; for the parameters see ``PackedForest`` and ``_walk_alone``."""
    n, width = keys.shape
    n_levels = levels.shape[1] - 1
    row_batch = np.empty((ROW_BATCH // TILE, width, TILE), np.int32)
    at, sums = np.empty(ROW_BATCH, np.int32), np.empty(ROW_BATCH)
    all_rows = np.arange(0, TILE, TOGETHER).astype(np.uintp)
    most_cuts = (columns[1:] - columns[:-1]).max()
    marks = np.empty(WORDS * (most_cuts + 1), np.uint64)
    beyond = np.empty(WORDS * len(cuts), np.uint64)
    here, turns = np.empty(WORDS << TOP_LEVELS, np.uint64), np.zeros(WORDS * TOP_LEVELS, np.uint64)
    ways, more = np.empty(ROW_BATCH // 8, np.uint64), np.empty(ROW_BATCH // 8, np.uint64)
    turns_of_eight, low, high = turns.view(np.uint8), ways.view(np.uint8), more.view(np.uint8)
    n_steps = np.empty(len(all_rows), np.int32)
    for first in range(0, n, ROW_BATCH):
        for tile in range(len(row_batch)):
            _by_column(keys, first + TILE * tile, row_batch[tile])
        _compare(row_batch, cuts, columns, places, at, marks, beyond)
        sums[:] = 0.0
        for tree in range(len(starts) - 1):
            _through_top(beyond, children, levels[tree], here, turns)
            _as_numbers(turns_of_eight, ways, more)
            own_ends, start, stop = ends[tree], starts[tree], starts[tree + 1]
            if heights[start] <= n_levels:
                for row in range(ROW_BATCH):
                    way = np.uintp(low[row]) | np.uintp(high[row]) << np.uintp(8)
                    sums[row] += lengths[own_ends[way]]
            else:
                for row in range(ROW_BATCH):
                    way = np.uintp(low[row]) | np.uintp(high[row]) << np.uintp(8)
                    at[row] = own_ends[way]
                n_steps[:] = heights[start] - n_levels
                own, own_which = nodes[start:stop], which[start:stop]
                for tile in range(len(row_batch)):
                    flat, rows = row_batch[tile].reshape(-1), TILE * tile
                    _add_walks(
                        *(flat, own, lengths, own_which),
                        *(at[rows:], all_rows, n_steps, sums[rows:]),
                    )
        for row in range(min(ROW_BATCH, n - first)):
            scores[first + row] = _score(sums[row], normaliser, distances[first + row])


@compiled(given(int32, 1), filled(uint8, 1), fastmath=False)
def _measure_heights(nodes: Ints, heights: NDArray[np.uint8]) -> None:
    """Write for each node how many steps lead from it to the deepest leaf below."""
    # Children stand behind their parents.
    for node in range(len(heights) - 1, -1, -1):
        child = nodes[trees.PER_NODE * node + trees.CHILD] // trees.PER_NODE
        heights[node] = 0 if child == node else 1 + max(heights[child], heights[child + 1])


@compiled(
    *(given(int32, 1), given(int32, 1), given(uint16, 1), given(uint8, 1)),
    *(filled(int32, 1), filled(uint16, 1), filled(int32, 2), filled(uint16, 2)),
    returns=int64,
    fastmath=False,
)
def _lay_out_tops(
    nodes: Ints,
    starts: Ints,
    which: NDArray[np.uint16],
    heights: NDArray[np.uint8],
    inner: Ints,
    children: NDArray[np.uint16],
    levels: Ints,
    ends: NDArray[np.uint16],
) -> int:
    """Write what ``PackedForest`` has of the top levels, and return how many nodes they have."""
    n_levels, most = levels.shape[1] - 1, ends.shape[1]
    reached, below = np.empty(most, np.int32), np.empty(most, np.int32)
    ways, ways_below = np.empty(most, np.int32), np.empty(most, np.int32)
    links, links_below = np.empty(most, np.int32), np.empty(most, np.int32)
    n_inner = 0
    for tree in range(len(starts) - 1):
        root = starts[tree]
        reached[0], ways[0], links[0], n_reached = root, 0, -1, 1
        for level in range(n_levels + 1):
            levels[tree, level] = n_inner
            n_below = 0
            for i in range(n_reached):
                node = reached[i]
                is_leaf = heights[node] == 0
                if is_leaf or level == n_levels:
                    is_done = heights[root] <= n_levels
                    ends[tree, ways[i]] = which[node] if is_done else node - root
                    continue
                if links[i] >= 0:
                    children[links[i]] = n_inner - levels[tree, 0]
                inner[n_inner] = node
                child = nodes[trees.PER_NODE * node + trees.CHILD] // trees.PER_NODE
                for side in range(2):
                    below[n_below] = child + side
                    ways_below[n_below] = ways[i] | side << level
                    links_below[n_below] = 2 * n_inner + side
                    n_below += 1
                n_inner += 1
            reached, below = below, reached
            ways, ways_below = ways_below, ways
            links, links_below = links_below, links
            n_reached = n_below
    return n_inner


@dataclass(frozen=True)
class PackedForest:
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
    cuts : ndarray of int32 of shape (n_inner,)
        Of all nodes in top levels that are no leaves, column by column in ascending order.
    columns : ndarray of int32 of shape (n_features + 2,)
        Where the cuts of each column begin; the last number is where they all end.
    places : ndarray of int32 of shape (n_inner,)
        Which node of the top levels each of the cuts belongs to. They stand tree by tree, those
        nearer to the root first.
    children : ndarray of uint16 of shape (2 * n_inner,)
        The left and the right child of each of these nodes, counted from the root; ``BELOW`` for
        a leaf, and for what is no part of the top.
    levels : ndarray of int32 of shape (n_trees, n_levels + 1)
        Where among these nodes each level of each tree begins.
    ends : ndarray of uint16 of shape (n_trees, 2 ** n_levels)
        Where a way through a top ends, which has a bit for each turn to the right, the lowest
        for that at the root: which of ``lengths`` stands there. Of a tree that is higher than its
        top, the node itself, counted from the root.
    """

    nodes: Packed
    which: NDArray[np.uint16]
    heights: NDArray[np.uint8]
    starts: Ints
    lengths: Floats
    cuts: Keys
    columns: Ints
    places: Ints
    children: NDArray[np.uint16]
    levels: Ints
    ends: NDArray[np.uint16]

    @classmethod
    def of(cls, arrays: Arrays) -> PackedForest | None:
        """Prepare a forest as ``nodes.py`` has it; None if its numbers are too large for that."""
        cut, column, child, which = arrays["nodes"].T
        child = child // trees.PER_NODE
        # The trees that fill up are one leaf.
        roots = np.unique(arrays["roots"]) // trees.PER_NODE
        starts = np.append(roots, len(cut)).astype(np.int32)
        sizes = np.diff(starts)
        offset = child - np.repeat(roots, sizes)
        largest = max(sizes.max(), TILE * (column.max() + 1), len(arrays["lengths"]))
        in_order = arrays["roots"][: len(roots)] == trees.PER_NODE * roots
        if not (in_order.all() and roots[0] == 0 and (offset < np.repeat(sizes, sizes)).all()):
            return None
        if largest > np.iinfo(np.uint16).max or arrays["levels"].max() > np.iinfo(np.uint8).max:
            return None
        table, which = arrays["nodes"].reshape(-1), which.astype(np.uint16)
        heights = np.empty(len(cut), np.uint8)
        _measure_heights(table, heights)
        inner = np.empty(len(cut), np.int32)
        children = np.full(2 * len(cut), BELOW, np.uint16)
        n_levels = TOP_LEVELS if heights[roots].max() <= TOP_LEVELS else FEWER_TOP_LEVELS
        levels = np.empty((len(roots), n_levels + 1), np.int32)
        ends = np.zeros((len(roots), 1 << n_levels), np.uint16)
        n_inner = _lay_out_tops(table, starts, which, heights, inner, children, levels, ends)
        inner = inner[:n_inner]
        ascending = np.lexsort((cut[inner], column[inner]))
        n_columns = np.bincount(column[inner], minlength=int(column.max()) + 1)
        return cls(
            nodes=cut.astype(np.int64) << 32 | offset.astype(np.int64) << 16 | TILE * column,
            which=which,
            heights=heights,
            starts=starts,
            lengths=arrays["lengths"],
            cuts=cut[inner[ascending]],
            columns=np.append(0, np.cumsum(n_columns)).astype(np.int32),
            places=ascending.astype(np.int32),
            children=children[: 2 * n_inner],
            levels=levels,
            ends=ends,
        )


_packed_forests: dict[int, PackedForest | None] = {}


def _packed(arrays: Arrays) -> PackedForest | None:
    """Return a forest prepared for many rows; it is kept for as long as the forest is."""
    nodes = arrays["nodes"]
    if id(nodes) not in _packed_forests:
        _packed_forests[id(nodes)] = PackedForest.of(arrays)
        weakref.finalize(nodes, _packed_forests.pop, id(nodes), None)
    return _packed_forests[id(nodes)]


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
    forest = _packed(arrays) if len(X) >= FEW else None

    def work(start: int, stop: int) -> None:
        keys = np.empty((stop - start, n_features + 1), np.int32)
        distances = np.empty(stop - start)
        if _prepare(X[start:stop], center, scale, box_scale, box_min, keys, distances):
            # By numpy's own logarithm, as in the estimator.
            outside = np.flatnonzero(distances > 1.0)
            beyond = np.square(np.log(np.minimum(distances[outside], FARTHEST_BEYOND)))
            keys[outside, n_features] = trees.as_keys(beyond)
        found = normaliser, distances, scores[start:stop]
        if forest is None:
            _walk_alone(keys, nodes, roots, levels, lengths, *found)
        else:
            packed = forest.nodes, forest.which, forest.heights, forest.starts, forest.lengths
            if len(keys) < MANY or _are_alike(keys, forest.nodes, forest.heights, forest.starts):
                _walk_in_tiles(keys, *packed, *found)
            else:
                top_levels = forest.cuts, forest.columns, forest.places, forest.children
                _through_tops(keys, *packed, *top_levels, forest.levels, forest.ends, *found)

    in_blocks(work, len(X), BLOCK)
    return scores
