"""Validate a forecast's coefficients before compiled code reads them."""

from __future__ import annotations

import numpy as np

from vigie.detectors.base import Arrays, Params
from vigie.detectors.checks import numbers


def check(arrays: Arrays, params: Params, n_features: int) -> None:
    """Raise unless the kernels can read these arrays safely; see ``Algorithm.check``."""
    for name in ("center", "scale", "judged"):
        numbers(arrays, name, n_features)
    if not np.isin(arrays["judged"], (0.0, 1.0)).all() or not arrays["judged"].any():
        raise ValueError("judged is not 1 or 0 for each sensor")
    if (arrays["scale"] <= 0.0).any():
        raise ValueError("scale is not positive")
    numbers(arrays, "whitening", n_features, n_features)
    horizons = params["horizons"]
    n_used = len(arrays["coefficients"]) // n_features
    numbers(arrays, "coefficients", n_used * n_features, n_features)
    if not horizons or not all(isinstance(rows, int) and rows >= 1 for rows in horizons):
        raise ValueError("horizons are not numbers of rows")
    if not 1 <= n_used <= len(horizons):
        raise ValueError("coefficients do not fit horizons")
    for name in ("accumulated_rows", "baseline_rows", "spare_rows"):
        if not (isinstance(params[name], int) and params[name] >= 0):
            raise ValueError(f"{name} is not a number of rows")
