"""Memory layout of trees, compact so that a walk touches few cache lines.

A forest is one table of nodes, int32 of shape (n_nodes, 4), 16 bytes per node:

====== ==========================================================================
column of a node
====== ==========================================================================
CUT    the cut, rounded down to float32, as a key; in a leaf the largest int32
COLUMN the column that it cuts; in a leaf 0
CHILD  index of the left child in the flattened table, followed by the right one;
       in a leaf, the index of the leaf itself
LENGTH index of the node's path length among the forest's distinct path lengths
====== ==========================================================================

A leaf is its own child, so a walk needs no branch to stop there.

scikit-learn compares readings in float32 with cuts in float64. Rounding a cut down to float32
changes no comparison with a float32 reading. *Keys* are integers in the order of the float32
numbers; they compare faster.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vigie.detectors.base import Floats

CUT, COLUMN, CHILD, LENGTH = range(4)
PER_NODE = 4
LANES = 8
"""Parallel walks; the number of trees is padded to a multiple of it with single leaves."""
LAST_KEY = np.iinfo(np.int32).max
FARTHEST_BEYOND = 100.0
"""Limit of distances, in half widths of the training box; a forest treats larger ones as equal."""


def as_keys(values: Floats) -> NDArray[np.int32]:
    """Return values, rounded to float32, as integers of the same order."""
    # Adding 0.0 turns -0.0 into 0.0, which must have the same key.
    bits = (values.astype(np.float32) + np.float32(0.0)).view(np.int32)
    return bits ^ ((bits >> 31) & np.int32(LAST_KEY))


def keys_of_cuts(cuts: Floats) -> NDArray[np.int32]:
    """Return keys such that a float32 reading exceeds a cut iff its key exceeds the cut's."""
    rounded = cuts.astype(np.float32)
    below = np.nextafter(rounded, np.float32(-np.inf))
    return as_keys(np.where(rounded > cuts, below, rounded).astype(np.float64))


def leaves(start: int, n: int) -> NDArray[np.int32]:
    """Return ``n`` leaves for a table, the first one at node ``start``."""
    table = np.zeros((n, PER_NODE), dtype=np.int32)
    table[:, CUT] = LAST_KEY
    table[:, CHILD] = PER_NODE * np.arange(start, start + n)
    return table
