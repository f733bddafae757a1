"""How trees stand in memory, so that a walk down one touches little of it.

A forest is one table of nodes, int32 of shape (n_nodes, 4), 16 bytes a node:

====== ==========================================================================
column of a node
====== ==========================================================================
CUT    the cut, rounded down to float32, as a key; in a leaf the largest int32
COLUMN the value of the row that it cuts; in a leaf 0
CHILD  where in the flattened table its left child begins, the right one being
       next; in a leaf, where the leaf itself begins
LENGTH which of the forest's different path lengths ends here
====== ==========================================================================

So a walk may go on past a leaf and stay there, and needs no branch to find out.

scikit-learn compares readings in float32 with cuts in float64. Rounding a cut down changes the
outcome for no float32 reading. And float32 numbers made *keys*, integers of the same order,
compare faster.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vigie.detectors.base import Floats

CUT, COLUMN, CHILD, LENGTH = range(4)
PER_NODE = 4
TOGETHER = 8
"""Walks side by side; the number of trees is a multiple of it, filled up with single leaves."""
LAST_KEY = np.iinfo(np.int32).max
FARTHEST_BEYOND = 100.0
"""A forest tells no distances apart that are larger, in half widths of the training box."""


def as_keys(values: Floats) -> NDArray[np.int32]:
    """Return values, rounded to float32, as integers of the same order."""
    # Adding zero makes -0.0, which is no smaller than 0.0, the same number.
    bits = (values.astype(np.float32) + np.float32(0.0)).view(np.int32)
    return bits ^ ((bits >> 31) & np.int32(LAST_KEY))


def keys_of_cuts(cuts: Floats) -> NDArray[np.int32]:
    """Return keys such that a float32 reading exceeds a cut where its key exceeds the cut's."""
    rounded = cuts.astype(np.float32)
    below = np.nextafter(rounded, np.float32(-np.inf))
    return as_keys(np.where(rounded > cuts, below, rounded).astype(np.float64))


def leaves(start: int, n: int) -> NDArray[np.int32]:
    """Return ``n`` leaves that stand in a table from node ``start`` on."""
    table = np.zeros((n, PER_NODE), dtype=np.int32)
    table[:, CUT] = LAST_KEY
    table[:, CHILD] = PER_NODE * np.arange(start, start + n)
    return table
