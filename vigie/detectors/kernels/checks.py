"""What a serving form must be before a kernel reads it: compiled code looks up what it is told to.

The arrays come from a store that others may write to. A wrong length or index would not raise an
error in a kernel, as it does in numpy, but read memory that is not the model's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import count
from typing import Any

import numpy as np

from vigie.detectors.base import Arrays
from vigie.detectors.kernels.trees import CHILD, COLUMN, CUT, LAST_KEY, LENGTH, PER_NODE, TOGETHER

KERNELS = ("rbf", "linear", "poly", "sigmoid")


def check(
    algorithm: str, arrays: Arrays, params: Mapping[str, Any], window: int, n_features: int
) -> None:
    """Return if an algorithm can score windows of so many rows and sensors from these arrays.

    Raises
    ------
    ValueError
        Naming the array or the parameter that it cannot be.
    KeyError
        If an array or a parameter is missing.
    """
    if not (isinstance(window, int) and window >= 1 and n_features >= 1):
        raise ValueError("window and feature_names must hold something")
    for name in ("center", "scale"):
        numbers(arrays, name, n_features)
    if "averaged_rows" in params:
        for name in ("low", "high", "room"):
            numbers(arrays, name, n_features)
        at_least, averaged = params["averaged_at_least"], params["averaged_rows"]
        if not (isinstance(averaged, int) and 1 <= at_least <= averaged <= window):
            raise ValueError("averaged_rows and window do not fit together")
    CHECKS[algorithm](arrays, params, n_features)


def check_sensors(facts: Arrays, n_features: int) -> None:
    """Return if what is known of so many sensors can be looked up; raises as ``check`` does."""
    for name in ("usual", "low", "high", "magnitude"):
        numbers(facts, name, n_features)
    after = facts["frozen_after"]
    if after.dtype != np.int64 or after.shape != (n_features,) or (after < 0).any():
        raise ValueError(f"frozen_after holds no number of rows for each of {n_features} sensors")


def check_calibration(facts: Mapping[str, Any]) -> None:
    """Return if raw scores can be judged by these facts; raises as ``check`` does."""
    knots, p_values = facts["knots"], facts["p_values"]
    for name in ("knots", "p_values"):
        numbers(facts, name, max(len(knots), 1))
    for name in ("tail_start", "tail_scale", "tail_shape", "body_scale", "n_samples"):
        if not isinstance(facts[name], int | float) or not math.isfinite(facts[name]):
            raise ValueError(f"{name} is no number")
    for wrong, what in (
        (np.diff(knots) <= 0.0, "knots do not ascend"),
        (np.diff(p_values) >= 0.0, "p_values do not descend"),
        ((p_values <= 0.0) | (p_values >= 1.0), "p_values are no probabilities"),
        (facts["tail_scale"] <= 0.0 or facts["body_scale"] <= 0.0, "a scale is not positive"),
        (facts["tail_shape"] < 0.0, "tail_shape is negative"),
    ):
        if np.any(wrong):
            raise ValueError(what)


def numbers(arrays: Arrays, name: str, *shape: int) -> None:
    """Return if an array has that shape and holds finite float64 numbers."""
    array = arrays[name]
    if array.dtype != np.float64 or array.shape != shape:
        raise ValueError(f"{name} is {array.dtype} of shape {array.shape}, not float64 of {shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds values that are not finite")


def _forest(arrays: Arrays, params: Mapping[str, Any], n_features: int) -> None:
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
    for wrong, what in (
        (len(roots) % TOGETHER, "roots has no multiple of eight"),
        ((roots % PER_NODE != 0) | (roots < 0) | (roots > last), "roots leads out of the nodes"),
        ((levels < 0) | (levels > len(nodes)), "levels has no numbers of levels"),
        (
            ~leaf & ((child % PER_NODE != 0) | (child <= own) | (child >= last)),
            "nodes leads astray",
        ),
        (outside(nodes[:, COLUMN], n_features + edge), "nodes cuts columns that are not there"),
        (outside(nodes[:, LENGTH], len(arrays["lengths"])), "nodes ends in no path length"),
        (arrays["normaliser"] <= 0.0, "normaliser is not positive"),
    ):
        if np.any(wrong):
            raise ValueError(what)


def outside(places: np.ndarray[Any, Any], n: int) -> Any:
    """Mark which of some places are not within ``n``."""
    return (places < 0) | (places >= n)


def _svm(arrays: Arrays, params: Mapping[str, Any], n_features: int) -> None:
    n_support = len(arrays["dual_coef"])
    numbers(arrays, "support_vectors", n_features, n_support)
    numbers(arrays, "dual_coef", n_support)
    numbers(arrays, "intercept", 1)
    numbers(arrays, "gamma", 1)
    if params["kernel"] not in KERNELS:
        raise ValueError(f"kernel is {params['kernel']!r}")


def _lstm(arrays: Arrays, params: Mapping[str, Any], n_features: int) -> None:
    into = n_features
    for stack in ("encoder", "decoder"):
        for layer in count():
            at = f"{stack}.{layer}."
            if layer > 0 and at + "weight_ih_l0" not in arrays:
                break
            size = len(arrays[at + "weight_hh_l0"])
            numbers(arrays, at + "weight_ih_l0", into, 4 * size)
            numbers(arrays, at + "weight_hh_l0", size, 4 * size)
            numbers(arrays, at + "bias_ih_l0", 4 * size)
            numbers(arrays, at + "bias_hh_l0", 4 * size)
            into = size
    numbers(arrays, "head.weight", into, n_features)
    for name in ("head.bias", "lowest", "highest"):
        numbers(arrays, name, n_features)


CHECKS = {"isolation_forest": _forest, "one_class_svm": _svm, "lstm_autoencoder": _lstm}
