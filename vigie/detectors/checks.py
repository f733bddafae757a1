"""Validate the arrays of a serving form before compiled code reads them.

Others may write to the store that the arrays come from. Unlike numpy, a kernel does not check
bounds: with a wrong length or index it would read memory outside the model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vigie.detectors.base import Arrays, Params
from vigie.detectors.catalogue import algorithm

MOST_WINDOW, MOST_SAMPLES = 100_000, 2**53
"""Most rows that a model may judge together, and that a training may have."""


def check_arrays(name: str, arrays: Arrays, params: Params, window: int, n_features: int) -> None:
    """Raise unless an algorithm can score windows of this size with these arrays.

    Raises
    ------
    ValueError
        If an array or a parameter is invalid; names it.
    KeyError
        If an array or a parameter is missing.
    """
    if not whole(window, 1, MOST_WINDOW):
        raise ValueError(f"window is {window!r}, not a number of rows up to {MOST_WINDOW}")
    own_rows = window
    if "averaged_rows" in params:
        for limit in ("low", "high", "room"):
            numbers(arrays, limit, n_features)
        at_least, n_rows = params["averaged_at_least"], params["averaged_rows"]
        if not (whole(n_rows, 1, window) and whole(at_least, 1, n_rows)):
            raise ValueError("averaged_rows does not fit window")
        own_rows -= n_rows - 1
    if not whole(params.get("spare_rows", 0), 0, window - 1):
        raise ValueError("spare_rows does not fit window")
    entry = algorithm(name)
    entry.check(arrays, params, n_features)
    if entry.rows is not None and entry.rows(params) != own_rows:
        raise ValueError(f"window is {window}, which does not fit the hyper-parameters of {name}")


def check_card(card: Mapping[str, Any]) -> None:
    """Raise unless the facts on a card are of their types; see ``check_arrays`` for the errors."""
    names = card["feature_names"]
    if not (isinstance(names, list) and names and all(is_text(name) for name in names)):
        raise ValueError("feature_names are not names")
    if len(set(names)) < len(names):
        raise ValueError("feature_names has a name twice")
    if not whole(card["n_samples"], 1, MOST_SAMPLES) or card["window"] > card["n_samples"]:
        raise ValueError("n_samples is not the number of rows of a training")
    threshold = card["threshold"]
    if not (_is_number(threshold) and 0.0 <= threshold <= 1.0):
        raise ValueError("threshold is not within [0, 1]")
    if not (is_text(card["data_fingerprint"]) and isinstance(card["params"], dict)):
        raise TypeError("data_fingerprint or params are of another type")
    versions = card["libraries"]
    if not (isinstance(versions, dict) and all(map(is_text, [*versions, *versions.values()]))):
        raise TypeError("libraries are not versions by name")


def check_part(part: Mapping[str, Any], card: Mapping[str, Any]) -> None:
    """Raise unless a part of several rows together, such as the trend, fits its model's card."""
    for fact in ("algorithm", "feature_names"):
        if part[fact] != card[fact]:
            raise ValueError(f"{fact} of a part differ from those of the model")
    if part["window"] <= card["window"]:
        raise ValueError("a part of several rows has no more of them than its model")


