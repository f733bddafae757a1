"""Scoring of an isolation forest, limited by memory latency rather than branches.

A walk down a tree is a dependency chain: the next node depends on the comparison at this one. So
eight walks run in parallel, of eight rows down one tree or of one row down eight trees, to hide
the latency. They are branch-free: a leaf is its own child, and every walk takes as many steps as
its tree has levels.

For many rows, two shortcuts skip most of these steps:

- Consecutive rows are similar, and averages even more so. The bounding box of a few rows walks in
  their place while no cut intersects it, mostly down to a leaf.
- For dissimilar rows, 256 of them descend the top levels together, as a bitset: at a node, the
  rows beyond its cut go right and the others left, with two instructions for all of them. Which
  rows are beyond which cut is computed column by column, for all trees at once, by a search among
  the sorted cuts.

Both end in the same leaves as single walks, and path lengths are summed in the same order.

For the memory layout see ``nodes.py``.

References
----------
Lucchese et al. QuickScorer: a fast algorithm to rank documents with additive ensembles of
regression trees. SIGIR 2015 (cuts sorted by column, and bitsets; there of the leaves of a row).
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
from vigie.detectors.compiled.compiler import compiled, helper, read_only, writable
from vigie.detectors.isolation_forest import nodes as trees
from vigie.detectors.isolation_forest.nodes import FARTHEST_BEYOND

Ints: TypeAlias = NDArray[np.int32]
Keys: TypeAlias = NDArray[np.int32]
Packed: TypeAlias = NDArray[np.int64]
Bits: TypeAlias = NDArray[np.uint64]
Place: TypeAlias = Any
"""An unsigned index; for signed ones, numba checks for negative values, which takes time."""
Eight: TypeAlias = tuple[Any, Any, Any, Any, Any, Any, Any, Any]

BLOCK = 2048
TILE, LANES = 128, 8
"""Rows of a tile, which fit into the L1 cache, and rows that walk in parallel."""
BOX = 16
"""Consecutive rows in a bounding box; a tile has eight boxes."""
N_BOXES = TILE // BOX
MIN_TILE_ROWS = 24
"""Fewest rows for which tiles are faster than single walks."""
TRIALS = 8
"""Trees on which to test whether rows are similar enough for boxes."""
ROW_BATCH = 2 * TILE
"""Rows that descend the top levels of a tree together."""
WORD = 64
WORDS = ROW_BATCH // WORD
"""Words in the bitset of a batch."""
MIN_BATCH_ROWS = 104
"""Fewest rows for which batches are faster than tiles."""
TOP_LEVELS, FEWER_TOP_LEVELS = 10, 6
"""Top levels of a tree: all, if no tree of the forest has more than ten; else only six, since each
level doubles the nodes and saves only one step."""
BELOW = (1 << TOP_LEVELS) - 1
"""Placeholder for a node below the top levels, or a leaf; inner nodes have smaller numbers."""
EACH_BIT = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")
SPREAD = EACH_BIT.view(np.uint64).reshape(-1)
"""Each byte, with its eight bits spread over the lowest bits of eight bytes."""
LARGEST = float(np.finfo(np.float32).max)
COLUMN, CHILD, LENGTH = np.uintp(trees.COLUMN), np.uintp(trees.CHILD), np.uintp(trees.LENGTH)
TWICE = np.uintp(2)
CHILD_BITS, CUT_BITS = np.int64(16), np.int64(32)


@helper
def _next(keys: Ints, nodes: Ints, row: Place, node: Place) -> Place:
    """Return the index of the next node of a row."""
    right = keys[row + np.uintp(nodes[node + COLUMN])] > nodes[node]
    return np.uintp(nodes[node + CHILD]) + (np.uintp(right) << TWICE)


@helper
def _next_in_tile(tile: Keys, nodes: Packed, row: Place, node: Place) -> Place:
    """Return the next node of a row of a tile."""
    packed = nodes[node]
    right = tile[np.uintp(np.uint16(packed)) + row] > np.int32(packed >> CUT_BITS)
    return np.uintp(np.uint16(packed >> CHILD_BITS)) + np.uintp(right)


@helper
def _next_of_box(low: Keys, high: Keys, nodes: Packed, box: Place, node: Place) -> Place:
    """Return the next node of a box; the same node if the cut intersects the box."""
    packed = nodes[node]
    cut = np.int32(packed >> CUT_BITS)
    place = np.uintp(np.uint16(packed)) // np.uintp(BOX) + box
    right = low[place] > cut
    child = np.uintp(np.uint16(packed >> CHILD_BITS)) + np.uintp(right)
    return child if right == (high[place] > cut) else node


@helper
def _eight(keys: Ints, nodes: Ints, rows: Eight, at: Eight, n_steps: int) -> Eight:
    """Walk down from eight nodes, each with its row; return the final nodes."""
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


@helper
def _eight_in_tile(tile: Keys, nodes: Packed, row: Place, at: Eight, n_steps: int) -> Eight:
    """Walk down with eight consecutive rows of a tile, from ``row`` on; see ``_eight``."""
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


@helper
def _eight_boxes(low: Ints, high: Ints, nodes: Packed, n_steps: int) -> Eight:
    """Walk down a tree with eight boxes; return the final nodes."""
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


@helper
def _count_below(own: Keys, cuts: Keys, first: Place, stop: Place, counts: Ints) -> None:
    """Write for each key of a column how many of its cuts, in ascending order, are below.

    A branch-free binary search, in lockstep over all rows.
    """
    n_rows, n_cuts = len(own), stop - first
    # First a linear search among sixteen pivots, which is vectorised.
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


@helper
def _compare(
    row_batch: Keys,
    cuts: Keys,
    columns: Ints,
    places: Ints,
    counts: Ints,
    marks: Bits,
    beyond: Bits,
) -> None:
    """Write for each cut of all top levels the bitset of the rows of a batch beyond it.

    Each bitset is that of the next larger cut, plus the rows between the two.
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


