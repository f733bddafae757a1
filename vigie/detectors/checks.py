"""What a serving form must be before a kernel reads it: compiled code looks up what it is told to.

The arrays come from a store that others may write to. A wrong length or index would not raise an
error in a kernel, as it does in numpy, but read memory that is not the model's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from vigie.detectors.base import Arrays, Params
from vigie.detectors.catalogue import algorithm


def check_arrays(name: str, arrays: Arrays, params: Params, window: int, n_features: int) -> None:
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
    if "averaged_rows" in params:
        for limit in ("low", "high", "room"):
            numbers(arrays, limit, n_features)
        at_least, averaged = params["averaged_at_least"], params["averaged_rows"]
        if not (isinstance(averaged, int) and 1 <= at_least <= averaged <= window):
            raise ValueError("averaged_rows and window do not fit together")
    algorithm(name).check(arrays, params, n_features)


def check_sensors(facts: Arrays, n_features: int) -> None:
    """Return if what is known of so many sensors can be used; raises as ``check_arrays`` does."""
    for name in ("usual", "low", "high", "magnitude"):
        numbers(facts, name, n_features)
    after = facts["frozen_after"]
    if after.dtype != np.int64 or after.shape != (n_features,) or (after < 0).any():
        raise ValueError(f"frozen_after holds no number of rows for each of {n_features} sensors")


def check_calibration(facts: Mapping[str, Any]) -> None:
    """Return if raw scores can be judged by these facts; raises as ``check_arrays`` does."""
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


def outside(places: np.ndarray[Any, Any], n: int) -> Any:
    """Mark which of some places are not within ``n``."""
    return (places < 0) | (places >= n)