def is_text(value: Any) -> bool:
    """Return whether a value is text that can be written as Unicode."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def whole(value: Any, low: int, high: int) -> bool:
    """Return whether a value is a whole number within these limits."""
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_number(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value)


def check_sensors(facts: Arrays, n_features: int) -> None:
    """Raise unless the facts on each sensor are valid; see ``check_arrays`` for the errors."""
    for name in ("usual", "low", "high", "magnitude"):
        numbers(facts, name, n_features)
    if (facts["low"] > facts["high"]).any():
        raise ValueError("low is above high")
    after = facts["frozen_after"]
    if after.dtype != np.int64 or after.shape != (n_features,) or (after < 0).any():
        raise ValueError(f"frozen_after is not one number of rows for each of {n_features} sensors")
    for name in ("smallest_step_20", "smallest_step_200"):
        steps = facts.get(name)
        # NaN and inf have a meaning here.
        if steps is not None and (
            steps.dtype != np.float64 or steps.shape != (n_features,) or (steps < 0.0).any()
        ):
            raise ValueError(f"{name} is not one step for each of {n_features} sensors")


def check_operating_points(arrays: Arrays, n_features: int) -> None:
    """Raise unless these are operating points; see ``check_arrays`` for the errors."""
    numbers(arrays, "center", n_features)
    scale, owner, n_components = arrays["scale"], arrays["owner"], len(arrays["components"])
    if scale.dtype != np.float64 or scale.shape != (n_features,) or not (scale > 0.0).all():
        raise ValueError("the scale of the operating points is not positive")
    numbers(arrays, "components", n_components, n_features)
    numbers(arrays, "usual_error", 1)
    if owner.dtype != np.int64 or owner.ndim != 1 or (np.diff(owner) < 0).any():
        raise ValueError("the ranges of the operating points do not ascend")
    if outside(owner, n_features + n_components).any():
        raise ValueError("the ranges of the operating points belong to no sensor")
    for name in ("ranges", "limits"):
        numbers(arrays, name, len(owner), 2)


def check_context(
    columns: Sequence[Any],
    words: Mapping[Any, Sequence[Any]],
    seen: Mapping[int, np.ndarray[Any, Any]],
    arrays: Arrays,
    n_features: int,
) -> None:
    """Raise unless these facts are a valid context; see ``check_arrays`` for the errors."""
    known = [column for column in columns if isinstance(column, int) and 0 <= column < n_features]
    if not known or known != sorted(set(columns)) or not set(words) <= set(known):
        raise ValueError("the context has wrong columns")
    if not all(is_text(word) for of in words.values() for word in of):
        raise ValueError("the context's words are not text")
    if seen.keys() != set(known) - set(words):
        raise ValueError("the context's numbers have no ranges")
    for ranges in seen.values():
        if ranges.dtype != np.float64 or ranges.ndim != 2 or ranges.shape[1] != 2:
            raise ValueError("the context's ranges are no pairs of numbers")
    owner = arrays["owner"]
    if owner.dtype != np.int64 or owner.ndim != 1 or set(owner.tolist()) != set(known):
        raise ValueError("the context's points belong to no column")
    n_points = len(owner)
    numbers(arrays, "center", n_features)
    numbers(arrays, "points", n_points)
    numbers(arrays, "effects", n_points, n_features)
    numbers(arrays, "log_ratios", n_points, n_features)
    for column in known:
        points = arrays["points"][owner == column]
        if (np.diff(points) <= 0.0).any() or (column not in words and len(points) < 2):
            raise ValueError("the context's points do not ascend")


def check_calibration(facts: Mapping[str, Any]) -> None:
    """Raise unless these facts are a valid calibration; see ``check_arrays`` for the errors."""
    knots, p_values = facts["knots"], facts["p_values"]
    for name in ("knots", "p_values"):
        numbers(facts, name, max(len(knots), 1))
    for name in ("tail_start", "tail_scale", "tail_shape", "body_scale", "n_samples"):
        if not _is_number(facts[name]):
            raise ValueError(f"{name} is not a finite number")
    for wrong, message in (
        (np.diff(knots) <= 0.0, "knots are not ascending"),
        (np.diff(p_values) >= 0.0, "p_values are not descending"),
        ((p_values <= 0.0) | (p_values >= 1.0), "p_values are not within (0, 1)"),
        (facts["tail_scale"] <= 0.0 or facts["body_scale"] <= 0.0, "a scale is not positive"),
        (facts["tail_shape"] < 0.0, "tail_shape is negative"),
        (facts["n_samples"] < 1, "n_samples is not the number of scores"),
    ):
        if np.any(wrong):
            raise ValueError(message)


def numbers(arrays: Arrays, name: str, *shape: int) -> None:
    """Raise unless an array has that shape and holds finite float64 numbers."""
    array = arrays[name]
    if array.dtype != np.float64 or array.shape != shape:
        raise ValueError(f"{name} is {array.dtype} of shape {array.shape}, not float64 of {shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds values that are not finite")


def outside(indices: np.ndarray[Any, Any], n: int) -> Any:
    """Return which indices are outside ``[0, n)``."""
    return (indices < 0) | (indices >= n)
