"""Validate support vectors before compiled code reads them."""

from __future__ import annotations

from vigie.detectors.base import Arrays, Params
from vigie.detectors.checks import numbers

KERNELS = ("rbf", "linear", "poly", "sigmoid")


def check(arrays: Arrays, params: Params, n_features: int) -> None:
    """Raise unless the kernel can read these arrays safely; see ``Algorithm.check``."""
    for name in ("center", "scale"):
        numbers(arrays, name, n_features)
    n_support = len(arrays["dual_coef"])
    numbers(arrays, "support_vectors", n_features, n_support)
    numbers(arrays, "dual_coef", n_support)
    numbers(arrays, "intercept", 1)
    numbers(arrays, "gamma", 1)
    if params["kernel"] not in KERNELS:
        raise ValueError(f"kernel is {params['kernel']!r}, not one of {', '.join(KERNELS)}")