@helper
def _through_top(
    beyond: Bits, children: Any, levels: Ints, at_node: Bits, went_right: Bits
) -> None:
    """Walk down the top levels of a tree with a batch; write the rows that go right at each level.

    ``at_node`` is a buffer for the bitset of the rows at each node.
    """
    root = np.uintp(levels[0])
    at_node[:WORDS] = ~np.uint64(0)
    for level in range(len(levels) - 1):
        node, stop = np.uintp(levels[level]), np.uintp(levels[level + 1])
        all_right0 = all_right1 = all_right2 = all_right3 = np.uint64(0)
        while node < stop:
            at, cut = np.uintp(WORDS) * (node - root), np.uintp(WORDS) * node
            left = np.uintp(WORDS) * np.uintp(children[np.uintp(2) * node])
            right = np.uintp(WORDS) * np.uintp(children[np.uintp(2) * node + np.uintp(1)])
            all0, all1 = at_node[at], at_node[at + np.uintp(1)]
            all2, all3 = at_node[at + np.uintp(2)], at_node[at + np.uintp(3)]
            right0, right1 = all0 & beyond[cut], all1 & beyond[cut + np.uintp(1)]
            right2 = all2 & beyond[cut + np.uintp(2)]
            right3 = all3 & beyond[cut + np.uintp(3)]
            left0, left1, left2, left3 = all0 ^ right0, all1 ^ right1, all2 ^ right2, all3 ^ right3
            all_right0, all_right1 = all_right0 | right0, all_right1 | right1
            all_right2, all_right3 = all_right2 | right2, all_right3 | right3
            at_node[right], at_node[right + np.uintp(1)] = right0, right1
            at_node[right + np.uintp(2)], at_node[right + np.uintp(3)] = right2, right3
            at_node[left], at_node[left + np.uintp(1)] = left0, left1
            at_node[left + np.uintp(2)], at_node[left + np.uintp(3)] = left2, left3
            node += np.uintp(1)
        place = np.uintp(WORDS) * np.uintp(level)
        went_right[place], went_right[place + np.uintp(1)] = all_right0, all_right1
        went_right[place + np.uintp(2)], went_right[place + np.uintp(3)] = all_right2, all_right3


@helper
def _transpose(went_right: Any, first_eight: Bits, others: Bits) -> None:
    """Transpose the bitsets of all levels: write the path of each row as the bits of two bytes.

    ``went_right`` has a byte for every eight rows, level by level. The low bytes go to
    ``first_eight``, the high ones to ``others``.
    """
    n = ROW_BATCH // 8
    for i in range(n):
        bits = SPREAD[went_right[i]]
        for level in range(1, 8):
            bits |= SPREAD[went_right[n * level + i]] << np.uint64(level)
        first_eight[i] = bits
        bits = SPREAD[went_right[n * 8 + i]]
        for level in range(9, TOP_LEVELS):
            bits |= SPREAD[went_right[n * level + i]] << np.uint64(level - 8)
        others[i] = bits


