"""Validate the nodes of a forest before compiled code reads them."""

from __future__ import annotations

import numpy as np

from vigie.detectors.base import Arrays, Params
from vigie.detectors.checks import numbers, outside
from vigie.detectors.isolation_forest.nodes import (
    CHILD,
    COLUMN,
    CUT,
    LANES,
    LAST_KEY,
    LENGTH,
    PER_NODE,
)


def check(arrays: Arrays, params: Params, n_features: int) -> None:
    """Raise unless the kernel can read these arrays safely; see ``Algorithm.check``."""
    for name in ("center", "scale"):
        numbers(arrays, name, n_features)
    nodes, roots, levels = (arrays[name] for name in ("nodes", "roots", "levels"))
    for name, array, shape in (
        ("nodes", nodes, (max(len(nodes), 1), PER_NODE)),
        ("roots", roots, (max(len(roots), 1),)),
        ("levels", levels, roots.shape),
    ):
        if array.dtype != np.int32 or array.shape != shape:
            raise ValueError(
                f"{name} is {array.dtype} of shape {array.shape}, not int32 of {shape}"
            )
    numbers(arrays, "lengths", len(arrays["lengths"]))
    numbers(arrays, "normaliser", 1)
    edge = "box_scale" in arrays
    for name in ("box_scale", "box_min") if edge else ():
        numbers(arrays, name, n_features)
    child, own = nodes[:, CHILD].astype(np.int64), PER_NODE * np.arange(len(nodes))
    leaf = (nodes[:, CUT] == LAST_KEY) & (child == own)
    last = PER_NODE * (len(nodes) - 1)
    for wrong, message in (
        (len(roots) % LANES, "the length of roots is not a multiple of eight"),
        ((roots % PER_NODE != 0) | (roots < 0) | (roots > last), "roots has an invalid index"),
        ((levels < 0) | (levels > len(nodes)), "levels has an invalid number of levels"),
        (
            ~leaf & ((child % PER_NODE != 0) | (child <= own) | (child >= last)),
            "nodes has an invalid child",
        ),
        (outside(nodes[:, COLUMN], n_features + edge), "nodes has an invalid column"),
        (outside(nodes[:, LENGTH], len(arrays["lengths"])), "nodes has an invalid path length"),
        (arrays["normaliser"] <= 0.0, "normaliser is not positive"),
    ):
        if np.any(wrong):
            raise ValueError(message)
