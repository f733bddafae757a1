"""Validate the weights of a network before compiled code reads them."""

from __future__ import annotations

from itertools import count

from vigie.detectors.base import Arrays, Params
from vigie.detectors.checks import numbers


def check(arrays: Arrays, params: Params, n_features: int) -> None:
    """Raise unless the kernel can read these arrays safely; see ``Algorithm.check``."""
    for name in ("center", "scale"):
        numbers(arrays, name, n_features)
    n_inputs = n_features
    for stack in ("encoder", "decoder"):
        for layer in count():
            prefix = f"{stack}.{layer}."
            if layer > 0 and prefix + "weight_ih_l0" not in arrays:
                break
            size = len(arrays[prefix + "weight_hh_l0"])
            numbers(arrays, prefix + "weight_ih_l0", n_inputs, 4 * size)
            numbers(arrays, prefix + "weight_hh_l0", size, 4 * size)
            numbers(arrays, prefix + "bias_ih_l0", 4 * size)
            numbers(arrays, prefix + "bias_hh_l0", 4 * size)
            n_inputs = size
    numbers(arrays, "head.weight", n_inputs, n_features)
    for name in ("head.bias", "lowest", "highest"):
        numbers(arrays, name, n_features)