# Fused multiply-add would round differently from the estimator.
@compiled(
    *(
        read_only(float64, 2),
        *4 * [read_only(float64, 1)],
        writable(int32, 2),
        writable(float64, 1),
    ),
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
    """Standardise rows and convert them to keys, and compute their distances from the box.

    Parameters
    ----------
    X : ndarray of shape (n, n_features)
    center, scale, box_scale, box_min : ndarray of shape (n_features,)
        A standardised row, times ``box_scale`` plus ``box_min``, lies within [-1, 1] if it is in
        the box.
    keys : ndarray of int32 of shape (n, n_features + 1)
        Output: the sensors, and *beyond* of a row in the box.
    distances : ndarray of shape (n,)
        Output: distance from the centre of the box, in its half widths; NaN if a value is NaN.

    Returns
    -------
    bool
        Whether any row lies outside the box.
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


@helper
def _score(length: float, normaliser: float, distance: float) -> float:
    """Return the score for a sum of path lengths; NaN if a value of the row is NaN."""
    return np.nan if distance != distance else 2.0 ** (-length / normaliser) - 0.5


@helper
def _eight_from(nodes: Ints, first: Place) -> Eight:
    """Return eight consecutive entries, from ``first`` on."""
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
    *(
        read_only(int32, 2),
        read_only(int32, 1),
        read_only(int32, 1),
        read_only(int32, 1),
        read_only(float64, 1),
    ),
    *(float64, read_only(float64, 1), writable(float64, 1)),
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
        Index in ``nodes`` of the root of each tree, and the number of steps to its deepest leaf.
        The number of trees is padded to a multiple of 8 with single leaves.
    lengths : ndarray of shape (n_lengths,)
    normaliser : float
        Number of trees times the mean path length of an unsuccessful search.
    distances, scores : ndarray of shape (n,)
        See ``_prepare``; output.
    """
    r = np.uintp(0)
    for row in range(len(scores)):
        total = 0.0
        for tree in range(0, len(roots), LANES):
            n_steps = levels[tree]
            for other in range(tree + 1, tree + LANES):
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


@helper
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
    """Walk down with rows of a tile from their nodes ``at``, and add their path lengths.

    ``todo`` has the first row of each group of eight, ``n_steps`` the steps of each group.
    """
    for group in range(len(todo)):
        r0 = todo[group]
        ends = _eight_in_tile(tile, nodes, r0, _eight_from(at, r0), n_steps[group])
        sums[r0] += lengths[which[ends[0]]]
        sums[r0 + np.uintp(1)] += lengths[which[ends[1]]]
        sums[r0 + np.uintp(2)] += lengths[which[ends[2]]]
        sums[r0 + np.uintp(3)] += lengths[which[ends[3]]]
        sums[r0 + np.uintp(4)] += lengths[which[ends[4]]]
        sums[r0 + np.uintp(5)] += lengths[which[ends[5]]]
        sums[r0 + np.uintp(6)] += lengths[which[ends[6]]]
        sums[r0 + np.uintp(7)] += lengths[which[ends[7]]]


@helper
def _spread(held: Eight, at: Ints) -> None:
    """Write the node of each box to the entry of its first row."""
    h0, h1, h2, h3, h4, h5, h6, h7 = held
    at[0], at[BOX], at[2 * BOX], at[3 * BOX] = h0, h1, h2, h3
    at[4 * BOX], at[5 * BOX], at[6 * BOX], at[7 * BOX] = h4, h5, h6, h7


@helper
def _by_column(keys: Keys, first: int, tile: Keys) -> None:
    """Write the keys of a tile by column, padded with the last row."""
    for row in range(tile.shape[1]):
        source = min(first + row, len(keys) - 1)
        for column in range(keys.shape[1]):
            tile[column, row] = keys[source, column]


@helper
def _box(tile: Keys, low: Keys, high: Keys) -> None:
    """Write the bounding boxes of the rows of a tile."""
    for column in range(len(tile)):
        for box in range(N_BOXES):
            least = most = tile[column, box * BOX]
            for row in range(box * BOX + 1, (box + 1) * BOX):
                least, most = min(least, tile[column, row]), max(most, tile[column, row])
            low[column * N_BOXES + box], high[column * N_BOXES + box] = least, most


@compiled(
    *(
        read_only(int32, 2),
        read_only(int64, 1),
        read_only(uint16, 1),
        read_only(uint8, 1),
        read_only(int32, 1),
    ),
    *(read_only(float64, 1), float64, read_only(float64, 1), writable(float64, 1)),
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
    todo, n_steps = np.empty(TILE // LANES, np.uintp), np.empty(TILE // LANES, np.int32)
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
                    for row in range(box, min(box + BOX, n_rows), LANES):
                        todo[n_todo], n_steps[n_todo] = row, own_heights[node]
                        n_todo += 1
            _add_walks(flat, own, lengths, own_which, at, todo[:n_todo], n_steps, sums)
        for row in range(n_rows):
            scores[first + row] = _score(sums[row], normaliser, distances[first + row])


@compiled(
    *(read_only(int32, 2), read_only(int64, 1), read_only(uint8, 1), read_only(int32, 1)),
    returns=boolean,
    fastmath=False,
)
def _are_similar(keys: Keys, nodes: Packed, heights: NDArray[np.uint8], starts: Ints) -> bool:
    """Return whether half of the boxes of the first tile reach a leaf in the first trees."""
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
    *(
        read_only(int32, 2),
        read_only(int64, 1),
        read_only(uint16, 1),
        read_only(uint8, 1),
        read_only(int32, 1),
    ),
    *(read_only(float64, 1), *3 * [read_only(int32, 1)], read_only(uint16, 1), read_only(int32, 2)),
    *(read_only(uint16, 2), float64, read_only(float64, 1), writable(float64, 1)),
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
    all_rows = np.arange(0, TILE, LANES).astype(np.uintp)
    most_cuts = (columns[1:] - columns[:-1]).max()
    marks = np.empty(WORDS * (most_cuts + 1), np.uint64)
    beyond = np.empty(WORDS * len(cuts), np.uint64)
    at_node = np.empty(WORDS << TOP_LEVELS, np.uint64)
    went_right = np.zeros(WORDS * TOP_LEVELS, np.uint64)
    low_bytes, high_bytes = np.empty(ROW_BATCH // 8, np.uint64), np.empty(ROW_BATCH // 8, np.uint64)
    right_of_eight = went_right.view(np.uint8)
    low, high = low_bytes.view(np.uint8), high_bytes.view(np.uint8)
    n_steps = np.empty(len(all_rows), np.int32)
    for first in range(0, n, ROW_BATCH):
        for tile in range(len(row_batch)):
            _by_column(keys, first + TILE * tile, row_batch[tile])
        _compare(row_batch, cuts, columns, places, at, marks, beyond)
        sums[:] = 0.0
        for tree in range(len(starts) - 1):
            _through_top(beyond, children, levels[tree], at_node, went_right)
            _transpose(right_of_eight, low_bytes, high_bytes)
            own_ends, start, stop = ends[tree], starts[tree], starts[tree + 1]
            if heights[start] <= n_levels:
                for row in range(ROW_BATCH):
                    path = np.uintp(low[row]) | np.uintp(high[row]) << np.uintp(8)
                    sums[row] += lengths[own_ends[path]]
            else:
                for row in range(ROW_BATCH):
                    path = np.uintp(low[row]) | np.uintp(high[row]) << np.uintp(8)
                    at[row] = own_ends[path]
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


@compiled(read_only(int32, 1), writable(uint8, 1), fastmath=False)
def _measure_heights(nodes: Ints, heights: NDArray[np.uint8]) -> None:
    """Write for each node the number of steps to the deepest leaf below."""
    # Children come after their parents.
    for node in range(len(heights) - 1, -1, -1):
        child = nodes[trees.PER_NODE * node + trees.CHILD] // trees.PER_NODE
        heights[node] = 0 if child == node else 1 + max(heights[child], heights[child + 1])


@compiled(
    *(read_only(int32, 1), read_only(int32, 1), read_only(uint16, 1), read_only(uint8, 1)),
    *(writable(int32, 1), writable(uint16, 1), writable(int32, 2), writable(uint16, 2)),
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
    """Write the top levels of a ``PackedForest``, and return the number of their inner nodes."""
    n_levels, most = levels.shape[1] - 1, ends.shape[1]
    reached, below = np.empty(most, np.int32), np.empty(most, np.int32)
    paths, paths_below = np.empty(most, np.int32), np.empty(most, np.int32)
    links, links_below = np.empty(most, np.int32), np.empty(most, np.int32)
    n_inner = 0
    for tree in range(len(starts) - 1):
        root = starts[tree]
        reached[0], paths[0], links[0], n_reached = root, 0, -1, 1
        for level in range(n_levels + 1):
            levels[tree, level] = n_inner
            n_below = 0
            for i in range(n_reached):
                node = reached[i]
                is_leaf = heights[node] == 0
                if is_leaf or level == n_levels:
                    is_whole = heights[root] <= n_levels
                    ends[tree, paths[i]] = which[node] if is_whole else node - root
                    continue
                if links[i] >= 0:
                    children[links[i]] = n_inner - levels[tree, 0]
                inner[n_inner] = node
                child = nodes[trees.PER_NODE * node + trees.CHILD] // trees.PER_NODE
                for side in range(2):
                    below[n_below] = child + side
                    paths_below[n_below] = paths[i] | side << level
                    links_below[n_below] = 2 * n_inner + side
                    n_below += 1
                n_inner += 1
            reached, below = below, reached
            paths, paths_below = paths_below, paths
            links, links_below = links_below, links
            n_reached = n_below
    return n_inner


@dataclass(frozen=True)
class PackedForest:
    """A forest in a layout for many rows, half the size, for fewer cache misses.

    The *inner nodes* are those of the top levels that are no leaves, tree by tree and level by
    level.

    Attributes
    ----------
    nodes : ndarray of int64 of shape (n_nodes,)
        From the highest bits: 32 bits for the cut; 16 for the left child, relative to the root of
        its tree; 16 for the offset of the column in a tile.
    which : ndarray of uint16 of shape (n_nodes,)
        Index into ``lengths`` of each node.
    heights : ndarray of uint8 of shape (n_nodes,)
        Number of steps from each node to the deepest leaf below.
    starts : ndarray of int32 of shape (n_trees + 1,)
        The first node of each tree; the last entry is the number of nodes.
    lengths : ndarray of shape (n_lengths,)
        The distinct path lengths.
    cuts : ndarray of int32 of shape (n_inner,)
        The cuts of the inner nodes, by column and in ascending order.
    columns : ndarray of int32 of shape (n_features + 2,)
        Index of the first cut of each column; the last entry is the number of cuts.
    places : ndarray of int32 of shape (n_inner,)
        The inner node of each cut.
    children : ndarray of uint16 of shape (2 * n_inner,)
        The left and right child of each inner node, relative to the root; ``BELOW`` for a leaf or
        a node below the top levels.
    levels : ndarray of int32 of shape (n_trees, n_levels + 1)
        Index of the first inner node of each level of each tree.
    ends : ndarray of uint16 of shape (n_trees, 2 ** n_levels)
        The end of each path through the top levels. A path is a number: bit ``i`` is set if the
        path goes right at level ``i``. If the top levels hold the whole tree, the end is an index
        into ``lengths``; else it is a node, relative to the root.
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
        """Pack a forest in the layout of ``nodes.py``; None if its indices are too large."""
        cut, column, child, which = arrays["nodes"].T
        child = child // trees.PER_NODE
        # The padding trees share one leaf.
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
    """Return the packed forest, cached for the lifetime of its nodes."""
    nodes = arrays["nodes"]
    if id(nodes) not in _packed_forests:
        _packed_forests[id(nodes)] = PackedForest.of(arrays)
        weakref.finalize(nodes, _packed_forests.pop, id(nodes), None)
    return _packed_forests[id(nodes)]


def raw_scores(arrays: Arrays, X: Floats) -> Floats:
    """Return ``2 ** (-mean path length / c) - 0.5`` for rows of shape (n_samples, n_features)."""
    n_features = X.shape[1]
    scores = np.empty(len(X))
    # Forests of averages have no box; with zeros, every row is inside.
    zeros = np.zeros(n_features)
    box_scale, box_min = arrays.get("box_scale", zeros), arrays.get("box_min", zeros)
    center, scale, nodes = arrays["center"], arrays["scale"], arrays["nodes"].reshape(-1)
    roots, levels, lengths = arrays["roots"], arrays["levels"], arrays["lengths"]
    normaliser = float(arrays["normaliser"][0])
    forest = _packed(arrays) if len(X) >= MIN_TILE_ROWS else None

    def work(start: int, stop: int) -> None:
        keys = np.empty((stop - start, n_features + 1), np.int32)
        distances = np.empty(stop - start)
        if _prepare(X[start:stop], center, scale, box_scale, box_min, keys, distances):
            # numpy's logarithm, to match the estimator to the last bit.
            outside = np.flatnonzero(distances > 1.0)
            beyond = np.square(np.log(np.minimum(distances[outside], FARTHEST_BEYOND)))
            keys[outside, n_features] = trees.as_keys(beyond)
        outputs = normaliser, distances, scores[start:stop]
        if forest is None:
            _walk_alone(keys, nodes, roots, levels, lengths, *outputs)
        else:
            packed = forest.nodes, forest.which, forest.heights, forest.starts, forest.lengths
            if len(keys) < MIN_BATCH_ROWS or _are_similar(
                keys, forest.nodes, forest.heights, forest.starts
            ):
                _walk_in_tiles(keys, *packed, *outputs)
            else:
                top_levels = forest.cuts, forest.columns, forest.places, forest.children
                _through_tops(keys, *packed, *top_levels, forest.levels, forest.ends, *outputs)

    in_blocks(work, len(X), BLOCK)
    return scores
